"""The few-shot baseline in the plan: how many examples, what they cost, and why. Light; pure arithmetic."""

from engine.catalog.metrics import GENERATING_CHOICES
from engine.planning.profiles import DataProfile, ModelProfile
from engine.planning.search import Choice, Space
from engine.planning.steps import mean_tokens
from engine.recipe.schema import Recipe

Reasoned = tuple[int, str]

EXAMPLES = 3
"""Enough to show the form of an answer; more mostly make prompts longer."""
CHEAP_SHARE = 0.1
CHEAP_S = 60.0
"""Share and seconds of training; below either of them the baseline is measured without being asked for."""
_PASSES_WHOLE = 3.0
_PASSES_ADAPTER = 2.0
"""Work of a training step on a token, in forward passes: gradients of the inputs, and of the weights that learn."""


def example_tokens(few_shot: int | None, data: DataProfile) -> int:
    """Return the most tokens that examples add to a prompt: they come from the shorter half of the rows."""
    return (few_shot or 0) * data.lengths.p50 if data.lengths is not None else 0


def choose_few_shot(
    recipe: Recipe, model: ModelProfile, data: DataProfile, *, training_s: float, doubted: bool
) -> Reasoned:
    """Return how many examples the baseline shows, 0 for no baseline, and why.

    Args:
        recipe: With everything but the baseline filled in.
        model: Its context holds examples, question and answer.
        data: Lengths and number of the rows.
        training_s: Expected time of training, in seconds.
        doubted: Another tool than fine-tuning may serve better, so that the baseline is worth more time.
    """
    lengths = data.lengths
    if "evaluation.few_shot" not in recipe.goal.settings:
        return 0, "there are no questions that examples could answer"
    if model.kind != "decoder":
        return 0, "examples in a prompt compare with answers of a text generation model only"
    if not GENERATING_CHOICES.intersection(recipe.evaluation.metrics or ()):
        return 0, "no metric looks at answers"
    if lengths is None or not lengths.count or not data.num_held_out:
        return 0, "nothing is known of rows to ask and to show"
    longest = min(lengths.p90, recipe.training.max_length or lengths.p90)
    room = model.context_length - (recipe.evaluation.max_new_tokens or 0) - longest
    count = min(EXAMPLES, data.num_train, room // max(1, lengths.p50))
    if count < 1:
        return 0, f"a context of {model.context_length} tokens has no room for examples"
    share = work_share(recipe, data, count)
    cost = f"adds about {share:.0%} to the work of training" if share >= 0.01 else "costs next to nothing"
    if share > CHEAP_SHARE and share * training_s > CHEAP_S and not doubted:
        return 0, f"{cost}; set it to compare with examples in a prompt"
    return count, f"shows whether a prompt does as well; {cost}"


def work_share(recipe: Recipe, data: DataProfile, count: int) -> float:
    """Return the work of the baseline as a share of the work of training, counted in tokens that pass the model."""
    assert data.lengths is not None
    evaluation, training = recipe.evaluation, recipe.training
    row = mean_tokens(data.lengths, training.max_length or data.lengths.longest)
    prompt = row + count * data.lengths.p50
    read = min(evaluation.max_rows, data.num_held_out) * prompt
    written = min(evaluation.generate_rows, data.num_held_out) * (prompt + (evaluation.max_new_tokens or 0))
    rows = data.num_train * training.epochs
    if training.max_steps is not None:
        rows = training.max_steps * training.effective_batch
    passes = _PASSES_WHOLE if recipe.method.facts.trains_base else _PASSES_ADAPTER
    return (read + written) / max(1.0, rows * row * passes)


def affordable(count: int, choice: Choice, space: Space, data: DataProfile) -> int:
    """Return how many of the examples need no more memory than the run does without them."""
    setup = choice.setup
    while count:
        examples = example_tokens(count, data)
        if space.memory_of(setup.changed(examples=examples)).high_bytes <= choice.memory.high_bytes:
            break
        count -= 1
    return count
