"""What a machine, an installation and a model can run: one table, each entry allowed or the reason why not.

Sources: NVIDIA's table of number formats by compute capability (CUDA C++ programming guide, "arithmetic
instructions"); flash-attn's README (Ampere and newer, head dimension up to 256, 16-bit numbers); bitsandbytes'
README (4-bit and 8-bit optimizers from compute capability 6.0, 8-bit matrix products from 7.5). Widths that are no
multiple of 64 do quantise: only the kernel for single tokens is passed over then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.catalog.methods import Bits, Method
from engine.planning.block_traits import traits_of
from engine.planning.plan import Device, Machine
from engine.planning.profiles import ModelProfile

RUNNABLE_STRATEGIES: tuple[str, ...] = ("single", "ddp")
"""Ways to share the work between GPUs that the engine carries out; the plan estimates the others and says so."""
STRATEGY_TITLES = {"ddp": "DDP", "fsdp": "FSDP", "zero3": "ZeRO-3"}
MAX_FLASH_HEAD_DIM = 256
Capability = Literal[
    "float32",
    "bfloat16",
    "float16",
    "sdpa",
    "eager",
    "flash_attention_2",
    "4-bit",
    "8-bit",
    "adamw",
    "adamw_8bit",
    "paged_adamw_8bit",
    "adafactor",
    "lion_8bit",
    "compile",
    "single",
    "ddp",
    "fsdp",
    "zero3",
]
_QUANTIZATIONS: dict[Bits, Capability] = {4: "4-bit", 8: "8-bit"}
CudaVersion = tuple[int, int]
_OVERFLOWING = frozenset({"t5", "mt5"})
"""Families whose activations pass the largest number of float16 (google-research/text-to-text-transfer-transformer)."""
_WITHOUT_FLASH = frozenset({"t5", "mt5", "deberta-v2"})
"""Families that add a score for distances, which the flash kernels do not take."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where something is to run.

    Attributes:
        device: The device that the plan takes.
        machine: What machine and installation have.
        model: The base model; None asks for the machine alone.
        precision: Number format of the arithmetic; empty when it is not known yet.
    """

    device: Device
    machine: Machine
    model: ModelProfile | None = None
    precision: str = ""


def reason_against(capability: Capability, where: Surroundings) -> str:
    """Return why something cannot run there, as a clause without full stop; empty when it can."""
    return _RULES[capability](where)


def quantization_of(method: Method) -> Capability | None:
    """Return what holding the base model of a method in fewer bits needs; None where it is not quantised."""
    return None if method.bits is None else _QUANTIZATIONS[method.bits]


def is_allowed(capability: Capability, where: Surroundings) -> bool:
    """Return whether something can run there."""
    return not reason_against(capability, where)


def native_precision(where: Surroundings) -> str:
    """Return the 16-bit format that the GPU computes in at full speed, else `float32`."""
    if is_allowed("bfloat16", where):
        return "bfloat16"
    capability = where.machine.compute_capability
    # Below 7.0 there are no tensor cores: 16 bits save memory and lose range, and nothing gets faster.
    fast = capability is not None and capability >= (7, 0)
    return "float16" if fast and is_allowed("float16", where) else "float32"


def _always(_: Surroundings) -> str:
    return ""


def _needs_capability(where: Surroundings, least: CudaVersion, what: str) -> str:
    if where.device.kind != "cuda":
        return ""
    capability = where.machine.compute_capability
    if capability is None:
        return f"{what} needs compute capability {least[0]}.{least[1]}, and the GPU does not tell its own"
    if capability < least:
        have = f"{capability[0]}.{capability[1]}"
        return f"{what} needs compute capability {least[0]}.{least[1]}; this GPU has {have}"
    return ""


def _bfloat16(where: Surroundings) -> str:
    return _needs_capability(where, (8, 0), "bfloat16")


def _float16(where: Surroundings) -> str:
    if where.device.kind != "cuda":
        return "float16 needs a GPU"
    if where.model is not None and where.model.model_type in _OVERFLOWING:
        return "T5 was trained in bfloat16, and its numbers are too large for float16"
    return _needs_capability(where, (5, 3), "float16")


def _bitsandbytes(what: str) -> Callable[[Surroundings], str]:
    def rule(where: Surroundings) -> str:
        if "bitsandbytes" not in where.machine.libraries:
            return f"{what} needs bitsandbytes, which is not installed"
        return _needs_capability(where, (6, 0), what)

    return rule


def _eight_bit(where: Surroundings) -> str:
    too_old = _needs_capability(where, (7, 5), "an 8-bit base model")
    return too_old or _bitsandbytes("an 8-bit base model")(where)


def _paged(where: Surroundings) -> str:
    if where.device.kind != "cuda":
        return "paged states move out of GPU memory, and there is no GPU"
    return _bitsandbytes("a paged optimizer")(where)


def _sdpa(where: Surroundings) -> str:
    if where.model is not None and traits_of(where.model.model_type).written_out_attention:
        return f"transformers writes the attention of {where.model.model_type} out; there is no other for it"
    return ""


def _flash(where: Surroundings) -> str:
    if where.device.kind != "cuda":
        return "FlashAttention needs a GPU"
    if where.model is not None and where.model.model_type in _WITHOUT_FLASH:
        return f"transformers has no FlashAttention for {where.model.model_type}"
    too_old = _needs_capability(where, (8, 0), "FlashAttention")
    if too_old:
        return too_old
    if where.model is not None and where.model.head_dim > MAX_FLASH_HEAD_DIM:
        return f"FlashAttention takes heads of at most {MAX_FLASH_HEAD_DIM}; this model has {where.model.head_dim}"
    if where.precision == "float32":
        return "FlashAttention computes in 16 bits only, and this run in float32"
    return "" if "flash-attn" in where.machine.libraries else "the package flash-attn is not installed"


def _compile(_: Surroundings) -> str:
    return "models are not compiled here: a compilation takes about a minute, and every new length another one"


def _strategy(name: str) -> Callable[[Surroundings], str]:
    def rule(where: Surroundings) -> str:
        if where.machine.num_gpus < 2:
            return "there is one GPU" if where.machine.num_gpus else "there is no GPU"
        if name in RUNNABLE_STRATEGIES:
            return ""
        title = STRATEGY_TITLES[name]
        return f"GPUs share a run with the whole model on each (DDP); what {title} would do is an estimate"

    return rule


_RULES: dict[Capability, Callable[[Surroundings], str]] = {
    "float32": _always,
    "bfloat16": _bfloat16,
    "float16": _float16,
    "sdpa": _sdpa,
    "eager": _always,
    "flash_attention_2": _flash,
    "4-bit": _bitsandbytes("a 4-bit base model"),
    "8-bit": _eight_bit,
    "adamw": _always,
    "adamw_8bit": _bitsandbytes("an 8-bit optimizer"),
    "paged_adamw_8bit": _paged,
    "adafactor": _always,
    "lion_8bit": _bitsandbytes("an 8-bit optimizer"),
    "compile": _compile,
    "single": _always,
    "ddp": _strategy("ddp"),
    "fsdp": _strategy("fsdp"),
    "zero3": _strategy("zero3"),
}
CAPABILITIES: tuple[Capability, ...] = tuple(_RULES)
