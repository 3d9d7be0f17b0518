"""The X-ray as lines of text: what is trained, and a few sequences with marks instead of colours."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.recipe.problems import ProblemError
from engine.text import clean_line
from tui.backend import XrayPage, XraySequence
from tui.engine_backend import no_tokenizer
from tui.plain_data import PlainProgress
from tui.plan_text import WIDTH
from tui.widgets.token_lines import token_lines
from tui.widgets.token_marks import LEGEND
from tui.wizard.xray_text import headline
from tui.xray_answers import xray_page

if TYPE_CHECKING:
    from engine.helper import InspectionHelper

NUM_SEQUENCES = 3
PLAIN_LEGEND = f"Marks: {LEGEND}."
WRITES = "The model learns to write what is trained; the rest it only reads."


def read_page(helper: "InspectionHelper", tree: Mapping[str, Any], folder: str | None) -> XrayPage:
    """Return the first sequences that a recipe trains.

    Raises:
        ProblemError: They cannot be made; of severity `warning` when only the tokenizer is missing here.
    """
    if folder is None:
        raise ProblemError(no_tokenizer())
    wanted = {"recipe": dict(tree), "folder": folder, "start": 0, "count": NUM_SEQUENCES, "order": "file"}
    return xray_page(helper.call_blocking("xray", PlainProgress(), **wanted))


def page_lines(page: XrayPage) -> Iterator[str]:
    """Yield the headline, the legend and the sequences."""
    yield headline(page)
    # Where more than tokens is learnt, the headline says what.
    yield PLAIN_LEGEND if page.learnt else f"{PLAIN_LEGEND} {WRITES}"
    for sequence in page.sequences:
        yield from _sequence_lines(sequence)


def _sequence_lines(sequence: XraySequence) -> Iterator[str]:
    ids = ", ".join(clean_line(row_id, max_chars=60) for row_id in sequence.row_ids[:2])
    more = f" and {len(sequence.row_ids) - 2:,} more" if len(sequence.row_ids) > 2 else ""
    trained = f"{sequence.num_trained:,} of {sequence.num_tokens:,} tokens trained"
    if sequence.learns:
        trained = f"→ {clean_line(sequence.learns, max_chars=120)}"
    yield f"\nSequence {sequence.number + 1:,}, {ids}{more}, {trained}"
    for reason in sequence.reasons:
        yield f"! {clean_line(reason)}"
    for line in token_lines(sequence, WIDTH, marked=True):
        yield "".join(text for text, _ in line)
