"""A plan as lines of text, for verbs and scripts: readable at 80 columns, plain where colour is missing."""

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engine.text import clean_line, human_bytes, human_count, human_duration

if TYPE_CHECKING:
    from engine.planning.plan import LengthChoice, MemoryEstimate, Plan, PlanOption, Way

WIDTH = 80
BAR_CELLS = 60
SMALL_BAR_CELLS = 6
_GLYPHS = "█▓▒░#=+:-."
_MARKS = {"chosen": "*", "fits": " ", "tight": "?", "too_large": "x", "impossible": "-"}
_LEGEND = "* chosen   ? close: a rehearsal decides   x does not fit   - cannot run here"
_TITLE_CELLS = 22
_LEGEND_CELLS = 36
_MARGIN = 9
_SHOWN_SHARE = 0.005
"""Components below this share of a bar are left to `--json`."""


def plan_lines(made: "Plan", *, command: Sequence[str] = ()) -> list[str]:
    """Return the numbers of a plan as short lines: device, steps, memory, time, disk, command.

    Args:
        made: The plan.
        command: What starts the same run from here; the plan's own speaks of a file `recipe.yaml` in this folder.
    """
    steps = made.steps
    gpus = f" x {steps.num_gpus} GPUs" if steps.num_gpus > 1 else ""
    times = f"{steps.num_gpus} x " if steps.num_gpus > 1 else ""
    aside = f", {made.data.num_test} put aside for a test" if made.data.num_test else ""
    lines = [
        f"Model    {clean_line(made.model.base)}, {human_count(made.model.num_params)} parameters",
        f"Data     {made.data.num_train} training rows, {made.data.num_held_out} held out{aside}",
        *_reading_lines(made),
        f"Device   {times}{clean_line(made.device.name)}",
        f"Steps    {steps.total_steps} ({steps.steps_per_epoch} per epoch), "
        f"micro-batch {steps.micro_batch} x accumulation {steps.accumulation}{gpus}",
        *memory_lines(made.memory),
    ]
    if made.time is not None:
        lines += _labelled("Time", time_words(made))
    lines += _labelled("Disk", disk_words(made))
    if words := command or made.command:
        lines.append(f"Command  {clean_line(shlex.join(words))}")
    return lines


def _reading_lines(made: "Plan") -> list[str]:
    """Return how the rows are read, column by column, and how much each of several sources counts."""
    data = made.data
    lines: list[str] = []
    if data.format is not None and data.mapping:
        roles = ", ".join(f"{clean_line(role)} from {clean_line(column)!r}" for role, column in data.mapping.items())
        lines += _indented(f"read as {data.format}: {roles}")
    source = made.recipe.data.source
    weighed = [one for one in (source if isinstance(source, list) else []) if not isinstance(one, str)]
    for one in weighed:
        lines += _indented(f"{clean_line(one.path)} counts {one.weight:g} times")
    return lines


def heading_lines(made: "Plan") -> list[str]:
    """Return what the plan is for, and for a machine that is not here that it is not."""
    lines = [clean_line(made.recipe.name or made.model.base)]
    if made.machine.hypothetical:
        lines.append(f"For a machine that is not here: {clean_line(made.machine.hypothetical, max_chars=40)}.")
    return lines


def time_words(made: "Plan") -> str:
    """Return how long training is expected to take and how that is known."""
    if made.time is None:
        return "n/a"
    span = f"{human_duration(made.time.low_s)} to {human_duration(made.time.high_s)}"
    return f"{span} ({clean_line(made.time.basis)})"


def disk_words(made: "Plan") -> str:
    """Return what a run writes and downloads, and what is free for it."""
    disk = made.disk
    words = f"{human_bytes(disk.total_bytes)} written, {human_bytes(disk.free_bytes)} free"
    if not disk.download_bytes:
        return words
    if disk.download_free_bytes is None:
        return f"{words}; {human_bytes(disk.download_bytes)} of it is downloaded"
    free = human_bytes(disk.download_free_bytes)
    return f"{words}; {human_bytes(disk.download_bytes)} downloaded to another disk, {free} free"


def memory_lines(memory: "MemoryEstimate") -> list[str]:
    """Return the memory of a plan: the range, a bar with its components, peaks of the phases, notes."""
    basis = clean_line(memory.basis)
    span = f"{human_bytes(memory.low_bytes)} to {human_bytes(memory.high_bytes)}"
    free = f"{human_bytes(memory.available_bytes)} free on {clean_line(memory.where)}"
    lines = _labelled("Memory", f"{human_bytes(memory.expected_bytes)} expected, {span}; {free} ({basis})")
    lines += [f"{' ' * _MARGIN}{line}" for line in (_bar(memory), *_components(memory))]
    peaks = ", ".join(f"{clean_line(name)} {human_bytes(size)}" for name, size in memory.peaks.items())
    if len(memory.peaks) > 1:
        lines += _indented(f"peaks: {peaks}")
    for note in memory.notes:
        lines += _indented(clean_line(note))
    return lines


def _shown(memory: "MemoryEstimate") -> list[tuple[str, str, int]]:
    """Return `(glyph, component, bytes)` of the parts that a bar shows."""
    least = _SHOWN_SHARE * memory.expected_bytes
    parts = [(name, size) for name, size in memory.components.items() if size > least]
    return [(_GLYPHS[place % len(_GLYPHS)], name, size) for place, (name, size) in enumerate(parts)]


def _bar(memory: "MemoryEstimate") -> str:
    """Return a bar from 0 to the larger of what is free and what may be needed; `|` is where the free memory ends."""
    scale = max(memory.high_bytes, memory.available_bytes or 0, 1)
    cells, reached = "", 0
    for glyph, _, size in _shown(memory):
        reached += size
        cells += glyph * (round(BAR_CELLS * reached / scale) - len(cells))
    cells = cells.ljust(BAR_CELLS)
    for size in (memory.low_bytes, memory.high_bytes):
        place = min(BAR_CELLS - 1, round(BAR_CELLS * size / scale))
        cells = cells if cells[place] != " " else f"{cells[:place]}>{cells[place + 1 :]}"
    if memory.available_bytes is None:
        return f"[{cells}]"
    end = min(BAR_CELLS, round(BAR_CELLS * memory.available_bytes / scale))
    return f"[{cells[:end]}|{cells[end:]}".rstrip() + ("" if end == BAR_CELLS else " over")


def _components(memory: "MemoryEstimate") -> Iterator[str]:
    parts = [f"{glyph} {clean_line(name)} {human_bytes(size)}" for glyph, name, size in _shown(memory)]
    while parts:
        pair = "".join(part.ljust(_LEGEND_CELLS) for part in parts[:2]).rstrip()
        shown = pair if len(pair) <= WIDTH - _MARGIN else parts[0]
        yield shown
        del parts[: 2 if shown is pair else 1]


def option_lines(options: "Sequence[PlanOption]") -> list[str]:
    """Return the ranked table: a row of numbers each, and below it why it was not taken."""
    if not options:
        return []
    head = f"  {'Way':<{_TITLE_CELLS}} {'Memory':<15} {'of free':<7} {'Time':<11} {'Tokens/s':>8} {'Disk':>8}"
    lines = [head]
    for option in (option for option in options if not option.folded):
        lines.append(_option_row(option))
        if option.why_not:
            lines += textwrap.wrap(clean_line(option.why_not), WIDTH, initial_indent="    ", subsequent_indent="    ")
    quality = {option.method: clean_line(option.quality) for option in reversed(options)}
    chosen = next((option for option in options if option.verdict == "chosen"), None)
    if chosen is not None:
        lines += textwrap.wrap(f"* {quality[chosen.method]}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return [*lines, f"  {_LEGEND}", *_more_methods(options)]


def _more_methods(options: "Sequence[PlanOption]") -> list[str]:
    """Return the methods that are taken for a reason of their own, with what they need or why not."""
    more = [
        f"{option.method} ({'cannot run' if option.verdict == 'impossible' else _span(option.memory)})"
        for option in options
        if option.folded
    ]
    text = f"More methods, with --set method.name=NAME: {', '.join(more)}."
    if not more:
        return []
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _option_row(option: "PlanOption") -> str:
    memory, time = option.memory, human_duration(option.time_s)
    speed = human_count(option.tokens_per_s) if option.tokens_per_s is not None else "n/a"
    return (
        f"{_MARKS[option.verdict]} {clean_line(option.title, max_chars=_TITLE_CELLS):<{_TITLE_CELLS}} "
        f"{_span(memory):<15} {_small_bar(memory):<7} {time:<11} {speed:>8} {human_bytes(option.disk_bytes):>8}"
    )


def _span(memory: "MemoryEstimate") -> str:
    low, high = human_bytes(memory.low_bytes), human_bytes(memory.high_bytes)
    if low.split()[-1] == high.split()[-1]:
        return f"{low.split()[0]}-{high}"
    return f"{low}-{high}".replace(" ", "")


def _small_bar(memory: "MemoryEstimate") -> str:
    """Return the expected share of the free memory as a bar, with a plus sign where it goes beyond."""
    if not memory.available_bytes:
        return ""
    filled = round(SMALL_BAR_CELLS * memory.expected_bytes / memory.available_bytes)
    bar = "█" * min(SMALL_BAR_CELLS, filled)
    return f"{bar:░<{SMALL_BAR_CELLS}}" + ("+" if filled > SMALL_BAR_CELLS else "")


def length_line(choices: "Sequence[LengthChoice]", planned: int | None) -> str:
    """Return what other sequence lengths cover and cost, against the planned one; empty without any."""
    here = next((choice for choice in choices if choice.max_length == planned), None)
    if here is None or len(choices) < 2:
        return ""
    words = [f"{here.max_length} tokens cover {covered(here)} of the rows"]
    for choice in choices:
        more = choice.memory_bytes - here.memory_bytes
        if choice is not here:
            price = f"{human_bytes(abs(more))} {'more' if more > 0 else 'less'}"
            words.append(f"{choice.max_length} cover {covered(choice)} for {price}")
    return "; ".join(words)


def covered(choice: "LengthChoice") -> str:
    """Return a share of rows that is 100 % only when it is all of them."""
    percent = min(choice.covered_share * 100, 100.0 if choice.covered_share >= 1 else 99.9)
    return f"{percent:.1f} %" if percent < 100 else "100 %"


def way_lines(ways: "Sequence[Way]") -> list[str]:
    """Return the ways that fit, each with the settings that take it and its price."""
    from engine.recipe.values import change_words

    lines: list[str] = []
    for number, way in enumerate(ways, start=1):
        need = f"needs {human_bytes(way.memory.expected_bytes)}, up to {human_bytes(way.memory.high_bytes)}"
        lines += textwrap.wrap(
            f"{number}. {clean_line(way.title)}: {need}. {clean_line(way.price)}", WIDTH, subsequent_indent="   "
        )
        lines.append("   " + clean_line(shlex.join(change_words(way.changes))))
    return lines


def _labelled(label: str, words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=label.ljust(_MARGIN), subsequent_indent=" " * _MARGIN)


def _indented(words: str) -> list[str]:
    return _labelled("", words)
