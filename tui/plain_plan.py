"""The ranked table and the memory of a plan as plain lines: no colour, no cursor, a word for every mark."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.text import clean_line, human_bytes, human_count
from tui.widgets.memory_bar import Span, of_free, shown_components
from tui.wizard.option_words import (
    about,
    answers_of,
    answers_of_way,
    chosen_option,
    effort_words,
    peak_words,
    range_words,
    recommended,
    settings_words,
    verdict_words,
)

if TYPE_CHECKING:
    from engine.planning.plan import MemoryEstimate, Plan, PlanOption

BAR_WIDTH = 24
HEADERS = ("", "Method", "Memory", "Time", "tokens/s", "")


@dataclass(frozen=True, slots=True)
class PlainOption:
    """One numbered answer of the method step.

    Attributes:
        answers: What taking it answers; None where this machine cannot run it.
        cells: Its row of the table, without the number.
        more: What `?` says of it.
        why_not: Why it cannot be taken.
        name: A word that may be typed instead of the number; empty for none.
        is_way: A way to make a plan fit, to be taken over the answers in force.
    """

    answers: dict[str, Any] | None
    cells: tuple[str, ...]
    more: str
    why_not: str = ""
    name: str = ""
    is_way: bool = False


def plain_options(plan: "Plan") -> list[PlainOption]:
    """Return every option best first, then the ways that fit where the plan does not."""
    best, chosen = recommended(plan), chosen_option(plan)
    found = [_plain_option(option, best is option, chosen is option) for option in plan.options]
    for way in plan.ways:
        need = of_free(Span.of(way.memory))
        price = clean_line(way.price)
        cells = (clean_line(way.title), need, "", "", f"makes it fit: {price}")
        more = f"{way.title}: {price} Needs {range_words(way.memory)}."
        found.append(PlainOption(answers_of_way(way), cells, more, is_way=True))
    return found


def _plain_option(option: "PlanOption", best: bool, chosen: bool) -> PlainOption:
    formula = "~" if option.memory.depth == "formula" else ""
    words = ["recommended"] if best else []
    words += [verdict_words(option)] if chosen or not best else []
    standing = ", ".join(words) + (f": {clean_line(option.why_not)}" if option.why_not else "")
    speed = human_count(option.tokens_per_s) if option.tokens_per_s is not None else ""
    cells = (clean_line(option.title), formula + of_free(Span.of(option.memory)), about(option.time_s), speed, standing)
    parts = [option.quality, option.why_not, settings_words(option), effort_words(option), range_words(option.memory)]
    more = f"{option.title}: " + ". ".join(part.rstrip(".") for part in parts if part) + "."
    answers = None if option.verdict == "impossible" else answers_of(option)
    return PlainOption(answers, cells, more, option.why_not, option.method)


def breakdown_lines(memory: "MemoryEstimate") -> list[str]:
    """Return the memory of a plan with a bar and a number for every part, then phases and notes."""
    total = max(1, memory.expected_bytes)
    free = f", {human_bytes(memory.available_bytes)} free" if memory.available_bytes is not None else ""
    lines = [f"Memory on {clean_line(memory.where)}: {range_words(memory)}{free}"]
    shown = shown_components(memory.components)
    width = max((len(name) for name, _ in shown), default=0)
    for name, size in shown:
        bar = "#" * max(1, round(size / total * BAR_WIDTH))
        lines.append(f"  {name:<{width}} {human_bytes(size):>10} {100 * size / total:>4.0f} %  {bar}")
    if peaks := peak_words(memory):
        lines.append(f"  peaks: {peaks}")
    return lines + [f"  note: {clean_line(note)}" for note in memory.notes]
