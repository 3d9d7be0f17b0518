"""Choices of the plan for models that read a text and write another, each with its reason. Pure arithmetic."""

import math

from engine.planning.profiles import DataTraits, LengthProfile, ModelProfile

SUMMARY_PREFIX = "summarize: "
"""Words that T5 was taught summaries by (Raffel et al. 2020, arXiv 1910.10683)."""
MUCH_SHORTER = 0.5
"""Words of a result, as a share of those of its source, below which it is taken for a summary."""
LEAST_WORDS = 20
"""Words of a source from which on there is something to sum up."""
DEFAULT_TARGET = 128


def choose_prefix(model: ModelProfile | None, traits: DataTraits | None) -> tuple[str, str]:
    """Return the words in front of each source and why; nothing for most models.

    Args:
        model: Facts of the base model; None when only a tokenizer is here.
        traits: What the words of the rows look like; None when nobody looked.
    """
    if model is None or model.model_type != "t5":
        return "", "the examples show what is wanted"
    if traits is None or not traits.mean_answer_words:
        return "", "nothing is known of the texts yet"
    long = traits.mean_prompt_words >= LEAST_WORDS
    if long and traits.mean_answer_words < MUCH_SHORTER * traits.mean_prompt_words:
        return SUMMARY_PREFIX, "T5 learnt summaries by these words, and the results are much shorter than the sources"
    return "", "T5 learnt its tasks by words such as these, and the results are no summaries"


def choose_target(model: ModelProfile, targets: LengthProfile | None) -> tuple[int, str]:
    """Return the longest text to write in tokens and why.

    Args:
        model: Facts of the base model; its context bounds the length.
        targets: Lengths of the texts to write, their ends included.
    """
    if targets is None or not targets.count:
        return min(DEFAULT_TARGET, model.context_length), "there are no texts to measure"
    # A little more that spares every text from being cut is worth it.
    wanted = targets.longest if targets.longest <= 1.25 * targets.p99 + 8 else targets.p99
    length = max(8, math.ceil(wanted / 8) * 8)
    about = "about " if targets.estimated else ""
    if length > model.context_length:
        return (
            model.context_length,
            f"the model's context; the longest text to write has {about}{targets.longest:,} tokens",
        )
    if targets.longest <= length:
        return length, f"the longest text to write has {about}{targets.longest:,} tokens"
    return (
        length,
        f"99 % of the texts to write have at most {about}{targets.p99:,} tokens, the longest {targets.longest:,}",
    )
