"""What the checks of rendered rows look at, and the form of what they find."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Literal, TypeAlias

from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendered import Rendered, RenderedRows
from engine.data.rendering import Renderer
from engine.data.row_store import row_text
from engine.data.rows import Row
from engine.data.served_prompts import Served, served_prompts
from engine.data.taught import Taught, taught_by
from engine.data.token_facts import TokenFacts, token_facts
from engine.planning.profiles import PreflightCheck
from engine.recipe.schema import Recipe
from engine.text import clean_line

MAX_ROWS_LISTED = 20
UNCUT_LENGTH = 1 << 30
"""A sequence length that cuts nothing."""
SERVED_ROWS = 200
DRAWN_ROWS = 400
DRAWN_CHARS = 2 << 20
"""Rows, and characters in them, that are rendered again for a check; of more rows that many are drawn with the seed."""
LEAST_DRAWN = 20
Status: TypeAlias = Literal["passed", "warning", "blocked", "skipped"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found.

    Attributes:
        status: As in `PreflightCheck`.
        message: With numbers.
        fix: The next action.
        rows: `file:line` of the rows concerned.
        measured: Named figures behind the verdict.
    """

    status: Status
    message: str
    fix: str = ""
    rows: Sequence[str] = ()
    measured: Mapping[str, float] = field(default_factory=dict)

    def as_check(self, check_id: str, title: str, elapsed_s: float) -> PreflightCheck:
        """Return the verdict as it is written down."""
        return PreflightCheck(
            id=check_id,
            title=title,
            status=self.status,
            message=clean_line(self.message, max_chars=1000),
            fix=clean_line(self.fix, max_chars=400),
            rows=[clean_line(row, max_chars=200) for row in list(dict.fromkeys(self.rows))[:MAX_ROWS_LISTED]],
            measured=dict(self.measured),
            elapsed_s=round(elapsed_s, 4),
        )


@dataclass(frozen=True)
class PreflightCase:
    """A run's rows and what became of them.

    Attributes:
        recipe: A checked recipe.
        renderer: What rendered the rows.
        train_rows: Rows to learn from.
        held_out_rows: Rows to be judged on.
        whole: The training rows as sequences, before cutting.
        max_length: Sequence length in tokens; of pairs, the longest source.
        max_target: Longest target of a pair; None for any.
        test_rows: Rows put aside.
        vocab_size: Rows of the model's embedding; None where nobody knows the model.
        context_length: Longest text that the model reads, in tokens; None where nobody knows the model.
        num_duplicates_dropped: Rows that were left out because they equal an earlier one.
        drawn_rows: The training rows behind `whole` where those are a sample; None where all are rendered.
        watch: Told how far work is that reads all rows.
    """

    recipe: Recipe
    renderer: Renderer
    train_rows: Sequence[Row]
    held_out_rows: Sequence[Row]
    whole: RenderedRows
    max_length: int
    test_rows: Sequence[Row] = ()
    vocab_size: int | None = None
    context_length: int | None = None
    num_duplicates_dropped: int = 0
    max_target: int | None = None
    drawn_rows: Sequence[Row] | None = None
    watch: WorkWatch = NOBODY

    @property
    def rendered_rows(self) -> Sequence[Row]:
        """The training rows behind `whole`."""
        return self.train_rows if self.drawn_rows is None else self.drawn_rows

    @property
    def converses(self) -> bool:
        """Whether the rows are conversations; otherwise they are plain text, which is trained whole."""
        return len(self.train_rows) > 0 and "messages" in self.train_rows[0]

    @cached_property
    def facts(self) -> TokenFacts:
        """Facts of the whole sequences."""
        return token_facts(self.whole.sequences, self.renderer.tokenizer)

    @cached_property
    def taught(self) -> Taught:
        """What the training rows ask and answer, as numbers."""
        return taught_by(self.train_rows, self.watch)

    @cached_property
    def drawn(self) -> list[tuple[Row, list[Rendered]]]:
        """Training rows drawn with the seed, each once with its sequences; rows without any are left aside."""
        wanted = {row["id"]: row for row in self._few_rows()}
        places: dict[str, list[int]] = {}
        for place, row_id in enumerate(self.facts.ids):
            if row_id in wanted:
                places.setdefault(row_id, []).append(place)
        sequences = self.whole.sequences
        return [(row, [sequences[place] for place in places[name]]) for name, row in wanted.items() if name in places]

    def _few_rows(self) -> list[Row]:
        rows = self.rendered_rows
        count = len(rows)
        numbers: Sequence[int] = range(count)
        if count > DRAWN_ROWS:
            numbers = sorted(random.Random(f"preflight {self.recipe.training.seed}").sample(numbers, DRAWN_ROWS))
        return self._short([rows[number] for number in numbers])

    def _short(self, rows: list[Row]) -> list[Row]:
        """Return as many of the rows as can be read in a moment: of texts as long as books, a few do."""
        places = list(range(len(rows)))
        random.Random(f"preflight {self.recipe.training.seed}").shuffle(places)
        sizes = accumulate(len(row_text(rows[place])) for place in places)
        kept = [place for place, chars in zip(places, sizes, strict=True) if chars <= DRAWN_CHARS]
        return [rows[place] for place in sorted(places[: max(LEAST_DRAWN, len(kept))])]

    @cached_property
    def served(self) -> list[Served]:
        """Prompts of drawn rows as training, an exported tokenizer and the chat read them."""
        trust = self.recipe.model.trust_remote_code
        return served_prompts(self.drawn[:SERVED_ROWS], self.renderer, trust_remote_code=trust)


def counted(count: int, one: str, several: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else several}"


def listed(rows: Sequence[str], most: int = 3, *, total: int | None = None) -> str:
    """Return the first of `total` rows, such as `rows.jsonl:3, rows.jsonl:9 and 4 more`; `total` is all of them."""
    named = list(dict.fromkeys(rows))
    more = (len(named) if total is None else total) - most
    return ", ".join(named[:most]) + (f" and {more:,} more" if more > 0 else "")


def percent(share: float) -> str:
    """Return a share as people say it: `62 %`, `0.3 %`."""
    scaled = 100 * share
    return f"{scaled:.0f} %" if scaled >= 9.95 or not share else f"{scaled:.2g} %"
