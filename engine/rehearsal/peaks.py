"""What a trace says: the peak of each phase, and what was alive at the highest one."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from engine.planning.rehearsal import Consumer
from engine.rehearsal.trace import Trace

MAX_CONSUMERS = 8


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment of a phase at which most is alive.

    Attributes:
        num_bytes: What tensors occupy.
        event: Position in the trace's events, inclusive.
    """

    num_bytes: int
    event: int


def find_peaks(trace: Trace) -> dict[str, Peak]:
    """Return the peak of each phase, in the order they began; a phase in which nothing happens has what was there."""
    live = list(_live_bytes(trace))
    starts = [(0, "loading"), *trace.marks]
    ends = [*(start for start, _ in starts[1:]), len(live)]
    peaks: dict[str, Peak] = {}
    for (start, phase), end in zip(starts, ends, strict=True):
        for event in range(max(0, start - 1), end):
            if phase not in peaks or live[event] > peaks[phase].num_bytes:
                peaks[phase] = Peak(live[event], event)
    return peaks


def _live_bytes(trace: Trace) -> Iterator[int]:
    """Yield what is alive after each event."""
    sizes: dict[int, int] = {}
    live = 0
    for storage, num_bytes in trace.events:
        if num_bytes:
            sizes[storage] = num_bytes
            live += num_bytes
        else:
            live -= sizes.pop(storage)
        yield live


def alive_at(trace: Trace, event: int) -> dict[int, int]:
    """Return `{storage: bytes}` of what is alive after an event."""
    alive: dict[int, int] = {}
    for storage, num_bytes in trace.events[: event + 1]:
        if num_bytes:
            alive[storage] = num_bytes
        else:
            del alive[storage]
    return alive


def components_at(trace: Trace, event: int) -> dict[str, int]:
    """Return `{component: bytes}` of what is alive after an event, in the order in which components first appear."""
    components: dict[str, int] = defaultdict(int)
    for storage, num_bytes in alive_at(trace, event).items():
        components[trace.names[storage]] += num_bytes
    return dict(components)


def consumers_at(trace: Trace, event: int) -> list[Consumer]:
    """Return the largest groups of storages of one size and component that are alive after an event."""
    groups = Counter((trace.names[storage], num_bytes) for storage, num_bytes in alive_at(trace, event).items())
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1] * item[1], item[0]))
    return [Consumer(what=name, count=count, bytes_each=size) for (name, size), count in ordered[:MAX_CONSUMERS]]
