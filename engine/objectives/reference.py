"""The model as it was at the start, without a second model: only the weights that learn are kept a second time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Reference:
    """Puts the starting weights in place for a moment.

    Works for every method: what does not learn is shared. Switching an adapter off would not do for all of them, since
    some change the base model when they are applied (PiSSA takes its adapter out of the weights).

    Args:
        model: As it is at the start of training: method applied, no checkpoint loaded.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model be the one of the start inside the block; nothing may learn there."""
        with torch.no_grad():
            self._swap()
            try:
                yield
            finally:
                self._swap()

    def _swap(self) -> None:
        # Storages change hands; nothing is copied, and gradients and optimizer states stay with their parameters.
        self._kept = [(parameter, _exchange(parameter, kept)) for parameter, kept in self._kept]


def _exchange(parameter: nn.Parameter, other: torch.Tensor) -> torch.Tensor:
    held = parameter.data
    parameter.data = other.to(held.device)
    return held
