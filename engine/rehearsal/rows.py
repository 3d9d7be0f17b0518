"""The longest micro-batches that the order of rows can put together, from what the plan knows of the data's lengths."""

from bisect import bisect_left

from engine.catalog.objectives import Signal
from engine.evaluation.job import DEFAULT_MAX_LENGTH
from engine.objectives.build import objective_of
from engine.objectives.sequences import Segment, Sequences, make_segment
from engine.planning.plan import Plan
from engine.planning.profiles import LengthProfile
from engine.planning.sides import sides_of
from engine.recipe.sources import flatten

_TOKEN = 1
"""Any id but 0, which stands for padding."""


def longest_lengths(plan: Plan, count: int) -> list[int]:
    """Return the lengths of the `count` longest rows after cutting, longest first.

    Of a source and what is made of it, these are the sources. Where only quantiles are known, lengths between two of
    them are taken to lie on a line.
    """
    return _longest(plan.data.cut_lengths, plan.recipe.training.max_length, count)


def longest_targets(plan: Plan, count: int) -> list[int]:
    """Return the lengths of the `count` longest texts that a decoder beside an encoder learns to write."""
    return _longest(plan.data.answer_lengths, plan.recipe.text_to_text.max_target_length, count)


def _longest(lengths: LengthProfile | None, limit: int | None, count: int) -> list[int]:
    limit = limit or DEFAULT_MAX_LENGTH
    if lengths is None or lengths.count == 0:
        return [limit] * count
    return [max(2, min(limit, _at_rank(lengths, rank))) for rank in range(count)]


def _at_rank(lengths: LengthProfile, rank: int) -> int:
    """Return the length of the row that `rank` rows are longer than."""
    if lengths.covered:
        rows_at_most = [rows for _, rows in lengths.covered]
        place = bisect_left(rows_at_most, max(1, lengths.count - rank))
        return lengths.covered[min(place, len(rows_at_most) - 1)][0]
    share = min(1.0, rank / max(1, lengths.count - 1))
    points = [(0.0, lengths.longest), (0.01, lengths.p99), (0.1, lengths.p90), (0.5, lengths.p50), (1.0, lengths.p50)]
    for (left, high), (right, low) in zip(points, points[1:], strict=False):
        if share <= right:
            return round(high - (share - left) / (right - left) * (high - low))
    return lengths.p50


def training_sequences(plan: Plan, micro_batch: int, accumulation: int, num_steps: int) -> Sequences:
    """Return the sequences of the longest step, once for each step rehearsed.

    Args:
        plan: What the lengths are taken from.
        micro_batch: Rows at once.
        accumulation: Micro-batches of a rehearsed step.
        num_steps: Steps rehearsed.
    """
    rows = micro_batch * accumulation
    gathered = objective_of(plan.recipe, plan.task).gathered
    if plan.recipe.training.packing:
        return gathered([_packed(plan) for _ in range(rows * num_steps)])
    if plan.task.head == "seq2seq-lm":
        pairs = zip(longest_lengths(plan, rows), longest_targets(plan, rows), strict=True)
        return gathered([[_pair(source, target)] for source, target in pairs] * num_steps)
    trained = _longest_trained(plan)
    sides = sides_of(flatten(plan.recipe.model_dump(mode="json")), plan.data).count
    lengths = longest_lengths(plan, rows * sides)
    segments = [_segment(length, trained, plan.task.signal) for length in lengths]
    return gathered([segments[at : at + sides] for at in range(0, len(segments), sides)] * num_steps)


def _longest_trained(plan: Plan) -> int:
    answers = plan.data.answer_lengths
    return answers.longest if answers is not None and answers.count else 1 << 40


def _segment(length: int, trained: int, signal: Signal = "text") -> Segment:
    learnt = min(length - 1, trained)
    # A class for a text, a tag for each word; other tasks learn from the tokens, or from which side is which.
    targets = {"labels": (0,), "tags": (0,) * learnt}.get(signal, ())
    return make_segment("rehearsed", [_TOKEN] * length, [0] * (length - learnt) + [1] * learnt, targets)


def _pair(source: int, target: int) -> Segment:
    return make_segment("rehearsed", [_TOKEN] * (source + target), [0] * source + [1] * target)


def _packed(plan: Plan) -> list[Segment]:
    """Return a full sequence of rows of the usual length."""
    limit = plan.recipe.training.max_length or DEFAULT_MAX_LENGTH
    lengths = plan.data.lengths
    full = limit if lengths is None else max(2, min(limit, lengths.total))
    usual = full if lengths is None else max(2, min(full, lengths.p50))
    trained = _longest_trained(plan)
    segments = [_segment(usual, trained) for _ in range(full // usual)]
    rest = full - usual * len(segments)
    return [*segments, _segment(rest, trained)] if rest >= 2 else segments
