"""The ranked table of a plan as numbered answers of the plain prompts: no colour, no cursor, a word for every mark."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.text import clean_line
from tui.widgets.memory_bar import Span, of_free
from tui.wizard.option_words import (
    about,
    answers_of,
    answers_of_way,
    chosen_option,
    effort_words,
    range_words,
    recommended,
    settings_words,
    verdict_words,
)

if TYPE_CHECKING:
    from engine.planning.plan import Plan, PlanOption

HEADERS = ("", "Method", "Memory", "Time", "")


@dataclass(frozen=True, slots=True)
class PlainOption:
    """One numbered answer of the method step.

    Attributes:
        answers: What taking it answers; None where this machine cannot run it.
        cells: Its row of the table, without the number; empty for a way, which is a sentence.
        more: What `?` says of it.
        why_not: Why it cannot be taken.
        name: A word that may be typed instead of the number; empty for none.
        is_way: A way to make a plan fit, to be taken over the answers in force.
        folded: One of the methods that are named in a sentence, and taken by their name.
    """

    answers: dict[str, Any] | None
    cells: tuple[str, ...]
    more: str
    why_not: str = ""
    name: str = ""
    is_way: bool = False
    folded: bool = False


def plain_options(plan: "Plan") -> list[PlainOption]:
    """Return every option best first, then the ways that fit where the plan does not."""
    chosen, source = chosen_option(plan), plan.sources.get("method.name")
    best = recommended(plan, chosen) if source is not None and source.kind == "derived" else None
    found = [_plain_option(option, best is option, chosen is option) for option in plan.options if not option.folded]
    for way in plan.ways:
        more = f"{clean_line(way.title)}: makes it fit ({of_free(Span.of(way.memory))}). {clean_line(way.price)}"
        found.append(PlainOption(answers_of_way(way), (), more, is_way=True))
    # Last, so that the numbers of what is in the table stay small.
    return found + [_plain_option(option, False, False) for option in plan.options if option.folded]


def _plain_option(option: "PlanOption", best: bool, chosen: bool) -> PlainOption:
    formula = "~" if option.memory.depth == "formula" else ""
    words = ["recommended"] if best else []
    words += [verdict_words(option)] if chosen or not best else []
    cells = (
        clean_line(option.title),
        formula + of_free(Span.of(option.memory)),
        about(option.time_s),
        ", ".join(words),
    )
    parts = [option.quality, option.why_not, settings_words(option), effort_words(option), range_words(option.memory)]
    more = f"{option.title}: " + ". ".join(part.rstrip(".") for part in parts if part) + "."
    answers = None if option.verdict == "impossible" else answers_of(option)
    return PlainOption(answers, cells, more, option.why_not, option.method, folded=option.folded)
