"""Checks of the learner before the first step: planted defects next to clean twins, and nothing changed by looking."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, set_seed

from engine.catalog.builtin import BUILTIN_MODEL, builtin_path
from engine.data.preflight_case import Verdict
from engine.data.rendered import ListedSequences, Rendered, RenderedRows
from engine.data.rendering import Renderer
from engine.methods.apply import apply_method
from engine.models.loading import load_model
from engine.models.tokenizers import load_tokenizer
from engine.models.verified import VerifiedFiles
from engine.objectives.sequences import SequenceCollator
from engine.planning.plan import ValueSource
from engine.recipe.problems import ProblemError
from engine.training import preflight_learning
from engine.training.context import RunContext
from engine.training.preflight import Preflight, check_learner
from engine.training.preflight_chance import FirstLoss, check_first_loss, judge, looks_untrained
from engine.training.preflight_learning import ENOUGH_TOKENS, Trial, _judge, check_trial
from engine.training.preflight_packing import check_packing
from engine.training.preflight_tokens import check_ids, check_known_tokens
from engine.training.preflight_weights import check_contents, check_files, loaded_whole
from engine.training.recovery import Attempts, begin_attempt
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import loss_curve, made_recipe
from tests.engine.tiny_models import command_rows, save_tiny_model, tiny_llama, tiny_tokenizer

VOCAB = 384
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "max_position_embeddings": 256,
}
APART: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16, "head_dim": 8},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16},
    "gpt2": {"n_positions": 256},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 4},
}
"""Families whose attention restarts with the positions."""
SOUND = ("llama", "mistral", "gemma3_text", "gpt2", "mixtral")
LEAKING: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": {"alibi": False},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 8},
}
"""Families that ignore where positions restart, or keep a state across rows."""


Spoil = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


class Events:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.checks: list[dict[str, Any]] = []

    def write(self, event_type: str, /, **payload: Any) -> None:
        if event_type == "preflight.checked":
            self.checks.append(payload)

    def status(self) -> dict[str, str]:
        return {check["id"]: check["status"] for check in self.checks}


def family(name: str, settings: dict[str, Any]) -> PreTrainedModel:
    set_seed(1)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **(SIZES | settings)))


def recipe_of(method: str = "lora", **training: Any) -> Any:
    only_lora = {} if method != "full" else {"rank": None, "alpha": None, "dropout": None, "targets": None}
    return made_recipe("made", "made.jsonl", method={"name": method, **only_lora}, training=training)


def context_of(folder: Path, model: PreTrainedModel, method: str = "lora", **training: Any) -> RunContext:
    recipe = recipe_of(method, **training)
    learner = model if method == "full" else apply_method(model, recipe)
    return made_context(folder / "run", recipe, model=learner, num_rows=24)


def checked(context: RunContext) -> Events:
    events = Events()
    check_learner(Preflight(events), context, Attempts())
    return events


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", SOUND)
def test_sound_models_raise_no_alarm(name: str, method: str, tmp_path: Path) -> None:
    events = checked(context_of(tmp_path, family(name, APART[name]), method, packing=True, micro_batch=2))
    adapters = {"P10": "skipped"} if method == "full" else {"P10": "passed"}
    passed = dict.fromkeys(("P13", "P11", "P12", "P8", "P23", "P9", "P22"), "passed")
    assert events.status() == passed | adapters, events.checks


def test_a_sound_4bit_model_raises_no_alarm(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", hidden_size=64)
    recipe = made_recipe(folder, "made.jsonl", method={"name": "qlora"}, training={"packing": True})
    learner = apply_method(load_model(recipe, "cpu", bits=4), recipe)
    events = checked(made_context(tmp_path / "run", recipe, model=learner))
    assert set(events.status().values()) == {"passed"}, events.checks


# --- looking changes nothing ----------------------------------------------------------------------------------------

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {"micro_batch": 2}),
    "lora with dropout": ("lora", {"micro_batch": 2}),
    "packed in bfloat16": ("full", {"packing": True, "precision": "bfloat16"}),
    "activation checkpointing": ("lora", {"activation_checkpointing": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_training_after_the_checks_is_the_same_bit_by_bit(name: str, tmp_path: Path) -> None:
    method, training = CASES[name]
    dropout = {"dropout": 0.2} if method == "lora" else {"rank": None, "alpha": None, "dropout": None, "targets": None}
    recipe = made_recipe("made", "made.jsonl", method={"name": method, **dropout}, training=training | {"max_steps": 4})
    curves, weights, forwards = [], [], []
    for folder, look in ((tmp_path / "plain", False), (tmp_path / "checked", True)):
        context = made_context(folder, recipe)
        before = {key: value.clone() for key, value in context.model.state_dict().items()}
        random_state = torch.get_rng_state()
        if look:
            assert checked(context).status()["P22"] == "passed"
            assert torch.equal(torch.get_rng_state(), random_state)
            assert all(torch.equal(value, before[key]) for key, value in context.model.state_dict().items())
        forwards.append("forward" in context.model.__dict__)
        train(context)
        curves.append(loss_curve(context.run))
        weights.append(load_file(max((folder / "checkpoints").glob("step-*")) / "weights.safetensors"))
    assert curves[0] == curves[1]
    assert len(curves[0]) == 4
    assert forwards[0] == forwards[1]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_an_attempt_that_goes_on_repeats_nothing(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB), max_steps=2)
    train(context)
    context.checkpoint = context.store.newest_whole()
    assert checked(context).checks == []


def test_off_leaves_out_what_computes(tmp_path: Path) -> None:
    events = checked(context_of(tmp_path, tiny_llama(VOCAB), preflight="off", packing=True))
    assert list(events.status()) == ["P13", "P11", "P10", "P12"]


# --- P8: packing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", APART)
def test_models_that_keep_rows_apart_pass(name: str, precision: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, family(name, APART[name]), "full", packing=True, precision=precision, micro_batch=2)
    assert check_packing(context).status == "passed"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LEAKING)
def test_models_that_see_the_row_before_are_refused(name: str, precision: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, family(name, LEAKING[name]), "full", packing=True, precision=precision)
    with pytest.raises(ProblemError) as raised:
        checked(context)
    (problem,) = raised.value.problems
    assert (problem.code, problem.path) == ("preflight.p8", "training.packing")
    assert "training.packing to false" in problem.fix


def test_packing_that_the_plan_chose_is_turned_off(tmp_path: Path) -> None:
    context = context_of(tmp_path, family("opt", LEAKING["opt"]), "full", packing=True, preflight="auto")
    source = {"training.packing": ValueSource(kind="derived", detail="plain text fills its sequences")}
    context.plan = context.plan.model_copy(update={"sources": source})
    attempts = Attempts()
    check_learner(Preflight(Events()), context, attempts)
    assert context.recipe.training.packing is False
    assert attempts.packing_off
    assert begin_attempt(context.run, restarted=True).packing_off, "the next attempt must not pack either"


def spoiled_collator(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    original = SequenceCollator.__call__

    def collate(self: SequenceCollator, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return spoil(original(self, rows))

    monkeypatch.setattr(SequenceCollator, "__call__", collate)


def with_flat_mask(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}


def without_restarts(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    length = batch["input_ids"].shape[1]
    return batch | {"position_ids": torch.arange(length).expand_as(batch["input_ids"])}


@pytest.mark.parametrize("spoil", [with_flat_mask, without_restarts])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_collator_that_joins_rows_is_found(
    spoil: Spoil, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB), packing=True, precision=precision)
    assert check_packing(context).status == "passed"
    spoiled_collator(monkeypatch, spoil)
    verdict = check_packing(context)
    assert verdict.status == "blocked"
    assert verdict.measured["max_change"] > verdict.measured["bound"]


# --- P10 to P13: what learns, and tokens ------------------------------------------------------------------------------


def test_few_adapted_layers_are_told(tmp_path: Path) -> None:
    recipe = made_recipe("made", "made.jsonl", method={"targets": ["q_proj"]})
    context = made_context(tmp_path / "run", recipe, model=apply_method(tiny_llama(VOCAB), recipe))
    events = checked(context)
    (check,) = [check for check in events.checks if check["id"] == "P10"]
    assert check["status"] == "warning"
    assert check["measured"]["share"] == pytest.approx(1 / 7)


def test_one_misspelt_target_among_two_is_refused() -> None:
    recipe = made_recipe("made", "made.jsonl", method={"targets": ["q_proj", "v_porj"]})
    with pytest.raises(ProblemError, match="v_porj"):
        apply_method(tiny_llama(VOCAB), recipe)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_frozen_weights_block(method: str, tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB), method)
    checked(context)
    context.model.requires_grad_(False)
    with pytest.raises(ProblemError, match="nothing would learn"):
        checked(context)


def planted(kind: str, token: int) -> PreTrainedModel:
    """Return a tiny model with one row of its embedding as a fresh token has it."""
    model = tiny_llama(VOCAB)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        if kind == "zero":
            weight[token] = 0
        elif kind == "constant":
            weight[token] = 0.02
        else:
            weight[token] = weight.mean(dim=0) + 1e-5 * torch.randn(weight.shape[1])
    return model


@pytest.mark.parametrize("kind", ["zero", "constant", "mean"])
def test_new_tokens_with_frozen_embeddings_are_named(kind: str, tmp_path: Path) -> None:
    end = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")
    verdict = check_known_tokens(context_of(tmp_path, planted(kind, end)))
    assert verdict.status == "blocked"
    assert "'<|im_end|>'" in verdict.message
    assert list(verdict.rows)[:2] == ["made.jsonl:1", "made.jsonl:2"]
    assert "method.name to full" in verdict.fix


def test_new_tokens_that_learn_or_are_not_used_are_no_concern(tmp_path: Path) -> None:
    end = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert check_known_tokens(context_of(tmp_path / "full", planted("zero", end), "full")).status == "passed"
    assert check_known_tokens(context_of(tmp_path / "unused", planted("zero", VOCAB - 1))).status == "passed"


def test_a_token_that_the_output_never_learnt_is_named(tmp_path: Path) -> None:
    model = tiny_llama(VOCAB, tie_word_embeddings=False)
    end = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert check_known_tokens(context_of(tmp_path / "clean", model)).status == "passed"
    model = tiny_llama(VOCAB, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight[end] = 0
    assert check_known_tokens(context_of(tmp_path / "planted", model)).status == "blocked"


def test_ids_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    verdict = check_ids(context_of(tmp_path, tiny_llama(100)))
    assert (verdict.status, verdict.measured["embedding_rows"]) == ("blocked", 100)
    assert verdict.rows
    assert check_ids(context_of(tmp_path / "clean", tiny_llama(VOCAB))).status == "passed"


# --- P19 to P21: files ----------------------------------------------------------------------------------------------


def respoiled(folder: Path, change: Any) -> Path:
    """Return a model folder after `change` was applied to its tensors."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_a_nan_in_the_base_weights_blocks_with_its_tensor(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    clean = Events()
    check_files(Preflight(clean), folder)
    assert clean.status() == {"P21": "passed", "P19": "passed"}

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")

    events = Events()
    with pytest.raises(ProblemError, match=r"NaN.*layers\.1\.mlp\.up_proj"):
        check_files(Preflight(events), respoiled(folder, spoil))
    assert events.status() == {"P21": "passed", "P19": "blocked"}


def test_layers_without_weights_are_a_verdict(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    recipe = made_recipe(folder, "made.jsonl")
    clean = Events()
    loaded_whole(Preflight(clean), lambda: load_model(recipe, "cpu", bits=None))
    assert clean.status() == {"P20": "passed"}
    respoiled(folder, lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.weight"))
    events = Events()
    with pytest.raises(ProblemError, match="up_proj"):
        loaded_whole(Preflight(events), lambda: load_model(recipe, "cpu", bits=None))
    assert events.status() == {"P20": "blocked"}


def flip(file: Path) -> None:
    """Change one bit in the middle of a file, and put its time of writing back."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    facts = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_a_cached_snapshot_that_rotted_is_found_and_read_only_once(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "snapshot")
    weights = folder / "model.safetensors"
    digest = sha256(weights.read_bytes()).hexdigest()
    blob = tmp_path / "blobs" / digest
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    first, second = check_contents(folder), check_contents(folder)
    assert (first.status, first.measured["compared"], first.measured["read_bytes"]) == (
        "passed",
        1,
        blob.stat().st_size,
    )
    assert second.measured["read_bytes"] == 0
    flip(blob)
    with pytest.raises(ProblemError, match="damaged"):
        check_contents(folder)


@pytest.mark.parametrize("place", ["SHA256SUMS", ".cache/huggingface/download/model.safetensors.metadata"])
def test_hashes_beside_a_plain_folder_are_compared(place: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    assert check_contents(folder).measured["compared"] == 0, "nobody names a hash"
    digest = sha256(weights.read_bytes()).hexdigest()
    note = folder / place
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{digest}  model.safetensors\n" if place == "SHA256SUMS" else f"{'a' * 40}\n{digest}\n1.0\n")
    assert check_contents(folder).measured["compared"] == 1
    flip(weights)
    with pytest.raises(ProblemError, match="sha256"):
        check_contents(folder)


def test_a_record_that_cannot_be_read_costs_only_time(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"x")
    VerifiedFiles(tmp_path).note(file, sha256="0" * 64, finite=True)
    assert VerifiedFiles(tmp_path).of(file).finite
    (tmp_path / "verified-weights.json").write_text('{"odd": [1]}')
    assert not VerifiedFiles(tmp_path).of(file).finite


# --- P22 and P23: learning and the first loss -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a tiny model that has learnt the tiny rows."""
    folder = tmp_path_factory.mktemp("learnt")
    context = context_of(folder, tiny_llama(VOCAB), "full", max_steps=60, effective_batch=8, micro_batch=8)
    train(context)
    return {name: value.clone() for name, value in context.model.state_dict().items()}


def learnt_model(weights: dict[str, torch.Tensor]) -> PreTrainedModel:
    model = tiny_llama(VOCAB)
    model.load_state_dict(weights)
    return model


def starter_context(folder: Path, model: PreTrainedModel) -> RunContext:
    """Return a context of the starter model on rows that it has never seen."""
    context = context_of(folder, model, max_length=128)
    context.tokenizer = load_tokenizer(builtin_path(BUILTIN_MODEL), context.recipe).tokenizer
    context.renderer = Renderer(context.tokenizer, 128)
    context.rendered = context.renderer.render_rows(command_rows(24))
    return context


def test_a_vocabulary_of_another_model_blocks(tmp_path: Path) -> None:
    recipe = made_recipe(builtin_path(BUILTIN_MODEL), "made.jsonl")
    clean = starter_context(tmp_path / "clean", load_model(recipe, "cpu", bits=None))
    assert not looks_untrained(clean.model)
    assert check_first_loss(clean).status == "passed"
    model = load_model(recipe, "cpu", bits=None)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight.copy_(weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(3))])
    verdict = check_first_loss(starter_context(tmp_path / "planted", model))
    assert verdict.status == "blocked", verdict
    assert "sure of itself, and wrong" in verdict.message
    assert verdict.rows


def test_random_weights_are_told_and_not_blocked(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB, hidden_size=256), "full")
    assert looks_untrained(context.model)
    (check,) = [check for check in checked(context).checks if check["id"] == "P23"]
    assert check["status"] == "passed"
    assert "random" in check["message"]


@pytest.mark.parametrize(
    ("loss", "shuffled", "entropy", "status"),
    [
        (3.0, 9.0, 2.0, "passed"),
        (6.5, 12.0, 2.0, "passed"),
        (8.0, 8.2, 2.0, "warning"),
        (8.0, 8.0, 2.0, "blocked"),
        (8.0, 8.0, 6.9, "warning"),
        (float("nan"), 8.0, 2.0, "blocked"),
    ],
)
def test_first_losses_are_judged(loss: float, shuffled: float, entropy: float, status: str) -> None:
    found = FirstLoss(loss=loss, trained=loss, shuffled=shuffled, entropy=entropy, chance=7.0)
    assert judge(found, ["rows.jsonl:1"], untrained=False).status == status


def judged(trial: Trial, *, untrained: bool = False) -> Verdict:
    return _judge(trial, untrained=untrained)


def test_trials_are_judged() -> None:
    fell = Trial(first=4.0, lowest=1.0, num_steps=12)
    assert judged(fell).status == "passed"
    stuck = replace(fell, lowest=3.9)
    assert judged(stuck).status == "warning"
    assert judged(stuck, untrained=True).status == "passed"
    assert judged(replace(stuck, cut_short=True)).status == "skipped"
    assert judged(replace(stuck, first=0.01, lowest=0.01)).status == "passed"
    silent = judged(replace(fell, silent=["layers.0.lora_B"]))
    assert (silent.status, "lora_B" in silent.message) == ("warning", True)


def test_a_model_that_cannot_learn_is_told(learnt: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The rows ask for something else than what was learnt, and adapters move nothing at such a rate."""
    model = learnt_model(learnt)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(0.5)
    slow = context_of(tmp_path / "slow", model, learning_rate=1e-9)
    slow.rendered = slow.renderer.render_rows(_other_answers())
    assert check_trial(slow).status == "warning"
    quick = context_of(tmp_path / "quick", learnt_model(learnt), "full", learning_rate=1e-2)
    quick.rendered = slow.rendered
    assert check_trial(quick).status == "passed"


def _other_answers() -> list[dict[str, Any]]:
    answers = ("violet violet", "green door", "amber gate", "white pump")
    return [
        {
            "id": f"made.jsonl:{index}",
            "messages": [{"role": "user", "content": f"state {index}"}, {"role": "assistant", "content": answer}],
        }
        for index, answer in enumerate(answers * 2)
    ]


def test_a_trial_learns_few_tokens_or_one_sequence(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB))
    context.batching = replace(context.batching, micro_batch=64)
    lengths = context.rendered.sequences.lengths
    rows = [*context.rendered.sequences] * 8
    assert lengths.sum() * 8 > ENOUGH_TOKENS
    context.rendered = RenderedRows(ListedSequences(rows))
    drawn = preflight_learning._one_batch(context)
    assert ENOUGH_TOKENS - lengths.max() < drawn.lengths.sum() <= ENOUGH_TOKENS
    context.batching = replace(context.batching, micro_batch=2)
    assert len(preflight_learning._one_batch(context)) == 2
    long = Rendered([5] * 600, [1] * 600, False, "made.jsonl:1", 600)
    context.renderer.max_length = 1024
    context.rendered = RenderedRows(ListedSequences([long] * 3))
    assert len(preflight_learning._one_batch(context)) == 1


def test_a_trial_that_takes_too_long_is_skipped_with_its_reason(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_llama(VOCAB))
    time = {"low_s": 1000.0, "high_s": 9000.0, "expected_s": 4000.0, "basis": "made up"}
    document = json.loads(context.plan.model_dump_json()) | {"time": time}
    context.plan = type(context.plan).model_validate(document)
    verdict = check_trial(context)
    assert verdict.status == "skipped"
    assert "training.preflight to full" in verdict.message
