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
    ("▥", "$accent"),
    ("▦", "$success"),
)
FREE = "·"


def meter(needed_bytes: float, free_bytes: float, width: int) -> Content:
    """Return a bar of `width` cells: how much of the free memory is needed at most."""
    share = needed_bytes / free_bytes if free_bytes > 0 else 1.0
    filled = min(width, max(1, round(share * width)))
    style = "$error" if share > 1 else "$warning" if share > 0.9 else "$success"
    return Content.assemble(("█" * filled, style), (FREE * (width - filled), "$text-disabled"))


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


def component_bar(components: Mapping[str, int], width: int) -> Content:
    """Return the components of a memory estimate as one bar: who needs which share of it."""
    parts: list[tuple[str, str]] = []
    for index, (_name, cells) in enumerate(component_cells(components, width)):
        glyph, style = _PATTERNS[index % len(_PATTERNS)]
        parts.append((glyph * cells, style))
    return Content.assemble(*parts)


def component_legend(components: Mapping[str, int]) -> list[Content]:
    """Return one label per component: its pattern, name and size."""
    labels: list[Content] = []
    for index, (name, size) in enumerate((name, size) for name, size in components.items() if size > 0):
        glyph, style = _PATTERNS[index % len(_PATTERNS)]
        words = clean_line(name).replace("_", " ")
        labels.append(Content.assemble((f"{glyph} ", style), (f"{words} ", ""), (human_bytes(size), "$text-muted")))
    return labels
