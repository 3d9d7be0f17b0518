"""Memory as bars: a range against what is free, and a stack of components. Patterns differ, so no colour is needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.text import clean_line, human_bytes

if TYPE_CHECKING:
    # pydantic costs 100 ms: the first screen must not wait for it.
    from engine.planning.plan import MemoryEstimate

_PATTERNS = (
    ("█", "$primary"),
    ("▓", "$secondary"),
    ("▒", "$accent"),
    ("░", "$success"),
    ("▚", "$warning"),
    ("▞", "$primary"),
    ("▤", "$secondary"),
    ("▥", "$accent"),
    ("▦", "$success"),
    ("▧", "$warning"),
    ("▨", "$primary"),
)
SURE, EXPECTED, POSSIBLE, FREE = "█", "▓", "░", "·"
UP_TO = "╌"
"""The upper part of the range in a stack, where the shades are those of components."""
LIMIT, BEYOND, FAR = "┃", "»", "→"
LIMIT_SHARE = 0.85
"""Where the free memory ends on the axis of a range bar: the rest shows by how much a tight one reaches beyond it."""
_UNITS = {unit: 1024**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))}
FEW_TIMES = 2.5
"""A stack that needs less than this part of the free memory has an axis of its own: its parts would have no room."""


@dataclass(frozen=True, slots=True)
class Span:
    """Low, expected and high end of an estimate, and what is free; all in bytes."""

    low: float
    expected: float
    high: float
    free: float | None

    @classmethod
    def of(cls, memory: "MemoryEstimate") -> "Span":
        """Return the span of an estimate."""
        return cls(memory.low_bytes, memory.expected_bytes, memory.high_bytes, memory.available_bytes)

    @property
    def style(self) -> str:
        """Colour of the verdict: over the free memory, reaching beyond it, or below it."""
        if self.free is None:
            return "$primary"
        if self.expected > self.free:
            return "$error"
        return "$warning" if self.high > self.free else "$success"


def range_bar(span: Span, width: int, *, scale_bytes: float = 0.0, style: str = "") -> Content:
    """Return a bar of `width` cells: surely needed, expected, possible, free, and the mark where free memory ends.

    Args:
        span: The estimate.
        width: Cells.
        scale_bytes: Bytes at the right end where nothing is known to be free; the high end when 0.
        style: Colour of what is needed; the verdict's own when empty.
    """
    total = span.free / LIMIT_SHARE if span.free else scale_bytes or span.high or 1.0
    limit = min(width - 1, round(LIMIT_SHARE * width)) if span.free else -1
    low, expected, high = (round(value / total * width) for value in (span.low, span.expected, span.high))
    filled = max(1, expected)
    chosen = style or span.style
    cells: list[tuple[str, str]] = []
    for cell in range(width):
        glyph, colour = FREE, "$text-disabled"
        if cell < max(filled, high):
            glyph, colour = (SURE if cell < low else EXPECTED if cell < filled else POSSIBLE), chosen
        if cell == limit:
            glyph, colour = LIMIT, "bold $foreground"
        cells.append((glyph, colour))
    if high > width:
        cells[-1] = (BEYOND, f"bold {chosen}")
    return Content.assemble(*cells)


def of_free(span: Span) -> str:
    """Return `11.2 of 22.9 GiB`, both in the unit of what is free; only the need where nobody knows that."""
    if not span.free:
        return human_bytes(span.expected)
    free = human_bytes(span.free)
    need = span.expected / _UNITS[free.partition(" ")[2]]
    return f"{'<0.1' if need < 0.1 else f'{need:.1f}' if need < 100 else f'{need:.0f}'} of {free}"


def component_cells(components: Mapping[str, int], width: int) -> list[tuple[str, int]]:
    """Return `(component, cells)` that fill `width` exactly, every component with at least one cell.

    Args:
        components: `{component: bytes}`; empty ones are left out.
        width: Cells of the bar; at least the number of components.
    """
    shown = {name: size for name, size in components.items() if size > 0}
    total = sum(shown.values())
    cells = {name: max(1, round(size / total * width)) for name, size in shown.items()}
    while cells and sum(cells.values()) != width:
        largest = max(cells, key=lambda name: cells[name])
        if cells[largest] == 1 and sum(cells.values()) > width:
            break
        cells[largest] += 1 if sum(cells.values()) < width else -1
    return list(cells.items())


def pattern_of(index: int) -> tuple[str, str]:
    """Return character and colour of a component by its place in the estimate."""
    return _PATTERNS[index % len(_PATTERNS)]


def component_bar(components: Mapping[str, int], width: int) -> Content:
    """Return the components of a memory estimate as one bar: who needs which share of it."""
    parts: list[tuple[str, str]] = []
    for index, (_name, cells) in enumerate(component_cells(components, width)):
        glyph, style = pattern_of(index)
        parts.append((glyph * cells, style))
    return Content.assemble(*parts)


SMALL_SHARE = 0.04
OTHERS = "other"


def largest_components(components: Mapping[str, int]) -> dict[str, int]:
    """Return the components with the small ones summed up at the end, where there are several small ones."""
    total = sum(components.values())
    small = {name: size for name, size in components.items() if 0 < size < SMALL_SHARE * total}
    if len(small) < 2:
        return dict(components)
    return {name: size for name, size in components.items() if name not in small} | {OTHERS: sum(small.values())}


def component_legend(components: Mapping[str, int]) -> list[Content]:
    """Return one label per component: its pattern, name and size."""
    labels: list[Content] = []
    for index, (name, size) in enumerate(shown_components(components)):
        glyph, style = pattern_of(index)
        labels.append(Content.assemble((f"{glyph} ", style), (f"{name} ", ""), (human_bytes(size), "$text-muted")))
    return labels


def shown_components(components: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return `(name in words, bytes)` of the components that need anything, in the estimate's order."""
    return [(clean_line(name).replace("_", " "), size) for name, size in components.items() if size > 0]


def component_table(memory: "MemoryEstimate", width: int) -> list[Content]:
    """Return every component with its pattern, size and share, in as many columns as there is room for."""
    shown = shown_components(memory.components)
    total = max(1, sum(size for _, size in shown))
    name_width = max((len(name) for name, _ in shown), default=0)
    cell = name_width + 2 + 10 + 6
    columns = max(1, min(3, (width + 3) // (cell + 3)))
    cells: list[Content] = []
    for index, (name, size) in enumerate(shown):
        glyph, style = pattern_of(index)
        numbers = f"{human_bytes(size):>10}"
        percent = 100 * size / total
        share = f"{'<1' if percent < 1 else f'{percent:.0f}':>4} %"
        cells.append(
            Content.assemble((f"{glyph} ", style), name.ljust(name_width), (numbers, "bold"), (share, "$text-muted"))
        )
    rows = -(-len(cells) // columns)
    # Read downwards, as the bar is read from left to right.
    table = [cells[row::rows] for row in range(rows)]
    return [Content("   ").join(line) for line in table]


def memory_stack(memory: "MemoryEstimate", width: int) -> Content:
    """Return the bar of components on the axis of the device's memory.

    The bar is as long as what is expected; behind it `╌` up to the high end of the range, and `┃` where the free memory
    ends. Where that lies far to the right, the axis ends at twice the high end and `→` stands at its end.
    """
    span = Span.of(memory)
    axis = _axis_bytes(span)
    used = max(len(shown_components(memory.components)), min(width, round(span.expected / axis * width)))
    high = min(width, round(span.high / axis * width))
    bar = component_bar(memory.components, used)
    tail = [(UP_TO, "$text-muted") if cell < high else (FREE, "$text-disabled") for cell in range(used, width)]
    limit = round(span.free / axis * width) if span.free else None
    if limit is None:
        return Content.assemble(bar, *tail)
    if limit < used:
        bar = Content.assemble(bar[:limit], (LIMIT, "bold $error"), bar[limit + 1 :])
    elif tail:
        tail[min(limit - used, len(tail) - 1)] = (free_mark(memory), "bold $foreground")
    return Content.assemble(bar, *tail)


def free_mark(memory: "MemoryEstimate") -> str:
    """Return what marks the end of the free memory in a stack: a line, or an arrow where it lies far to the right."""
    span = Span.of(memory)
    return FAR if span.free and span.free > _axis_bytes(span) else LIMIT


def _axis_bytes(span: Span) -> float:
    if not span.free:
        return max(1.0, span.high * 1.05)
    if span.free > FEW_TIMES * span.high:
        return span.high * 2
    return max(span.free, span.high) * 1.03


def flow(labels: list[Content], width: int) -> list[Content]:
    """Return labels side by side on as many lines as they need."""
    lines: list[Content] = []
    current = Content("")
    for label in labels:
        if current and current.cell_length + label.cell_length + 2 > width:
            lines.append(current)
            current = Content("")
        current = Content.assemble(current, "  ", label) if current else label
    return [*lines, current] if current else lines
