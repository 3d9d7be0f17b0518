"""Models are loaded whole or not at all: no pickle, no random layers, no NaN, no code without consent."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from engine.models.hub import offline, resolve_model
from engine.models.loading import check_vocabulary, load_model, weights_dtype
from engine.models.tokenizers import load_tokenizer
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine.tiny_models import save_tiny_model, tiny_llama, tiny_tokenizer


def recipe(folder: Path | str, method: str = "lora", precision: str = "float32", **model) -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder), **model},
            "method": {"name": method},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": precision},
        }
    )


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def refused(folder: Path, pattern: str, *, code: str | None = None, **model) -> None:
    with pytest.raises(ProblemError, match=pattern) as caught:
        load_model(recipe(folder, **model), "cpu", bits=None)
    assert all(problem.fix for problem in caught.value.problems)
    assert code in (None, caught.value.problems[0].code)


@pytest.mark.parametrize(
    ("method", "precision", "dtype"),
    [
        ("full", "float32", torch.float32),
        ("full", "bfloat16", torch.float32),
        ("lora", "float32", torch.float32),
        ("lora", "bfloat16", torch.bfloat16),
        ("qlora", "float16", torch.float16),
    ],
)
def test_number_format(folder, method, precision, dtype):
    assert weights_dtype(recipe(folder, method, precision)) == dtype
    model = load_model(recipe(folder, method, precision), "cpu", bits=None)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not model.config.use_cache


def test_weights_are_those_of_the_file(folder):
    model = load_model(recipe(folder), "cpu", bits=None)
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_quantized_layers_are_close_to_the_file(folder):
    model = load_model(recipe(folder, "qlora"), "cpu", bits=4)
    layer = model.model.layers[0].mlp.up_proj
    assert type(layer.weight).__name__ == "Params4bit"
    assert layer.weight.quant_state.nested
    assert layer.weight.quant_state.quant_type == "nf4"
    assert model.get_input_embeddings().weight.dtype == torch.float32
    ids = torch.arange(12)[None]
    whole = load_model(recipe(folder), "cpu", bits=None)
    left, right = model.train()(ids).logits.flatten(), whole.train()(ids).logits.flatten()
    assert torch.nn.functional.cosine_similarity(left, right, dim=0) > 0.9


def test_measuring_leaves_4bit_weights_as_they_were_loaded(tmp_path):
    model = load_model(recipe(save_tiny_model(tmp_path / "wide", hidden_size=64), "qlora"), "cpu", bits=4)
    ids = torch.arange(12)[None]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = model.train()(ids).logits
    with torch.no_grad():
        measured = model.eval()(ids).logits
    assert torch.equal(measured, trained)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class TestDamage:
    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        refused(folder, "no .*weights|weights")

    def test_pickle_alone_is_not_opened(self, folder):
        canary = folder / "canary"
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()

        class Canary:
            def __reduce__(self):
                return (open, (str(canary), "w"))

        torch.save({**tensors, "x": Canary()}, folder / "pytorch_model.bin")
        refused(folder, r"pytorch_model\.bin, a format that can run code")
        assert not canary.exists()

    def test_cut_file(self, folder):
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        refused(folder, r"model\.safetensors")

    def test_random_layers(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        refused(folder, "no weights for .*layers.2|layers")

    def test_unused_layers(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
        refused(folder, "layer")

    def test_missing_tensor(self, folder):
        tensors = load_file(folder / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        refused(folder, r"model\.layers\.1\.mlp\.up_proj\.weight", code="model.tensor_missing")

    def test_wrong_shapes(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
        refused(folder, "shape", code="model.shape_mismatch")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_numbers_that_are_none(self, folder, value):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        refused(folder, r"model\.safetensors .*NaN or infinity in model\.layers\.0\.mlp\.up_proj\.weight")

    def test_unknown_architecture(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
        refused(folder, "architecture|unheard_of", code="model.architecture_unknown")

    def test_broken_configuration(self, folder):
        (folder / "config.json").write_text("{")
        refused(folder, "cannot be loaded")

    def test_code_without_consent(self, folder):
        config = json.loads((folder / "config.json").read_text())
        canary = folder / "canary"
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "own.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
        refused(folder, "Python code of its own")
        assert not canary.exists()


class TestVocabulary:
    def test_tokenizer_of_another_model(self, tmp_path):
        save_tiny_model(tmp_path)
        tokenizer = tiny_tokenizer()
        model = tiny_llama(len(tokenizer) - 2)
        with pytest.raises(ProblemError, match="2 tokens beyond the model's"):
            check_vocabulary(tokenizer, model)

    def test_fitting_one(self, folder):
        loaded = load_tokenizer(folder, recipe(folder))
        check_vocabulary(loaded.tokenizer, load_model(recipe(folder), "cpu", bits=None))


def test_other_families_load(tmp_path):
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    model = load_model(recipe(tmp_path), "cpu", bits=None)
    assert model.num_parameters() > 0


class TestReferences:
    def test_folder(self, folder):
        assert resolve_model(str(folder)).folder == folder
        assert resolve_model(str(folder)).revision is None

    def test_file(self, folder):
        with pytest.raises(ProblemError, match="is a file"):
            resolve_model(str(folder / "config.json"))

    @pytest.mark.parametrize("base", ["/no/such/folder", "./none", "~/none", "a/b/c", "../up"])
    def test_missing_folder(self, base):
        with pytest.raises(ProblemError, match="does not exist"):
            resolve_model(base)

    def test_hub_model_offline_names_the_ways_out(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        assert offline()
        with pytest.raises(ProblemError, match="switched off") as caught:
            resolve_model("somebody/some-model-that-is-nowhere")
        assert "builtin:starter" in caught.value.problems[0].fix
