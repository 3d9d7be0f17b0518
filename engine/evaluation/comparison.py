"""Whether a prompt with examples does as well as the tuned model: judged answer by answer, noise included."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from engine.catalog.metrics import find_metric

Verdict = Literal["tuned", "equal", "few_shot", "unknown"]

MIN_ANSWERS = 8
"""Below this a single lucky answer decides."""
NOISE_ERRORS = 2.0
"""Differences within so many standard errors are what another draw of rows could show too (about 95 %)."""
SAME_PERPLEXITY = 1.02
"""Perplexities closer than this factor are called the same: how much of it is noise is not known without answers."""
_JUDGED = ("exact_match", "rougeL", "chrf", "bleu")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the few-shot baseline says about a fine-tune.

    Attributes:
        verdict: Which one is better; `equal` within noise, `unknown` where too little was measured.
        text: The same as a sentence; empty where there was no baseline.
    """

    verdict: Verdict
    text: str


def compare_few_shot(few_shot: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Return whether the examples alone do as well as training.

    Args:
        few_shot: Content of `few_shot.json`; empty where there was no baseline.
        after: Content of `after.json`; empty where the run did not come that far.
    """
    num_examples = len(few_shot.get("examples", ()))
    if not num_examples or not after:
        return Comparison("unknown", "")
    pairs = _pairs(few_shot, after)
    judged = [name for name in _JUDGED if name in few_shot["metrics"] and name in after["metrics"]]
    prompt = f"a prompt with {num_examples} example" + ("s" if num_examples > 1 else "")
    if not judged:
        return _by_perplexity(prompt, few_shot, after)
    if len(pairs) < MIN_ANSWERS:
        text = f"{len(pairs)} answers are too few to tell the tuned model from {prompt}."
        return Comparison("unknown", text)
    gains = {name: _gain(name, pairs) for name in judged}
    deciding = next((name for name in judged if abs(gains[name][0]) > gains[name][1]), None)
    verdict: Verdict = "equal" if deciding is None else "tuned" if gains[deciding][0] > 0 else "few_shot"
    # Exact match says nothing of free text, where it is 0 on both sides.
    name = deciding or next((name for name in judged if after["metrics"][name]), judged[-1])
    return Comparison(verdict, _sentence(verdict, prompt, name, few_shot["metrics"], after["metrics"], len(pairs)))


def _pairs(few_shot: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return `(answer to the prompt, answer of the tuned model, expected)` of the rows that both answered."""
    tuned = {answer["id"]: answer["text"] for answer in after.get("answers", ())}
    return [
        (answer["text"], tuned[answer["id"]], answer["expected"])
        for answer in few_shot.get("answers", ())
        if answer["id"] in tuned
    ]


def _gain(name: str, pairs: Sequence[tuple[str, str, str]]) -> tuple[float, float]:
    """Return by how much the tuned model is better, and what of that may be noise: paired, row by row."""
    from engine.evaluation.scores import row_scores

    prompted = row_scores(name, [pair[0] for pair in pairs], [pair[2] for pair in pairs])
    tuned = row_scores(name, [pair[1] for pair in pairs], [pair[2] for pair in pairs])
    gains = [right - left for left, right in zip(prompted, tuned, strict=True)]
    mean = sum(gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
    return mean, NOISE_ERRORS * math.sqrt(variance / len(gains))


def _sentence(
    verdict: Verdict, prompt: str, name: str, few_shot: Mapping[str, float], after: Mapping[str, float], count: int
) -> str:
    metric = find_metric(name)
    numbers = f"{metric.word} {metric.format(few_shot[name])} against {metric.format(after[name])}, {count} answers"
    opening = f"{prompt[0].upper()}{prompt[1:]} and no training"
    match verdict:
        case "tuned":
            return f"Training was worth it: {prompt} alone reaches less ({numbers})."
        case "few_shot":
            return f"{opening} does better than the tuned model ({numbers}). Use the base model with such a prompt."
        case _:
            return (
                f"{opening} does as well as the tuned model, within noise ({numbers}). Such a prompt is cheaper to "
                "change than a model; training pays where prompts must be short."
            )


def _by_perplexity(prompt: str, few_shot: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    left, right = few_shot["metrics"].get("perplexity"), after["metrics"].get("perplexity")
    if not _is_number(left) or not _is_number(right) or after.get("num_rows", 0) < MIN_ANSWERS:
        return Comparison("unknown", "")
    metric = find_metric("perplexity")
    numbers = f"perplexity {metric.format(left)} against {metric.format(right)}; no answers were written"
    if right < left / SAME_PERPLEXITY:
        return Comparison("tuned", f"Training was worth it: {prompt} alone reaches less ({numbers}).")
    better = right > left * SAME_PERPLEXITY
    words = "better than" if better else "about as well as"
    text = f"{prompt[0].upper()}{prompt[1:]} and no training does {words} the tuned model ({numbers})."
    return Comparison("few_shot" if better else "equal", text)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
