"""A reward model as a judge."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from engine.models.reward import load_reward_model as load
from engine.recipe.problems import ProblemError
from engine.rewards.judge import Scorer
from engine.rewards.rules import Judged

PATH = "reinforcement.reward_model"


def load_reward_model(base: str, device: torch.device) -> Scorer:
    """Return a scorer that a reward model stands behind.

    Args:
        base: Folder of the model, or `run:ID` of a finished run that trained one.
        device: Where it computes.

    Raises:
        ProblemError: There is no such model, or it gives no reward.
    """
    try:
        model = load(base.removeprefix("run:"), str(device))
    except ProblemError as error:
        raise ProblemError(*(replace(problem, path=PATH) for problem in error.problems)) from error

    def score(answers: Sequence[Judged]) -> list[float]:
        return model.score([[*each.prompt, {"role": "assistant", "content": each.completion}] for each in answers])

    return score
