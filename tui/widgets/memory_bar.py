"""Memory as bars: one against what is free, and one by component. Patterns differ, so that no colour is needed."""

from collections.abc import Mapping

from textual.content import Content

from engine.text import clean_line, human_bytes

_PATTERNS = (
    ("█", "$primary"),
    ("▓", "$secondary"),
    ("▒", "$accent"),
    ("░", "$success"),
    ("▚", "$warning"),
    ("▞", "$primary"),
    ("▤", "$secondary"),
)
FREE = "·"


def meter(needed_bytes: float, free_bytes: float, width: int) -> Content:
    """Return a bar of `width` cells: how much of the free memory is needed at most."""
    share = needed_bytes / free_bytes if free_bytes > 0 else 1.0
    filled = min(width, max(1, round(share * width)))
    style = "$error" if share > 1 else "$warning" if share > 0.9 else "$success"
    return Content.assemble(("█" * filled, style), (FREE * (width - filled), "$text-disabled"))


def component_cells(components: Mapping[str, int], free_bytes: int | None, width: int) -> list[tuple[str, int]]:
    """Return `(component, cells)` that fill at most `width`, every component with at least one cell.

    Args:
        components: `{component: bytes}`.
        free_bytes: What `width` stands for when it is more than the components need; None for unknown.
        width: Cells of the bar.
    """
    shown = {name: size for name, size in components.items() if size > 0}
    total = sum(shown.values())
    scale = max(total, free_bytes or 0)
    if not shown or not scale:
        return []
    cells = {name: max(1, round(size / scale * width)) for name, size in shown.items()}
    while sum(cells.values()) > width and max(cells.values()) > 1:
        largest = max(cells, key=lambda name: cells[name])
        cells[largest] -= 1
    return list(cells.items())


def component_bar(components: Mapping[str, int], free_bytes: int | None, width: int) -> Content:
    """Return the components of a memory estimate as one bar; dots are memory that stays free."""
    parts: list[tuple[str, str]] = []
    used = 0
    for index, (_name, cells) in enumerate(component_cells(components, free_bytes, width)):
        glyph, style = _PATTERNS[index % len(_PATTERNS)]
        parts.append((glyph * cells, style))
        used += cells
    parts.append((FREE * max(0, width - used), "$text-disabled"))
    return Content.assemble(*parts)


def component_legend(components: Mapping[str, int]) -> list[Content]:
    """Return one label per component: its pattern, name and size."""
    labels: list[Content] = []
    for index, (name, size) in enumerate((name, size) for name, size in components.items() if size > 0):
        glyph, style = _PATTERNS[index % len(_PATTERNS)]
        words = clean_line(name).replace("_", " ")
        labels.append(Content.assemble((f"{glyph} ", style), (f"{words} ", ""), (human_bytes(size), "$text-muted")))
    return labels
