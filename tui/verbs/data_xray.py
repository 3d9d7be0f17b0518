"""`ftwizard data xray`: sequences token by token, as the collator hands them to the trainer."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import typer

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line
from tui.backend import XrayOrder, XrayToken
from tui.verbs.data import model_folder
from tui.verbs.data_recipe import DataWish, data_helper, recipe_of
from tui.verbs.data_text import WIDTH, title
from tui.verbs.output import EXIT_WRONG_USE, print_json, print_problems
from tui.widgets.token_marks import LEGEND, Part, marked_pieces

_STYLES: dict[Part, dict[str, Any]] = {
    "trained": {"fg": typer.colors.GREEN, "underline": True},
    "trained special": {"fg": typer.colors.GREEN, "underline": True, "bold": True},
    "special": {"fg": typer.colors.CYAN},
    "mark": {"fg": typer.colors.GREEN, "bold": True},
}
_EMPTY = {"cut": "No sequence is cut.", "odd": "No sequence stands out.", "file": "There is no sequence."}


@dataclass(frozen=True, slots=True)
class XrayWish:
    """Which sequences are shown.

    Attributes:
        order: As they come, the longest, the cut or the odd first.
        start: Place of the first in that order, from 0.
        count: How many.
        max_length: Sequence length to cut at; None for the one that a plan would take.
    """

    order: XrayOrder = "file"
    start: int = 0
    count: int = 3
    max_length: int | None = None


def wish_of(
    *, sequence: int | None, page: int | None, longest: bool, cut: bool, odd: bool, count: int, max_length: int | None
) -> XrayWish:
    """Return what the options ask for.

    Raises:
        ProblemError: Options that exclude each other.
    """
    asked: dict[XrayOrder, bool] = {"longest": longest, "cut": cut, "odd": odd}
    orders = [order for order, wanted in asked.items() if wanted]
    if len(orders) > 1 or (sequence is not None and (page is not None or orders)):
        message = "--sequence, --page, --longest, --cut and --odd ask for different sequences."
        raise ProblemError(
            Problem("data.xray_options", message, "Give one order; --page goes with it, --sequence does not.")
        )
    start = sequence - 1 if sequence is not None else ((page or 1) - 1) * count
    return XrayWish(orders[0] if orders else "file", start, count, max_length)


def xray(wish: DataWish, shown: XrayWish, *, as_json: bool) -> int:
    """Print sequences with trained, context and special tokens told apart; exit code 2 where a run would be refused."""
    if shown.max_length is not None:
        changes = [*wish.changes, f"training.max_length={shown.max_length}"]
        wish = DataWish(wish.paths, changes, wish.model, wish.objective)
    with data_helper(show=not as_json) as helper:
        tree = helper.with_objective(recipe_of(wish))
        folder = model_folder(helper, tree)
        page = helper.ask("xray", recipe=tree, folder=folder, start=shown.start, count=shown.count, order=shown.order)
    problems = [Problem(**problem) for problem in page["problems"]]
    if as_json:
        print_json(page)
    else:
        _print(page, problems, shown)
    return EXIT_WRONG_USE if any(problem.severity == "error" for problem in problems) else 0


def headline(page: Mapping[str, Any]) -> str:
    """Return what is true of all sequences, in words."""
    of_rows = "packed sequences" if page["packed"] else "sequences"
    words = [
        clean_line(page["learnt"]) or f"{100 * page['trained_share']:.1f} % of all tokens are trained.",
        f"{page['num_cut']:,} of {page['num_sequences']:,} {of_rows} are cut at {page['max_length']:,} tokens"
        f" ({clean_line(page['length_from'], max_chars=120)}), {page['num_odd']:,} stand out.",
    ]
    if page["num_dropped"]:
        words.append(f"{page['num_dropped']:,} rows give no sequence.")
    return " ".join(words)


def _print(page: Mapping[str, Any], problems: Sequence[Problem], shown: XrayWish) -> None:
    typer.echo(headline(page))
    typer.echo(LEGEND)
    if not page["sequences"]:
        typer.echo(f"\n{_nothing(page, shown)}")
    for sequence in page["sequences"]:
        typer.echo()
        for line in sequence_lines(sequence):
            typer.echo(line)
    if problems:
        typer.echo()
        print_problems(problems, err=False)


def _nothing(page: Mapping[str, Any], shown: XrayWish) -> str:
    if page["total"]:
        return f"There are only {page['total']:,} sequences in this order; ask for one of them."
    return _EMPTY.get(shown.order, _EMPTY["file"])


def sequence_lines(sequence: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sequence as lines: what it is, why it stands out, its tokens, what is left out."""
    ids = ", ".join(clean_line(row_id, max_chars=120) for row_id in sequence["row_ids"][:3])
    more = len(sequence["row_ids"]) - 3
    where = f"{ids} and {more} more" if more > 0 else ids
    numbers = f"{sequence['num_trained']:,} of {sequence['num_tokens']:,} tokens trained"
    if sequence["learns"]:
        numbers = f"→ {clean_line(sequence['learns'], max_chars=120)}"
    yield title(f"Sequence {sequence['number'] + 1:,}  {where}  {numbers}")
    for reason in sequence["reasons"]:
        yield typer.style(f"! {clean_line(reason)}", fg=typer.colors.YELLOW)
    tokens = [
        XrayToken(token["text"], token["trained"], token["special"], token["padding"], token["segment"])
        for token in sequence["tokens"]
    ]
    segments = [list(group) for _, group in groupby((t for t in tokens if not t.padding), key=lambda t: t.segment)]
    for number, segment in enumerate(segments):
        if len(sequence["row_ids"]) > 1:
            yield f"-- {clean_line(sequence['row_ids'][number], max_chars=120)} ".ljust(WIDTH, "-")
        yield "".join(_styled(piece.text, piece.part) for piece in marked_pieces(segment))
    yield from _left_out(sequence, sum(not token.padding for token in tokens))


def _left_out(sequence: Mapping[str, Any], num_shown: int) -> Iterator[str]:
    if sequence["num_tokens"] > num_shown:
        yield f"+ {sequence['num_tokens'] - num_shown:,} more tokens"
    if sequence["num_lost"]:
        yield f"x cut here: {sequence['num_lost']:,} tokens are lost"
    if sequence["num_padding"]:
        yield f"+ {sequence['num_padding']:,} padding"


def _styled(text: str, part: Part) -> str:
    # A line feed inside a style would colour the rest of the terminal's line.
    style = _STYLES.get(part)
    if style is None or not sys.stdout.isatty():
        return text
    return "\n".join(typer.style(line, **style) if line else line for line in text.split("\n"))
