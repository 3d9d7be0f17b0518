"""Measure a model that learns to prefer: its loss, whether it ranks answers as people do, and what it writes.

Shapes: B rows.
"""

from collections.abc import Sequence

import torch

from engine.evaluation.general import passages, read_general
from engine.evaluation.job import DEFAULT_MAX_LENGTH, Examined, Job
from engine.evaluation.judged import win_rate
from engine.evaluation.kept_rows import RowGroup, only
from engine.evaluation.row_groups import mean_group, pair_groups, token_groups
from engine.evaluation.scores import score_pairs, score_sums
from engine.evaluation.scoring import RowScore, TokenRow, TokenScorer
from engine.evaluation.texts import Writing, answer_record
from engine.objectives.pair_batches import grouped, mismatched
from engine.objectives.preference_losses import (
    Answers,
    LossSettings,
    answer_losses,
    mismatch_divergence,
    pair_losses,
    rewards_of,
    settings_of,
)
from engine.objectives.sequences import IGNORED, Segment, Sequences

MAX_CROSSED = 250
"""Good and bad answers that are compared with each other where rows are no pairs; of more the first ones."""


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure the pairs, or the good and bad answers, of the first `evaluation.max_rows` rows.

    The reward of an answer is the one that the loss gives it. Rows with one answer have no partner: every good answer
    is held against every bad one. Perplexity and token accuracy are those of the chosen, or good, answers.

    Args:
        job: The measurement.
        want_generation: Whether anything is written.
    """
    wanted = job.rows[: job.recipe.evaluation.max_rows]
    rendered = job.renderer.render_rows(wanted)
    if dropped := rendered.dropped.total():
        told = " ".join(rendered.sentences())
        job.remarks.append(f"{dropped} of {len(wanted)} {job.kind} rows are not judged: {told}")
    sequences = grouped(rendered)
    writing = Writing(job, want_generation=want_generation)
    cells, general = _cells(job, sequences), passages(job)
    job.begin(len(sequences), len(cells) + len(general) + len(writing))
    scores = job.unless_too_large("the loss", lambda: _score(job, cells))
    metrics, rows = ({}, []) if scores is None or not len(sequences) else _numbers(job, sequences, scores)
    if not len(sequences):
        job.remarks.append(f"There is no {job.kind} row to judge answers of.")
    known = read_general(job, general)
    written = writing.write()
    wins, won_rows = win_rate(job, written.answers)
    metrics |= wins | known.metrics
    return Examined(
        metrics=metrics,
        samples=written.samples,
        num_rows=len(sequences) if scores else 0,
        num_tokens=int(sequences.num_trained.sum()) if scores else 0,
        num_generated=len(written.answers),
        answers=[answer_record(question, text) for question, text in written.answers],
        rows=[*rows, *won_rows, *known.rows],
    )


def _cells(job: Job, sequences: Sequences) -> list[TokenRow]:
    """Return what is scored: the sides of each row, and behind them, for KTO, the answer to another prompt."""
    max_length = job.recipe.training.max_length or DEFAULT_MAX_LENGTH
    parted = settings_of(job.recipe).loss == "kto"
    found: list[Segment] = []
    for place in range(len(sequences)):
        found += sequences.segments[place]
        found += [mismatched(sequences, place, max_length)] if parted else []
    return [TokenRow(each.input_ids, [label != IGNORED for label in each.labels]) for each in found]


def _score(job: Job, rows: Sequence[TokenRow]) -> list[RowScore]:
    """Return the sums of each sequence."""
    scorer = TokenScorer(job.model, precision=job.precision, pad_id=job.pad_id)
    return job.each(rows, lambda row: len(row.input_ids), scorer.score)


def _numbers(job: Job, sequences: Sequences, scores: Sequence[RowScore]) -> tuple[dict[str, float], list[RowGroup]]:
    """Return the numbers of the rows, and what each row adds to them."""
    settings = settings_of(job.recipe)
    width = len(scores) // len(sequences)
    logps = torch.tensor([-score.loss for score in scores], dtype=torch.float64).view(-1, width)
    tokens = torch.tensor([score.tokens for score in scores]).view(-1, width)
    reference = _reference(job, settings, logps)
    if reference is None:
        return {}, []
    answers = [Answers(logps[:, side], tokens[:, side], reference[:, side]) for side in range(width)]
    good_B = torch.tensor([_is_good(sequences.segments[place]) for place in range(len(sequences))])
    if settings.loss == "kto":
        *answers, other = answers
        divergence = mismatch_divergence(other.ratios_B.sum(), len(sequences))
        losses_B = _single_losses(answers, good_B, divergence, settings)
    else:
        losses_B = pair_losses(answers[0], answers[1], settings)
    rewards = [rewards_of(side, settings) for side in answers]
    chosen, rejected = _compared(rewards, good_B)
    places = [place for place in range(len(sequences)) if bool(good_B[place])]
    good = [scores[width * place] for place in places]
    sums = score_sums([one.loss for one in good], [one.right for one in good], [one.tokens for one in good])
    taught = {name: value for name, value in sums.items() if name != "loss" and name in job.metrics}
    metrics = {"loss": float(losses_B.mean())} | score_pairs(chosen, rejected, job.metrics) | taught
    ids = [sequences.segments[place][0].row_id for place in range(len(sequences))]
    groups = mean_group("loss", ids, losses_B.tolist())
    # Rows with one answer are no pairs: what is held against each other there is no row.
    groups += pair_groups(ids, chosen, rejected, job.metrics) if len(rewards) == 2 else []
    groups += token_groups([ids[place] for place in places], good, {"perplexity": "exp_ratio"})
    return metrics, only(groups, metrics)


def _reference(job: Job, settings: LossSettings, logps: torch.Tensor) -> torch.Tensor | None:
    """Return what the untouched model makes of the rows; before training that is the model itself."""
    if not settings.uses_reference:
        return torch.zeros_like(logps)
    if job.phase in ("before", "test_before"):
        # The same numbers as the references but for rounding, which would decide every tie.
        return logps
    if job.references is not None and job.references.shape == logps.shape:
        return job.references.double()
    job.alarm("The log-probabilities of the untouched model are missing: loss and rewards are left out.")
    return None


def _is_good(row: Sequence[Segment]) -> bool:
    return len(row) > 1 or not row[0].targets or bool(row[0].targets[0])


def _single_losses(
    answers: Sequence[Answers], good_B: torch.Tensor, divergence: torch.Tensor, settings: LossSettings
) -> torch.Tensor:
    """Return the loss of each row, of shape [B]; of two answers the mean."""
    if len(answers) == 1:
        return answer_losses(answers[0], good_B, divergence, settings)
    kinds = (torch.ones_like(good_B), torch.zeros_like(good_B))
    both = [answer_losses(side, kind, divergence, settings) for side, kind in zip(answers, kinds, strict=True)]
    return torch.stack(both).mean(dim=0)


def _compared(rewards: Sequence[torch.Tensor], good_B: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the rewards of better and of worse answers that are held against each other."""
    if len(rewards) == 2:
        return rewards[0].tolist(), rewards[1].tolist()
    good, bad = rewards[0][good_B][:MAX_CROSSED], rewards[0][~good_B][:MAX_CROSSED]
    return good.repeat_interleave(len(bad)).tolist(), bad.repeat(len(good)).tolist()
