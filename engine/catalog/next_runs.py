"""What sensibly comes after a finished run: which objective learns further from its result, and why, in plain words."""

from dataclasses import dataclass
from typing import Any, Literal

from engine.catalog.objectives import ModelKind


@dataclass(frozen=True, slots=True)
class NextRun:
    """One way to go on.

    Attributes:
        objective: What the next run learns.
        why: One sentence.
        role: What the finished run is to the next one: `base`, the model that it starts from, or `judge`, which says
            what an answer earns; a judge is no model to start from, so the next run starts where the judge did.
    """

    objective: str
    why: str
    role: Literal["base", "judge"] = "base"

    def answers(self, result: str, start: str = "") -> dict[str, Any]:
        """Return `{recipe path: value}` that the finished run brings along.

        Args:
            result: What names its result in a recipe: `run:ID`.
            start: What it started from itself; empty where that is no model to go on with. Only a judge needs it.
        """
        answers: dict[str, Any] = {"objective": self.objective}
        base = result if self.role == "base" else start
        if base:
            answers["model.base"] = base
        if self.role == "judge":
            answers |= {"reinforcement.rewards": ["model"], "reinforcement.reward_model": result}
        return answers


_PREFER = "People have said which of two answers they like better: it learns that from pairs, in one run."
_RULE = "A rule can tell right answers from wrong: what it solves by itself is rewarded."
_JUDGE = "Step 2 of RLHF: a judge learns from pairs which of two answers people like better."
_JUDGED = "Step 3 of RLHF: the model that the judge started from writes answers, and the judge rewards them."

NEXT_RUNS: dict[tuple[str, ModelKind], tuple[NextRun, ...]] = {
    ("chat", "decoder"): (
        NextRun("preference", _PREFER),
        NextRun("reward-model", _JUDGE),
        NextRun("reinforcement-learning", _RULE),
    ),
    ("domain-adaptation", "decoder"): (
        NextRun("chat", "It knows the words of your field now: examples teach it to answer."),
    ),
    ("domain-adaptation", "encoder"): (
        NextRun("classification", "It knows the words of your field now: labelled texts teach it to sort them."),
        NextRun("token-classification", "It knows the words of your field now: marked words teach it to find them."),
    ),
    ("text-to-text", "decoder"): (NextRun("preference", _PREFER),),
    ("preference", "decoder"): (NextRun("reinforcement-learning", _RULE),),
    ("reward-model", "decoder"): (NextRun("reinforcement-learning", _JUDGED, "judge"),),
}
"""Ways to go on by what a finished run has learnt, and by the kind of its model; from all others there is none."""


def next_runs(objective: str, kind: ModelKind) -> tuple[NextRun, ...]:
    """Return the ways to go on from a run, the usual one first."""
    return NEXT_RUNS.get((objective, kind), ())
