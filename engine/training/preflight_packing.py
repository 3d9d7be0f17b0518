"""P8: what a packed row sees of the row in front of it, measured through the run's own collator and model.

Legend of shape suffixes: S sequence length, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from engine.data.preflight_case import Verdict
from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import autocast_like_training
from engine.models.loading import compute_dtype
from engine.objectives.sequences import Segment, SequenceCollator, make_segment
from engine.planning.plan import Plan, ValueSource
from engine.training.context import RunContext

SEGMENT_TOKENS = 64
"""Tokens of a row that are looked at; what leaks shows in the first of them, and the logits of so few are small."""
TOLERANCE = 1e-4
"""Largest change of a logit, beyond rounding, that counts as none."""
NOISE_MARGIN = 4.0
_SEED = 0


def without_packing(plan: Plan) -> Plan:
    """Return a plan that gives each row a sequence of its own; a sequence is as long as before, or shorter."""
    training = plan.recipe.training.model_copy(update={"packing": False})
    source = ValueSource(kind="derived", detail="packed rows of this model would see each other")
    return plan.model_copy(
        update={
            "recipe": plan.recipe.model_copy(update={"training": training}),
            "sources": {**plan.sources, "training.packing": source},
        }
    )


def check_packing(context: RunContext, *, plans_own: bool = False) -> Verdict:
    """Measure whether a packed row depends on the row in front of it.

    Args:
        context: The run, its model on its device.
        plans_own: The plan chose packing, nobody asked for it: a leak is then a warning, and packing is turned off.
    """
    if not context.recipe.training.packing:
        return Verdict("skipped", "Rows are not packed.")
    segments = _segments(context)
    if len(segments) < 2:
        return Verdict("skipped", "Fewer than two rows are long enough to share a sequence.")
    pad = context.tokenizer.pad_token_id
    collator = SequenceCollator(pad_token_id=0 if pad is None else pad, packed=True)
    leak = measure_leak(
        context.model, collator, segments, compute_dtype(context.recipe), rows=min(2, context.batching.micro_batch)
    )
    measured = {"max_change": leak.change, "bound": leak.bound, "noise": leak.noise, "change_if_seen": leak.control}
    rows = [segments[0].row_id, segments[1].row_id]
    if leak.leaks:
        message = (
            f"A packed row depends on the row in front of it: its logits change by {leak.change:.2g} when that one "
            f"changes (at most {leak.bound:.2g} is rounding)."
        )
        if plans_own:
            return Verdict("warning", message, "Packing is turned off for this run.", rows, measured)
        return Verdict("blocked", message, "Set training.packing to false.", rows, measured)
    if leak.control <= leak.bound:
        return Verdict(
            "skipped",
            "This model hardly looks back in these rows, so that a leak would not show.",
            rows=rows,
            measured=measured,
        )
    message = f"Changing one row moves no logit of the next by more than {leak.change:.2g}"
    return Verdict("passed", f"{message}; without isolation it would be {leak.control:.2g}.", measured=measured)


@dataclass(frozen=True, slots=True)
class Leak:
    """How far the logits of a row move when the row packed in front of it changes.

    Attributes:
        change: Largest change of a logit in the packed sequence.
        noise: Largest change where nothing can leak: the other row is another sequence of the batch. It is rounding,
            which may depend on the batch (experts of a mixture, tiles of a matrix product).
        control: Largest change when positions do not restart, which shows that the measurement can see a leak.
    """

    change: float
    noise: float
    control: float

    @property
    def bound(self) -> float:
        """Largest change that is rounding."""
        return TOLERANCE + NOISE_MARGIN * self.noise

    @property
    def leaks(self) -> bool:
        """Whether the rows see each other; a number that is none counts as seen."""
        return not self.change <= self.bound


def measure_leak(
    model: PreTrainedModel,
    collator: SequenceCollator,
    segments: Sequence[Segment],
    dtype: torch.dtype,
    *,
    rows: int = 1,
) -> Leak:
    """Return how far one packed row changes another's logits.

    The forward pass is in training mode, since some models take other paths there; the random generators start alike
    each time, so that dropout drops the same.

    Args:
        model: On its device, its method applied.
        collator: The one that trains; `packed`.
        segments: Two rows or more; the first is changed and the second looked at.
        dtype: Number format of the arithmetic.
        rows: Sequences in the batch, at most two.
    """
    first, second, *others = segments
    changed = _changed(first, segments)
    rest = [_packed([others[0], others[1]])] if rows > 1 and len(others) > 1 else []
    start = len(first.input_ids)
    place = slice(start, start + len(second.input_ids))
    alone = slice(0, len(second.input_ids))

    def logits_SV(batch: dict[str, torch.Tensor], where: slice) -> torch.Tensor:
        return _logits(model, batch, dtype)[where]

    with undisturbed(model):
        model.train()
        packed = collator([_packed([first, second]), *rest])
        other = collator([_packed([changed, second]), *rest])
        change = _distance(logits_SV(packed, place), logits_SV(other, place))
        apart = collator([_packed([second]), _packed([first])])
        apart_other = collator([_packed([second]), _packed([changed])])
        noise = _distance(logits_SV(apart, alone), logits_SV(apart_other, alone))
        control = _distance(logits_SV(_running_on(packed), place), logits_SV(_running_on(other), place))
    return Leak(change, noise, control)


def _segments(context: RunContext) -> list[Segment]:
    """Return up to four rows of at least two tokens, cut so that two share a sequence."""
    length = max(2, min(SEGMENT_TOKENS, context.renderer.max_length // 2))
    sequences = context.rendered.sequences
    rows = [sequences[int(index)] for index in np.flatnonzero(sequences.lengths >= 2)[:4]]
    return [make_segment(row.id, row.input_ids[:length], row.trained_mask[:length]) for row in rows]


def _changed(segment: Segment, segments: Sequence[Segment]) -> Segment:
    """Return a segment of the same length with another token at each place, taken from the rows themselves."""
    known = sorted({token for one in segments for token in one.input_ids})
    following = dict(zip(known, [*known[1:], known[0]], strict=True))
    return make_segment(segment.row_id, [following[token] for token in segment.input_ids], [0] * len(segment.labels))


def _packed(segments: Sequence[Segment]) -> dict[str, Any]:
    return {
        "input_ids": [token for segment in segments for token in segment.input_ids],
        "labels": [label for segment in segments for label in segment.labels],
        "seq_lengths": [len(segment.input_ids) for segment in segments],
    }


def _running_on(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a batch as it would be without isolation: positions run on."""
    positions = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
    return {"input_ids": batch["input_ids"], "position_ids": positions}


def _logits(model: PreTrainedModel, batch: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Return the logits of the first sequence, of shape [S, V], in float32."""
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
    torch.manual_seed(_SEED)
    with autocast_like_training(model, dtype)():
        logits_SV: torch.Tensor = model(**inputs, use_cache=False).logits[0]
    return logits_SV.float()


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
