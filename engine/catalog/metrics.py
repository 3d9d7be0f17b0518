"""Metrics: what is measured before and after, under the names that reports and events use."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a measurement.

    Attributes:
        name: Key in `evaluation.completed` events and in reports.
        title: Words for a table.
        summary: What the number says, one sentence.
        when: When to look at it first.
        when_not: When it misleads.
        better: Direction of improvement.
        kind: `number` has no upper end; `share` goes from 0 to 1 and is shown in percent.
        choice: Name in `evaluation.metrics` that asks for it; empty for what is always measured.
        generates: The model must write answers for it, which takes far longer than reading them.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    better: Literal["lower", "higher"]
    kind: Literal["number", "share"]
    choice: str
    generates: bool = False

    def format(self, value: float | None) -> str:
        """Return the value as a table shows it, such as `3.42` or `81.5 %`; `n/a` for None and not-a-number."""
        if value is None or math.isnan(value):
            return "n/a"
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if self.kind == "share":
            return f"{100 * value:.1f} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 0.1 else f"{value:.2f}"

    def improved(self, before: float, after: float) -> bool:
        """Return whether `after` is strictly better than `before`."""
        return after < before if self.better == "lower" else after > before


METRICS: tuple[Metric, ...] = (
    Metric(
        name="loss",
        title="Loss",
        summary="Mean surprise per expected token, in nats.",
        when="To compare with the training curve.",
        when_not="Between models with different tokenizers.",
        better="lower",
        kind="number",
        choice="",
    ),
    Metric(
        name="perplexity",
        title="Perplexity",
        summary="Between how many equally likely tokens the model wavers; e to the power of the loss.",
        when="Always: it moves first and needs few rows.",
        when_not="Between models with different tokenizers.",
        better="lower",
        kind="number",
        choice="perplexity",
    ),
    Metric(
        name="token_accuracy",
        title="Token accuracy",
        summary="Share of expected tokens that the model ranks first, given all tokens before.",
        when="As a plain number beside perplexity.",
        when_not="As a promise of right answers: each token is judged with the right ones before it.",
        better="higher",
        kind="share",
        choice="token_accuracy",
    ),
    Metric(
        name="exact_match",
        title="Exact match",
        summary="Share of written answers that equal the expected one, blanks at the ends aside.",
        when="One answer is right: commands, labels, extracted values.",
        when_not="Free text, where good answers differ from the expected one.",
        better="higher",
        kind="share",
        choice="exact_match",
        generates=True,
    ),
    Metric(
        name="rouge1",
        title="ROUGE-1",
        summary="Overlap of single words between written and expected answers (F1).",
        when="Free text: does it speak of the same things?",
        when_not="Short answers where each word counts; take exact match.",
        better="higher",
        kind="share",
        choice="rouge",
        generates=True,
    ),
    Metric(
        name="rougeL",
        title="ROUGE-L",
        summary="Longest common run of words, gaps allowed, between written and expected answers (F1).",
        when="Free text: does it say them in the same order?",
        when_not="Short answers where each word counts; take exact match.",
        better="higher",
        kind="share",
        choice="rouge",
        generates=True,
    ),
)

METRIC_CHOICES: tuple[str, ...] = tuple(dict.fromkeys(metric.choice for metric in METRICS if metric.choice))
GENERATING_CHOICES: frozenset[str] = frozenset(metric.choice for metric in METRICS if metric.generates)


def find_metric(name: str) -> Metric:
    """Return the metric of this name, as reports spell it.

    Raises:
        KeyError: No metric has this name.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise KeyError(name)
