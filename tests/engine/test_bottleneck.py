"""Bottleneck adapters: PEFT takes them as its own, they change nothing at first, and a folder of them loads alone."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftConfig, PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType
from transformers import AutoModelForCausalLM

from engine.deployment.load_adapter import load_adapter
from engine.methods.apply import apply_method, trainable_summary
from engine.methods.bottleneck_tuner import BottleneckConfig, BottleneckLayer, BottleneckModel, register
from engine.models.heads import head_modules
from engine.models.loading import load_model
from engine.recipe.schema import Recipe
from engine.training.preflight_learning import check_coverage
from tests.engine.made_context import made_context
from tests.engine.made_export import Case, moved
from tests.engine.made_runs import made_recipe
from tests.engine.test_export import card_code, greedy
from tests.engine.tiny_families import tiny
from tests.engine.tiny_models import save_tiny_model, tiny_llama

IDS = torch.arange(24).reshape(2, 12)
SUPPORTED_PEFT = "0.21"


def recipe(folder="m", *, precision="float32", checkpointing=False, **method) -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder)},
            "method": {"name": "bottleneck", **method},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": precision, "activation_checkpointing": checkpointing},
        }
    )


def adapted(model=None, **method) -> PeftModel:
    return apply_method(model or tiny_llama(64), recipe(**method)).eval()


def train(model, steps=4, *, autocast=False, **inputs) -> list[float]:
    inputs = inputs or {"input_ids": IDS, "labels": IDS}
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


class TestContract:
    """What of PEFT is not promised and yet relied on; a new minor version is to be looked at first."""

    def test_the_version_is_the_one_that_the_tuner_was_made_for(self):
        assert version("peft").startswith(f"{SUPPORTED_PEFT}."), (
            f"peft {peft.__version__}: read `BaseTuner`, `BaseTunerLayer` and `PeftType` of it against "
            "engine/methods/bottleneck_tuner.py, then change SUPPORTED_PEFT here and the pin in pyproject.toml"
        )

    def test_the_enumeration_has_the_member_like_its_own(self):
        register()
        member = PeftType.BOTTLENECK
        assert member is PeftType("BOTTLENECK") is PeftType["BOTTLENECK"]
        assert member == "BOTTLENECK"
        assert member in list(PeftType)
        assert list(PeftType).count(member) == 1
        assert type(member) is type(PeftType.LORA)
        assert PEFT_TYPE_TO_TUNER_MAPPING[member] is BottleneckModel
        assert PEFT_TYPE_TO_CONFIG_MAPPING["BOTTLENECK"] is BottleneckConfig
        assert PEFT_TYPE_TO_PREFIX_MAPPING[member] == "bottleneck_"

    def test_only_what_has_to_be_written_is_written(self):
        assert BaseTuner.__abstractmethods__ == {"_create_and_replace"}
        hooks = ("_check_merge_allowed", "_replace_module", "_mark_only_adapters_as_trainable", "inject_adapter")
        assert all(callable(vars(BaseTuner)[hook]) for hook in hooks)


class TestTuner:
    def test_changes_nothing_before_training_and_can_be_switched_off_after_it(self):
        base = tiny_llama(64).eval()
        with torch.no_grad():
            expected = base(IDS).logits
            model = adapted(base)
            assert torch.equal(model(IDS).logits, expected)
            moved(model)
            assert not torch.allclose(model(IDS).logits, expected)
            with model.disable_adapter():
                assert torch.equal(model(IDS).logits, expected)
            assert not torch.allclose(model(IDS).logits, expected)
        assert all(p.requires_grad for name, p in model.named_parameters() if "bottleneck_" in name)

    @pytest.mark.parametrize(("placement", "num_adapters"), [("houlsby", 4), ("pfeiffer", 2)])
    def test_settings_of_the_recipe_are_used(self, placement, num_adapters):
        model = adapted(width=3, placement=placement, activation="silu")
        layers = [module for module in model.modules() if isinstance(module, BottleneckLayer)]
        assert len(layers) == num_adapters
        assert trainable_summary(model).trainable_params == num_adapters * (2 * 32 * 3 + 32 + 3)
        assert {type(layer._activation) for layer in layers} == {torch.nn.SiLU}

    def test_two_adapters_live_beside_each_other(self):
        model = moved(adapted())
        with torch.no_grad():
            first = model(IDS).logits
            model.add_adapter("other", model.peft_config["default"])
            assert torch.equal(model(IDS).logits, first)
            model.set_adapter("other")
            with model.disable_adapter():
                plain = model(IDS).logits
            assert torch.equal(model(IDS).logits, plain)

    def test_merging_is_refused_and_not_half_done(self):
        model = moved(adapted())
        with torch.no_grad():
            expected = model(IDS).logits
            with pytest.raises(ValueError, match="no weight of the base model can take them in"):
                model.merge_and_unload()
            assert torch.equal(model(IDS).logits, expected)


def narrowed(model, dtype):
    """Return a model in a number format, its new head in float32, as it is loaded."""
    model.to(dtype)
    for name in head_modules(model):
        model.get_submodule(name).float()
    return model


FAMILIES = [
    ("gpt2", "CausalLM", {}),
    ("gemma", "CausalLM", {}),
    ("bert", "SequenceClassification", {"labels": torch.tensor([0, 1])}),
    ("distilbert", "SequenceClassification", {"labels": torch.tensor([0, 1])}),
    ("modernbert", "MaskedLM", {}),
    ("t5", "ConditionalGeneration", {}),
    ("bart", "ConditionalGeneration", {}),
]


@pytest.mark.parametrize(("family", "head", "labels"), FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_family_trains_saves_and_loads_with_peft_and_without(family, head, labels, dtype, tmp_path):
    model, *copies = (narrowed(tiny(family, head), dtype) for _ in range(3))
    inputs = {"input_ids": IDS, "labels": IDS} | labels
    learner = apply_method(model, recipe(width=4))
    before = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    losses = train(learner, 8, autocast=dtype != torch.float32, **inputs)
    assert min(losses[1:]) < losses[0]
    for name, weight in learner.named_parameters():
        assert torch.equal(before[name], weight) is not weight.requires_grad, name
    learner.save_pretrained(tmp_path)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        expected = learner(**inputs).logits
        by_peft = PeftModel.from_pretrained(copies[0], tmp_path).eval()
        assert torch.equal(by_peft(**inputs).logits, expected)
        assert torch.equal(load_adapter(copies[1], tmp_path)(**inputs).logits, expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_quantised_base_trains_and_loads(bits, checkpointing, tmp_path, tiny_model_folder):
    chosen = recipe(tiny_model_folder, checkpointing=checkpointing, width=4)
    learner = apply_method(load_model(chosen, "cpu", bits=bits), chosen)
    if checkpointing:
        learner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    losses = train(learner)
    assert losses[-1] < losses[0]
    learner.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = learner(IDS).logits
        again = PeftModel.from_pretrained(load_model(chosen, "cpu", bits=bits), tmp_path).eval()
        assert torch.equal(again(IDS).logits, expected)


def test_checkpointed_blocks_give_the_same_gradients():
    plain, checkpointed = (apply_method(tiny_llama(64), recipe(checkpointing=each)).train() for each in (False, True))
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        model(input_ids=IDS, labels=IDS).loss.backward()
    found = {name: weight.grad for name, weight in checkpointed.named_parameters() if weight.requires_grad}
    for name, weight in plain.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name], weight.grad, atol=1e-7, rtol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Case, str]:
    """Return a run whose adapter was exported, and what the model answered before."""
    folder = tmp_path_factory.mktemp("exported")
    base_folder = save_tiny_model(folder / "somewhere" / "tiny-base")
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    base.config.use_cache = False
    model = moved(apply_method(base, recipe(base_folder)))
    case = Case(folder, base_folder, method="bottleneck", model=model)
    answer = greedy(case.model, case.tokenizer)
    case.export()
    (case.run.adapter_folder / base_folder.name).symlink_to(base_folder)
    return case, answer


def test_an_export_leaves_the_adapter_alone_and_merges_nothing(exported):
    case, _ = exported
    assert {path.name for path in case.run.model_folder.iterdir()} == {"adapter", "export.json"}
    assert [kind for kind, _ in case.events] == ["export.completed"]
    card = (case.run.adapter_folder / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "cannot load these adapters; `load_adapter.py` here does" in card


def test_an_exported_folder_loads_where_neither_ftwizard_nor_peft_is(exported):
    case, answer = exported
    script = f"import sys\nsys.modules.update(engine=None, peft=None)\n{card_code(case.run.adapter_folder)}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=case.run.adapter_folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip("\n") == answer


def test_the_loader_refuses_what_it_cannot_load(tmp_path: Path):
    adapted(width=4).save_pretrained(tmp_path)
    with pytest.raises(AttributeError, match="has no attribute"):
        load_adapter(tiny("gpt2"), tmp_path)
    with pytest.raises(RuntimeError, match=re.escape("is (4, 32)")):
        load_adapter(tiny_llama(64, hidden_size=64), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace("BOTTLENECK", "LORA"))
    with pytest.raises(ValueError, match="holds LORA adapters"):
        load_adapter(tiny_llama(64), tmp_path)
    assert PeftConfig.from_pretrained(tmp_path).peft_type == "LORA"


@pytest.mark.parametrize(("placement", "words"), [("houlsby", "4 adapters"), ("pfeiffer", "2 adapters")])
def test_preflight_counts_adapters_in_blocks(placement, words, tmp_path: Path):
    chosen = made_recipe("model", "data", method={"name": "bottleneck", "placement": placement})
    model = apply_method(tiny_llama(64), chosen)
    verdict = check_coverage(made_context(tmp_path / "run", chosen, model=model))
    assert verdict.status == "passed"
    assert verdict.message == f"{words} stand in 2 of 2 blocks."
