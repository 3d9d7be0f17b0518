"""The rows of the method step: a table that gains columns with the width. Plain data, no widget."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.content import Content

from engine.text import clean_line, human_bytes, human_count
from tui.widgets.labels import fit
from tui.widgets.memory_bar import (
    Span,
    component_bar,
    component_legend,
    flow,
    largest_components,
    of_free,
    range_bar,
)
from tui.wizard.option_words import (
    SHORT_PRECISIONS,
    about,
    can_fit,
    chosen_option,
    effort_words,
    fits,
    peak_words,
    range_words,
    settings_words,
    verdict_words,
)

if TYPE_CHECKING:
    from engine.planning.plan import MemoryEstimate, Plan, PlanOption, Way

RowKind = Literal["option", "heading", "way", "fold"]
FOLD = "more-methods"
MARK_WIDTH = 5
MEMORY_WIDTH = 18
TIME_WIDTH = 12
SPEED_WIDTH = 9
DISK_WIDTH = 10
PRECISION_WIDTH = 6
REST_LEAST = 22
BAR_LEAST, BAR_GOOD, BAR_MOST = 8, 14, 40


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One row: an option, a way that fits, the heading above the ways, or what opens the other methods."""

    row_id: str
    kind: RowKind
    content: Content
    option: "PlanOption | None" = None
    way: "Way | None" = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns there is room for; 0 cells where there is none.

    Attributes:
        title: Cells of the option's name.
        bar: Cells of the memory bar.
        time: Cells of the expected time.
        speed: Cells of the tokens per second.
        disk: Cells of the disk space.
        precision: Cells of the number format.
        rest: Cells of the reason why an option was not chosen.
    """

    title: int
    bar: int
    time: int = 0
    speed: int = 0
    disk: int = 0
    precision: int = 0
    rest: int = 0

    @classmethod
    def within(cls, width: int, options: "Sequence[PlanOption]") -> "Columns":
        """Return the columns of a table of `width` cells, most needed first."""
        longest = max((len(option.title) for option in options), default=0)
        title = max(10, min(longest, 14 if width < 64 else 21 if width < 100 else 26)) + 1
        left = width - MARK_WIDTH - title - MEMORY_WIDTH - 1 - BAR_LEAST
        taken: dict[str, int] = {}
        optional = (
            ("time", TIME_WIDTH),
            ("speed", SPEED_WIDTH),
            ("disk", DISK_WIDTH),
            ("precision", PRECISION_WIDTH),
            ("rest", REST_LEAST),
        )
        for name, cells in optional:
            # The reasons stand under the table too: they come after a bar that is easy to read.
            if left < cells + (BAR_GOOD - BAR_LEAST if name == "rest" else 0):
                break
            taken[name] = cells
            left -= cells
        bar = BAR_LEAST + left
        if taken.get("rest"):
            reason = max((len(option.why_not) for option in options), default=0) + 2
            more = max(0, min(reason - REST_LEAST, bar - BAR_GOOD))
            taken["rest"] += more
            bar -= more
        return cls(title, max(0, min(BAR_MOST, bar)) if bar >= 5 else 0, **taken)


def option_rows(plan: "Plan", best: "PlanOption | None", width: int, *, unfolded: bool = False) -> list[OptionRow]:
    """Return every option best first; above them the ways that fit where the plan does not.

    Args:
        plan: The plan in force.
        best: The recommended option of it.
        width: Cells of a row.
        unfolded: Show the methods that are taken for a reason of their own too.
    """
    shown = [option for option in plan.options if not option.folded]
    more = [option for option in plan.options if option.folded]
    columns = Columns.within(width, [*shown, *more] if unfolded else shown)
    scale = max((option.memory.high_bytes for option in shown), default=0)
    rows: list[OptionRow] = []
    seen: dict[str, int] = {}
    for option in [*shown, *more]:
        name = f"{option.method}-{option.strategy}-{option.num_gpus}"
        seen[name] = seen.get(name, 0) + 1
        content = _option_content(option, columns, best is option, scale)
        rows.append(OptionRow(f"option-{name}-{seen[name]}", "option", content, option=option))
    if more:
        fold = OptionRow(FOLD, "fold", _fold_content(more, width, unfolded=unfolded))
        rows = [*rows[: len(shown)], fold, *(rows[len(shown) :] if unfolded else [])]
    if not plan.ways:
        return rows
    heading = Content.styled("   It does not fit. Enter takes one of these, and it does:", "bold $accent")
    ways = [
        OptionRow(f"way-{number}", "way", _way_content(way, columns, width), way=way)
        for number, way in enumerate(plan.ways)
    ]
    below = Content.styled("   All options:", "bold $accent")
    return [OptionRow("heading-ways", "heading", heading), *ways, OptionRow("heading-options", "heading", below), *rows]


def _fold_content(more: "Sequence[PlanOption]", width: int, *, unfolded: bool) -> Content:
    names = ", ".join(option.title for option in more)
    label = f" {'▾' if unfolded else '▸'} More methods"
    room = max(0, width - len(label) - 3)
    return Content.assemble((label, "bold $primary"), ("  " + clean_line(names, max_chars=room), "$text-muted"))


def table_heading(plan: "Plan | None", width: int, *, unfolded: bool = False) -> Content:
    """Return the names of the columns of `option_rows`."""
    if plan is None:
        return Content("")
    columns = Columns.within(width, [option for option in plan.options if unfolded or not option.folded])
    free = plan.memory.available_bytes
    memory = f"memory of {human_bytes(free)} free" if free else "memory"
    room = (columns.bar + 1 if columns.bar else 0) + MEMORY_WIDTH
    text = " " * MARK_WIDTH + fit("method", columns.title) + fit(memory, room)
    for name, cells in (("time", columns.time), ("tokens/s", columns.speed), ("disk", columns.disk)):
        text += name.rjust(cells) if cells else ""
    text += "  bits".ljust(columns.precision) if columns.precision else ""
    text += "  why not" if columns.rest else ""
    return Content.styled(text, "$text-muted")


def _option_content(option: "PlanOption", columns: Columns, best: bool, scale: float) -> Content:
    runs = can_fit(option)
    parts: list[Content | tuple[str, str]] = [*_mark(option, best)]
    weight = "bold" if option.verdict == "chosen" else "" if runs else "$text-disabled"
    parts.append((fit(clean_line(option.title), columns.title - 1) + " ", weight))
    if option.verdict == "impossible":
        room = _width_after_title(columns)
        parts.append((fit(f"cannot run: {clean_line(option.why_not)}", room), "$text-disabled"))
        return Content.assemble(*parts)
    span = Span.of(option.memory)
    if columns.bar:
        parts += [range_bar(span, columns.bar, scale_bytes=scale, style="" if runs else "$text-disabled"), (" ", "")]
    formula = "~" if option.memory.depth == "formula" else ""
    parts.append((fit(formula + of_free(span), MEMORY_WIDTH), "bold" if runs else "$text-disabled"))
    return Content.assemble(*parts, *_numbers(option, columns, runs))


def _mark(option: "PlanOption", best: bool) -> list[tuple[str, str]]:
    star = ("★", "bold $accent") if best else (" ", "")
    match option.verdict:
        case "chosen":
            dot = ("●", "bold $success") if fits(option) else ("●", "bold $warning")
        case "fits":
            dot = ("○", "$text-muted")
        case "tight":
            dot = ("!", "bold $warning")
        case _:
            dot = ("✗", "$text-disabled")
    return [(" ", ""), star, (" ", ""), dot, (" ", "")]


def _numbers(option: "PlanOption", columns: Columns, runs: bool) -> list[tuple[str, str]]:
    time = about(option.time_s) if runs else "does not fit"
    speed = human_count(option.tokens_per_s) if option.tokens_per_s is not None and runs else ""
    disk = human_bytes(option.disk_bytes) if option.disk_bytes and runs else ""
    precision = SHORT_PRECISIONS.get(option.precision, option.precision)
    weight = "" if runs else "$text-disabled"
    cells = [
        (time.rjust(columns.time), weight) if columns.time else ("", ""),
        (speed.rjust(columns.speed), weight) if columns.speed else ("", ""),
        (disk.rjust(columns.disk), weight) if columns.disk else ("", ""),
        (f"  {precision}".ljust(columns.precision), weight) if columns.precision else ("", ""),
    ]
    if columns.rest:
        cells.append(("  " + clean_line(option.why_not, max_chars=columns.rest - 2), "$text-muted"))
    return cells


def _width_after_title(columns: Columns) -> int:
    bar = columns.bar + 1 if columns.bar else 0
    return bar + MEMORY_WIDTH + columns.time + columns.speed + columns.disk + columns.precision + columns.rest


def _way_content(way: "Way", columns: Columns, width: int) -> Content:
    span = Span.of(way.memory)
    need = of_free(span)
    room = max(10, width - MARK_WIDTH - len(need) - 3)
    title = clean_line(way.title, max_chars=room)
    price = clean_line(way.price, max_chars=max(0, room - len(title) - 2)) if room - len(title) > 12 else ""
    return Content.assemble(
        ("   → ", "bold $success"),
        (title, "bold"),
        (f"  {price}".ljust(max(0, room - len(title))), "$text-muted"),
        (f"  {need}", span.style),
    )


# --- the row under the cursor ----------------------------------------------------------------------------------------


def option_details(
    option: "PlanOption", plan: "Plan", best: "PlanOption | None", width: int, *, roomy: bool
) -> list[Content]:
    """Return what there is to know of one option: standing and reason, settings, memory by component.

    Args:
        option: The row under the cursor.
        plan: The plan in force.
        best: The recommended option of it.
        width: Cells of a line.
        roomy: Whether there are lines for every component, time and disk in words, phases and notes.
    """
    lines = _standing(option, plan, best, width, 4 if roomy else 2)
    lines.append(Content.styled(fit_line(settings_words(option), width), "$text-muted"))
    if roomy and (effort := effort_words(option)):
        lines.append(Content.styled(fit_line(effort, width), "$text-muted"))
    memory = option.memory
    words = range_words(memory)
    lines += _stack(memory, words, width, roomy=roomy)
    if roomy:
        if peaks := peak_words(memory):
            lines.append(Content.assemble(("peaks  ", "$accent"), (fit_line(peaks, width - 7), "")))
        lines += [Content.styled(fit_line(f"i {note}", width), "$text-muted") for note in memory.notes[:2]]
    return lines


def _stack(memory: "MemoryEstimate", words: str, width: int, *, roomy: bool) -> list[Content]:
    components = memory.components if roomy else largest_components(memory.components)
    bar = component_bar(components, max(10, width - len(words) - 1))
    return [Content.assemble(bar, (f" {words}", "")), *flow(component_legend(components), width)]


def _standing(
    option: "PlanOption", plan: "Plan", best: "PlanOption | None", width: int, max_lines: int
) -> list[Content]:
    chosen = chosen_option(plan)
    words = ["★ recommended"] if option is best else []
    words += [f"● {verdict_words(option)}"] if option is chosen else [verdict_words(option)] if not words else []
    style = "bold $success" if can_fit(option) else "bold $warning"
    reason = option.why_not or (_own_reason(plan) if option is chosen else "")
    text = " ".join(as_sentence(part) for part in (reason, option.quality) if part)
    head = ", ".join(words)
    lines = textwrap.wrap(f"{head}  {text}", max(20, width), break_on_hyphens=False)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], fit_line(" ".join(lines[max_lines - 1 :]), width)]
    first = lines[0] if lines else head
    return [Content.assemble((first[: len(head)], style), first[len(head) :]), *map(Content, lines[1:])]


def _own_reason(plan: "Plan") -> str:
    source = plan.sources.get("method.name")
    return source.detail if source is not None and source.kind == "derived" else ""


def way_details(way: "Way", width: int) -> list[Content]:
    """Return what a way changes and costs."""
    changes = ", ".join(f"{path} = {value}" for path, value in way.changes.items())
    price = textwrap.wrap(
        clean_line(way.price), max(20, width - 11), break_on_hyphens=False, max_lines=2, placeholder=" …"
    )
    lines = [
        Content.assemble(("its price  " if number == 0 else " " * 11, "bold $accent"), (line, ""))
        for number, line in enumerate(price)
    ]
    lines.append(Content.assemble(("it sets    ", "bold $accent"), (fit_line(changes, width - 11), "$text-muted")))
    return [*lines, *_stack(way.memory, range_words(way.memory), width, roomy=False)]


def as_sentence(text: str) -> str:
    """Return words as a sentence: a capital in front, one full stop behind."""
    line = clean_line(text).rstrip(".")
    return f"{line[:1].upper()}{line[1:]}."


def fit_line(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters."""
    return clean_line(text, max_chars=max(1, width))
