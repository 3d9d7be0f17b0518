"""Base models that the wizard offers: real models of the hub first, then the one that works everywhere.

Numbers are those of each model's published `config.json`; a test holds the counted weights against the published
counts. Models whose repository holds no safetensors are left out. Any other hub id or folder can be typed in: this
list is advice, not a limit.
"""

from engine.catalog.base_model_card import FOLLOWING, BaseModelCard, SpecialTokens
from engine.catalog.base_models_encoders import ENCODERS
from engine.catalog.base_models_large import LARGE_DECODERS, MIDDLE_DECODERS
from engine.catalog.base_models_seq2seq import ENCODER_DECODERS
from engine.catalog.base_models_small import SMALL_DECODERS
from engine.catalog.builtin import BUILTIN_MODEL
from engine.catalog.objectives import OBJECTIVES

__all__ = ["BASE_MODELS", "BaseModelCard", "SpecialTokens", "find_base_model", "models_for"]

_STARTER = BaseModelCard(
    name=BUILTIN_MODEL,
    title="Starter model",
    summary="Tiny model shipped with ftwizard; trains in minutes on two CPU cores, without any download.",
    when="To see the whole way once, or to try a recipe before it costs anything.",
    when_not="Real work: it knows next to nothing of the world.",
    license="apache-2.0",
    objectives=(*FOLLOWING, "domain-adaptation"),
    weights_dtype="float32",
)

BASE_MODELS: tuple[BaseModelCard, ...] = (
    *SMALL_DECODERS,
    *MIDDLE_DECODERS,
    *LARGE_DECODERS,
    *ENCODERS,
    *ENCODER_DECODERS,
    _STARTER,
)


def find_base_model(name: str) -> BaseModelCard | None:
    """Return the card of a base model, or None when the catalogue does not know it."""
    return next((card for card in BASE_MODELS if card.name == name), None)


def models_for(objective: str) -> list[BaseModelCard]:
    """Return the models that are offered for an objective and of a kind that it trains, in the catalogue's order."""
    trained = next((entry.kinds for entry in OBJECTIVES if entry.name == objective), None)
    return [card for card in BASE_MODELS if objective in card.objectives and (trained is None or card.kind in trained)]
