"""What can go wrong while training, told apart."""

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["out_of_memory", "device", "not_finite"]

_CPU_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "cannot allocate memory")
_DEVICE_TEXTS = ("CUDA error", "cuBLAS error", "CUBLAS_STATUS", "cuDNN error", "CUDNN_STATUS", "NCCL error")


class NotFiniteError(Exception):
    """Raised when loss or gradient is NaN or infinite.

    Attributes:
        quantity: `loss` or `gradient norm`.
        value: What it was.
    """

    def __init__(self, quantity: str, value: float) -> None:
        super().__init__(f"the {quantity} is {value}")
        self.quantity = quantity
        self.value = value


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure of training.

    Attributes:
        kind: What family it is of.
        step: Optimizer step (from 1) that could not be finished.
        row_ids: Rows of that step, longest first; none when the fault was outside training.
        text: First line of the error.
        consistent: Whether the weights still are those of the last finished step.
    """

    kind: FaultKind
    step: int
    row_ids: list[str]
    text: str
    consistent: bool

    @property
    def place(self) -> str:
        """Where it happened, in words."""
        return f"at step {self.step}" if self.row_ids else f"while the model of step {self.step} was measured"

    @property
    def rows(self) -> str:
        """A sentence that names the rows; empty without any."""
        return f" The rows of this step: {name_rows(self.row_ids)}." if self.row_ids else ""


def fault_kind(error: BaseException) -> FaultKind | None:
    """Return the family of an error; None when it is a defect like any other."""
    # Late, because the worker reads this module before it can afford two seconds of import.
    import torch

    if isinstance(error, NotFiniteError):
        return "not_finite"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory"
    if isinstance(error, RuntimeError):
        text = str(error)
        if any(words in text for words in _CPU_MEMORY_TEXTS):
            return "out_of_memory"
        if any(words in text for words in _DEVICE_TEXTS):
            return "device"
    return None


def name_rows(row_ids: list[str], *, limit: int = 8) -> str:
    """Return row ids as a short list for a message."""
    shown = ", ".join(row_ids[:limit])
    rest = len(row_ids) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
