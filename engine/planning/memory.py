"""Peak memory of a training step from a formula, by component.

What is counted follows the installed software: transformers 5 with SDPA attention, PEFT adapters in float32, TRL's
chunked output layer (no full logits), autocast for bfloat16 and float16. It is a formula all the same, and formulas
break when the software changes: the range is wide and says so.

Legend: bytes per element `width` (2 for bfloat16 and float16, 4 for float32).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.planning.architectures import LinearShape, is_gated
from engine.planning.plan import MemoryEstimate
from engine.planning.profiles import ModelProfile

MIB = 2**20
PROCESS_BASE_BYTES = 560 * MIB
"""Resident memory of a worker with torch, transformers, peft and trl imported, before any model (measured)."""
CUDA_CONTEXT_BYTES = 700 * MIB
"""CUDA context, cuBLAS workspaces and kernels of one process: 650 MiB measured on CUDA 12, 1343 MiB on old cards."""
TILE_TOKENS = 4096
TILE_VOCAB = 32768
"""TRL computes the output layer in tiles of this size (`trl.kernels.chunked_logprob`)."""
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_NF4_BYTES = 0.5
_NF4_CONSTANTS_BYTES = 1 / 64 + 4 / (64 * 256)
"""Double quantisation: one byte per block of 64 weights and four per 256 blocks."""
_FEED_FORWARD = frozenset(
    {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "c_fc", "dense_h_to_4h", "dense_4h_to_h"}
)

Method = Literal["full", "lora", "qlora"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides on the memory of a run.

    Attributes:
        device: `cuda` or `cpu`.
        micro_batch: Rows in memory at once.
        max_length: Tokens of the longest row.
        targets: `all-linear`, `attention` or module names.
        packed: Several rows share a sequence and are kept apart by a mask.
    """

    device: Literal["cuda", "cpu"]
    method: Method
    precision: str
    micro_batch: int
    max_length: int
    optimizer: Optimizer = "adamw"
    activation_checkpointing: bool = False
    rank: int = 16
    targets: str | Sequence[str] = "all-linear"
    packed: bool = False

    def changed(self, **changes: object) -> "Setup":
        """Return a copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def width(self) -> int:
        """Return the bytes of one element of the arithmetic."""
        return _WIDTH.get(self.precision, 4)

    @property
    def autocast(self) -> bool:
        """Return whether the arithmetic is narrower than the weights that learn."""
        return self.width < 4


def adapted_shapes(model: ModelProfile, targets: str | Sequence[str]) -> list[LinearShape]:
    """Return the linear layers of one block that get an adapter."""
    if targets == "all-linear":
        return model.linear_shapes
    if targets == "attention":
        return [shape for shape in model.linear_shapes if not _feeds_forward(shape, model)]
    wanted = {target.rsplit(".", 1)[-1] for target in targets}
    return [shape for shape in model.linear_shapes if shape[0] in wanted]


def _feeds_forward(shape: LinearShape, model: ModelProfile) -> bool:
    name, width_in, _ = shape
    # GPT-2 calls the last layer of both halves c_proj.
    return name in _FEED_FORWARD or (name == "c_proj" and width_in != model.hidden_size)


def adapter_params(model: ModelProfile, setup: Setup) -> int:
    """Return the number of weights that the adapters add."""
    per_block = sum(setup.rank * (rows + columns) for _, rows, columns in adapted_shapes(model, setup.targets))
    return model.num_layers * per_block


def trainable_params(model: ModelProfile, setup: Setup) -> int:
    """Return the number of weights that learn."""
    return model.num_params if setup.method == "full" else adapter_params(model, setup)


def linear_params(model: ModelProfile) -> int:
    """Return the weights of the linear layers inside the blocks: what 4-bit loading quantises."""
    return model.num_layers * sum(rows * columns for _, rows, columns in model.linear_shapes)


def optimizer_bytes(optimizer: Optimizer, trainable: int) -> int:
    """Return the size of the optimizer's states."""
    # 8-bit states are one byte each, with a float32 scale per block of 256.
    return 8 * trainable if optimizer == "adamw" else round(trainable * (2 + 8 / 256))


def _weights(model: ModelProfile, setup: Setup) -> dict[str, int]:
    if setup.method == "full":
        return {"model weights": 4 * model.num_params}
    if setup.method == "lora":
        return {"model weights": setup.width * model.num_params}
    quantized = linear_params(model)
    rest = max(0, model.num_params - quantized)
    return {
        "model weights": round(_NF4_BYTES * quantized) + setup.width * rest,
        "quantisation constants": round(_NF4_CONSTANTS_BYTES * quantized),
    }


def _layer_bytes_per_token(model: ModelProfile, setup: Setup) -> float:
    """Return what autograd keeps of one transformer block, per token."""
    width, hidden = setup.width, model.hidden_size
    query, inner = model.num_heads * model.head_dim, model.intermediate_size
    full = setup.method == "full"
    # RMS norms keep their input in float32; a trainable norm also keeps the normalised rows.
    norms = 2 * 4 * hidden * (2 if full else 1)
    # Queries, keys and values (repeated to the number of query heads) and the output of the attention kernel.
    attention = 4 * query * width
    feed_forward = (3 if is_gated(model.model_type) else 1) * inner * width
    shapes = model.linear_shapes if full else adapted_shapes(model, setup.targets)
    if setup.autocast:
        # Each linear layer that learns casts its own copy of its input.
        inputs = width * sum(rows for _, rows, _ in shapes)
    else:
        inputs = width * sum({(rows, _group(name)): rows for name, rows, _ in shapes}.values())
    ranks = 0 if full else width * setup.rank * len(shapes)
    return norms + attention + feed_forward + inputs + ranks


def _mask_bytes(setup: Setup) -> int:
    """Return the attention mask of one block; SDPA makes each block a mask of its own in the arithmetic's format.

    A single unpadded row needs none: the kernel is causal by itself.
    """
    if setup.micro_batch == 1 and not setup.packed:
        return 0
    return setup.micro_batch * setup.max_length**2 * setup.width


def _group(name: str) -> str:
    """Return which input tensor a layer reads; layers of one group share it."""
    if name in ("q_proj", "k_proj", "v_proj"):
        return "attention input"
    return "feed-forward input" if name in ("gate_proj", "up_proj") else name


def _activations(model: ModelProfile, setup: Setup) -> tuple[int, int]:
    """Return the bytes kept for the backward pass and the bytes of one block."""
    tokens = setup.micro_batch * setup.max_length
    layer = tokens * _layer_bytes_per_token(model, setup) + _mask_bytes(setup)
    # The residual stream is float32 where the embeddings are.
    residual = tokens * model.hidden_size * (4 if setup.method == "full" else setup.width)
    kept = model.num_layers * (residual if setup.activation_checkpointing else layer)
    if setup.method == "full" and setup.autocast:
        kept += setup.width * linear_params(model)  # the narrow copies of the weights
    # While a block goes backward, the gradients of what it kept are about as large as what it kept.
    return round(kept + residual + layer), round(layer)


def _loss(model: ModelProfile, setup: Setup) -> int:
    tokens = setup.micro_batch * setup.max_length
    tile = min(tokens, TILE_TOKENS) * min(model.vocab_size, TILE_VOCAB)
    # Without Triton, torch operations on a tile make float32 copies of it.
    copies = 12 if setup.device == "cpu" else 0
    head = 4 * model.vocab_size * model.hidden_size if setup.method == "full" else 0
    return tile * (setup.width + copies) + 2 * tokens * model.hidden_size * 4 + head


def memory_components(model: ModelProfile, setup: Setup) -> dict[str, int]:
    """Return `{component: bytes}` at the peak of a training step, without the framework and slack."""
    trainable = trainable_params(model, setup)
    components = _weights(model, setup)
    if setup.method != "full":
        components["adapter"] = 4 * trainable
    components["gradients"] = 4 * trainable
    components["optimizer states"] = optimizer_bytes(setup.optimizer, trainable)
    kept, layer = _activations(model, setup)
    loss = _loss(model, setup)
    if setup.activation_checkpointing:
        # One block is recomputed after the loss is done with: the larger of the two counts.
        kept, loss = kept + layer, max(0, loss - layer)
    components["activations"] = kept
    components["output layer and loss"] = loss
    return components


def _unused_share(setup: Setup) -> float:
    """Return what the allocator holds beyond what is in use, as a share of what comes and goes in a step.

    CUDA's caching allocator: a tenth (median of replays; 9 of 10 below 0.27). The C heap of a processor leaves holes:
    0.0 to 0.25 more was measured in full fine-tuning, 0.6 to 0.8 with adapters and their many small temporaries.
    """
    if setup.device == "cuda":
        return 0.1
    return 0.25 if setup.method == "full" else 0.7


def estimate_memory(model: ModelProfile, setup: Setup, *, available_bytes: int | None, where: str) -> MemoryEstimate:
    """Return the peak memory of training.

    Args:
        model: Facts of the base model.
        setup: What decides on the memory.
        available_bytes: What the device has free; None when unknown.
        where: Name of that memory, such as `GPU 0`.
    """
    components = memory_components(model, setup)
    moving = components["activations"] + components["output layer and loss"]
    fixed = sum(components.values()) - moving
    framework_name, framework = (
        ("CUDA context", CUDA_CONTEXT_BYTES) if setup.device == "cuda" else ("process", PROCESS_BASE_BYTES)
    )
    unused = _unused_share(setup)
    slack = round(unused * moving + 0.02 * fixed)
    # Gradients and activations are not alive together when one micro-batch is a whole step.
    spared = min(components["gradients"], moving)
    return MemoryEstimate(
        components={**components, framework_name: framework, "slack": slack},
        expected_bytes=fixed + moving + framework + slack,
        low_bytes=round(0.97 * fixed + (0.6 + unused / 2) * moving + 0.85 * framework - 0.5 * spared),
        high_bytes=round(1.05 * fixed + (1.35 + unused) * moving + 1.3 * framework),
        available_bytes=available_bytes,
        where=where,
        basis="formula",
    )
