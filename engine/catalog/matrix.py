"""The matrix: which objective can be learnt with which method, by which kind of model. One table of rules.

The plan, the wizard, the docs page and the tests ask here. A cell that is allowed is a whole run, with its export, in
`tests/engine/test_every_cell.py`.
"""

from engine.catalog.methods import METHODS, Method, find_method
from engine.catalog.objectives import OBJECTIVES, ModelKind, Objective, find_objective

KIND_WORDS: dict[ModelKind, str] = {
    "decoder": "a decoder, which goes on with a text",
    "encoder": "an encoder, which reads and cannot write",
    "encoder-decoder": "an encoder with a decoder, which turns a text into another",
    "vision": "a model of images",
    "audio": "a model of sound",
}
KINDS_WORDS: dict[ModelKind, str] = {
    "decoder": "decoders",
    "encoder": "encoders",
    "encoder-decoder": "encoders with a decoder",
    "vision": "models of images",
    "audio": "models of sound",
}


def reason_against(objective: str, method: str, kind: ModelKind) -> str:
    """Return why a cell of the matrix cannot be taken, as a clause without full stop; empty when it can.

    Args:
        objective: A name of the catalogue.
        method: A name of the catalogue.
        kind: Kind of the base model.
    """
    return reason_against_kind(objective, kind) or _reason_against_method(
        find_objective(objective), find_method(method), kind
    )


def reason_against_kind(objective: str, kind: ModelKind) -> str:
    """Return why an objective does not train a kind of model, as a clause; empty when it does.

    Args:
        objective: A name of the catalogue.
        kind: Kind of the base model.
    """
    entry = find_objective(objective)
    if kind in entry.kinds:
        return ""
    trained = " and ".join(KINDS_WORDS[one] for one in entry.kinds)
    return f"{entry.title} trains {trained}; this is {KIND_WORDS[kind]}"


def models_of(objective: Objective) -> str:
    """Return the kinds of models that an objective trains, in words; the usual one first."""
    examples = {"decoder": "Qwen3 or Llama", "encoder": "BERT or ModernBERT", "encoder-decoder": "T5 or BART"}
    kinds = [f"{KINDS_WORDS[kind]} such as {examples[kind]}" for kind in objective.kinds]
    words = "; or ".join(kinds)
    return words[0].upper() + words[1:] + "."


def cells() -> list[tuple[str, ModelKind, str, str]]:
    """Return every cell: objective, kind of model, method, and why it cannot be taken (empty when it can)."""
    return [
        (objective.name, kind, method.name, reason_against(objective.name, method.name, kind))
        for objective in OBJECTIVES
        for kind in objective.kinds
        for method in METHODS
    ]


def _reason_against_method(objective: Objective, method: Method, kind: ModelKind) -> str:
    if method.adds_tokens and objective.head_of(kind) != "causal-lm":
        return "virtual tokens stand in front of a text that a model goes on with, and here nothing goes on"
    if method.adds_tokens and objective.signal == "prompts":
        return "answers are drawn from the model while it learns, and there no virtual tokens stand in front"
    return ""
