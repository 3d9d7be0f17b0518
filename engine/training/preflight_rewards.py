"""P25: whether the rewards can be given, and give a right answer more than none at all."""

from collections.abc import Sequence

from engine.data.preflight_case import Verdict, counted
from engine.data.rows import Row, asked
from engine.objectives.rewarding import Rewarding, judged
from engine.training.context import RunContext

NUM_ROWS = 8
_NAMED = 3


def check_rewards(context: RunContext) -> Verdict:
    """Judge the right answers of a few held-out prompts, and empty ones, with every reward of the run.

    Raises:
        ProblemError: A reward fails, or gives something that is no finite number.
    """
    assert context.rewarding is not None
    rows = [asked(row) for row in context.held_out_rows[:NUM_ROWS]]
    if not rows:
        return Verdict("skipped", "There is no held-out prompt to try the rewards on.")
    empty = _earned(context, context.rewarding, rows, [""] * len(rows))
    known = [row for row in rows if row.get("answer")]
    if not known:
        message = f"Rewards were given to empty answers to {counted(len(rows), 'prompt', 'prompts')}"
        return Verdict("passed", f"{message}; the rows bring no right answers to compare with.")
    right = _earned(context, context.rewarding, known, [str(row["answer"]) for row in known])
    none = [earned for row, earned in zip(rows, empty, strict=True) if row.get("answer")]
    poor = [str(row["id"]) for row, good, bad in zip(known, right, none, strict=True) if good <= bad]
    means = sum(right) / len(right), sum(none) / len(none)
    measured = {"right": means[0], "empty": means[1], "rows": float(len(known)), "not_better": float(len(poor))}
    shown = f"On {counted(len(known), 'row', 'rows')} the right answer earns {means[0]:.3g} on average, an empty one"
    if not poor:
        return Verdict("passed", f"{shown} {means[1]:.3g}.", measured=measured)
    return Verdict(
        "warning",
        f"{shown} {means[1]:.3g}; on {len(poor)} of them the right one earns no more ({', '.join(poor[:_NAMED])}).",
        "Look at these rows and at reinforcement.rewards: what is rewarded should be what is wanted.",
        poor,
        measured,
    )


def _earned(context: RunContext, rewarding: Rewarding, rows: Sequence[Row], texts: Sequence[str]) -> list[float]:
    lengths = [len(context.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0 for text in texts]
    answers = [
        judged(str(row["id"]), row, text, length) for row, text, length in zip(rows, texts, lengths, strict=True)
    ]
    return [earned.total for earned in rewarding.judge.judge(answers)]
