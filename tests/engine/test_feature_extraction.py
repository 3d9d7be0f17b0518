"""Feature extraction: the top learns in float32, what lies below stays bit for bit and keeps no activations."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.evaluation.scoring import TokenRow, TokenScorer
from engine.methods.apply import apply_method
from engine.methods.blocks import block_modules
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine.made_export import Case, moved
from tests.engine.test_bottleneck import IDS, narrowed, train
from tests.engine.tiny_families import tiny
from tests.engine.tiny_models import save_tiny_model


def recipe(layers=None, *, precision="float32", folder="m") -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder)},
            "method": {"name": "feature-extraction", "layers": layers},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": precision},
        }
    )


CASES = [
    ("llama", "CausalLM", 1, {}, 1),
    ("llama", "CausalLM", 0, {}, 0),
    ("gpt2", "CausalLM", 2, {}, 2),
    ("bert", "SequenceClassification", None, {"labels": torch.tensor([0, 1])}, 0),
    ("distilbert", "SequenceClassification", 1, {"labels": torch.tensor([0, 1])}, 1),
    ("t5", "ConditionalGeneration", 3, {}, 3),
]


@pytest.mark.parametrize(("family", "head", "layers", "labels", "num_learning"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_top_moves_and_the_rest_stays(family, head, layers, labels, num_learning, dtype):
    model = apply_method(narrowed(tiny(family, head), dtype), recipe(layers))
    blocks = list(block_modules(model).values())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    losses = train(model, 6, autocast=dtype != torch.float32, **({"input_ids": IDS, "labels": IDS} | labels))
    assert losses[-1] < losses[0]
    for name, weight in model.named_parameters():
        assert torch.equal(before[name], weight) is not weight.requires_grad, name
        assert weight.dtype == (torch.float32 if weight.requires_grad else dtype), name
    learning = [all(weight.requires_grad for weight in block.parameters()) for block in blocks]
    assert learning == [False] * (len(blocks) - num_learning) + [True] * num_learning
    assert sum(any(weight.requires_grad for weight in block.parameters()) for block in blocks) == num_learning
    assert not model.get_input_embeddings().weight.requires_grad


def test_nothing_below_the_first_block_that_learns_is_kept_for_the_backward_pass():
    model = apply_method(tiny("llama"), recipe(1)).train()
    kept = []
    for block in block_modules(model).values():
        block.register_forward_hook(lambda _, __, output: kept.append(output.requires_grad))
    model(IDS)
    assert kept == [False, False, True]


def test_a_quarter_of_the_blocks_learns_where_the_head_is_not_new():
    model = apply_method(tiny("llama", num_hidden_layers=8), recipe())
    learning = [next(block.parameters()).requires_grad for block in block_modules(model).values()]
    assert learning == [False] * 6 + [True] * 2


def test_a_head_that_is_tied_cannot_learn_alone():
    with pytest.raises(ProblemError, match="only a norm would learn") as caught:
        apply_method(tiny("gpt2"), recipe(0))
    assert caught.value.problems[0].path == "method.layers"
    assert "at least 1" in caught.value.problems[0].fix


def test_more_blocks_than_there_are_cannot_learn():
    with pytest.raises(ProblemError, match="method.layers is 4, and the model has 3 blocks"):
        apply_method(tiny("llama"), recipe(4))


def test_narrow_and_wide_weights_are_measured_together_as_they_are_trained():
    model = apply_method(tiny("llama").to(torch.bfloat16), recipe(1)).eval()
    row = TokenRow(IDS[0].tolist(), [1] * 12)
    with torch.no_grad():
        (score,) = TokenScorer(model, precision=torch.bfloat16).score([row])
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=IDS[:1], labels=IDS[:1]).loss
    assert score.loss / score.tokens == pytest.approx(float(loss), rel=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_result_is_a_whole_model_that_says_what_the_trained_one_says(tmp_path, dtype):
    base_folder = save_tiny_model(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=dtype)
    base.config.use_cache = False
    model = moved(apply_method(base, recipe(1, precision=dtype)), std=0.02)
    case = Case(tmp_path, base_folder, method="feature-extraction", model=model)
    case.export()
    assert {path.name for path in case.run.model_folder.iterdir()} == {"merged", "export.json"}
    record = json.loads((case.run.model_folder / "export.json").read_text())
    assert record["dtype"] == dtype
    assert record["parity"]["within_tolerance"]
    assert [kind for kind, _ in case.events] == ["export.completed"]
    reloaded = AutoModelForCausalLM.from_pretrained(case.run.merged_folder)
    stored, untouched = dict(reloaded.named_parameters()), AutoModelForCausalLM.from_pretrained(base_folder)
    for name, weight in untouched.named_parameters():
        same = torch.equal(stored[name].float(), weight.to(getattr(torch, dtype)).float())
        assert same is not (name == "model.norm.weight" or ".layers.1." in name), name
