"""Every base model of the catalogue, built from its numbers on the meta device, has the weights that are published."""

import importlib
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from engine.catalog import (
    base_model_card,
    base_models_encoders,
    base_models_large,
    base_models_seq2seq,
    base_models_small,
)
from engine.planning.architecture import Architecture

MODULES = (base_models_small, base_models_large, base_models_encoders, base_models_seq2seq)


def configurations() -> dict[str, tuple[dict[str, Any], int]]:
    """Return the entries of `config.json` that each card was made from, and its published number of weights."""
    read = base_model_card.read_architecture
    made: list[tuple[Architecture, dict[str, Any]]] = []

    def spied(config: dict[str, Any]) -> Architecture:
        made.append((read(config), config))
        return made[-1][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_model_card, "read_architecture", spied)
        fresh = [importlib.reload(module) for module in MODULES]
    cards = [card for module in fresh for name in dir(module) if name.isupper() for card in cards_in(module, name)]
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for card in cards:
        config = next(config for architecture, config in made if architecture == card.architecture)
        # A chat model and the one that it was made from are one check.
        found.setdefault(repr(config), (config, card.num_params or 0))
    return {f"{config['model_type']}-{params}": (config, params) for config, params in found.values()}


def cards_in(module: Any, name: str) -> list[base_model_card.BaseModelCard]:
    value = getattr(module, name)
    listed = value if isinstance(value, tuple) else ()
    return [card for card in listed if isinstance(card, base_model_card.BaseModelCard)]


CONFIGURATIONS = configurations()


def test_the_catalogue_is_looked_at_whole() -> None:
    assert len(CONFIGURATIONS) > 40


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_of_the_catalogue_has_its_published_weights(name: str) -> None:
    config, published = CONFIGURATIONS[name]
    sizes = {
        key: value for key, value in config.items() if key not in ("architectures", "model_type") and value is not None
    }
    built = AutoConfig.for_model(config["model_type"], **sizes)
    untied = config["model_type"] == "t5" and not sizes["tie_word_embeddings"]
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(built)
    model.tie_weights()
    weights = sum({id(weight): weight.numel() for weight in model.parameters()}.values())
    # T5 1.1 is always built tied; its files bring an output layer of their own, which loading then keeps apart.
    assert weights + (built.vocab_size * built.d_model if untied else 0) == published
