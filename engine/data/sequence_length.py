"""How long sequences are and whether rows share them, before there is a plan: as the plan will decide."""

from pathlib import Path

from engine.catalog.objectives import find_objective
from engine.catalog.tasks import Task, task_of
from engine.planning.derive import choose_completion, choose_length
from engine.planning.derive_targets import choose_prefix, choose_target
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
    prefix = recipe.text_to_text.prefix
    if prefix is None:
        prefix = choose_prefix(model, data.traits)[0]
    return task_of(recipe.objective, kind, data.labels, multi_label=data.multi_label, prefix=prefix)


def row_length(
    recipe: Recipe, model: ModelProfile | None, lengths: LengthProfile | None, answers: LengthProfile | None
) -> tuple[int, str]:
    """Return the most tokens of a row, and where that comes from; as `sequence_length`.

    That is the sequence length, but for a prompt that the model answers while it learns, where the answer needs room.
    """
    length, source = sequence_length(recipe, model, lengths, answers)
    return max(1, length - _written(recipe, model, answers)), source


def _written(recipe: Recipe, model: ModelProfile | None, answers: LengthProfile | None) -> int:
    """Return how many tokens the model adds to a row while it learns."""
    if recipe.goal.signal != "prompts":
        return 0
    if recipe.reinforcement.max_completion is not None:
        return recipe.reinforcement.max_completion
    return 0 if model is None else choose_completion(answers, model)[0]


def sequence_length(
    recipe: Recipe,
    model: ModelProfile | None,
    lengths: LengthProfile | None,
    answers: LengthProfile | None = None,
) -> tuple[int, str]:
    """Return the sequence length in tokens, and where it comes from: `you`, or the reason it was derived.

    Args:
        recipe: What it sets wins.
        model: Its context bounds the length; None when only a tokenizer is here.
        lengths: Of the whole training rows.
        answers: Of the answers in the data; read where the model writes its own while it learns.
    """
    written = _written(recipe, model, answers)
    if recipe.training.max_length is not None:
        return recipe.training.max_length, YOU
    if model is None:
        longest = max(8, (lengths.longest if lengths else 0) + written)
        return longest, f"the longest row has {longest} tokens, and the model is not here yet"
    profile = DataProfile(format=None, lengths=lengths)
    reading = for_text(model, recipe.method)
    if find_objective(recipe.objective).head_of(model.kind) == "seq2seq-lm":
        # What the sequence length cuts are the sources, and these are their lengths.
        profile = profile.model_copy(update={"source_lengths": lengths})
    return choose_length(recipe.objective, reading, profile, recipe.training.effective_batch, written=written)


def target_length(recipe: Recipe, model: ModelProfile | None, targets: LengthProfile | None) -> int | None:
    """Return the longest text to write in tokens, before there is a plan; None where nobody can say.

    Args:
        recipe: What it sets wins.
        model: Its context bounds the length.
        targets: Of the texts to write.
    """
    wanted = recipe.text_to_text.max_target_length
    return wanted if wanted is not None or model is None else choose_target(model, targets)[0]


def packs(recipe: Recipe, task: Task) -> bool:
    """Return whether several rows share a sequence; plain text does where the recipe says nothing."""
    if task.head != "causal-lm":
        return False
    chosen = recipe.training.packing
    return recipe.goal.plain_text if chosen is None else chosen
