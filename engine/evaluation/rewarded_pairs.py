"""Measure a reward model: its loss, and whether it rewards the answers that people prefer.

Shapes: B pairs, N sequences, S tokens.
"""

from collections.abc import Sequence

import torch

from engine.data.cleaning.personal import hide_secrets
from engine.data.rows import Row, spoken_text
from engine.evaluation.job import Examined, Job
from engine.evaluation.measurement import Sample
from engine.evaluation.row_groups import mean_group, pair_groups
from engine.evaluation.scores import score_pairs
from engine.objectives.pair_batches import grouped, padded
from engine.objectives.reward_model import reward_losses
from engine.objectives.sequences import Segment

NUM_SAMPLES = 3
"""Pairs whose rewards are shown as samples."""


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure the pairs of the first `evaluation.max_rows` rows; nothing is written.

    Args:
        job: The measurement.
        want_generation: Whether samples are wanted too.
    """
    wanted = job.rows[: job.recipe.evaluation.max_rows]
    rendered = job.renderer.render_rows(wanted)
    if dropped := rendered.dropped.total():
        told = " ".join(rendered.sentences())
        job.remarks.append(f"{dropped} of {len(wanted)} {job.kind} pairs are not judged: {told}")
    sequences = grouped(rendered)
    sides = [segment for place in range(len(sequences)) for segment in sequences.segments[place]]
    job.begin(len(sequences), len(sides))
    rewards = job.unless_too_large("the loss", lambda: _score(job, sides)) or []
    chosen, rejected = rewards[::2], rewards[1::2]
    if not sides:
        job.remarks.append(f"There is no {job.kind} pair to judge.")
    by_id = {row["id"]: row for row in wanted}
    names = [segment.row_id for segment in sides[::2]]
    losses = _losses(job, chosen, rejected)
    metrics = score_pairs(chosen, rejected, job.metrics)
    if losses:
        metrics["loss"] = sum(losses) / len(losses)
    return Examined(
        metrics=metrics,
        samples=[
            _sample(by_id[name], *pair) for name, pair in zip(names, zip(chosen, rejected, strict=True), strict=False)
        ][: NUM_SAMPLES if want_generation else 0],
        num_rows=len(chosen),
        rows=[
            *mean_group("loss", names[: len(losses)], losses),
            *pair_groups(names[: len(chosen)], chosen, rejected, metrics),
        ],
    )


def _losses(job: Job, chosen: Sequence[float], rejected: Sequence[float]) -> list[float]:
    chosen_B, rejected_B = (torch.tensor(rewards, dtype=torch.float64) for rewards in (chosen, rejected))
    losses_B: torch.Tensor = reward_losses(chosen_B, rejected_B, job.recipe.reward_model.centering)
    return [float(loss) for loss in losses_B]


def _score(job: Job, sides: Sequence[Segment]) -> list[float]:
    """Return the reward of each sequence."""
    return job.each(sides, lambda segment: len(segment.input_ids), lambda batch: _rewards(job, batch))


def _rewards(job: Job, segments: Sequence[Segment]) -> list[float]:
    batch = padded([(segment.input_ids, segment.labels) for segment in segments], job.pad_id)
    device = next(job.model.parameters()).device
    with torch.autocast(device.type, dtype=job.precision, enabled=job.precision != torch.float32):
        output = job.model(input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device))
    rewards_N: torch.Tensor = output.logits.float().squeeze(-1)
    return [float(reward) for reward in rewards_N]


def _sample(row: Row, chosen: float, rejected: float) -> Sample:
    """Return a pair as a sample: what was asked, the answer that people chose, and what both are worth."""
    asked = next((turn["content"] for turn in reversed(row["prompt"]) if turn["role"] == "user"), "")
    preferred = "\n".join(spoken_text(turn) for turn in row["chosen"])
    said = f"chosen {chosen:.3f}, rejected {rejected:.3f}"
    return Sample(hide_secrets(str(asked)), hide_secrets(preferred), said)
