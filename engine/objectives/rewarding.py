"""What a run that learns from rewards needs besides its model: who judges, and the model as it was at the start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from engine.objectives.reference import Reference
from engine.recipe.schema import Recipe
from engine.rewards.judge import Judge, make_judge
from engine.rewards.reward_model import load_reward_model
from engine.rewards.rules import Judged


@dataclass(frozen=True, slots=True)
class Rewarding:
    """Judge and reference of a run.

    Attributes:
        judge: Says what an answer earns.
        reference: The model as it was at the start; None where no copy of its weights is kept.
    """

    judge: Judge
    reference: Reference | None


def make_rewarding(recipe: Recipe, model: nn.Module) -> Rewarding:
    """Return judge and reference of a recipe.

    The weights that learn are kept a second time where the recipe pulls towards them, and where they are an adapter's,
    which costs next to nothing: without them no distance from the base model can be measured.

    Args:
        recipe: With every value filled in.
        model: On its device, method applied, no checkpoint loaded.

    Raises:
        ProblemError: A reward cannot be used.
    """
    device = next(model.parameters()).device
    judge = make_judge(recipe.reinforcement, lambda base: load_reward_model(base, device))
    keeps = bool(recipe.reinforcement.beta) or recipe.method.facts.makes_adapter
    return Rewarding(judge, Reference(model) if keeps else None)


def judged(row_id: str, row: dict[str, Any], completion: str, num_tokens: int) -> Judged:
    """Return what rewards are told of an answer to a prompt row."""
    return Judged(row_id, list(row["prompt"]), str(row.get("answer", "")), completion, num_tokens, row)


def constant_reward(totals: Sequence[float], num_solved: int | None) -> str:
    """Return what to do about answers that all earned the same, as a sentence."""
    if num_solved is not None and num_solved == len(totals):
        return "All of them are right already: take harder prompts, or stop here."
    if num_solved == 0:
        return (
            "None of them is right, so that there is nothing to learn from: teach the form of an answer first with the "
            "objective chat, take easier prompts, or add a reward for a part of the way, such as format."
        )
    return "Raise reinforcement.temperature or num_generations, or choose a reward that tells answers apart."
