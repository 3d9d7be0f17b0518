"""Classes of texts and tags of words: learnt for real, measured, resumed, exported, by encoders and by decoders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.deployment.asking import AskSession
from engine.objectives.class_loss import balanced_weights, class_losses, targets_of
from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory
from tests.engine.forked import carry
from tests.engine.label_rows import WORDS, all_words, class_rows, several_rows, tag_rows
from tests.engine.made_runs import events_of, loss_curve, write_rows
from tests.engine.tiny_encoders import save_tiny_bert, wordpiece_tokenizer
from tests.engine.tiny_models import save_tiny_model
from tests.engine.whole_runs import finished, planned


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), all_words())


def tree(model: Path, rows: list[dict], folder: Path, objective: str = "classification", **sections: dict) -> dict:
    data = {"source": str(write_rows(folder / "rows.jsonl", rows))}
    return {"objective": objective, "model": {"base": str(model)}, "data": data, **sections}


def after(run: RunDirectory) -> dict:
    measured: dict = json.loads((run.evaluation_folder / "after.json").read_text())
    return measured


class TestClassification:
    @pytest.fixture(scope="class")
    def run(self, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
        folder = tmp_path_factory.mktemp("classes")
        training = {"max_steps": 160, "learning_rate": 2e-3, "preflight": "full", "evaluate_every": 80}
        return finished(tree(bert, class_rows(160), folder, training=training), folder, method__name="full")[0]

    def test_it_learns_what_the_words_tell(self, run: RunDirectory):
        before = json.loads((run.evaluation_folder / "before.json").read_text())["metrics"]
        assert before["accuracy"] < 0.7
        assert after(run)["metrics"]["accuracy"] > 0.9
        assert after(run)["metrics"]["loss"] < 0.5 * before["loss"]
        assert set(after(run)["metrics"]) == {"loss", "accuracy", "f1_macro", "f1_micro"}

    def test_the_confusion_matrix_counts_every_row(self, run: RunDirectory):
        confusion = after(run)["confusion"]
        assert confusion["labels"] == sorted(WORDS)
        assert sum(count for _, _, count in confusion["cells"]) == after(run)["num_rows"] == 16

    def test_plain_transformers_gives_the_same_classes(self, run: RunDirectory):
        model = AutoModelForSequenceClassification.from_pretrained(run.merged_folder)
        tokenizer = AutoTokenizer.from_pretrained(run.merged_folder)
        assert model.config.id2label == dict(enumerate(sorted(WORDS)))
        for answer in after(run)["answers"]:
            logits = model(**tokenizer(answer["prompt"], return_tensors="pt")).logits
            assert model.config.id2label[int(logits.argmax())] == answer["text"]

    def test_the_card_loads_it_as_a_classifier(self, run: RunDirectory):
        card = (run.merged_folder / "README.md").read_text()
        assert "pipeline_tag: text-classification" in card
        assert "AutoModelForSequenceClassification.from_pretrained(folder)" in card

    def test_the_checks_before_the_first_step_passed(self, run: RunDirectory):
        found = {event["id"]: event["status"] for event in events_of(run, "preflight.checked")}
        assert found["P22"] == found["P23"] == "passed"
        assert "blocked" not in found.values()
        # Those of written answers say nothing of classes.
        assert not {"P1", "P2", "P5", "P6"} & set(found)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_brings_its_head_along(method: str, tmp_path: Path):
    wide = tmp_path / "wide"
    model = save_tiny_model(wide, hidden_size=64)
    training = {"max_steps": 60, "learning_rate": 1e-2, "preflight": "off", "evaluate_every": 60}
    run, plan = finished(tree(model, class_rows(120), tmp_path, training=training), tmp_path, method__name=method)
    # A third by guessing.
    assert after(run)["metrics"]["accuracy"] > 0.6
    settings = json.loads((run.adapter_folder / "adapter_config.json").read_text())
    assert settings["task_type"] == "SEQ_CLS"
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=3)
    loaded = PeftModel.from_pretrained(base, run.adapter_folder).eval()
    merged = AutoModelForSequenceClassification.from_pretrained(run.merged_folder)
    tokenizer = AutoTokenizer.from_pretrained(run.merged_folder)
    loaded.config.pad_token_id = merged.config.pad_token_id
    inputs = tokenizer("we had a very long goal team", return_tensors="pt")
    assert torch.allclose(loaded(**inputs).logits, merged(**inputs).logits, atol=1e-4)
    assert plan.task.head == "sequence-classification"


def test_texts_with_several_classes_are_learnt(bert: Path, tmp_path: Path):
    training = {"max_steps": 240, "learning_rate": 3e-3, "preflight": "off", "evaluate_every": 240}
    run, plan = finished(tree(bert, several_rows(160), tmp_path, training=training), tmp_path, method__name="full")
    assert plan.task.multi_label
    assert after(run)["metrics"]["f1_micro"] > 0.8
    config = json.loads((run.merged_folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_a_stopped_run_goes_on_as_if_nothing_had_been(bert: Path, tmp_path: Path):
    made = tree(bert, class_rows(64), tmp_path, training={"max_steps": 8, "checkpoint_every": 1, "preflight": "off"})
    straight = finished(made, tmp_path / "a", method__name="lora", method__dropout=0.1)[0]

    def stop_at_the_fifth_step() -> None:
        from engine.training.callbacks import RunCallback

        original = RunCallback.on_step_end

        def stopping(self: RunCallback, args, state, control, **kwargs):
            original(self, args, state, control, **kwargs)
            if state.global_step == 5:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

        RunCallback.on_step_end = stopping  # type: ignore[method-assign]

    stopped, _ = planned(made, tmp_path / "b", method__name="lora", method__dropout=0.1)
    assert carry(stopped, stop_at_the_fifth_step) == 75
    assert carry(stopped) == 0
    assert loss_curve(stopped) == loss_curve(straight)
    weights = [load_file(run.adapter_folder / "adapter_model.safetensors") for run in (straight, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_step_is_the_same_however_it_is_cut(bert: Path, tmp_path: Path):
    # Ten rows in steps of four: the last step of an epoch has two.
    made = tree(bert, class_rows(12), tmp_path, data={"source": str(tmp_path / "rows.jsonl"), "held_out": 0.17})
    made["training"] = {"max_steps": 6, "effective_batch": 4, "preflight": "off", "learning_rate": 1e-3}
    made["classification"] = {"class_weights": "balanced", "focal_gamma": 1.0}
    write_rows(tmp_path / "rows.jsonl", class_rows(12))
    curves = [
        loss_curve(finished(made, tmp_path / str(rows), method__name="full", training__micro_batch=rows)[0])
        for rows in (4, 1)
    ]
    assert curves[0].keys() == curves[1].keys()
    assert all(curves[0][step] == pytest.approx(curves[1][step], rel=1e-4) for step in curves[0])


class TestTags:
    @pytest.fixture(scope="class")
    def run(self, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
        folder = tmp_path_factory.mktemp("tags")
        training = {"max_steps": 120, "learning_rate": 1e-2, "preflight": "full", "evaluate_every": 60}
        made = tree(bert, tag_rows(160), folder, "token-classification", training=training)
        return finished(made, folder, method__name="lora", method__rank=8)[0]

    def test_it_finds_the_entities(self, run: RunDirectory):
        assert after(run)["metrics"]["entity_f1"] > 0.9
        assert "(PLACE)" in after(run)["samples"][0]["expected"]

    def test_plain_transformers_tags_the_words(self, run: RunDirectory):
        model = AutoModelForTokenClassification.from_pretrained(run.merged_folder)
        tokenizer = AutoTokenizer.from_pretrained(run.merged_folder)
        encoded = tokenizer("we had red near new harbour 5", return_tensors="pt")
        tags = [model.config.id2label[number] for number in model(**encoded).logits[0].argmax(-1).tolist()]
        assert "B-COLOUR" in tags
        assert "I-PLACE" in tags


class TestEncoding:
    def test_a_word_is_tagged_on_its_first_token_alone(self):
        tokenizer = wordpiece_tokenizer(["ab cd"], vocab_size=20)
        task = Task("tags", "token-classification", ("B-X", "O"))
        row = {"id": "r:1", "tokens": ["abcd", "ab"], "tags": ["B-X", "O"]}
        rendered = Renderer(tokenizer, 64, task=task).render(row)
        words = tokenizer.convert_ids_to_tokens(rendered.input_ids)
        tagged = [word for word, mark in zip(words, rendered.trained_mask, strict=True) if mark]
        assert not any(word.startswith("##") for word in tagged)
        assert (len(tagged), rendered.targets) == (2, (0, 1))

    def test_words_beyond_the_cut_lose_their_tags_and_no_other(self):
        tokenizer = wordpiece_tokenizer(["a b c d"], vocab_size=20)
        task = Task("tags", "token-classification", ("B-X", "O"))
        row = {"id": "r:1", "tokens": list("abcd"), "tags": ["B-X", "O", "B-X", "O"]}
        from engine.objectives.sequences import make_segment
        from engine.objectives.token_classification import tagged_row

        rendered = Renderer(tokenizer, 3, task=task).render(row)
        segment = make_segment("r:1", rendered.input_ids, rendered.trained_mask, rendered.targets)
        assert tagged_row([segment])["labels"] == [-100, 0, 1]


class TestLoss:
    def test_balanced_weights_are_those_of_scikit_learn(self):
        from sklearn.utils.class_weight import compute_class_weight

        given = ["a"] * 7 + ["b"] * 2 + ["c"]
        expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=given)
        counts = {name: given.count(name) for name in "abc"}
        weights = balanced_weights(counts, ["a", "b", "c"], multi_label=False, num_rows=10)
        assert weights.tolist() == pytest.approx(expected.tolist())

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_focal_loss_counts_sure_rows_less(self, multi_label: bool):
        task = Task("labels", "sequence-classification", ("a", "b"), multi_label)
        targets = targets_of([(0,), (0,)], task)
        logits = torch.tensor([[4.0, -4.0], [0.1, -0.1]])
        plain = class_losses(logits, targets, multi_label=multi_label)
        focal = class_losses(logits, targets, multi_label=multi_label, focal_gamma=2.0)
        assert (focal[0] / plain[0]) < 0.01
        assert (focal[1] / plain[1]) > 0.15
        assert torch.allclose(class_losses(logits, targets, multi_label=multi_label, focal_gamma=0.0), plain)


class TestAsking:
    def test_a_classifier_says_how_sure_it_is(self, bert: Path, tmp_path: Path):
        training = {"max_steps": 2, "preflight": "off"}
        run, _ = finished(tree(bert, class_rows(40), tmp_path, training=training), tmp_path, method__name="lora")
        session = AskSession(run.path)
        (answer,) = session.reply([{"role": "user", "content": "goal team"}])
        shares = {line.split()[2]: float(line.split()[0]) for line in answer.splitlines()}
        assert set(shares) == set(WORDS)
        assert sum(shares.values()) == pytest.approx(100, abs=0.2)
        with pytest.raises(ProblemError, match="no such head"):
            AskSession(run.path, which="base")
        with pytest.raises(ProblemError, match="no text"):
            list(session.reply([{"role": "user", "content": " "}]))
