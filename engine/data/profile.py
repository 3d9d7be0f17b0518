"""The data profile with lengths measured by the tokenizer that will train."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from engine.data.lengths import expected_answers, length_profile
from engine.data.pipeline import PreparedData, prepare
from engine.data.preflight import check_prepared, findings_of
from engine.data.preflight_case import UNCUT_LENGTH
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendered import Ints, RenderedRows
from engine.data.rendering import Renderer
from engine.data.row_store import row_text
from engine.data.rows import Row
from engine.data.sequence_length import model_in, row_length, target_length, task_in
from engine.data.sources import HUB
from engine.data.token_key import rows_hash
from engine.data.tokenized import TokenizedRows, find_tokens, tokenize
from engine.models.hub_datasets import commits_of
from engine.models.tokenizers import load_tokenizer
from engine.planning.profiles import DataProfile, Finding, LengthCut, LengthProfile
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

MEASURED_CHARS = 64 << 20
"""Text whose tokens are all counted before the start, which takes up to half a minute; the run then counts nothing."""
MEASURED_ROWS = 5000
"""Rows drawn from larger data; what is counted is scaled up. As few are always counted, however long they are."""


def profile_data(
    recipe: Recipe, *, folder: str | None = None, cache: Path | None = None, watch: WorkWatch = NOBODY
) -> DataProfile:
    """Return the profile of a recipe's data.

    Args:
        recipe: A checked recipe.
        folder: Local folder of the model; without one lengths are estimated from characters.
        cache: Cache folder of this person, which keeps the token ids for the run.
        watch: Who follows the work.

    Raises:
        ProblemError: The data, the tokenizer or its chat template cannot be used.
        ReadingStoppedError: A stop was asked for.
    """
    prepared = _with_commits(prepare(recipe, cache=cache, watch=watch), recipe)
    if folder is None:
        return prepared.profile
    loaded = load_tokenizer(Path(folder), recipe)
    model = model_in(folder, recipe.model.base)
    task = task_in(recipe, model, prepared.profile)
    renderer = Renderer(loaded.tokenizer, UNCUT_LENGTH, recipe.data.system_prompt, task)
    measuring = _Measuring(renderer, recipe.training.seed, cache, watch)
    train = measuring.measure(prepared.train_rows, prepared.train_sha256)
    if not train.rendered.sequences:
        raise ProblemError(*renderer.render_rows(prepared.train_rows).problems())
    held_out = measuring.measure(prepared.held_out_rows, None).rendered.sequences
    judged = any(key in prepared.train_rows[0] for key in ("chosen", "completion"))
    chat = (judged or "messages" in prepared.train_rows[0]) and task.signal != "prompts"
    sequences = train.rendered.sequences
    lengths = train.profile_of(sequences.lengths)
    answers = train.profile_of(sequences.num_trained) if chat else expected_answers(train.rows, renderer)
    sources = train.tokens.source_lengths
    source_lengths = None if sources is None else train.profile_of(sources)
    max_length, _ = row_length(recipe, model, lengths if source_lengths is None else source_lengths, answers)
    max_target = None if sources is None else target_length(recipe, model, answers)
    drawn = None if train.scale == 1 else train.rows
    checks = check_prepared(
        recipe,
        prepared,
        train.tokens,
        renderer,
        model,
        max_length=max_length,
        max_target=max_target,
        drawn_rows=drawn,
        watch=watch,
    )
    return prepared.profile.model_copy(
        update={
            "lengths": lengths,
            "source_lengths": source_lengths,
            "answer_lengths": answers,
            "held_out_answer_longest": int(held_out.num_trained.max(initial=0)) if chat else 0,
            "cuts": train.cuts(max_length),
            "preflight": checks,
            "findings": [*prepared.profile.findings, *train.findings(), *findings_of(checks)],
        }
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """Rows whose tokens were counted.

    Attributes:
        rows: The rows.
        tokens: Their token ids.
        rendered: Their whole sequences.
        scale: Rows that each of them stands for.
    """

    rows: Sequence[Row]
    tokens: TokenizedRows
    rendered: RenderedRows
    scale: float

    def profile_of(self, lengths: Ints) -> LengthProfile | None:
        """Return the distribution of lengths; of a sample the total is that of all rows."""
        total = None if self.scale == 1 else round(int(lengths.sum()) * self.scale)
        return length_profile(lengths.tolist(), total=total)

    def cuts(self, planned: int) -> list[LengthCut]:
        """Return what sequence lengths take from all rows, that of the plan among them."""
        counts = [name for name in LengthCut.model_fields if name.startswith(("num_", "lost_"))]
        return [
            cut.model_copy(
                update={name: round(getattr(cut, name) * self.scale) for name in counts} | {"sampled": self.scale != 1}
            )
            for cut in self.tokens.cuts(planned)
        ]

    def findings(self) -> list[Finding]:
        """Return what rendering says of the rows."""
        return [
            Finding(code="data.not_rendered", message=sentence, path="data.source", severity="warning")
            for sentence in self.rendered.sentences()
        ]


@dataclass(frozen=True, slots=True)
class _Measuring:
    renderer: Renderer
    seed: int
    cache: Path | None
    watch: WorkWatch

    def measure(self, rows: Sequence[Row], sha256: str | None) -> _Measured:
        """Count the tokens of rows: of all that are kept already or soon counted, else of a sample."""
        tokens: TokenizedRows | None = None
        if self.cache is not None:
            sha256 = sha256 or rows_hash(rows)
            tokens = find_tokens(sha256, self.renderer, self.cache)
        scale = 1.0
        if tokens is None and not _soon_counted(rows):
            drawn = random.Random(f"measure {self.seed}").sample(rows, MEASURED_ROWS)
            rows, sha256, scale = drawn, None, len(rows) / MEASURED_ROWS
        if tokens is None:
            tokens = tokenize(rows, self.renderer, rows_sha256=sha256, cache=self.cache, watch=self.watch)
        return _Measured(rows, tokens, tokens.cut(UNCUT_LENGTH), scale)


def _soon_counted(rows: Sequence[Row]) -> bool:
    if len(rows) <= MEASURED_ROWS:
        return True
    num_chars = accumulate(len(row_text(row)) for row in rows)
    return all(chars <= MEASURED_CHARS for chars in num_chars)


def _with_commits(prepared: PreparedData, recipe: Recipe) -> PreparedData:
    """Return the same with the commits of the hub data sets that were read, so that the plan can name them."""
    names = [*recipe.data.sources(), str(recipe.data.held_out or "")]
    commits = commits_of(names) if any(name.startswith(HUB) for name in names) else {}
    return replace(prepared, profile=prepared.profile.model_copy(update={"commits": commits}))
