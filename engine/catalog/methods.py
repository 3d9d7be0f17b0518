"""Methods: which weights learn, in plain words and in facts. Each is done by a module of `engine.methods`.

Code that depends on a method asks for one of its facts and never compares names, so that a method is added here, in
`engine.methods`, and in the formulas of `engine.planning` that count what it learns.
"""

from dataclasses import dataclass
from typing import Literal

MethodName = Literal["full", "lora", "qlora", "bottleneck", "feature-extraction", "gradual-unfreezing"]
Learns = Literal["whole", "part", "low-rank", "scales", "virtual-tokens", "bottleneck"]
"""What learns: all weights of the base model, some of them, matrices or vectors beside its layers, tokens in front of
the text, layers after its blocks."""
Rates = Literal["full", "part", "adapter", "scales", "prompt"]
Bits = Literal[4, 8]

ADAPTER_SETTINGS: tuple[str, ...] = ("method.rank", "method.alpha", "method.dropout", "method.targets")


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
    def adds_tokens(self) -> bool:
        """Whether learned virtual tokens stand in front of the text and take room of the context."""
        return self.learns == "virtual-tokens"


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
        settings=(*ADAPTER_SETTINGS, "delivery.merge"),
        learns="low-rank",
        rates="adapter",
        automatic=True,
        mergeable=True,
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
        settings=(*ADAPTER_SETTINGS, "delivery.merge"),
        learns="low-rank",
        rates="adapter",
        automatic=True,
        bits=4,
        mergeable=True,
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
