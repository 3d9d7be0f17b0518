"""What decides on the memory of a run, and how many weights learn in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.catalog.methods import Bits, Learns, Method, MethodName, find_method
from engine.catalog.optimizers import OptimizerName, find_optimizer
from engine.planning.depth import Depth
from engine.planning.layer_sums import head_weights
from engine.planning.profiles import ModelProfile
from engine.planning.virtual_prompt import default_encoder_width

LinearShape = tuple[str, int, int]
Optimizer = OptimizerName
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Strategy = Literal["single", "ddp", "fsdp", "zero3"]

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
"""Bytes of one number of each format."""
NF4_BYTES = 0.5
INT8_BYTES = 1
NF4_CONSTANTS_BYTES = 1 / 64 + 4 / (64 * 256)
"""Double quantisation: one byte per block of 64 weights and four per 256 blocks."""
_FEED_FORWARD = frozenset(
    {
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "c_fc", "dense_h_to_4h", "dense_4h_to_h"),
        *("intermediate.dense", "output.dense", "lin1", "lin2", "Wi", "mlp.Wo", "wi", "wi_0", "wi_1", "wo"),
    }
)


SCALED_NAMES = frozenset({"k_proj", "v_proj", "key", "value", "key_proj", "value_proj", "k", "v", "k_lin", "v_lin"})
FUSED_NAMES = frozenset({"qkv_proj", "query_key_value", "c_attn", "qkv", "Wqkv", "in_proj"})
"""Layers that make keys and values, alone or together with queries: what (IA)3 scales of attention."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides on the memory of a run.

    Attributes:
        device: `cuda` or `cpu`.
        method: Which weights learn.
        precision: Number format of the arithmetic.
        micro_batch: Rows in memory at once, on each GPU.
        max_length: Tokens of the longest row.
        optimizer: What steps.
        activation_checkpointing: Recompute activations in the backward pass.
        rank: Inner width of the adapters.
        targets: `all-linear`, `attention` or module names.
        packed: Several rows share a sequence and are kept apart by a mask.
        accumulates: A step has several micro-steps, so that gradients lie there while the next one runs.
        attention: Implementation of attention.
        dropout: Share of adapter inputs that are dropped.
        generate: Longest answer generated in an evaluation, in tokens; 0 when nothing is generated.
        examples: Most tokens that the few-shot baseline puts in front of a question; 0 without it.
        written: Tokens of a row that the model writes itself while it learns; 0 where it only reads.
        reference: A copy is kept of the weights that learn, as they were at the start.
        judge_bytes: Size of a reward model: beside the one that learns from its rewards, else in evaluations alone.
        merge: The adapter is merged into the base model at the end.
        sides: Sequences of a row that learn: two of a pair.
        beside: Sequences that are read without learning, for each that learns.
        depth: Where in the model it trains, for methods that train a part of it.
        variant: How the matrices of LoRA are scaled and started.
        rank_pattern: Ranks of layers whose name ends so, where they differ.
        virtual_tokens: Learned tokens in front of every text; read by methods that add them.
        encoder_width: Inner width of the network that makes them; 0 takes the default.
        num_gpus: GPUs that share the work.
        strategy: How they share it.
        smoothed: The loss smooths its labels, which takes all logits at once.
        new_tokens: Rows of the embeddings that are made for new tokens and learn.
    """

    device: Literal["cuda", "cpu"]
    method: MethodName
    precision: str
    micro_batch: int
    max_length: int
    optimizer: Optimizer = "adamw"
    activation_checkpointing: bool = False
    rank: int = 16
    targets: str | Sequence[str] = "all-linear"
    packed: bool = False
    accumulates: bool = True
    attention: Attention = "sdpa"
    dropout: float = 0.0
    generate: int = 0
    examples: int = 0
    written: int = 0
    reference: bool = False
    judge_bytes: int = 0
    merge: bool = False
    sides: int = 1
    beside: float = 0.0
    depth: Depth = Depth()
    variant: str = "plain"
    rank_pattern: tuple[tuple[str, int], ...] = ()
    virtual_tokens: int = 0
    encoder_width: int = 0
    num_gpus: int = 1
    strategy: Strategy = "single"
    smoothed: bool = False
    new_tokens: int = 0

    def changed(self, **changes: object) -> "Setup":
        """Return a copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def width(self) -> int:
        """Return the bytes of one element of the arithmetic."""
        return WIDTHS.get(self.precision, 4)

    @property
    def autocast(self) -> bool:
        """Return whether the arithmetic is narrower than the weights that learn."""
        return self.width < 4

    @property
    def facts(self) -> Method:
        """Return the facts of the method."""
        return find_method(self.method)

    @property
    def full(self) -> bool:
        """Return whether every weight of the base model learns, and is held in float32."""
        return self.facts.trains_whole

    @property
    def part(self) -> bool:
        """Return whether the top of the base model learns, and is held in float32."""
        return self.facts.learns == "part"

    @property
    def tokens(self) -> int:
        """Return the tokens of a micro-batch, padding and virtual tokens included."""
        return self.sequences * (self.max_length + self.ahead)

    @property
    def sequences(self) -> int:
        """Return the sequences of a micro-batch."""
        return self.micro_batch * self.sides

    @property
    def ahead(self) -> int:
        """Return the virtual tokens that pass through the blocks in front of every text."""
        return self.virtual_tokens if self.facts.learns in ("virtual-tokens", "encoded-tokens") else 0

    def rank_of(self, name: str) -> int:
        """Return the inner width of the adapters of layers of this name."""
        return next((rank for ending, rank in self.rank_pattern if is_named(name, ending)), self.rank)


def adapted_shapes(
    model: ModelProfile, targets: str | Sequence[str], shapes: Sequence[LinearShape] | None = None
) -> list[LinearShape]:
    """Return the linear layers of one block that get an adapter.

    Args:
        model: Facts of the base model.
        targets: `all-linear`, `attention` or module names.
        shapes: Linear layers of the block; those of a decoder's block when None.
    """
    block = list(model.linear_shapes if shapes is None else shapes)
    if targets == "all-linear":
        return block
    if targets in ("attention", "mlp"):
        return [shape for shape in block if feeds_forward(shape, model) == (targets == "mlp")]
    return [shape for shape in block if any(is_named(shape[0], target) for target in targets)]


def is_named(name: str, target: str) -> bool:
    """Return whether a module name means a layer; either may be the end of the other."""
    return f".{name}".endswith(f".{target}") or f".{target}".endswith(f".{name}")


def feeds_forward(shape: LinearShape, model: ModelProfile) -> bool:
    """Return whether a linear layer belongs to the feed-forward half of a block."""
    name, width_in, _ = shape
    # GPT-2 calls the last layer of both halves c_proj.
    return name in _FEED_FORWARD or (name == "c_proj" and width_in != model.hidden_size)


def adapter_params(model: ModelProfile, setup: Setup) -> int:
    """Return the number of weights that LoRA adds: its matrices, the lengths that DoRA learns, rows for new tokens."""
    encoders = model.encoder_layers
    in_decoder = _added(setup, adapted_shapes(model, setup.targets))
    in_encoder = _added(setup, adapted_shapes(model, setup.targets, model.encoder_shapes)) if encoders else 0
    return (model.num_layers - encoders) * in_decoder + encoders * in_encoder + _token_rows(model, setup)


def _token_rows(model: ModelProfile, setup: Setup) -> int:
    """Return the weights of the rows for new tokens: in the embeddings, and in an output layer of its own."""
    words = model.head not in ("sequence-classification", "token-classification")
    return setup.new_tokens * model.hidden_size * (2 if words and not model.tied_embeddings else 1)


def _added(setup: Setup, shapes: Sequence[LinearShape]) -> int:
    lengths = 1 if setup.variant == "dora" else 0
    return sum(setup.rank_of(name) * (read + given) + lengths * given for name, read, given in shapes)


def learning_blocks(model: ModelProfile, setup: Setup) -> int:
    """Return how many blocks take part in the backward pass: the top ones alone where nothing below them learns."""
    return min(setup.depth.layers, model.num_layers) if setup.part else model.num_layers


def head_params(model: ModelProfile, setup: Setup) -> int:
    """Return the weights of the head that are its own: an output layer that is tied to the embeddings is not."""
    if model.head is not None and model.head in model.heads:
        return head_weights(model.heads, model.head, model.num_labels)
    return 0 if model.tied_embeddings or setup.depth.head_is_new else model.vocab_size * model.hidden_size


def part_params(model: ModelProfile, setup: Setup) -> int:
    """Return the weights of the head and the last blocks."""
    head = head_params(model, setup)
    blocks = max(0, model.num_params - model.vocab_size * model.hidden_size - head)
    return head + learning_blocks(model, setup) * blocks // max(1, model.num_layers)


def adapters_per_block(setup: Setup) -> int:
    """Return how many bottleneck adapters a block has."""
    return 1 if setup.depth.placement == "pfeiffer" else 2


def bottleneck_params(model: ModelProfile, setup: Setup) -> int:
    """Return the weights of all bottleneck adapters: two matrices and two biases each."""
    hidden, width = model.hidden_size, setup.depth.bottleneck
    return model.num_layers * adapters_per_block(setup) * (2 * hidden * width + hidden + width)


def scaled_shapes(model: ModelProfile) -> tuple[list[LinearShape], list[LinearShape]]:
    """Return the linear layers of one block whose output (IA)3 scales, and those whose input it scales."""
    shapes = model.linear_shapes
    outputs = [shape for shape in shapes if shape[0] in SCALED_NAMES]
    outputs = outputs or [shape for shape in shapes if shape[0] in FUSED_NAMES]
    return outputs, [shape for shape in shapes if feeds_forward(shape, model) and shape[1] > shape[2]]


def _scales(model: ModelProfile, setup: Setup) -> int:
    outputs, inputs = scaled_shapes(model)
    return model.num_layers * (sum(given for _, _, given in outputs) + sum(read for _, read, _ in inputs))


def _embeddings(model: ModelProfile, setup: Setup) -> int:
    return setup.virtual_tokens * model.hidden_size


def _encoded(model: ModelProfile, setup: Setup) -> int:
    hidden, width = model.hidden_size, setup.encoder_width or default_encoder_width(model.hidden_size)
    return _embeddings(model, setup) + (hidden + 1) * width + (width + 1) * width + (width + 1) * hidden


def _keys_and_values(model: ModelProfile, setup: Setup) -> int:
    return setup.virtual_tokens * 2 * model.num_layers * model.num_kv_heads * model.head_dim


def trainable_params(model: ModelProfile, setup: Setup) -> int:
    """Return the number of weights that learn."""
    return _COUNTS[setup.facts.learns](model, setup)


_COUNTS: dict[Learns, Callable[[ModelProfile, Setup], int]] = {
    "whole": lambda model, setup: model.num_params,
    "part": part_params,
    "low-rank": adapter_params,
    "bottleneck": bottleneck_params,
    "scales": _scales,
    "virtual-tokens": _embeddings,
    "encoded-tokens": _encoded,
    "virtual-keys": _keys_and_values,
}
"""What each kind of method learns, counted from the shapes of the model."""


def linear_params(model: ModelProfile) -> int:
    """Return the weights of the linear layers inside the blocks: what 4-bit loading quantises."""
    return model.quantizable_params or model.num_layers * block_params(model)


def block_params(model: ModelProfile) -> int:
    """Return the weights of the linear layers of one block."""
    return sum(rows * columns for _, rows, columns in model.linear_shapes)


def quantized_bytes(model: ModelProfile, bits: Bits) -> tuple[int, int]:
    """Return the size of the linear layers held in so many bits, and of the constants that belong to them."""
    quantized = linear_params(model)
    if bits == 4:
        return round(NF4_BYTES * quantized), round(NF4_CONSTANTS_BYTES * quantized)
    # LLM.int8 keeps a float32 scale for each output of a layer.
    return INT8_BYTES * quantized, 4 * model.num_layers * sum(given for _, _, given in model.linear_shapes)


def optimizer_bytes(optimizer: Optimizer, trainable: int) -> int:
    """Return the size of the optimizer's states."""
    return round(trainable * find_optimizer(optimizer).state_bytes)
