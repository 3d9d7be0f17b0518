"""How long sequences are and whether rows share them, before there is a plan: as the plan will decide."""

from pathlib import Path

from engine.catalog.tasks import Task, task_of
from engine.planning.derive import choose_length
from engine.planning.model_folder import profile_folder
from engine.planning.profiles import DataProfile, LengthProfile, ModelProfile
from engine.planning.virtual_prompt import for_text
from engine.recipe.schema import Recipe

YOU = "you"


def model_in(folder: Path | str, base: str) -> ModelProfile | None:
    """Return the facts of the model in a folder; None for a folder that holds a tokenizer alone.

    Raises:
        ProblemError: Its configuration cannot be used.
    """
    folder = Path(folder)
    return profile_folder(folder, base=base) if (folder / "config.json").is_file() else None


def task_in(recipe: Recipe, model: ModelProfile | None, data: DataProfile) -> Task:
    """Return what a model is asked to give out, before there is a plan.

    Args:
        recipe: A checked recipe.
        model: Facts of the model; None takes the kind that the objective usually trains.
        data: With the labels of its rows.
    """
    kind = recipe.goal.kinds[0] if model is None else model.kind
    return task_of(recipe.objective, kind, data.labels, multi_label=data.multi_label)


def sequence_length(recipe: Recipe, model: ModelProfile | None, lengths: LengthProfile | None) -> tuple[int, str]:
    """Return the sequence length in tokens, and where it comes from: `you`, or the reason it was derived.

    Args:
        recipe: What it sets wins.
        model: Its context bounds the length; None when only a tokenizer is here.
        lengths: Of the whole training rows.
    """
    if recipe.training.max_length is not None:
        return recipe.training.max_length, YOU
    if model is None:
        longest = max(8, lengths.longest if lengths else 0)
        return longest, f"the longest row has {longest} tokens, and the model is not here yet"
    profile = DataProfile(format=None, lengths=lengths)
    return choose_length(recipe.objective, for_text(model, recipe.method), profile, recipe.training.effective_batch)


def packs(recipe: Recipe) -> bool:
    """Return whether several rows share a sequence; plain text does where the recipe says nothing."""
    chosen = recipe.training.packing
    return recipe.goal.plain_text if chosen is None else chosen
