"""Heads of several layers that learnt as a whole are in the merged model, whichever adapter stood beside them."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, RobertaConfig

from engine.deployment.adapter import merge
from engine.methods import ia3, lora
from engine.recipe.schema import Recipe

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
CONFIGS = {"bert": BertConfig(vocab_size=64, **SIZES), "roberta": RobertaConfig(vocab_size=64, **SIZES)}
METHODS = {"lora": lora, "ia3": ia3}
SECTIONS = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"}, "ia3": {}}


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_the_merged_model_says_what_the_trained_one_says(family: str, method: str) -> None:
    torch.manual_seed(3)
    tree = {"objective": "classification", "model": {"base": "x"}, "data": {"source": "rows.jsonl"}}
    recipe = Recipe.model_validate({**tree, "method": {"name": method, **SECTIONS[method]}})
    base = AutoModelForSequenceClassification.from_config(CONFIGS[family]).eval()
    model = METHODS[method].apply(base, recipe).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    ids = torch.randint(5, 60, (4, 9))
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        merged = merge(model, torch.float32)
        assert torch.allclose(merged(input_ids=ids).logits, trained, atol=1e-4)
    assert not [name for name, _ in merged.named_parameters() if "modules_to_save" in name or "original" in name]
