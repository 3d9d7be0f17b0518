"""Whether fine-tuning is the right tool: seen in the data before anything is downloaded. Advice, never a refusal."""

from collections.abc import Iterator

from engine.planning.profiles import DataProfile, DataTraits, Finding, ModelProfile
from engine.recipe.schema import Recipe
from engine.text import human_count

FEW_ROWS = 50
"""Below this a good prompt with the examples in it usually does as well."""
MOSTLY = 0.7
RARE = 0.5
HALF = 0.5
MAX_PROMPT_WORDS = 40
"""Longer prompts carry a passage to read the answer from."""
_MIN_LOOKED_AT = 20


def suitability_findings(recipe: Recipe, model: ModelProfile, data: DataProfile) -> Iterator[Finding]:
    """Yield why another tool may serve better, with the better one named."""
    if not data.num_train:
        return
    if recipe.goal.signal == "answers":
        if model.kind == "decoder":
            yield from _few_examples(recipe, model, data)
        if data.traits is not None and data.traits.num_rows >= _MIN_LOOKED_AT:
            yield from _facts(data.traits)
            yield from _changing(data.traits)
    elif recipe.goal.plain_text and model.kind == "decoder":
        yield from _little_text(model, data)


def _advice(code: str, message: str, fix: str) -> Finding:
    return Finding(code=code, message=message, fix=fix, path="data.source", severity="warning")


def _few_examples(recipe: Recipe, model: ModelProfile, data: DataProfile) -> Iterator[Finding]:
    rows = data.num_train + data.num_held_out
    if rows >= FEW_ROWS or data.lengths is None:
        return
    # Half of the context stays for the question and the answer.
    room = int(model.context_length / 2 / max(1.0, data.lengths.mean))
    fitting = f"the model's context takes about {min(room, rows)} of them" if room else "the shortest of them"
    shown = recipe.evaluation.few_shot
    measured = f"This run measures the base model with {shown} of them in the prompt, to compare." if shown else ""
    yield _advice(
        "advice.few_examples",
        f"There are {rows} examples; fine-tuning learns little from fewer than {FEW_ROWS}.",
        f"Try a few-shot prompt first: put examples in front of the question ({fitting}). "
        f"{measured or 'Then compare, or add rows.'}",
    )


def _facts(traits: DataTraits) -> Iterator[Finding]:
    asks = traits.questions >= MOSTLY and traits.mean_prompt_words <= MAX_PROMPT_WORDS
    one_off = traits.short_answers >= MOSTLY and traits.distinct_answers >= MOSTLY and traits.rare_words >= RARE
    if not asks or not one_off or traits.answers_in_prompt > 1 - MOSTLY:
        return
    yield _advice(
        "advice.facts_to_look_up",
        f"These look like facts to look up: {traits.questions:.0%} of the prompts ask, {traits.short_answers:.0%} of "
        f"the answers have at most six words, and {traits.rare_words:.0%} of their words stand in at most two answers.",
        "Retrieval answers such questions better: keep the facts in a search index and put what it finds in the "
        "prompt. Fine-tuning teaches a manner of answering, and what it half learns it makes up.",
    )


def _changing(traits: DataTraits) -> Iterator[Finding]:
    if traits.dated < HALF:
        return
    yield _advice(
        "advice.changing_data",
        f"{traits.dated:.0%} of the answers hold a date, a price or a stock level, which the model would go on telling "
        "after they have changed.",
        "Take such values from a database at the time of the question (retrieval or a tool call), and train only on "
        "how to say them.",
    )


def _little_text(model: ModelProfile, data: DataProfile) -> Iterator[Finding]:
    if data.lengths is None or data.lengths.total > model.context_length / 2:
        return
    yield _advice(
        "advice.fits_in_prompt",
        f"The whole text has about {human_count(data.lengths.total)} tokens and fits in the model's context of "
        f"{human_count(model.context_length)}.",
        "Put it in the prompt instead: the model then has every word of it. Fine-tune on much more text than that.",
    )
