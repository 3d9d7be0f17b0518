"""The rewards of a recipe together: what each of them gives for an answer, and what it earns in all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.catalog.rewards import SOLVED, find_reward
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_objectives import ReinforcementSection
from engine.rewards import rules
from engine.rewards.persons_code import load_rule
from engine.rewards.rules import Judged, Rule

Scorer = Callable[[Sequence[Judged]], list[float]]
"""Gives one number for each answer."""


@dataclass(frozen=True, slots=True)
class Earned:
    """What one answer earned.

    Attributes:
        total: The weighted sum.
        parts: What each reward gave, in the order of the recipe.
        solved: All rewards that tell right from wrong say right; None where there is none.
    """

    total: float
    parts: tuple[float, ...]
    solved: bool | None


class Judge:
    """Judges answers.

    Attributes:
        names: The rewards, in the order of the recipe.
        weights: How much each counts.

    Args:
        scorers: Of each reward by name, in order.
        weights: By name; 1 for one that is not there.
    """

    def __init__(self, scorers: dict[str, Scorer], weights: dict[str, float]) -> None:
        self._scorers = scorers
        self.names = tuple(scorers)
        self.weights = tuple(weights.get(name, 1.0) for name in scorers)
        self._telling = [place for place, name in enumerate(scorers) if find_reward(name).solves]

    @property
    def tells_solved(self) -> bool:
        """Whether solved answers can be told from others."""
        return bool(self._telling)

    def judge(self, answers: Sequence[Judged]) -> list[Earned]:
        """Return what each answer earned.

        Raises:
            ProblemError: A reward failed, or gave something that is no finite number.
        """
        if not answers:
            return []
        columns = [self._scores(name, answers) for name in self.names]
        return [self._earned(parts) for parts in zip(*columns, strict=True)]

    def _scores(self, name: str, answers: Sequence[Judged]) -> list[float]:
        scores = self._scorers[name](answers)
        for score, judged in zip(scores, answers, strict=True):
            if not math.isfinite(score):
                message = f"The reward {name} gave {score} for an answer to {judged.row_id}."
                fix = "A reward has to be a finite number for every answer, also for an empty one."
                raise ProblemError(Problem("reward.not_finite", message, fix, "reinforcement.rewards"))
        return scores

    def _earned(self, parts: tuple[float, ...]) -> Earned:
        total = math.fsum(weight * part for weight, part in zip(self.weights, parts, strict=True))
        solved = all(parts[place] >= SOLVED for place in self._telling) if self._telling else None
        return Earned(total, parts, solved)


def make_judge(section: ReinforcementSection, reward_model: Callable[[str], Scorer]) -> Judge:
    """Return the judge that a recipe asks for.

    Args:
        section: The recipe's section `reinforcement`.
        reward_model: Loads a reward model by what the recipe calls it.

    Raises:
        ProblemError: A pattern, file or model cannot be used.
    """
    scorers: dict[str, Scorer] = {name: _scorer(name, section, reward_model) for name in dict.fromkeys(section.rewards)}
    return Judge(scorers, section.weights)


def _scorer(name: str, section: ReinforcementSection, reward_model: Callable[[str], Scorer]) -> Scorer:
    match name:
        case "model":
            return reward_model(section.reward_model or "")
        case "file":
            return _each(load_rule(section.reward_file or "", trusted=section.trust_reward_code))
        case "format":
            return _each(rules.format_rule(section.pattern or ""))
        case "length":
            return _each(rules.length(section.wished_length or 1))
        case _:
            return _each(_PLAIN[name])


_PLAIN: dict[str, Rule] = {
    "last_line": rules.last_line,
    "contains_answer": rules.contains_answer,
    "exact_answer": rules.exact_answer,
    "number": rules.number,
    "json_valid": rules.json_valid,
}


def _each(rule: Rule) -> Scorer:
    return lambda answers: [rule(judged) for judged in answers]
