"""What can go wrong while training, told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.out_of_memory import is_out_of_memory

FaultKind = Literal["out_of_memory", "device", "not_finite", "rank"]
"""`rank`: another process of the run, which computes on another GPU, could not start, or ended."""
FaultPlace = Literal["start", "micro_step", "optimizer", "measurement"]

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
        step: Optimizer step (from 1) that could not be finished; of a measurement, the step that was measured.
        row_ids: Rows of that step, longest first; none when the fault was outside the steps.
        text: First line of the error.
        consistent: Whether the weights still are those of the last finished step.
        where: `start` (the state of a checkpoint is put back), `micro_step` (forward or backward), `optimizer` (all
            micro-batches of the step were done), or `measurement`.
        micro_row_ids: Rows that were in memory when it happened, longest first; none outside a micro-step.
        kept_step: Last step that a fresh process finds on the disk; 0 when it begins anew.
    """

    kind: FaultKind
    step: int
    row_ids: list[str]
    text: str
    consistent: bool
    where: FaultPlace = "micro_step"
    micro_row_ids: tuple[str, ...] = ()
    kept_step: int = 0

    @property
    def place(self) -> str:
        """Where it happened, in words."""
        match self.where:
            case "measurement":
                return f"while the model of step {self.step} was measured"
            case "start":
                return "while the state of training was put in place"
            case "optimizer":
                return f"in the optimizer at step {self.step}"
            case _:
                return f"at step {self.step}"

    @property
    def rows(self) -> str:
        """A sentence that names the rows; empty without any."""
        return f" The rows of this step: {name_rows(self.row_ids)}." if self.row_ids else ""


def fault_kind(error: BaseException) -> FaultKind | None:
    """Return the family of an error; None when it is a defect like any other."""
    if isinstance(error, NotFiniteError):
        return "not_finite"
    if is_out_of_memory(error):
        return "out_of_memory"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _DEVICE_TEXTS):
        return "device"
    return None


def name_rows(row_ids: Sequence[str], *, limit: int = 8) -> str:
    """Return row ids as a short list for a message."""
    shown = ", ".join(row_ids[:limit])
    rest = len(row_ids) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
