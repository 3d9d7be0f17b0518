"""Methods: which weights learn, in plain words and in facts. Each is done by a module of `engine.methods`.

Code that depends on a method asks for one of its facts and never compares names, so that a method is added here, in
`engine.methods`, and in the formulas of `engine.planning` that count what it learns.
"""

from dataclasses import dataclass
from typing import Literal

MethodName = Literal[
    "full",
    "lora",
    "qlora",
    "lora-8bit",
    "ia3",
    "prompt-tuning",
    "prefix-tuning",
    "p-tuning",
    "bottleneck",
    "feature-extraction",
    "gradual-unfreezing",
]
Learns = Literal[
    "whole", "part", "low-rank", "scales", "virtual-tokens", "encoded-tokens", "virtual-keys", "bottleneck"
]
"""What learns: all weights of the base model, some of them, matrices or vectors beside its layers, tokens in front of
the text (as they are, or made by a network), keys and values in front of those of the text, layers after its blocks."""
Rates = Literal["full", "part", "adapter", "scales", "prompt", "prefix", "encoder"]
Bits = Literal[4, 8]

LORA_SETTINGS: tuple[str, ...] = (
    "method.rank",
    "method.alpha",
    "method.dropout",
    "method.targets",
    "method.variant",
    "method.rank_pattern",
    "method.lora_plus_ratio",
)


@dataclass(frozen=True, slots=True)
class Method:
    """One way of choosing the weights that learn.

    Attributes:
        name: What a recipe says; the module of `engine.methods` has the same name, with underscores.
        title: Two or three words for lists.
        short: The same for a narrow column.
        words: The same in running text.
        summary: What it does, one sentence.
        when: When to take it.
        when_not: When another choice is better.
        needs: What it costs, in rough memory per weight of the base model.
        settings: Recipe paths that only some methods read and that this one does.
        learns: What learns; the formulas of the plan count by it.
        rates: Which of the plan's tables of learning rates is usual.
        automatic: The plan may take it without being asked, and shows it first.
        bits: Bits in which the base model is held while training; None when it is not quantised.
        mergeable: Its result can be added into the weights of the base model.
        recomputes: Activations can be recomputed in the backward pass.
        staged: What learns begins to learn in stages, from the top of the model down.
        trains_tokens: Embeddings of new tokens learn with it.
    """

    name: MethodName
    title: str
    short: str
    words: str
    summary: str
    when: str
    when_not: str
    needs: str
    settings: tuple[str, ...]
    learns: Learns
    rates: Rates
    automatic: bool = False
    bits: Bits | None = None
    mergeable: bool = False
    recomputes: bool = True
    staged: bool = False
    trains_tokens: bool = False

    @property
    def makes_adapter(self) -> bool:
        """Whether the result is a small adapter beside an unchanged base model."""
        return not self.trains_base

    @property
    def trains_base(self) -> bool:
        """Whether weights of the base model learn; those are held in float32, and the result is a whole model."""
        return self.learns in ("whole", "part")

    @property
    def trains_whole(self) -> bool:
        """Whether every weight of the base model learns."""
        return self.learns == "whole"

    @property
    def brief(self) -> str:
        """The short name without the number format."""
        return self.short.partition(",")[0]

    @property
    def memorizes(self) -> bool:
        """Whether enough weights learn to know a batch by heart."""
        return self.learns not in ("scales", "part") and not self.adds_tokens

    @property
    def adds_tokens(self) -> bool:
        """Whether learned virtual tokens stand in front of the text and take room of the context."""
        return self.learns in ("virtual-tokens", "encoded-tokens", "virtual-keys")


METHODS: tuple[Method, ...] = (
    Method(
        name="lora",
        title="LoRA",
        short="LoRA",
        words="LoRA",
        summary="Trains small matrices added to the linear layers; the base model stays as it is.",
        when="Nearly always: it learns most of what full fine-tuning does, in a fraction of the memory.",
        when_not="The base model does not fit in 16 bits (take QLoRA), or it must learn a lot of new knowledge (full).",
        needs="About 2 bytes per weight of the base model, and a little for the adapter and the activations.",
        settings=(*LORA_SETTINGS, "delivery.merge"),
        learns="low-rank",
        rates="adapter",
        automatic=True,
        mergeable=True,
        trains_tokens=True,
    ),
    Method(
        name="qlora",
        title="QLoRA",
        short="QLoRA, 4-bit",
        words="QLoRA",
        summary="LoRA on a base model held in 4 bits.",
        when="The base model is too large for LoRA: 7 to 8 billion weights train on one 24 GB card.",
        when_not="LoRA fits: it is faster, and nothing is lost by rounding.",
        needs="About 0.6 bytes per weight of the base model, and a little for the adapter and the activations.",
        settings=(*LORA_SETTINGS, "delivery.merge"),
        learns="low-rank",
        rates="adapter",
        automatic=True,
        bits=4,
        mergeable=True,
        trains_tokens=True,
    ),
    Method(
        name="lora-8bit",
        title="8-bit LoRA",
        short="LoRA on 8 bits",
        words="8-bit LoRA",
        summary="LoRA on a base model held in 8 bits.",
        when="LoRA does not fit and rounding to 4 bits costs too much quality.",
        when_not="LoRA fits (it is faster), or memory is so short that only 4 bits fit (QLoRA).",
        needs="About 1.1 bytes per weight of the base model, and a little for the adapter and the activations.",
        settings=(*LORA_SETTINGS, "delivery.merge"),
        learns="low-rank",
        rates="adapter",
        bits=8,
        mergeable=True,
        trains_tokens=True,
    ),
    Method(
        name="full",
        title="Full fine-tuning",
        short="Full",
        words="full fine-tuning",
        summary="Trains every weight of the model.",
        when="Small models, much data, or a change so deep that an adapter is not enough.",
        when_not="A few hundred rows, or little memory; it forgets more and each result is a whole model.",
        needs="About 16 bytes per weight: weights, gradients and two optimizer states in 32 bits.",
        settings=(),
        learns="whole",
        rates="full",
        automatic=True,
        trains_tokens=True,
    ),
    Method(
        name="ia3",
        title="(IA)3",
        short="(IA)3",
        words="(IA)3",
        summary="Learns one scale for each key, value and inner feature; the smallest adapter that can be merged.",
        when="Few rows, many tasks on one base model: a result has some hundred kilobytes.",
        when_not="The task is far from what the model does already; LoRA changes more at the same memory.",
        needs="About 2 bytes per weight of the base model, next to nothing for what learns.",
        settings=("delivery.merge",),
        learns="scales",
        rates="scales",
        mergeable=True,
    ),
    Method(
        name="prompt-tuning",
        title="Prompt tuning",
        short="Prompt tuning",
        words="prompt tuning",
        summary="Learns some virtual tokens in front of the text; no weight of the model changes.",
        when="A large model that nearly does the task when asked well, and a result of a few kilobytes.",
        when_not="Models below some billion weights, or answers of a new form; LoRA is far better there.",
        needs="About 2 bytes per weight of the base model; the context is shorter by the virtual tokens.",
        settings=("method.virtual_tokens", "method.initial_text"),
        learns="virtual-tokens",
        rates="prompt",
    ),
    Method(
        name="prefix-tuning",
        title="Prefix tuning",
        short="Prefix tuning",
        words="prefix tuning",
        summary="Learns keys and values in front of the text in every layer; no weight of the model changes.",
        when="As prompt tuning, with more to learn: text in a form or style, on models of any size.",
        when_not="Memory is short (activations cannot be recomputed), or the result should be merged; take LoRA.",
        needs="About 2 bytes per weight of the base model; the context is shorter by the virtual tokens.",
        settings=("method.virtual_tokens",),
        learns="virtual-keys",
        rates="prefix",
        recomputes=False,
    ),
    Method(
        name="p-tuning",
        title="P-tuning",
        short="P-tuning",
        words="p-tuning",
        summary="Learns virtual tokens through a small network, which makes them easier to train.",
        when="Prompt tuning learns too slowly, and the result should stay as small.",
        when_not="The result should be merged or the context is short; take LoRA.",
        needs="About 2 bytes per weight of the base model; the context is shorter by the virtual tokens.",
        settings=("method.virtual_tokens", "method.encoder_width"),
        learns="encoded-tokens",
        rates="encoder",
    ),
    Method(
        name="bottleneck",
        title="Bottleneck adapters",
        short="Bottleneck",
        words="bottleneck adapters",
        summary="Trains small layers behind attention and feed-forward network; the base model stays as it is.",
        when="Many tasks on one base model, each a small file that a program of your own loads beside it.",
        when_not="The result should be merged or run in other programs: it can not be; take LoRA.",
        needs="About 2 bytes per weight of the base model, and a little for the adapters and the activations.",
        settings=("method.width", "method.placement", "method.activation"),
        learns="bottleneck",
        rates="adapter",
    ),
    Method(
        name="feature-extraction",
        title="Feature extraction",
        short="Last layers",
        words="feature extraction",
        summary="Trains the output layer and, if wanted, the last blocks; everything below stays as it is.",
        when="Little time or memory, and a task near to what the model knows: its features are used as they are.",
        when_not="New words, another language or a new manner: what lies below must change too; take LoRA or full.",
        needs="About 2 bytes per weight that stays and 16 per weight that learns; activations of the last blocks only.",
        settings=("method.layers",),
        learns="part",
        rates="part",
    ),
    Method(
        name="gradual-unfreezing",
        title="Gradual unfreezing",
        short="Gradual",
        words="gradual unfreezing",
        summary="Trains the top of the model first and opens what lies below stage by stage, until all learns.",
        when="Few rows and a small model that full fine-tuning would make forget what it knew.",
        when_not="Large models (it ends as full fine-tuning, with its memory), or very short runs; take LoRA.",
        needs="About 16 bytes per weight, as full fine-tuning, once the last stage is open.",
        settings=("method.unfreeze_every", "method.layers_per_stage", "method.rate_decay"),
        learns="whole",
        rates="full",
        staged=True,
        trains_tokens=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of starting and scaling the matrices of LoRA.

    Attributes:
        name: What `method.variant` says.
        title: Two or three words.
        summary: What is different, one sentence.
        when: When to take it, and what it costs.
    """

    name: str
    title: str
    summary: str
    when: str


VARIANTS: tuple[Variant, ...] = (
    Variant("plain", "LoRA", "The output of an adapter is scaled by alpha / rank.", "Nearly always."),
    Variant(
        "rslora",
        "rsLoRA",
        "The output is scaled by alpha / sqrt(rank), so that high ranks keep learning.",
        "Ranks of 64 and more; it costs nothing.",
    ),
    Variant(
        "dora",
        "DoRA",
        "The length of each output learns apart from its direction.",
        "Low ranks that should come closer to full fine-tuning; steps take longer and keep more activations.",
    ),
    Variant(
        "pissa",
        "PiSSA",
        "The matrices start as the largest singular values of each weight, which are taken out of it.",
        "It often learns faster; the result is written as plain LoRA of twice the rank. Not on quantised models.",
    ),
)

METHOD_SETTINGS: tuple[str, ...] = tuple(dict.fromkeys(path for method in METHODS for path in method.settings))
"""Recipe paths that at least one method does not read."""
AUTOMATIC: tuple[MethodName, ...] = ("full", "lora", "qlora")
"""Methods among which a plan chooses by itself, the one that trains most first."""
METHOD_NAMES: tuple[str, ...] = tuple(method.name for method in METHODS)
_BY_NAME: dict[str, Method] = {method.name: method for method in METHODS}


def find_method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        KeyError: No method has this name.
    """
    return _BY_NAME[name]


def readers_of(path: str) -> tuple[str, ...]:
    """Return the names of the methods that read a recipe path, in the order of the catalogue."""
    return tuple(method.name for method in METHODS if path in method.settings)
