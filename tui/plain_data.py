"""What line prompts print of data: how far a reading is, the ways to read unclear rows, rows, lengths and problems."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from engine.planning.data_words import (
    account,
    answers_words,
    cut_heads,
    cut_rows,
    lost_in,
    measured_words,
    reason_words,
)
from engine.text import clean_line, human_bytes
from tui.verbs.output import print_problems, print_table

if TYPE_CHECKING:
    from engine.planning.profiles import DataProfile

LINE_EVERY_S = 5.0
"""Time between two lines about a reading: a screen reader speaks each of them."""


class PlainProgress:
    """Prints a line about work under way, the first after five seconds and one every five seconds after."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def __call__(self, word: Mapping[str, Any]) -> None:
        """Take a word of the helper about its progress."""
        now = self._clock()
        if now - self._last < LINE_EVERY_S:
            return
        self._last = now
        typer.echo(progress_line(word))


def progress_line(word: Mapping[str, Any]) -> str:
    """Return a word about progress as a line: `Reading rows.jsonl: 43 %`."""
    done, total = word["done"], word["total"]
    far = (
        f"{min(1.0, done / total):.0%}" if total else human_bytes(done) if word["unit"] == "bytes" else f"{done:,} rows"
    )
    found = clean_line(word["found"], max_chars=120)
    return f"  {clean_line(word['stage'], max_chars=60)}: {far}" + (f"; {found}" if found else "")


def print_offers(offers: Sequence[Mapping[str, Any]]) -> None:
    """Print the ways to read unclear rows, numbered, each with the first row read that way."""
    for number, offer in enumerate(offers, 1):
        typer.echo(f"  {number}. {offer['confidence']:.0%} {clean_line(offer['evidence'], max_chars=300)}")
        for role, text in offer["example"].items():
            typer.echo(f"     {clean_line(role)}: {clean_line(text, max_chars=120)}")


def print_data(profile: "DataProfile") -> None:
    """Print where every row went, the lengths with what each would cut, a first row, and every finding."""
    typer.echo(f"{profile.num_rows} rows, read as {profile.format}. {clean_line(profile.evidence)}")
    total = account(profile)
    typer.echo(f"{total.sentence()}.")
    for reason, count in total.dropped.items():
        typer.echo(f"  dropped: {count:,} {clean_line(reason_words(reason), max_chars=60)}")
    _print_lengths(profile)
    for role, text in (profile.examples[0] if profile.examples else {}).items():
        typer.echo(f"  {clean_line(role)}: {clean_line(text, max_chars=200)}")
    print_problems(profile.findings)


def _print_lengths(profile: "DataProfile") -> None:
    lengths = profile.lengths
    if lengths is None:
        return
    about = "about " if lengths.estimated else ""
    typer.echo(
        f"Tokens per {measured_words(profile)}: {about}{lengths.p50} in the middle, "
        f"{lengths.p99} for 99 of 100, {lengths.longest} at most."
    )
    if words := answers_words(profile):
        typer.echo(f"{words.capitalize()}.")
    rows = [
        (
            f"{row.length:,}",
            f"{row.num_cut:,} ({row.share:.1%})",
            _or_unknown(lost_in(profile, row)),
            _or_unknown(row.lost_tokens),
        )
        for row in cut_rows(profile)
    ]
    if rows:
        cut_head, _, lost_head = cut_heads(profile)
        print_table(("length", cut_head, lost_head, "tokens lost"), rows)


def _or_unknown(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"
