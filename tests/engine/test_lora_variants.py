"""Variants of LoRA, ranks of single layers, LoRA+, and new tokens whose rows learn."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.deployment.adapter import merge, save_adapter, with_adapter
from engine.deployment.base_reference import BaseReference
from engine.deployment.loading_code import loading_code
from engine.deployment.parity import prompt_logits
from engine.methods.apply import apply_method, rate_factors
from engine.methods.new_tokens import add_token_rows
from engine.methods.targets import find_targets
from engine.models.loading import load_model
from engine.models.tokenizers import load_tokenizer
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.training.trainer import _by_rate
from tests.engine.tiny_models import save_tiny_model
from tests.unit.made_plans import plan, tiny

IDS = [7, 31, 4, 90, 55, 23, 118, 9]
NEW = ["<lamp>", "<door>"]


def recipe(folder: Path | str, *, new_tokens: list[str] | None = None, name: str = "lora", **method: object) -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder), "new_tokens": new_tokens or []},
            "method": {"name": name, **method},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": "float32"},
        }
    )


def learner(chosen: Recipe, *, moved: bool = True):
    """Return tokenizer and model of a recipe, with what learns changed as training would."""
    tokenizer = load_tokenizer(Path(chosen.model.base), chosen).tokenizer
    model = load_model(chosen, "cpu", bits=None)
    add_token_rows(model, chosen, tokenizer)
    torch.manual_seed(5)
    model = apply_method(model, chosen, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and moved:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return tokenizer, model.eval()


def saved(model: PeftModel, tokenizer, folder: Path) -> Path:
    base = BaseReference("folder", "base", None)
    save_adapter(model, tokenizer, folder, base=base, base_vocab_size=model.config.vocab_size)
    return folder


class TestPissa:
    def test_the_written_adapter_fits_the_published_model_with_peft_alone(self, tiny_model_folder, tmp_path):
        tokenizer, model = learner(recipe(tiny_model_folder, rank=4, variant="pissa", rank_pattern={"down_proj": 6}))
        expected = prompt_logits(model, [IDS])[0]
        folder = saved(model, tokenizer, tmp_path / "adapter")
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["rank_pattern"], config["init_lora_weights"]) == (8, {"down_proj": 12}, True)
        again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), str(folder))
        assert torch.allclose(prompt_logits(again, [IDS])[0], expected, atol=1e-5)
        merged = merge(again, torch.float32)
        assert torch.allclose(prompt_logits(merged, [IDS])[0], expected, atol=1e-5)

    def test_at_the_start_it_says_what_the_base_model_says(self, tiny_model_folder):
        _, model = learner(recipe(tiny_model_folder, rank=4, variant="pissa"), moved=False)
        base = load_model(recipe(tiny_model_folder), "cpu", bits=None)
        assert torch.allclose(prompt_logits(model, [IDS])[0], prompt_logits(base, [IDS])[0], atol=1e-5)
        layer = base.model.layers[0].mlp.down_proj.weight
        taken = model.base_model.model.model.layers[0].mlp.down_proj.base_layer.weight
        assert not torch.equal(layer, taken)

    def test_more_singular_values_than_there_are_is_an_error(self, tiny_model_folder):
        with pytest.raises(ProblemError) as caught:
            learner(recipe(tiny_model_folder, rank=64, variant="pissa"))
        assert caught.value.problems[0].code == "method.rank_too_high"


class TestRanks:
    def test_layers_of_another_rank_keep_the_scale(self, tiny_model_folder):
        _, model = learner(recipe(tiny_model_folder, rank=2, rank_pattern={"mlp.down_proj": 6, "q_proj": 1}))
        block = model.base_model.model.model.layers[1]
        ranks = {
            name: layer.r["default"]
            for name, layer in (
                ("down", block.mlp.down_proj),
                ("up", block.mlp.up_proj),
                ("q", block.self_attn.q_proj),
            )
        }
        assert ranks == {"down": 6, "up": 2, "q": 1}
        assert {layer.scaling["default"] for layer in (block.mlp.down_proj, block.mlp.up_proj)} == {2.0}

    def test_a_rank_for_a_layer_without_adapter_is_an_error(self, tiny_model_folder):
        with pytest.raises(ProblemError) as caught:
            learner(recipe(tiny_model_folder, targets="attention", rank_pattern={"down_proj": 6}))
        assert caught.value.problems[0].code == "method.unknown_pattern"

    def test_rslora_divides_by_the_root_of_the_rank(self, tiny_model_folder):
        scales = []
        for rank in (4, 16):
            _, model = learner(recipe(tiny_model_folder, rank=rank, variant="rslora"))
            scales.append(model.base_model.model.model.layers[0].mlp.up_proj.scaling["default"])
        assert scales == [4.0, 2.0]

    def test_the_feed_forward_layers_are_a_group(self, tiny_model_folder):
        base = load_model(recipe(tiny_model_folder), "cpu", bits=None)
        assert find_targets(base, "mlp") == ["gate_proj", "up_proj", "down_proj"]


class TestLoraPlus:
    def test_the_second_matrices_alone_are_faster(self, tiny_model_folder):
        chosen = recipe(tiny_model_folder, rank=2, lora_plus_ratio=8.0)
        _, model = learner(chosen)
        factors = rate_factors(model, chosen)
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert set(factors) == {name for name in learning if ".lora_B." in name}
        assert set(factors.values()) == {8.0}
        assert rate_factors(model, recipe(tiny_model_folder, rank=2)) == {}

    def test_groups_are_cut_by_rate_and_keep_everything_else(self):
        slow, fast, other = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
        groups = [{"params": [slow, fast], "lr": 0.1, "weight_decay": 0.5}, {"params": [other], "lr": 0.1}]
        cut = _by_rate(groups, {id(fast): 4.0})
        assert [(group["params"], group["lr"]) for group in cut] == [([slow], 0.1), ([other], 0.1), ([fast], 0.4)]
        assert cut[2]["weight_decay"] == 0.5


class TestNewTokens:
    @pytest.mark.parametrize("tied", [True, False])
    def test_only_their_rows_learn_and_the_adapter_alone_brings_them(self, tied, tmp_path):
        base = save_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
        tokenizer, model = learner(recipe(base, new_tokens=NEW, rank=2))
        ids = tokenizer.convert_tokens_to_ids(NEW)
        rows = load_model(recipe(base), "cpu", bits=None).get_input_embeddings().weight.shape[0]
        assert ids == [rows, rows + 1]
        expected = prompt_logits(model, [[*IDS, *ids]])[0]
        whole = [name for name, p in model.named_parameters() if p.requires_grad and p.shape[0] >= rows]
        assert whole == [], "a whole table of embeddings learns"
        folder = saved(model, tokenizer, tmp_path / "adapter")
        sizes = {name: tensor.shape[0] for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
        assert max(sizes.values()) < rows, sizes
        assert sum("token" in name for name in sizes) == (1 if tied else 2)
        again = with_adapter(load_model(recipe(base), "cpu", bits=None), tokenizer, folder)
        assert torch.allclose(prompt_logits(again, [[*IDS, *ids]])[0], expected, atol=1e-5)
        merged = merge(again, torch.float32)
        assert torch.allclose(prompt_logits(merged, [[*IDS, *ids]])[0], expected, atol=1e-5)
        if tied:
            assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight

    def test_they_start_as_the_mean_and_old_texts_are_read_as_before(self, tiny_model_folder):
        tokenizer, model = learner(recipe(tiny_model_folder, new_tokens=NEW), moved=False)
        base = load_model(recipe(tiny_model_folder), "cpu", bits=None)
        rows = base.get_input_embeddings().weight
        made = model.get_base_model().get_input_embeddings().weight[len(rows) :]
        assert torch.allclose(made, rows.mean(dim=0).expand_as(made), atol=1e-6)
        known = prompt_logits(model, [IDS])[0][:, : len(rows)]
        assert torch.allclose(known, prompt_logits(base, [IDS])[0], atol=1e-5)
        text = "turn on the <lamp> now"
        assert NEW[0] in tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)

    def test_the_code_on_the_card_makes_room_for_them(self, tmp_path):
        found = plan({"model": {"new_tokens": NEW}, "method": {"name": "lora"}}, model=tiny(folder=str(tmp_path)))
        base = BaseReference("folder", "base", None)
        code = loading_code(found, base, "adapter", tokenizer_class="AutoTokenizer", prompt="Hello")
        assert code.index("AutoTokenizer.from_pretrained") < code.index("resize_token_embeddings")
        assert code.index("resize_token_embeddings") < code.index("PeftModel.from_pretrained")
        merged = loading_code(found, base, "merged", tokenizer_class="AutoTokenizer", prompt="Hello")
        assert "resize_token_embeddings" not in merged

    def test_full_fine_tuning_learns_them_with_everything(self, tiny_model_folder):
        tokenizer, model = learner(recipe(tiny_model_folder, new_tokens=NEW, name="full"))
        assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_a_token_of_the_model_is_not_new(self, tiny_model_folder):
        with pytest.raises(ProblemError) as caught:
            load_tokenizer(tiny_model_folder, recipe(tiny_model_folder, new_tokens=["<|im_end|>"]))
        assert caught.value.problems[0].code == "tokenizer.not_new"
        assert caught.value.problems[0].path == "model.new_tokens"

    def test_the_fused_loss_of_a_gpu_sees_them(self, tiny_model_folder):
        from trl.trainer.utils import add_fused_lm_head

        tokenizer, model = learner(recipe(tiny_model_folder, new_tokens=NEW, rank=2))
        ids = torch.tensor([[*IDS, *tokenizer.convert_tokens_to_ids(NEW)]])
        plain = model(input_ids=ids, labels=ids).loss
        add_fused_lm_head(model.get_base_model(), outputs=("log_probs",))
        fused = -model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.sum() / (ids.shape[1] - 1)
        assert fused.item() == pytest.approx(plain.item(), rel=1e-4)
        fused.backward()
        gradients = [p.grad for name, p in model.named_parameters() if "trainable_tokens" in name and p.requires_grad]
        assert gradients
        assert all(gradient is not None and bool(gradient.abs().sum()) for gradient in gradients)
