"""Methods that train a part of a model, on encoders with a head of their own: whole runs, from recipe to files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from engine.deployment.load_adapter import load_adapter
from tests.engine.label_rows import all_words, class_rows, tag_rows
from tests.engine.made_runs import events_of, loss_curve
from tests.engine.test_label_objectives import after, tree
from tests.engine.tiny_encoders import save_tiny_bert
from tests.engine.tiny_models import save_tiny_model
from tests.engine.whole_runs import finished

TRAINING = {"max_steps": 60, "evaluate_every": 60, "learning_rate": 1e-2, "preflight": "auto"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), all_words())


def test_a_new_head_learns_alone_on_features_that_stay(bert: Path, tmp_path: Path):
    made = tree(bert, class_rows(120), tmp_path, training=TRAINING)
    run, plan = finished(made, tmp_path, method__name="feature-extraction")
    assert plan.recipe.method.layers == 0
    assert plan.sources["method.layers"].detail == "the new head alone"
    stored, base = load_file(run.merged_folder / "model.safetensors"), load_file(bert / "model.safetensors")
    kept = [name for name in stored if ".encoder." in name or ".embeddings." in name]
    assert kept
    assert all(torch.equal(stored[name], base[name]) for name in kept)
    (loaded,) = events_of(run, "model.loaded")
    assert loaded["trainable_params"] == sum(stored[name].numel() for name in stored if name not in kept)
    assert {event["status"] for event in events_of(run, "preflight.checked")} <= {"passed", "skipped"}


def test_the_head_learns_first_and_the_embeddings_last(bert: Path, tmp_path: Path):
    training = TRAINING | {"max_steps": 80, "evaluate_every": 80, "learning_rate": 2e-3, "preflight": "off"}
    made = tree(bert, class_rows(120), tmp_path, training=training)
    run, _ = finished(made, tmp_path, method__name="gradual-unfreezing")
    titles = [event["title"] for event in events_of(run, "stage.opened")]
    assert (titles[0], titles[-1]) == ("output layer", "embeddings")
    assert all("block" in title for title in titles[1:-1])
    assert after(run)["metrics"]["accuracy"] > 0.6


def test_bottlenecks_bring_the_head_of_classes_along(tmp_path: Path):
    model_folder = save_tiny_model(tmp_path / "wide", hidden_size=64)
    made = tree(model_folder, class_rows(120), tmp_path, training=TRAINING | {"preflight": "off"})
    run, plan = finished(made, tmp_path, method__name="bottleneck")
    assert after(run)["metrics"]["accuracy"] > 0.6
    base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
    model, tokenizer = load_adapter(base, run.adapter_folder), AutoTokenizer.from_pretrained(run.adapter_folder)
    model.config.pad_token_id = tokenizer.pad_token_id
    for answer in after(run)["answers"]:
        logits = model(**tokenizer(answer["prompt"], return_tensors="pt")).logits
        assert plan.task.labels[int(logits.argmax())] == answer["text"]


def test_bottlenecks_bring_the_head_of_tags_along(bert: Path, tmp_path: Path):
    made = tree(bert, tag_rows(60), tmp_path, "token-classification", training=TRAINING)
    run, plan = finished(made, tmp_path, method__name="bottleneck")
    assert min(loss_curve(run).values()) < 0.9 * loss_curve(run)[1]
    base = AutoModelForTokenClassification.from_pretrained(bert, num_labels=len(plan.task.labels))
    head = load_file(run.adapter_folder / "adapter_model.safetensors")["base_model.model.classifier.weight"]
    assert torch.equal(load_adapter(base, run.adapter_folder).classifier.weight, head)
