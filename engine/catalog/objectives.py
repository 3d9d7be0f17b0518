"""Objectives: what a model can learn, in plain words. Each is done by a module of `engine.objectives`."""

from dataclasses import dataclass
from typing import Literal

ModelKind = Literal["decoder", "encoder", "encoder-decoder", "vision", "audio"]
Head = Literal["causal-lm", "masked-lm", "seq2seq-lm", "sequence-classification", "token-classification"]
"""What a model gives out: the next token, a hidden token, a text made from a text, labels of a text or of its words."""
RowFormat = Literal[
    "messages",
    "prompt_completion",
    "alpaca",
    "source_target",
    "text",
    "text_label",
    "word_tags",
    "entity_spans",
    "preference",
    "unpaired_preference",
    "prompts",
]
"""Shapes of rows, as `engine.data` reads them."""
Signal = Literal["answers", "text", "labels", "tags", "preferences", "rewards", "prompts"]
"""What the loss is taken from."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One way of learning.

    Attributes:
        name: What a recipe says; the module of `engine.objectives` has the same name, with underscores.
        title: Two or three words for lists.
        summary: What the model learns, one sentence.
        when: When to take it.
        when_not: When another choice is better.
        needs: What the data must look like.
        signal: What the loss is taken from.
        heads: Kinds of models that it trains, the usual one first, each with the head that it takes.
        formats: Shapes of rows that it reads, as in `data.format`.
        metrics: Names for `evaluation.metrics` that make sense with it, all of them the default.
        asked: Further ones that are measured where the recipe asks for them, or says what they look for.
        settings: Recipe paths that only some objectives read and that this one does.
        unread: Recipe paths that all others read.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    needs: str
    signal: Signal
    heads: tuple[tuple[ModelKind, Head], ...]
    formats: tuple[RowFormat, ...]
    metrics: tuple[str, ...]
    asked: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[ModelKind, ...]:
        """Kinds of models that it trains, the usual one first."""
        return tuple(kind for kind, _ in self.heads)

    @property
    def plain_text(self) -> bool:
        """Whether the rows are running text, which is read whole and cut into windows."""
        return self.signal == "text"

    @property
    def converses(self) -> bool:
        """Whether the rows are conversations, which a chat template writes out."""
        return self.signal in ("answers", "preferences", "rewards", "prompts")

    @property
    def expects_targets(self) -> bool:
        """Whether the loss is that of expected tokens, labels or tags."""
        return self.signal in ("answers", "text", "labels", "tags")

    def head_of(self, kind: ModelKind) -> Head:
        """Return the head that a kind of model takes; that of the usual kind for one that it does not train."""
        return dict(self.heads).get(kind, self.heads[0][1])

    @property
    def measurable(self) -> tuple[str, ...]:
        """All names that `evaluation.metrics` may hold."""
        return (*self.metrics, *self.asked)

    def metrics_with(self, head: Head) -> tuple[str, ...]:
        """Return those of `metrics` that are measured with a head."""
        others = NEXT_TOKEN_METRICS if head == "masked-lm" else HIDDEN_WORD_METRICS
        others |= GENERAL_METRICS if head == "seq2seq-lm" else frozenset()
        return tuple(name for name in self.metrics if name not in others)

    def metrics_of(self, kind: ModelKind) -> tuple[str, ...]:
        """Return those of `metrics` that are measured with a kind of model."""
        return self.metrics_with(self.head_of(kind))

    def settings_of(self, kind: ModelKind) -> tuple[str, ...]:
        """Return those of `settings` that it reads with a kind of model."""
        unread = UNREAD_BY_HEAD.get(self.head_of(kind), {})
        return tuple(path for path in self.settings if path not in unread)


WRITING_SETTINGS: tuple[str, ...] = (
    "training.packing",
    "evaluation.generate_rows",
    "evaluation.max_new_tokens",
    "evaluation.sample_prompts",
)
FORM_METRICS: tuple[str, ...] = ("json_valid", "json_schema", "regex", "metric_file")
FORM_SETTINGS: tuple[str, ...] = (
    "evaluation.json_schema",
    "evaluation.pattern",
    "evaluation.metric_file",
    "evaluation.trust_metric_code",
)
"""What looks at the form of written answers, and a person's own metric."""
REINFORCEMENT_SETTINGS: tuple[str, ...] = tuple(
    f"reinforcement.{name}"
    for name in (
        "algorithm",
        "rewards",
        "weights",
        "pattern",
        "wished_length",
        "reward_model",
        "reward_file",
        "trust_reward_code",
        "num_generations",
        "temperature",
        "top_p",
        "max_completion",
        "beta",
        "scale_rewards",
        "token_mean",
    )
)
CONVERSATION_SETTINGS: tuple[str, ...] = ("model.chat_template", "data.system_prompt")
NEXT_TOKEN_METRICS = frozenset({"perplexity", "token_accuracy"})
HIDDEN_WORD_METRICS = frozenset({"masked_perplexity", "masked_accuracy"})
"""Metrics of models that expect the next token, and of those that guess hidden words; they do not compare."""
GENERAL_METRICS = frozenset({"general_text"})
"""Metrics of plain text, which a model with a source and a target of their own is not made to go on with."""
UNREAD_BY_HEAD: dict[Head, dict[str, str]] = {
    "causal-lm": {
        "text_to_text.max_target_length": "a model that goes on with a text reads source and result as one sequence",
        "domain_adaptation.masked_share": "a model that goes on with a text hides no words",
    },
    "masked-lm": {
        "training.packing": "the windows of a text fill their sequences, and an encoder would see across their borders",
        "evaluation.generate_rows": "an encoder guesses hidden words and writes nothing",
        "evaluation.max_new_tokens": "an encoder guesses hidden words and writes nothing",
    },
    "seq2seq-lm": {
        "training.packing": "an encoder reads each text in a sequence of its own",
        "model.chat_template": "an encoder-decoder model reads texts, not conversations",
        "data.system_prompt": "an encoder-decoder model reads texts, not conversations; text_to_text.prefix is its way",
        "data.allow_all_trained": "the source of an encoder-decoder model is never trained",
        "evaluation.few_shot": "examples in a prompt are for models that go on with a text",
    },
}
"""Settings that an objective reads with one kind of model and not with another: the head that reads none, and why."""

OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        name="chat",
        title="Chat and instructions",
        summary="Learns to answer the way your examples answer.",
        when="You have requests with the answers that you want: support, extraction, a house style, commands.",
        when_not="You only have running text without questions; take domain adaptation.",
        needs="Conversations, prompt and completion pairs, or instruction rows; a few hundred good ones are enough.",
        signal="answers",
        heads=(("decoder", "causal-lm"),),
        formats=("messages", "prompt_completion", "alpaca", "source_target"),
        metrics=("perplexity", "token_accuracy", "exact_match", "rouge", "general_text"),
        asked=FORM_METRICS,
        settings=(
            *WRITING_SETTINGS,
            *FORM_SETTINGS,
            *CONVERSATION_SETTINGS,
            "data.allow_all_trained",
            "evaluation.few_shot",
        ),
    ),
    Objective(
        name="domain-adaptation",
        title="Domain adaptation",
        summary="Goes on reading your plain text, so that its words and facts become familiar.",
        when="You have much text of a field or a language that the base model knows little of.",
        when_not="You want answers of a certain kind; text alone teaches no answering, and can weaken it.",
        needs="Plain text, or rows with one text column; a megabyte is little, ten are better.",
        signal="text",
        heads=(("decoder", "causal-lm"), ("encoder", "masked-lm")),
        formats=("text",),
        metrics=("perplexity", "token_accuracy", "masked_perplexity", "masked_accuracy", "general_text"),
        settings=(*WRITING_SETTINGS, "domain_adaptation.masked_share"),
    ),
    Objective(
        name="text-to-text",
        title="Summaries and rewriting",
        summary="Learns to turn one text into another: a summary, a translation, a corrected version.",
        when="Each row is a text and the text to make of it; small T5 and BART models do this well and cheaply.",
        when_not="The user asks questions or talks on; take chat.",
        needs="Rows of a source and a target, or of a prompt and its completion; a few hundred are a start.",
        signal="answers",
        heads=(("encoder-decoder", "seq2seq-lm"), ("decoder", "causal-lm")),
        formats=("source_target", "prompt_completion", "alpaca", "messages"),
        metrics=("perplexity", "token_accuracy", "exact_match", "rouge", "bleu", "chrf", "general_text"),
        asked=("wer", "cer", *FORM_METRICS),
        settings=(
            *WRITING_SETTINGS,
            *FORM_SETTINGS,
            *CONVERSATION_SETTINGS,
            "data.allow_all_trained",
            "evaluation.few_shot",
            "text_to_text.prefix",
            "text_to_text.max_target_length",
            "text_to_text.num_beams",
        ),
    ),
    Objective(
        name="classification",
        title="Text classification",
        summary="Learns which class a text has, or which of several.",
        when="You sort texts: intents, topics, sentiment, spam. It is small, quick, and says how sure it is.",
        when_not="The answer is a sentence, or classes change every week; take chat.",
        needs="Rows of a text and its label, or a list of labels; from about twenty rows a class.",
        signal="labels",
        heads=(("encoder", "sequence-classification"), ("decoder", "sequence-classification")),
        formats=("text_label",),
        metrics=("accuracy", "f1_macro", "f1_micro"),
        settings=("classification.class_weights", "classification.focal_gamma"),
    ),
    Objective(
        name="token-classification",
        title="Token classification",
        summary="Learns which words of a text are a name, a place, a product: named entities and other tags.",
        when="You want the words themselves out of a text: entities, parts of speech, fields of a form.",
        when_not="You want one answer for the whole text; take classification.",
        needs="Lists of words with a tag each, or texts with the places of their entities; a few hundred are a start.",
        signal="tags",
        heads=(("encoder", "token-classification"),),
        formats=("word_tags", "entity_spans"),
        metrics=("entity_f1",),
        settings=("token_classification.tag_names",),
    ),
    Objective(
        name="preference",
        title="Preference",
        summary="Learns to prefer some answers to others, from pairs or from thumbs up and down.",
        when="Your model answers well enough, and people have said which of two answers they like better.",
        when_not="It cannot do the task yet, or you have only good answers; take chat first.",
        needs="A prompt with a chosen and a rejected answer, or an answer marked good or bad; from a few hundred rows.",
        signal="preferences",
        heads=(("decoder", "causal-lm"),),
        formats=("preference", "unpaired_preference"),
        metrics=("reward_accuracy", "reward_margin", "win_rate", "perplexity", "token_accuracy", "general_text"),
        settings=(
            *CONVERSATION_SETTINGS,
            "evaluation.generate_rows",
            "evaluation.max_new_tokens",
            "evaluation.sample_prompts",
            "preference.loss",
            "preference.beta",
            "preference.label_smoothing",
            "preference.simpo_gamma",
            "preference.desirable_weight",
            "preference.undesirable_weight",
            "preference.judge",
        ),
    ),
    Objective(
        name="reward-model",
        title="Reward model",
        summary="Learns a number for an answer: higher for what people prefer.",
        when="You want to judge many answers by one taste: to rank them, to filter data, as the reward of RLHF.",
        when_not="You want better answers themselves; preference learns them from the same pairs in one run.",
        needs="A prompt with a chosen and a rejected answer; from about a thousand pairs.",
        signal="rewards",
        heads=(("decoder", "sequence-classification"),),
        formats=("preference",),
        metrics=("reward_accuracy", "reward_margin"),
        settings=(*CONVERSATION_SETTINGS, "reward_model.centering"),
    ),
    Objective(
        name="reinforcement-learning",
        title="Reinforcement learning",
        summary="Writes answers, has them judged by a reward, and learns from what earned more.",
        when="A rule or a reward model can tell good answers from bad, and the model already finds good ones at times.",
        when_not="The base model never earns a reward: nothing is learned from that. Take chat first, then this.",
        needs="Prompts, with the right answer where a rule compares; a few hundred. Question and answer rows will do.",
        signal="prompts",
        heads=(("decoder", "causal-lm"),),
        formats=("prompts", "prompt_completion", "messages", "alpaca"),
        metrics=("reward", "solved_rate", "kl", "completion_length", "general_text"),
        settings=(
            "evaluation.generate_rows",
            "evaluation.max_new_tokens",
            "evaluation.sample_prompts",
            *CONVERSATION_SETTINGS,
            *REINFORCEMENT_SETTINGS,
        ),
        unread=("evaluation.max_rows", "training.probe"),
    ),
)

OBJECTIVE_SETTINGS: tuple[str, ...] = tuple(dict.fromkeys(path for entry in OBJECTIVES for path in entry.settings))
"""Recipe paths that at least one objective does not read."""


def find_objective(name: str) -> Objective:
    """Return the objective of this name.

    Raises:
        KeyError: No objective has this name.
    """
    for objective in OBJECTIVES:
        if objective.name == name:
            return objective
    raise KeyError(name)
