"""Metrics: what is measured before and after, under the names that reports and events use."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

FORGOTTEN = 0.1
"""Share by which the perplexity of general text may rise: any training moves it a little, which pairs of the same
passages show beyond luck."""
_LARGE = 1e7
"""Numbers from here on are written with an exponent: the perplexity of a broken model has dozens of digits."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a measurement.

    Attributes:
        name: Key in `evaluation.completed` events and in reports.
        title: Words for a table.
        summary: What the number says, one sentence.
        when: When to look at it first.
        when_not: When it misleads.
        better: Direction of improvement; `neither` where a change is good or bad only by what caused it.
        kind: `number` has no upper end; `share` goes from 0 to 1 and is shown in percent.
        choice: Name in `evaluation.metrics` that asks for it; empty for what is always measured.
        needs: What an objective must have for it, to say why another cannot take it.
        generates: The model must write answers for it, which takes far longer than reading them.
        tolerance: Share of the number by which it may move and is still called unchanged.
        setting: Recipe path that it cannot be measured without; empty where it needs none.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    better: Literal["lower", "higher", "neither"]
    kind: Literal["number", "share"]
    choice: str
    needs: str
    generates: bool = False
    tolerance: float = 0.0
    setting: str = ""

    def format(self, value: float | None) -> str:
        """Return the value as a table shows it, such as `3.42` or `81.5 %`; `n/a` for None and not-a-number."""
        if value is None or math.isnan(value):
            return "n/a"
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if self.kind == "share":
            return f"{100 * value:.1f} %"
        if abs(value) >= _LARGE:
            return f"{value:.1e}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 0.1 else f"{value:.2f}"

    def improved(self, before: float, after: float) -> bool:
        """Return whether `after` is strictly better than `before`; never where neither direction is."""
        match self.better:
            case "lower":
                return after < before
            case "higher":
                return after > before
            case _:
                return False

    @property
    def word(self) -> str:
        """Title as it is written inside a sentence; names such as ROUGE-L and F1 keep their capitals."""
        return self.title[0].lower() + self.title[1:] if self.title[1].islower() else self.title

    @property
    def better_words(self) -> str:
        """What a table says of the direction, such as `higher is better`; empty where neither is."""
        return "" if self.better == "neither" else f"{self.better} is better"


METRICS: tuple[Metric, ...] = (
    Metric(
        name="loss",
        title="Loss",
        summary="Mean surprise per expected token or label, in nats.",
        when="To compare with the training curve.",
        when_not="Between models with different tokenizers.",
        better="lower",
        kind="number",
        choice="",
        needs="tokens or labels to expect",
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
        needs="a model that expects the next tokens",
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
        needs="a model that expects the next tokens",
    ),
    Metric(
        name="masked_perplexity",
        title="Perplexity of hidden words",
        summary="Between how many equally likely words the model wavers where one is hidden; always the same ones.",
        when="Encoders: it moves first, and needs few rows.",
        when_not="To compare with the perplexity of models that write: those see only what stands before a word.",
        better="lower",
        kind="number",
        choice="masked_perplexity",
        needs="a model that guesses hidden words",
    ),
    Metric(
        name="masked_accuracy",
        title="Hidden words guessed",
        summary="Share of hidden words (tokens) that the model ranks first.",
        when="As a plain number beside the perplexity of hidden words.",
        when_not="As a promise for another task: it says how familiar the words are.",
        better="higher",
        kind="share",
        choice="masked_accuracy",
        needs="a model that guesses hidden words",
    ),
    Metric(
        name="general_perplexity",
        title="General perplexity",
        summary="Perplexity of 40 short passages of everyday English that come with ftwizard.",
        when="After every training: it rises when the model forgets what it knew.",
        when_not="Models of other languages than English.",
        better="lower",
        kind="number",
        choice="general_text",
        needs="a model that goes on with a text or guesses hidden words",
        tolerance=FORGOTTEN,
    ),
    Metric(
        name="general_masked_perplexity",
        title="General hidden words",
        summary="Perplexity of words hidden in 40 short passages of everyday English that come with ftwizard.",
        when="Domain adaptation of encoders: it rises when the model forgets what it knew.",
        when_not="Models of other languages than English.",
        better="lower",
        kind="number",
        choice="general_text",
        needs="a model that goes on with a text or guesses hidden words",
        tolerance=FORGOTTEN,
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
        needs="written answers with expected ones to compare",
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
        needs="written answers with expected ones to compare",
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
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="bleu",
        title="BLEU",
        summary="Overlap of runs of one to four words with the expected answers, over all rows at once.",
        when="Translation, and to compare with published numbers.",
        when_not="Few or short answers, and text without spaces between words; take chrF.",
        better="higher",
        kind="share",
        choice="bleu",
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="chrf",
        title="chrF",
        summary="Overlap of runs of one to six characters with the expected answers, over all rows at once.",
        when="Text in any script, and languages whose words change their endings.",
        when_not="Long free texts, whose letters overlap by chance.",
        better="higher",
        kind="share",
        choice="chrf",
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="wer",
        title="Word errors",
        summary="Words missing, added or replaced per expected word (WER), over all rows.",
        when="Corrections and transcripts.",
        when_not="Answers that may be worded freely.",
        better="lower",
        kind="share",
        choice="wer",
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="cer",
        title="Character errors",
        summary="Characters missing, added or replaced per expected character (CER), over all rows.",
        when="Corrections and transcripts, also of scripts without spaces.",
        when_not="Answers that may be worded freely.",
        better="lower",
        kind="share",
        choice="cer",
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="json_valid",
        title="Valid JSON",
        summary="Share of written answers that are JSON and nothing else.",
        when="Answers that a program reads.",
        when_not="As a promise of right content: a lone number is JSON too. Take the JSON schema.",
        better="higher",
        kind="share",
        choice="json_valid",
        needs="written answers with expected ones to compare",
        generates=True,
    ),
    Metric(
        name="json_schema",
        title="Fits the JSON schema",
        summary="Share of written answers that are JSON and valid against evaluation.json_schema.",
        when="Answers that a program reads and that need certain fields.",
        when_not="As a promise of right values: it looks at their form.",
        better="higher",
        kind="share",
        choice="json_schema",
        needs="written answers with expected ones to compare",
        generates=True,
        setting="evaluation.json_schema",
    ),
    Metric(
        name="regex",
        title="Fits the pattern",
        summary="Share of written answers in which evaluation.pattern is found.",
        when="Answers of one form: a code, a date, a first line.",
        when_not="As a promise of right answers: it looks at their form.",
        better="higher",
        kind="share",
        choice="regex",
        needs="written answers with expected ones to compare",
        generates=True,
        setting="evaluation.pattern",
    ),
    Metric(
        name="own_score",
        title="Own score",
        summary="Mean of what your own function gives for written answers.",
        when="You know best what a good answer is.",
        when_not="The function can be fooled: read the samples too.",
        better="higher",
        kind="number",
        choice="metric_file",
        needs="written answers with expected ones to compare",
        generates=True,
        setting="evaluation.metric_file",
    ),
    Metric(
        name="own_error",
        title="Own error",
        summary="Mean of what your own function gives for written answers; lower is better.",
        when="You know best what a bad answer is.",
        when_not="The function can be fooled: read the samples too.",
        better="lower",
        kind="number",
        choice="metric_file",
        needs="written answers with expected ones to compare",
        generates=True,
        setting="evaluation.metric_file",
    ),
    Metric(
        name="accuracy",
        title="Accuracy",
        summary="Share of rows whose label is right; with several labels a row, all of them.",
        when="Labels that are about equally frequent.",
        when_not="One label is most of the rows: always giving that one scores high; take macro F1.",
        better="higher",
        kind="share",
        choice="accuracy",
        needs="rows with labels",
    ),
    Metric(
        name="f1_macro",
        title="Macro F1",
        summary="F1 of each label on its own, then their mean: rare labels weigh as much as frequent ones.",
        when="Rare labels matter.",
        when_not="Labels with a handful of held-out rows: one row moves the mean much.",
        better="higher",
        kind="share",
        choice="f1_macro",
        needs="rows with labels",
    ),
    Metric(
        name="f1_micro",
        title="Micro F1",
        summary="F1 with hits and misses of all labels counted together: frequent labels weigh more.",
        when="Several labels a row.",
        when_not="One label a row: there it equals accuracy.",
        better="higher",
        kind="share",
        choice="f1_micro",
        needs="rows with labels",
    ),
    Metric(
        name="entity_f1",
        title="Entity F1",
        summary="Balance of precision and recall over entities; type, first and last word must all be right.",
        when="Always for entities: it is the number that the field compares.",
        when_not="Parts of an entity are of use too: a span one word short counts as nothing.",
        better="higher",
        kind="share",
        choice="entity_f1",
        needs="rows with a tag for each word",
    ),
    Metric(
        name="entity_precision",
        title="Entity precision",
        summary="Share of the entities found that are right.",
        when="False finds are costly.",
        when_not="On its own: finding one sure entity scores 100 %.",
        better="higher",
        kind="share",
        choice="entity_f1",
        needs="rows with a tag for each word",
    ),
    Metric(
        name="entity_recall",
        title="Entity recall",
        summary="Share of the expected entities that are found.",
        when="Missed entities are costly.",
        when_not="On its own: tagging everything finds much.",
        better="higher",
        kind="share",
        choice="entity_f1",
        needs="rows with a tag for each word",
    ),
    Metric(
        name="reward_accuracy",
        title="Reward accuracy",
        summary="Share of pairs whose chosen answer is rewarded more than the rejected one; a tie counts half.",
        when="Always for pairs: 50 % is guessing.",
        when_not="As a promise of better answers: it judges given ones, and writes none.",
        better="higher",
        kind="share",
        choice="reward_accuracy",
        needs="pairs of a chosen and a rejected answer",
    ),
    Metric(
        name="reward_margin",
        title="Reward margin",
        summary="By how much chosen answers are rewarded more than rejected ones, on average.",
        when="Accuracy is near 100 % and you want to see how sure the model is.",
        when_not="Between runs with another beta or loss: its unit differs.",
        better="higher",
        kind="number",
        choice="reward_margin",
        needs="pairs of a chosen and a rejected answer",
    ),
    Metric(
        name="win_rate",
        title="Win rate",
        summary="Share of prompts whose answer scores higher than the base model's; a tie counts half.",
        when="To see whether written answers became better, not only judged ones.",
        when_not="The score can be fooled, as by length: read the samples too.",
        better="higher",
        kind="share",
        choice="win_rate",
        needs="answers of the base model and a score to compare them by",
        generates=True,
    ),
    Metric(
        name="reward",
        title="Reward",
        summary="What the answers to held-out prompts earn on average.",
        when="Always for reinforcement learning: it is what is learned.",
        when_not="It rises and the samples get odd: then the reward is fooled.",
        better="higher",
        kind="number",
        choice="reward",
        needs="a reward for written answers",
        generates=True,
    ),
    Metric(
        name="solved_rate",
        title="Solved rate",
        summary="Share of answers whose reward is that of a right one.",
        when="Rewards that tell right from wrong, as a rule on the last line does.",
        when_not="Rewards without a value that means solved, as a reward model's.",
        better="higher",
        kind="share",
        choice="solved_rate",
        needs="a reward for written answers",
        generates=True,
    ),
    Metric(
        name="kl",
        title="KL to the base",
        summary="How far the model has moved from the base model on its own answers, in nats per token.",
        when="Reward rises: a large KL says that the language may have changed as well.",
        when_not="As a goal: 0 means that nothing was learned.",
        better="neither",
        kind="number",
        choice="kl",
        needs="a reward for written answers",
        generates=True,
    ),
    Metric(
        name="completion_length",
        title="Completion length",
        summary="Mean number of tokens that the model writes for an answer.",
        when="Answers that grow without end, or shrink to nothing, are a fooled reward.",
        when_not="As a goal: longer is not better.",
        better="neither",
        kind="number",
        choice="completion_length",
        needs="a reward for written answers",
        generates=True,
    ),
)

METRIC_CHOICES: tuple[str, ...] = tuple(dict.fromkeys(metric.choice for metric in METRICS if metric.choice))
METRIC_NAMES: frozenset[str] = frozenset(metric.name for metric in METRICS)
SETTING_CHOICES: dict[str, str] = {metric.setting: metric.choice for metric in METRICS if metric.setting}
"""What is measured because a setting says what to look for: `{recipe path: name in evaluation.metrics}`."""
GENERATING_CHOICES: frozenset[str] = frozenset(metric.choice for metric in METRICS if metric.generates)


def best_choices(choices: Collection[str]) -> tuple[str, ...]:
    """Return the metrics that can say which step of a run was best: the loss, and those of some choices.

    Args:
        choices: Names as in `evaluation.metrics`.
    """
    known = ("", *choices)
    return tuple(metric.name for metric in METRICS if metric.better != "neither" and metric.choice in known)


def find_metric(name: str) -> Metric:
    """Return the metric of this name, as reports spell it.

    Raises:
        KeyError: No metric has this name.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise KeyError(name)
