"""Rules of the recipe's section `reinforcement`. See `engine.recipe.rules`."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from engine.catalog.rewards import REWARDS, find_reward
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe

_READ_BY = {reward.setting: reward.name for reward in REWARDS if reward.setting}
_READ_BY["reinforcement.trust_reward_code"] = "file"


def reinforcement_rules(recipe: Recipe, values: Mapping[str, Any], set_paths: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong between the fields that say how a model learns from rewards.

    Args:
        recipe: Of any objective; others have nothing to check.
        values: Its leaves by path.
        set_paths: Paths that somebody set.
    """
    if recipe.goal.signal != "prompts":
        return
    yield from _rewards(recipe, values)
    yield from _unread(recipe, values, set_paths)
    yield from _code(recipe)
    yield from _groups(recipe)
    yield from _algorithm(recipe, set_paths)
    yield from _answers(recipe)


def _rewards(recipe: Recipe, values: Mapping[str, Any]) -> Iterator[Problem]:
    section = recipe.reinforcement
    if not section.rewards:
        message = "reinforcement.rewards names no reward, so nothing would be learned."
        yield Problem("reward.none", message, "Name one, such as last_line.", "reinforcement.rewards")
    for name in dict.fromkeys(section.rewards):
        setting = find_reward(name).setting
        if setting and values[setting] is None:
            message = f"The reward {name} needs {setting}."
            yield Problem("reward.setting_missing", message, f"Set {setting}, or remove {name}.", setting)
    if len(set(section.rewards)) < len(section.rewards):
        message = "reinforcement.rewards names a reward twice."
        fix = "Name it once; how much it counts is reinforcement.weights."
        yield Problem("reward.twice", message, fix, "reinforcement.rewards")
    weights = {name: section.weights.get(name, 1.0) for name in section.rewards}
    if weights and not any(weights.values()):
        message = "All rewards weigh 0, so nothing would be learned."
        yield Problem("reward.no_weight", message, "Give one of them a weight.", "reinforcement.weights")
    for weighted in section.weights:
        if weighted not in section.rewards:
            message = f"reinforcement.weights names {weighted}, which is not among reinforcement.rewards."
            fix = f"Add it there, or remove the weight; rewards are {', '.join(section.rewards)}."
            yield Problem("recipe.no_effect", message, fix, "reinforcement.weights")


def _unread(recipe: Recipe, values: Mapping[str, Any], set_paths: Collection[str]) -> Iterator[Problem]:
    for path, name in _READ_BY.items():
        if path in set_paths and values[path] and name not in recipe.reinforcement.rewards:
            message = f"{path} has no effect: only the reward {name} reads it."
            fix = f"Remove {path}, or add {name} to reinforcement.rewards."
            yield Problem("recipe.no_effect", message, fix, path)
    if "training.probe" in set_paths and recipe.training.probe == "always":
        message = "training.probe has no effect: what the model writes decides on the memory of a step."
        yield Problem("recipe.no_effect", message, "Remove training.probe.", "training.probe")
    if "evaluation.max_rows" in set_paths:
        message = "evaluation.max_rows has no effect: rewards are given to written answers, and no loss is measured."
        fix = "Remove evaluation.max_rows; evaluation.generate_rows says how many answers are written."
        yield Problem("recipe.no_effect", message, fix, "evaluation.max_rows")


def _code(recipe: Recipe) -> Iterator[Problem]:
    section = recipe.reinforcement
    path = "reinforcement.trust_reward_code"
    if "file" not in section.rewards or section.reward_file is None:
        return
    if not section.trust_reward_code:
        message = "reinforcement.reward_file is Python code, which would run as you."
        yield Problem("reward.file_not_trusted", message, f"Read it, then set {path} to true.", path)
    else:
        message = "reinforcement.trust_reward_code lets the Python code of the reward file run as you."
        fix = "Keep it only if you have read the file or trust its author."
        yield Problem("reward.file_code", message, fix, path, "warning")


def _groups(recipe: Recipe) -> Iterator[Problem]:
    batch, group = recipe.training.effective_batch, recipe.reinforcement.num_generations
    if batch % group:
        lower, higher = max(group, batch // group * group), -(-batch // group) * group
        sizes = str(higher) if lower == higher or batch < group else f"{lower} or {higher}"
        yield Problem(
            "reinforcement.groups",
            f"training.effective_batch {batch} is no multiple of reinforcement.num_generations {group}: answers are "
            "compared with the others to their prompt, and a step must hold all of them.",
            f"Set training.effective_batch to {sizes}.",
            "training.effective_batch",
        )
    if (recipe.training.num_gpus or 1) > 1:
        message = "Reinforcement learning runs on one GPU: training.num_gpus asks for more."
        yield Problem("reinforcement.num_gpus", message, "Remove training.num_gpus.", "training.num_gpus")


def _algorithm(recipe: Recipe, set_paths: Collection[str]) -> Iterator[Problem]:
    section = recipe.reinforcement
    if section.algorithm != "rloo":
        return
    if section.scale_rewards == "group":
        message = "reinforcement.scale_rewards group is not what rloo knows: it compares without dividing."
        fix = "Set it to batch or none, or set reinforcement.algorithm to grpo."
        yield Problem("reinforcement.scale_rloo", message, fix, "reinforcement.scale_rewards")
    if "reinforcement.token_mean" in set_paths and section.token_mean is not None:
        message = "reinforcement.token_mean has no effect: rloo weighs whole answers."
        fix = "Remove reinforcement.token_mean, or set reinforcement.algorithm to grpo."
        yield Problem("recipe.no_effect", message, fix, "reinforcement.token_mean")


def _answers(recipe: Recipe) -> Iterator[Problem]:
    longest, written = recipe.training.max_length, recipe.reinforcement.max_completion
    if longest is not None and written is not None and written >= longest:
        yield Problem(
            "reinforcement.no_room",
            f"reinforcement.max_completion {written} leaves no room for a prompt in training.max_length {longest}.",
            "Set training.max_length to the longest prompt and the longest answer together.",
            "reinforcement.max_completion",
        )
    metrics = recipe.evaluation.metrics or ()
    tells = any(find_reward(name).solves for name in recipe.reinforcement.rewards)
    if "solved_rate" in metrics and not tells:
        message = "The metric solved_rate has no value: none of the rewards tells right from wrong."
        yield Problem("evaluation.metric_reward", message, "Remove it.", "evaluation.metrics")
