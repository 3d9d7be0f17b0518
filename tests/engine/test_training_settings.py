"""Label smoothing, NEFTune, dropout and the optimizers do what they say, and leave evaluations alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel
from trl import SFTTrainer

from engine.methods.apply import apply_method
from engine.models.dropout import set_dropout
from engine.objectives.build import build_trainer
from engine.objectives.class_loss import class_losses
from engine.objectives.sequences import IGNORED
from engine.recipe.problems import ProblemError
from engine.training.losses import smoothed_loss
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import loss_curve, made_recipe
from tests.engine.tiny_families import tiny

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 64}
FAMILIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "phi3"), TINY | {"num_key_value_heads": 2, "pad_token_id": 0}),
    **dict.fromkeys(("qwen3", "gemma", "gemma2"), TINY | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}),
    **dict.fromkeys(("bert", "roberta", "gpt_neox", "modernbert"), TINY | {"pad_token_id": 0}),
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 64},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 64},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 64},
    "bart": {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 64},
}  # fmt: skip


def made_model(family: str) -> Any:
    special = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    torch.manual_seed(3)
    return AutoModel.from_config(AutoConfig.for_model(family, **FAMILIES[family], **special))


def moves(model: Any) -> bool:
    """Whether two passes over the same tokens differ, which only dropout makes them."""
    ids = torch.arange(3, 13)[None]
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        first, second = model(**inputs)[0], model(**inputs)[0]
    return not torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_acts_in_every_family_while_training_and_only_then(family: str) -> None:
    model = made_model(family)
    saved = model.config.to_json_string()
    assert set_dropout(model, 0.0)
    assert not moves(model.train())
    assert set_dropout(model, 0.5)
    assert moves(model.train())
    assert not moves(model.eval())
    assert model.config.to_json_string() == saved, "what is exported says nothing of it"


def test_a_model_without_a_place_for_dropout_is_refused() -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 64, "state_size": 4}
    with pytest.raises(ProblemError) as caught:
        set_dropout(AutoModel.from_config(AutoConfig.for_model("mamba", **small)), 0.1)
    assert caught.value.problems[0].code == "training.dropout_no_place"


def test_smoothed_loss_is_the_mixture_of_both_targets_however_a_step_is_cut() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(4, 5, 7, dtype=torch.float64), torch.randint(0, 7, (4, 5))
    labels[0, :3] = labels[2, 1] = IGNORED
    counted = labels != IGNORED
    log_probs = functional.log_softmax(logits[counted], dim=-1)
    told = -log_probs.gather(1, labels[counted][:, None]).mean()
    expected = 0.8 * told - 0.2 * log_probs.mean()
    items = int(counted.sum())
    whole = smoothed_loss(logits, labels, 0.2, items)
    parts = sum(smoothed_loss(logits[row : row + 1], labels[row : row + 1], 0.2, items) for row in range(4))
    assert float(whole) == pytest.approx(float(expected), rel=1e-5)
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    assert float(smoothed_loss(logits, labels, 0.2, None)) == pytest.approx(float(expected), rel=1e-5)


def first_loss(folder: Path, **training: Any) -> float:
    """Return the loss that a trainer computes of the first micro-batch."""
    usual = {"max_steps": 2, "evaluate_every": 1}
    context = made_context(folder, made_recipe("model", "data", training=usual | training))
    built = build_trainer(context)
    (rows, *_) = built.order.micro_batches(0)
    batch = built.trainer.data_collator([built.trainer.train_dataset[row] for row in rows])
    context.model.eval()
    with torch.no_grad():
        return float(built.trainer.compute_loss(context.model, batch, num_items_in_batch=torch.tensor(100)))


def test_the_trainers_loss_is_smoothed_towards_all_tokens(tmp_path: Path) -> None:
    plain, smoothed, most = (first_loss(tmp_path / f"run-{share}", label_smoothing=share) for share in (0.0, 0.1, 0.5))
    assert plain != smoothed
    # Linear in the share: the same two losses are mixed.
    assert smoothed - plain == pytest.approx((most - plain) / 5, rel=1e-3)


def experts_losses(folder: Path, method: dict[str, Any], share: float) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the loss of a mixture of experts on the first micro-batch of two, TRL's own, and what has a gradient."""
    training = {"max_steps": 2, "effective_batch": 8, "micro_batch": 4, "label_smoothing": share}
    model = tiny("mixtral", vocab_size=384)
    recipe = made_recipe("model", "data", training=training, method=method)
    built = build_trainer(made_context(folder, recipe, model=apply_method(model, recipe).eval()))
    trainer = built.trainer
    trainer.current_gradient_accumulation_steps = 2
    batch = trainer.data_collator([trainer.train_dataset[row] for row in built.order.micro_batches(0)[0]])
    items = torch.tensor(100)
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items)
    loss.backward()
    routers = [p for n, p in trainer.model.named_parameters() if n.endswith("gate.weight")]
    with torch.no_grad():
        theirs = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch), num_items_in_batch=items)
    return loss.detach(), theirs, sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in routers)


def test_mixtures_of_experts_are_smoothed_and_still_balance_their_experts(tmp_path: Path) -> None:
    full = {"name": "full", "rank": None, "alpha": None, "dropout": None, "targets": None}
    found = [experts_losses(tmp_path / f"run-{share}", full, share) for share in (0.0, 0.1, 0.5)]
    (plain, theirs, routed), (smoothed, *_), (most, *_) = found
    assert torch.allclose(plain, theirs, rtol=1e-5)
    assert routed == 3
    assert float(smoothed) != pytest.approx(float(plain), rel=1e-4)
    # Linear in the share: only the tokens' part is smoothed, and that of the experts is in all three.
    assert float(smoothed - plain) == pytest.approx(float(most - plain) / 5, rel=1e-3)
    assert found[2][2] == 3


@pytest.mark.parametrize("name", ["prompt-tuning", "prefix-tuning"])
def test_behind_virtual_tokens_the_loss_is_smoothed_too(tmp_path: Path, name: str) -> None:
    method = {"name": name, "rank": None, "alpha": None, "dropout": None, "targets": None, "virtual_tokens": 4}
    losses = []
    for share in (0.0, 0.1, 0.5):
        recipe = made_recipe("model", "data", training={"max_steps": 2, "label_smoothing": share}, method=method)
        model = apply_method(tiny("gpt2", vocab_size=384, n_positions=128), recipe).eval()
        built = build_trainer(made_context(tmp_path / f"run-{share}", recipe, model=model))
        (rows, *_) = built.order.micro_batches(0)
        batch = built.trainer.data_collator([built.trainer.train_dataset[row] for row in rows])
        with torch.no_grad():
            losses.append(float(built.trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(100))))
    plain, smoothed, most = losses
    assert smoothed != plain
    assert smoothed - plain == pytest.approx((most - plain) / 5, rel=1e-3)


def noise_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, alpha: float | None, virtual: str | None = None
) -> tuple[list[bool], list[bool]]:
    """Return whether the embeddings of a run carried noise, in training and in evaluation."""
    training = {"max_steps": 3, "evaluate_every": 1, "neftune_alpha": alpha}
    recipe, model = made_recipe("model", "data", training=training), None
    if virtual:
        unset = {"rank": None, "alpha": None, "dropout": None, "targets": None}
        method = unset | {"name": virtual, "virtual_tokens": 4}
        recipe = made_recipe("model", "data", training=training, method=method)
        model = apply_method(tiny("gpt2", vocab_size=384, n_positions=128), recipe)
    context = made_context(folder, recipe, model=model)
    embedding = context.model.get_input_embeddings()
    seen: dict[bool, list[bool]] = {True: [], False: []}
    plain = nn.Embedding.forward

    def look(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen[module.training].append(not torch.equal(output, plain(embedding, inputs[0])))

    original = type(build_trainer(context).trainer).training_step

    def stepping(self: Any, *arguments: Any, **keywords: Any) -> Any:
        # Behind the hook of the trainer, which is put on when its loop begins.
        handle = embedding.register_forward_hook(look)
        try:
            return original(self, *arguments, **keywords)
        finally:
            handle.remove()

    monkeypatch.setattr(type(build_trainer(context).trainer), "training_step", stepping)
    import engine.training.run as run

    measured = run.measure

    def measuring(*arguments: Any, **keywords: Any) -> Any:
        handle = embedding.register_forward_hook(look)
        try:
            return measured(*arguments, **keywords)
        finally:
            handle.remove()

    monkeypatch.setattr(run, "measure", measuring)
    train(context)
    assert not embedding._forward_hooks, "the result is a model without noise"
    return seen[True], seen[False]


def test_noise_is_on_the_embeddings_while_training_and_in_no_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, evaluated = noise_in(tmp_path / "with", monkeypatch, 5.0)
    assert trained
    assert all(trained)
    assert evaluated
    assert not any(evaluated)


@pytest.mark.parametrize("method", ["prompt-tuning", "prefix-tuning", "p-tuning"])
def test_noise_is_on_the_words_behind_virtual_tokens_in_any_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    trained, evaluated = noise_in(tmp_path / "run", monkeypatch, 5.0, method)
    assert trained
    assert all(trained)
    assert not any(evaluated)


def test_without_the_setting_there_is_no_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, _ = noise_in(tmp_path / "without", monkeypatch, None)
    assert trained
    assert not any(trained)


@pytest.mark.parametrize("optimizer", ["adafactor", "lion_8bit"])
def test_the_other_optimizers_learn(tmp_path: Path, optimizer: str) -> None:
    rate = 5e-3 if optimizer == "lion_8bit" else 1e-2
    training = {"max_steps": 12, "optimizer": optimizer, "learning_rate": rate, "epochs": 4.0}
    context = made_context(tmp_path / "run", made_recipe("model", "data", training=training))
    train(context)
    losses = list(loss_curve(context.run).values())
    assert sum(losses[-3:]) < 0.97 * sum(losses[:3])


def test_classes_are_smoothed_towards_all_classes() -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    log_probs = functional.log_softmax(logits, dim=-1)
    told = -log_probs.gather(1, targets[:, None])[:, 0]
    smoothed = class_losses(logits, targets, multi_label=False, smoothing=0.3)
    assert torch.allclose(smoothed, 0.7 * told - 0.3 * log_probs.mean(dim=1), atol=1e-6)
    assert torch.allclose(class_losses(logits, targets, multi_label=False), told)


def test_several_classes_are_smoothed_between_yes_and_no() -> None:
    logits, targets = torch.tensor([[8.0, -8.0]]), torch.tensor([[1.0, 0.0]])
    plain = class_losses(logits, targets, multi_label=True)
    smoothed = class_losses(logits, targets, multi_label=True, smoothing=0.2)
    assert float(plain) < 0.01
    assert float(smoothed) == pytest.approx(0.1 * 8.0, rel=1e-2)
