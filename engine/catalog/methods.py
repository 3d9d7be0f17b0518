"""Methods: which weights learn, in plain words. Each is done by a module of `engine.methods`."""

from dataclasses import dataclass

ADAPTER_SETTINGS: tuple[str, ...] = ("method.rank", "method.alpha", "method.dropout", "method.targets")


@dataclass(frozen=True, slots=True)
class Method:
    """One way of choosing the weights that learn.

    Attributes:
        name: What a recipe says; the module of `engine.methods` has the same name.
        title: Two or three words for lists.
        summary: What it does, one sentence.
        when: When to take it.
        when_not: When another choice is better.
        needs: What it costs, in rough memory per weight of the base model.
        settings: Recipe paths that only some methods read and that this one does.
        makes_adapter: The result is a small adapter beside an unchanged base model.
        quantizes: The base model is held in 4 bits while training.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    needs: str
    settings: tuple[str, ...]
    makes_adapter: bool
    quantizes: bool


METHODS: tuple[Method, ...] = (
    Method(
        name="lora",
        title="LoRA",
        summary="Trains small matrices added to the linear layers; the base model stays as it is.",
        when="Nearly always: it learns most of what full fine-tuning does, in a fraction of the memory.",
        when_not="The base model does not fit in 16 bits (take QLoRA), or it must learn a lot of new knowledge (full).",
        needs="About 2 bytes per weight of the base model, and a little for the adapter and the activations.",
        settings=(*ADAPTER_SETTINGS, "delivery.merge"),
        makes_adapter=True,
        quantizes=False,
    ),
    Method(
        name="qlora",
        title="QLoRA",
        summary="LoRA on a base model held in 4 bits.",
        when="The base model is too large for LoRA: 7 to 8 billion weights train on one 24 GB card.",
        when_not="LoRA fits: it is faster, and nothing is lost by rounding.",
        needs="About 0.6 bytes per weight of the base model, and a little for the adapter and the activations.",
        settings=(*ADAPTER_SETTINGS, "delivery.merge"),
        makes_adapter=True,
        quantizes=True,
    ),
    Method(
        name="full",
        title="Full fine-tuning",
        summary="Trains every weight of the model.",
        when="Small models, much data, or a change so deep that an adapter is not enough.",
        when_not="A few hundred rows, or little memory; it forgets more and each result is a whole model.",
        needs="About 16 bytes per weight: weights, gradients and two optimizer states in 32 bits.",
        settings=(),
        makes_adapter=False,
        quantizes=False,
    ),
)

METHOD_SETTINGS: tuple[str, ...] = tuple(dict.fromkeys(path for method in METHODS for path in method.settings))
"""Recipe paths that at least one method does not read."""


def find_method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        KeyError: No method has this name.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise KeyError(name)
