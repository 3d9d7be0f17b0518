"""What a rehearsal writes down: every storage that came and went, in order, with the phase it happened in."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """Allocations and releases of one process in the order they happened.

    Attributes:
        events: `(storage, bytes)`; a positive size allocates the storage, 0 releases it. A storage number is used once.
        marks: `(position in events, phase)`: from there on the phase is `loading`, `training`, `evaluation`, `saving`
            or `merging`.
        names: `{storage: component}`, such as `model weights`, `gradients`, `activations`.
        cleared: Positions at which the program gives unused blocks back (`torch.cuda.empty_cache`).
    """

    events: list[tuple[int, int]] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    cleared: list[int] = field(default_factory=list)
