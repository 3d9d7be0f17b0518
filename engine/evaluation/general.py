"""What a model that writes forgets: the package's general text, the same before and after training."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.evaluation.evidence import Kind
from engine.evaluation.general_text import general_rows
from engine.evaluation.job import Job
from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.measurement import TEST_PHASES
from engine.evaluation.row_groups import token_groups
from engine.evaluation.scores import score_sums
from engine.evaluation.scoring import RowScore, TokenRow, TokenScorer

METRIC = "general_perplexity"
_TEXT = Task("text", "causal-lm")
_KIND: dict[str, Kind] = {METRIC: "exp_ratio"}


@dataclass(frozen=True, slots=True)
class General:
    """What a model makes of the general text: the number, and what each passage adds to it."""

    metrics: dict[str, float]
    rows: list[RowGroup]


def passages(job: Job) -> list[TokenRow]:
    """Return the passages as a model reads plain text; none where they are not asked for, or tell nothing new.

    While a run trains they are only looked at where its own rows are running text too: there they are one more curve.
    """
    wanted = "general_text" in job.metrics and job.renderer.task.head == "causal-lm"
    if not wanted or job.phase in TEST_PHASES or job.few_shot is not None:
        return []
    if job.phase == "during" and job.renderer.task.signal != "text":
        return []
    renderer = Renderer(job.tokenizer, job.renderer.max_length, task=_TEXT)
    return [
        TokenRow(sequence.input_ids, sequence.trained_mask, sequence.id)
        for sequence in renderer.render_rows(general_rows()).sequences
    ]


def read_general(job: Job, rows: Sequence[TokenRow]) -> General:
    """Return how well the model expects the passages; nothing, with a remark, where memory runs out."""
    scorer = TokenScorer(job.model, precision=job.precision, pad_id=job.pad_id)
    scores: list[RowScore] = (
        job.unless_too_large("general text", lambda: job.each(rows, lambda row: len(row.input_ids), scorer.score)) or []
    )
    sums = score_sums(
        [score.loss for score in scores], [score.right for score in scores], [score.tokens for score in scores]
    )
    found = {METRIC: sums["perplexity"]} if sums else {}
    return General(found, token_groups([row.id for row in rows][: len(scores)], scores, _KIND, accuracy=""))
