"""`ftwizard compare`: runs and models side by side, with a verdict where they were measured on the same rows."""

import shlex
import shutil
import textwrap
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

from engine.helper import InspectionHelper
from engine.recipe.problems import Problem, ProblemError
from engine.runs.references import base_words
from engine.text import clean_line, human_bytes, human_count, human_duration
from tui.verbs.eval import EvalWish, measured
from tui.verbs.output import print_json, print_table

MOST_SIDES = 6
_WITH_MARGINS = 3
"""With more columns than these there is no room for how sure each number is."""
_NAME_CELLS = 72
_PATH_CELLS = 36
_ROW_CELLS = 78

Fact = tuple[str, Callable[[dict[str, Any]], str]]


def compare(references: Sequence[str], wish: EvalWish | None, *, as_json: bool) -> int:
    """Compare runs and models with the first of them.

    Args:
        references: Runs and models, two at least.
        wish: What all of them are measured on first; None to take the measurements that there are.
        as_json: Print the comparison as JSON.
    """
    if not 2 <= len(references) <= MOST_SIDES:
        message = f"A comparison is of two to {MOST_SIDES} runs or models, and not of {len(references)}."
        raise ProblemError(Problem("compare.number", message, "`ftwizard runs` lists the runs."))
    with closing(InspectionHelper()) as helper:
        found = [] if wish is None else [measured(each, wish, helper, quiet=as_json) for each in references]
        content = helper.call_blocking(
            "compare_models",
            references=list(references),
            files=[each["file"] for each in found],
            remarks=[each["remarks"] for each in found],
        )
    if as_json:
        print_json(content)
    else:
        _print(content, references)
    return 0


def _print(content: dict[str, Any], references: Sequence[str]) -> None:
    sides = content["sides"]
    for side in sides:
        typer.echo(f"{side['letter']}  {clean_line(side['name'], max_chars=_NAME_CELLS)}")
    for sentence in content["lineage"]:
        _say(sentence, "   ")
    for table in content["tables"]:
        _print_table(table, [side["letter"] for side in sides])
    for side in sides:
        for remark in side["remarks"]:
            _say(f"! {side['letter']}: {remark}")
    if not any(all(not why for why in table["why_not"]) for table in content["tables"]):
        _offer(references)
    _print_facts(sides)
    _print_settings(content["settings"], [side["letter"] for side in sides])


def _print_table(table: dict[str, Any], letters: Sequence[str]) -> None:
    typer.echo()
    for sentence in table["headlines"]:
        _say(sentence)
    for why_not in dict.fromkeys(filter(None, table["why_not"])):
        _say(f"Not comparable: {why_not}")
    counts = sorted({count for count in table["num_rows"] if count is not None})
    title = f"{table['title']}: {counts[0]:,}" if len(counts) == 1 else table["title"]
    margins = len(letters) <= _WITH_MARGINS
    verdicts = table["comparable"] and len(letters) == 2
    heads = [title, *letters, *([f"{letters[1]} is"] if verdicts else [])]
    rows = [
        [line["title"], *(_cell(side, margins=margins) for side in line["sides"])]
        + ([_verdict(line["against"][1])] if verdicts else [])
        for line in table["metrics"]
    ]
    print_table(heads, rows, right=range(1, 1 + len(letters)))
    if table["comparable"] and len(letters) > 2:
        typer.echo()
        heads = [f"Against {letters[0]}", *(f"{letter} is" for letter in letters[1:])]
        print_table(heads, [[line["title"], *map(_verdict, line["against"][1:])] for line in table["metrics"]])
    for note in table["notes"]:
        _say(f"! {note}")


def _say(sentence: str, before: str = "") -> None:
    width = min(100, shutil.get_terminal_size().columns)
    text = clean_line(sentence, max_chars=800)
    typer.echo(textwrap.fill(text, width, initial_indent=before, subsequent_indent=before, break_long_words=False))


def _cell(side: dict[str, Any] | None, *, margins: bool) -> str:
    if side is None:
        return "n/a"
    return f"{side['text']} {side['margin_text']}".strip() if margins else str(side["text"])


def _verdict(against: dict[str, Any] | None) -> str:
    return "" if against is None else str(against["verdict"])


def _offer(references: Sequence[str]) -> None:
    """Print how to make them comparable."""
    typer.echo("\nMeasure them on the rows of one file that none of them has learnt:")
    for reference in references:
        typer.echo(f"  ftwizard eval {clean_line(shlex.quote(reference))} --data FILE")
    typer.echo(f"  ftwizard compare {' '.join(clean_line(shlex.quote(each)) for each in references)} --data FILE")


_FACTS: tuple[Fact, ...] = (
    ("State", lambda side: side["state"]),
    ("Objective", lambda side: side["objective"]),
    ("Method", lambda side: side["method"]),
    ("Base model", lambda side: base_words(side["base"])),
    ("Weights that learned", lambda side: _count(side["model"]["trainable_params"])),
    ("Training rows", lambda side: _count(side["data"]["num_train"])),
    ("Data", lambda side: ", ".join(Path(source).name for source in side["data"]["source"])),
    ("Steps", lambda side: f"{side['training']['steps']} of {side['training']['total_steps']}"),
    ("Training time", lambda side: _known(human_duration, side["training"]["elapsed_s"])),
    ("Tokens a second", lambda side: _count(side["training"]["tokens_per_s"])),
    ("Most memory", lambda side: _known(human_bytes, side["memory"]["measured_bytes"])),
)


def _count(value: Any) -> str:
    return _known(human_count, value)


def _known(shown: Callable[[Any], str], value: Any) -> str:
    return "n/a" if value is None or isinstance(value, str) else shown(value)


def _print_facts(sides: Sequence[dict[str, Any]]) -> None:
    runs = [side for side in sides if side["kind"] == "run"]
    if not runs:
        return
    typer.echo()
    width = _width(len(runs), 22)
    rows = [[title, *(clean_line(fact(side), max_chars=width) for side in runs)] for title, fact in _FACTS]
    print_table(["Run", *(side["letter"] for side in runs)], rows)


def _print_settings(settings: Sequence[dict[str, Any]], letters: Sequence[str]) -> None:
    if not settings:
        return
    typer.echo()
    shown = [place for place in range(len(letters)) if any(line["values"][place] is not None for line in settings)]
    width = _width(len(shown), _PATH_CELLS)
    rows = [
        [
            clean_line(line["path"], max_chars=_PATH_CELLS),
            *(clean_line(_value(line["path"], line["values"][place]), max_chars=width) for place in shown),
        ]
        for line in settings
    ]
    print_table(["Settings that differ", *(letters[place] for place in shown)], rows)


def _width(columns: int, first: int) -> int:
    return max(8, (_ROW_CELLS - first) // max(1, columns) - 2)


def _value(path: str, value: Any) -> str:
    if value is None:
        return "-"
    if path == "model.base":
        return base_words(str(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
