"""What reinforcement learning adds to a plan: its own derived values, and what can be said before the start."""

from collections.abc import Iterator
from pathlib import Path

from engine.catalog.objectives import find_objective
from engine.catalog.rewards import find_reward
from engine.paths import typed_path
from engine.planning.derive import Reasoned, choose_completion
from engine.planning.judges import settle_judge
from engine.planning.profiles import DataProfile, Finding, ModelProfile
from engine.planning.settings import Settings
from engine.recipe.places import function_of
from engine.recipe.schema import Recipe
from engine.text import clean_line

BETAS = {"grpo": 0.04, "rloo": 0.05}
SCALES = {"grpo": "group", "rloo": "none"}
RATE_SHARE = 0.1
SHORT_RUN_COMPLETIONS = 400
"""Fewer written answers than this in a whole run rarely move a model."""


def derive_reinforcement(settings: Settings, model: ModelProfile, data: DataProfile) -> int:
    """Fill in the section `reinforcement` and return the longest answer, in tokens."""
    algorithm = settings["reinforcement.algorithm"]
    reasoned: Reasoned = choose_completion(data.answer_lengths, model)
    written: int = settings.derive("reinforcement.max_completion", *reasoned)
    settings.derive("reinforcement.beta", BETAS[algorithm], f"usual for {algorithm}")
    settings.derive("reinforcement.scale_rewards", SCALES[algorithm], f"as the paper on {algorithm} has it")
    if algorithm == "grpo":
        settings.derive("reinforcement.token_mean", "step", "every token counts the same")
    settings.derive("training.num_gpus", 1, "answers are written by one GPU")
    tells = any(find_reward(name).solves for name in settings["reinforcement.rewards"])
    metrics = [name for name in find_objective(settings["objective"]).metrics if tells or name != "solved_rate"]
    settings.derive("evaluation.metrics", metrics, "all that fit the objective and its rewards")
    _settle(settings)
    # Answers to held-out prompts are given the room that they have in training.
    settings.derive("evaluation.max_new_tokens", written, "as long as answers may be in training")
    return written


def _settle(settings: Settings) -> None:
    """Write down places as they stand today: the worker starts in another folder."""
    if settings.is_set("reinforcement.reward_file"):
        file = settings["reinforcement.reward_file"]
        settings.pin("reinforcement.reward_file", str(typed_path(file).absolute()))
    settle_judge(settings, "reinforcement.reward_model")


def _file_findings(recipe: Recipe) -> Iterator[Finding]:
    """Yield why a reward file cannot be had."""
    section = recipe.reinforcement
    if "file" in section.rewards and section.reward_file and not reward_file(section.reward_file).is_file():
        message = f"The reward file {clean_line(section.reward_file, max_chars=160)} does not exist."
        yield Finding(
            code="reward.file_missing", message=message, fix="Check the path.", path="reinforcement.reward_file"
        )


def reward_file(reference: str) -> Path:
    """Return the file that `FILE.py` or `FILE.py:NAME` names."""
    return typed_path(function_of(reference)[0])


def calmer(rate: float, reason: str) -> tuple[float, str]:
    """Return a learning rate for rewards, which are noisier than right answers, and why."""
    return float(f"{RATE_SHARE * rate:.3g}"), f"a tenth of what is {reason}: rewards are noisy"


def reinforcement_findings(recipe: Recipe, data: DataProfile, total_steps: int) -> Iterator[Finding]:
    """Yield what makes a run from rewards unlikely to learn."""
    if recipe.goal.signal != "prompts":
        return
    yield from _file_findings(recipe)
    section = recipe.reinforcement
    comparing = [name for name in dict.fromkeys(section.rewards) if find_reward(name).compares]
    if comparing and data.num_train and data.answer_lengths is None:
        yield Finding(
            code="reward.no_answers",
            message=f"The reward {comparing[0]} compares with the right answer, and the rows have none.",
            fix="Map the column with the right answer (data.mapping.answer), or choose other rewards.",
            path="reinforcement.rewards",
            severity="error",
        )
    written = total_steps * recipe.training.effective_batch
    if 0 < written < SHORT_RUN_COMPLETIONS:
        yield Finding(
            code="reinforcement.short",
            message=f"The model writes {written} answers in the whole run, which rarely changes how it answers.",
            fix="Set training.max_steps or training.epochs higher; a few thousand answers are usual.",
            path="training.epochs",
            severity="warning",
        )
