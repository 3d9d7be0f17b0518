"""Heads that the files of a base model bring: kept for the same names, started anew for others."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    GPT2Config,
    RobertaConfig,
)

from engine.catalog.tasks import Task
from engine.models.loading import load_model
from engine.recipe.schema import Recipe

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS = {
    "bert": BertConfig(vocab_size=64, **SIZES),
    "roberta": RobertaConfig(vocab_size=64, **SIZES),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, pad_token_id=0),
}
AUTO = {
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}
BROUGHT = ("bad", "good", "so so")
NUMBER = 7.5


def base(folder: Path, family: str, head: str, names: tuple[str, ...] = BROUGHT) -> Path:
    """Write a model whose head and pooler hold nothing but `NUMBER`."""
    config = type(CONFIGS[family]).from_dict({**CONFIGS[family].to_dict(), "id2label": dict(enumerate(names))})
    model = AUTO[head].from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.startswith(f"{model.base_model_prefix}.") or "pooler" in name:
                weight.fill_(NUMBER)
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path, head: str, labels: tuple[str, ...], bits: int | None = None) -> torch.nn.Module:
    signal = "tags" if head == "token-classification" else "classes"
    return load_model(recipe(folder), "cpu", bits=bits, task=Task(signal, head, labels))


def recipe(folder: Path) -> Recipe:
    tree = {"objective": "classification", "data": {"source": "rows.jsonl"}, "method": {"name": "full"}}
    return Recipe.model_validate({**tree, "model": {"base": str(folder)}})


def head_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    prefix = f"{model.base_model_prefix}."
    return {name: weight for name, weight in model.named_parameters() if not name.startswith(prefix)}


@pytest.mark.parametrize("head", sorted(AUTO))
@pytest.mark.parametrize("family", sorted(CONFIGS))
class TestAsManyClasses:
    def test_the_same_names_keep_what_the_head_knows(self, family: str, head: str, tmp_path: Path):
        model = loaded(base(tmp_path, family, head), head, ("Bad", "good", "so so"))
        assert all((weight == NUMBER).all() for weight in head_weights(model).values())

    @pytest.mark.parametrize("labels", [("good", "bad", "so so"), ("cats", "dogs", "fish")])
    def test_other_names_start_anew(self, family: str, head: str, labels: tuple[str, ...], tmp_path: Path):
        model = loaded(base(tmp_path, family, head), head, labels)
        weights = head_weights(model)
        assert weights
        assert not any((weight == NUMBER).any() for weight in weights.values())
        # Small random numbers, as a head that was never there: no logit is sure of anything.
        assert all(weight.abs().max() < 1 for weight in weights.values())
        assert any(weight.std() > 0.001 for weight in weights.values() if weight.ndim == 2)
        assert model.config.id2label == dict(enumerate(labels))


def test_the_body_and_its_pooler_stay(tmp_path: Path):
    folder = base(tmp_path, "bert", "sequence-classification")
    kept = loaded(folder, "sequence-classification", BROUGHT).bert.state_dict()
    anew = loaded(folder, "sequence-classification", ("a", "b", "c")).bert.state_dict()
    assert all(torch.equal(kept[name], anew[name]) for name in kept)
    assert (anew["pooler.dense.weight"] == NUMBER).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_body_takes_a_new_head_too(bits: int, tmp_path: Path):
    model = loaded(base(tmp_path, "bert", "sequence-classification"), "sequence-classification", ("a", "b", "c"), bits)
    assert not any((weight == NUMBER).any() for weight in head_weights(model).values())


def test_the_seed_decides_on_the_new_head(tmp_path: Path):
    folder = base(tmp_path, "gpt2", "sequence-classification")

    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return loaded(folder, "sequence-classification", ("a", "b", "c")).score.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_a_head_for_another_number_of_classes_starts_anew(tmp_path: Path):
    model = loaded(base(tmp_path, "bert", "sequence-classification"), "sequence-classification", ("bad", "good"))
    assert model.classifier.weight.shape == (2, 32)
    assert not (model.classifier.weight == NUMBER).any()


def test_a_reward_model_goes_on_with_its_score(tmp_path: Path):
    folder = base(tmp_path, "gpt2", "sequence-classification", ("LABEL_0",))
    model = load_model(recipe(folder), "cpu", bits=None, task=Task("rewards", "sequence-classification"))
    assert (model.score.weight == NUMBER).all()
