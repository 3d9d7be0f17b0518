"""Optimizers: what turns gradients into steps, in facts that plan and trainer share."""

from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "lion_8bit"]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One optimizer.

    Attributes:
        name: What a recipe says.
        library_name: What transformers calls it.
        state_bytes: Bytes of its states for each weight that learns.
        eight_bit: Its states are held in 8 bits by bitsandbytes.
        rate_share: Usual learning rate as a share of that of AdamW.
        rate_why: Why it is another one; empty where it is not.
    """

    name: OptimizerName
    library_name: str
    state_bytes: float
    eight_bit: bool = False
    rate_share: float = 1.0
    rate_why: str = ""


# 8-bit states are one byte each, with a float32 scale per block of 256.
_EIGHT_BIT_STATE = 1 + 4 / 256

OPTIMIZERS: tuple[Optimizer, ...] = (
    Optimizer("adamw", "adamw_torch_fused", 8.0),
    Optimizer("adamw_8bit", "adamw_8bit", 2 * _EIGHT_BIT_STATE, eight_bit=True),
    Optimizer("paged_adamw_8bit", "paged_adamw_8bit", 2 * _EIGHT_BIT_STATE, eight_bit=True),
    # A row and a column in place of each matrix; of the thin matrices of an adapter that is up to an eighth.
    Optimizer("adafactor", "adafactor", 0.5),
    Optimizer(
        "lion_8bit",
        "lion_8bit",
        _EIGHT_BIT_STATE,
        eight_bit=True,
        # arXiv 2302.06675, section 5: a suitable rate is 3 to 10 times smaller than for AdamW.
        rate_share=0.2,
        rate_why="a fifth for lion, whose every step has full length",
    ),
)
OPTIMIZER_NAMES: tuple[str, ...] = tuple(optimizer.name for optimizer in OPTIMIZERS)
EIGHT_BIT_OPTIMIZERS: tuple[str, ...] = tuple(optimizer.name for optimizer in OPTIMIZERS if optimizer.eight_bit)


def find_optimizer(name: str) -> Optimizer:
    """Return the optimizer of this name.

    Raises:
        KeyError: No optimizer has this name.
    """
    for optimizer in OPTIMIZERS:
        if optimizer.name == name:
            return optimizer
    raise KeyError(name)
