"""Rules of what comes out of a run: samples, tags, formats of the finished model. See `engine.recipe.rules`."""

from collections.abc import Iterator

from engine.catalog.exports import find_format
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe
from engine.text import clean_line

MAX_SAMPLE_PROMPTS = 16


def result_rules(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong between the fields that say what a run gives out."""
    yield from _sample_prompts(recipe)
    yield from _formats(recipe)
    yield from _tag_names(recipe)


def _sample_prompts(recipe: Recipe) -> Iterator[Problem]:
    prompts = recipe.evaluation.sample_prompts
    path = "evaluation.sample_prompts"
    if prompts is None:
        return
    if any(not prompt.strip() for prompt in prompts):
        yield Problem("evaluation.prompt_empty", "A sample prompt is empty.", "Write it or remove it.", path)
    if len(prompts) > MAX_SAMPLE_PROMPTS:
        yield Problem(
            "evaluation.many_prompts",
            f"{len(prompts)} sample prompts are answered at each evaluation, which takes long.",
            f"Keep at most {MAX_SAMPLE_PROMPTS}.",
            path,
            "warning",
        )


def _formats(recipe: Recipe) -> Iterator[Problem]:
    method = recipe.method.facts
    adapter = recipe.method.name is not None and method.makes_adapter
    wished = " and ".join(find_format(name).title for name in dict.fromkeys(recipe.delivery.formats))
    if wished and recipe.goal.signal in ("labels", "tags", "rewards"):
        yield Problem(
            "delivery.format_writes",
            f"delivery.formats asks for {wished}, made for models that write, and {recipe.goal.title} makes one that "
            "does not.",
            "Remove delivery.formats; the safetensors files are loaded by transformers and by what serves such models.",
            "delivery.formats",
        )
    elif wished and adapter and not method.mergeable:
        yield Problem(
            "delivery.format_needs_merge",
            f"delivery.formats asks for {wished}, which hold a whole model, and {method.words} cannot be merged.",
            "Choose another method, or remove delivery.formats.",
            "delivery.formats",
        )
    elif wished and adapter and not recipe.delivery.merge:
        yield Problem(
            "delivery.format_needs_merge",
            f"delivery.formats asks for {wished}, which hold a whole model, and delivery.merge is false.",
            "Set delivery.merge to true, or remove delivery.formats.",
            "delivery.formats",
        )


def _tag_names(recipe: Recipe) -> Iterator[Problem]:
    names = recipe.token_classification.tag_names
    if names is None:
        return
    path = "token_classification.tag_names"
    if any(not name.strip() for name in names) or not names:
        yield Problem("tags.name_empty", "A name of a tag is empty.", "Write a name for each number.", path)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        named = clean_line(", ".join(twice), max_chars=80)
        yield Problem("tags.name_twice", f"Two tags have one name: {named}.", "Name every tag once.", path)
