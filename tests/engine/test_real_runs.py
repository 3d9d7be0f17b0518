"""Real data and a real small model through whole runs of the objectives: what is learnt is clearly more than chance."""

import json
import os
from pathlib import Path

import pytest

from tests.engine.tiny_kinds import save_pair_model
from tests.engine.whole_runs import finished

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
MODEL = ASSETS / "models" / "tinystories-656k"
pytestmark = [pytest.mark.assets, pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")]


def scores(run, phase: str) -> dict[str, float]:
    measured: dict[str, dict[str, float]] = json.loads((run.evaluation_folder / f"{phase}.json").read_text())
    return measured["metrics"]


def classified(tmp_path: Path, source: str, held_out: str | float, **flat):
    data = {"source": str(ASSETS / "classify" / source), "held_out": held_out}
    training = {"preflight": "off", "evaluate_every": 1000, "checkpoint_every": 1000}
    made = {"objective": "classification", "model": {"base": str(MODEL)}, "data": data, "training": training}
    return finished(made, tmp_path, 1200, method__name="full", **flat)[0]


def test_a_few_steps_tell_some_of_77_intents(tmp_path: Path) -> None:
    held_out = str(ASSETS / "classify" / "banking77_valid.csv")
    run = classified(tmp_path, "banking77_train.csv", held_out, training__max_steps=150, evaluation__max_rows=300)
    # Guessing one of 77 is right in 1.3 %.
    assert scores(run, "before")["accuracy"] < 0.05
    assert scores(run, "after")["accuracy"] > 0.15


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_six_epochs_tell_most_of_77_intents(tmp_path: Path) -> None:
    held_out = str(ASSETS / "classify" / "banking77_valid.csv")
    run = classified(tmp_path, "banking77_train.csv", held_out, training__epochs=6, evaluation__max_rows=616)
    assert scores(run, "after")["accuracy"] > 0.7
    assert scores(run, "after")["f1_macro"] > 0.7


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_reviews_are_told_apart(tmp_path: Path) -> None:
    run = classified(tmp_path, "rotten_tomatoes_4000.tsv", 0.1, training__epochs=4, evaluation__max_rows=400)
    # Half is chance; the model has only ever read children's stories.
    assert scores(run, "after")["accuracy"] > 0.6


@pytest.mark.parametrize(("rate", "forgets"), [(5e-3, True), (2e-5, False)], ids=["too high a rate", "a gentle one"])
def test_what_a_real_model_forgets_is_said_and_a_gentle_twin_is_left_in_peace(
    rate: float, forgets: bool, tmp_path: Path
) -> None:
    # Commands for lamps and doors: nothing in them is English prose.
    data = {"source": "builtin:commands", "max_rows": 300}
    training = {"preflight": "off", "max_steps": 40, "learning_rate": rate, "evaluate_every": 1000, "max_length": 256}
    evaluation = {"max_rows": 40, "generate_rows": 2, "max_new_tokens": 8, "few_shot": 0}
    made = {"objective": "chat", "model": {"base": str(MODEL)}, "data": data, "training": training}
    run = finished({**made, "evaluation": evaluation}, tmp_path, 600, method__name="full")[0]
    report = json.loads(run.report_json_file.read_text())
    assert report["forgetting"]["direction"] == ("worse" if forgets else "same")
    assert ("It forgets" in report["headline"]["text"]) == forgets


SUMMARIES = [
    ("MTS-Dialog-TrainingSet.csv", {"source": "dialogue", "target": "section_text"}),
    ("scitldr_a_train.jsonl", {"source": "source", "target": "target"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "mapping"), SUMMARIES, ids=["dialogues", "papers"])
def test_long_texts_are_learnt_with_their_summaries(file: str, mapping: dict[str, str], tmp_path: Path) -> None:
    # A decoder would need room for text and summary in one sequence, which the small real model has not.
    model = save_pair_model(tmp_path / "t5")
    data = {"source": str(ASSETS / "summarise" / file), "mapping": mapping, "max_rows": 400}
    training = {"preflight": "off", "max_steps": 60, "max_length": 256, "evaluate_every": 1000}
    evaluation = {"max_rows": 20, "generate_rows": 4, "max_new_tokens": 24}
    made = {"objective": "text-to-text", "model": {"base": str(model)}, "data": data, "training": training}
    run = finished({**made, "evaluation": evaluation}, tmp_path, 600, method__name="full")[0]
    before, after = scores(run, "before"), scores(run, "after")
    assert after["perplexity"] < 0.7 * before["perplexity"]
    assert {"rouge1", "rougeL", "bleu"} <= set(after)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_real_model_comes_to_expect_shakespeare(method: str, tmp_path: Path) -> None:
    data = {"source": str(ASSETS / "corpus" / "tinyshakespeare.txt"), "max_rows": 300}
    training = {"preflight": "off", "max_steps": 60, "max_length": 128, "evaluate_every": 1000}
    made = {"objective": "domain-adaptation", "model": {"base": str(MODEL)}, "data": data, "training": training}
    run = finished({**made, "evaluation": {"max_rows": 20}}, tmp_path, 600, method__name=method)[0]
    before, after = scores(run, "before"), scores(run, "after")
    assert after["perplexity"] < 0.7 * before["perplexity"]
