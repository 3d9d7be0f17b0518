"""`ftwizard eval` on real tiny models: numbers of the run's own examiners, kept once, and refusals in sentences."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner, Result

from engine.evaluation.apart import measuring
from engine.evaluation.evidence import interval_of
from engine.evaluation.kept_rows import rows_of
from engine.runs.home import home_folders
from tests.engine.label_rows import all_words, class_rows, tag_rows
from tests.engine.made_runs import write_rows
from tests.engine.tiny_encoders import save_tiny_bert
from tests.engine.tiny_kinds import save_pair_model
from tests.engine.tiny_models import command_rows, save_tiny_model, text_rows
from tests.engine.whole_runs import finished
from tests.unit.test_data_verbs import HelperHere
from tui.cli import app
from tui.verbs import eval as verb


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(verb, "InspectionHelper", HelperHere)
    return tmp_path


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "commands.jsonl", command_rows(24))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with a head for three classes, as its files name them."""
    folder = tmp_path_factory.mktemp("classifier")
    base = save_tiny_bert(folder / "base", [*all_words(), *(row["text"] for row in class_rows(60))])
    names = dict(enumerate(("Food", "sport", "travel")))
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(
        str(base), num_labels=3, id2label=names, label2id={name: number for number, name in names.items()}
    )
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(str(base)).save_pretrained(folder / "model")
    return folder / "model"


def evaluated(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def document(*arguments: object) -> dict[str, Any]:
    shown = evaluated(*arguments, "--json")
    assert shown.exit_code == 0, shown.output
    content: dict[str, Any] = json.loads(shown.stdout)
    return content


def value(content: dict[str, Any], name: str) -> float:
    return float(content["measurement"]["metrics"][name])


def test_a_model_folder_is_measured_with_intervals(tiny_model_folder: Path, commands: Path) -> None:
    shown = evaluated(tiny_model_folder, "--data", commands)
    assert shown.exit_code == 0, shown.output
    assert "95 % interval" in shown.stdout
    assert "chat: the rows are conversations" in shown.stdout
    assert "24 rows" in shown.stdout
    lines = shown.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("Kept in"))
    (kept,) = (home_folders().cache / "evaluations").glob("*.json")
    content = json.loads(kept.read_text())
    for name, rows in rows_of(content["measurement"]).items():
        assert rows.value() == pytest.approx(content["measurement"]["metrics"][name])
        interval = interval_of(rows)
        (line,) = (each for each in content["metrics"] if each["name"] == name)
        assert interval is not None
        assert line["interval"] == [interval.low, interval.high]


def test_the_same_is_not_measured_twice_unless_asked(
    tiny_model_folder: Path, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    measure = measuring._measure
    monkeypatch.setattr(measuring, "_measure", lambda *given: measured.append(given[0].name) or measure(*given))
    asked = (tiny_model_folder, "--data", commands, "--metrics", "perplexity")
    first = document(*asked)
    assert not first["kept"]
    assert document(*asked)["kept"]
    # A copy is the same model; other rows, other metrics and another word are other measurements.
    copy = shutil.copytree(tiny_model_folder, tmp_path / "copy")
    copied = document(copy, *asked[1:])
    assert copied["kept"]
    assert copied["model"]["name"] == "copy"
    assert "--again" in evaluated(*asked).stdout
    assert len(measured) == 1
    assert not document(*asked, "--max-rows", 5)["kept"]
    assert not document(*asked, "--again")["kept"]
    other = save_tiny_model(tmp_path / "other", seed=8)
    assert value(document(other, *asked[1:]), "loss") != value(first, "loss")
    assert len(measured) == 4


def test_an_adapter_is_measured_on_its_base(tiny_model_folder: Path, commands: Path, tmp_path: Path) -> None:
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(str(tiny_model_folder)), LoraConfig(r=2, target_modules="all-linear")
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    asked = ("--data", commands, "--metrics", "perplexity")
    alone = document(tiny_model_folder, *asked)
    with_adapter = document(tmp_path / "adapter", *asked)
    assert with_adapter["model"]["adapter"]
    assert value(with_adapter, "loss") != pytest.approx(value(alone, "loss"), abs=1e-3)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(str(tmp_path / "merged"))
    AutoTokenizer.from_pretrained(str(tiny_model_folder)).save_pretrained(str(tmp_path / "merged"))
    assert value(document(tmp_path / "merged", *asked), "loss") == pytest.approx(value(with_adapter, "loss"), rel=1e-4)


def test_labels_are_matched_by_name_and_unknown_ones_are_told(classifier: Path, tmp_path: Path) -> None:
    rows = class_rows(30)
    known = document(classifier, "--data", write_rows(tmp_path / "known.jsonl", rows))
    assert known["objective"] == "classification"
    assert known["measurement"]["num_rows"] == 30
    assert known["measurement"]["confusion"]["labels"] == ["food", "sport", "travel"]
    more = [*rows, {"text": "the moon tonight", "label": "space"}]
    told = document(classifier, "--data", write_rows(tmp_path / "more.jsonl", more))
    assert value(told, "accuracy") == value(known, "accuracy")
    assert any("space" in remark and "left out" in remark for remark in told["remarks"])
    foreign = [{"text": row["text"], "label": f"kind {number % 3}"} for number, row in enumerate(rows)]
    shown = evaluated(classifier, "--data", write_rows(tmp_path / "foreign.jsonl", foreign))
    assert shown.exit_code == 2
    assert "gives none of the labels" in shown.stderr


def test_other_kinds_of_models_are_measured_by_their_own_numbers(tmp_path: Path) -> None:
    summaries = [{"source": f"the red lamp and door {n}", "target": f"lamp {n}"} for n in range(12)]
    pairs = document(save_pair_model(tmp_path / "t5"), "--data", write_rows(tmp_path / "pairs.jsonl", summaries))
    assert pairs["objective"] == "text-to-text"
    assert {"rougeL", "bleu", "perplexity"} <= set(pairs["measurement"]["metrics"])
    texts = write_rows(tmp_path / "texts.jsonl", text_rows(20))
    encoder = save_tiny_bert(tmp_path / "bert", [row["text"] for row in text_rows(20)])
    hidden = document(encoder, "--data", texts)
    assert hidden["objective"] == "domain-adaptation"
    assert "masked_accuracy" in hidden["measurement"]["metrics"]


def test_pairs_need_no_second_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"turn on lamp {n}", "chosen": "on(lamp)", "rejected": "no idea"} for n in range(8)]
    found = document(tiny_model_folder, "--data", write_rows(tmp_path / "pairs.jsonl", rows))
    assert found["objective"] == "preference"
    assert "reward_accuracy" in found["measurement"]["metrics"]
    assert any("log-probability" in remark for remark in found["remarks"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--metrics", "accuracy"), ("accuracy does not fit chat", "Metrics that fit: perplexity")),
        (("--metrics", "blue"), ("no metric 'blue'", "exact_match")),
        (("--objective", "classification"), ("classification does not fit", "chat, domain-adaptation")),
        (("--objective", "reinforcement-learning"), ("apart from a run",)),
        (("--objective", "talk"), ("no objective 'talk'", "chat")),
        (("--set", "training.seed=3"), ("says nothing about how the data is read",)),
        (("--out", "there.json"), ("exists already",)),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    options: tuple[str, ...],
    words: tuple[str, ...],
    tiny_model_folder: Path,
    commands: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.json").write_text("mine")
    shown = evaluated(tiny_model_folder, "--data", commands, *options)
    assert shown.exit_code == 2
    for part in words:
        assert part in shown.stderr
    assert Path("there.json").read_text() == "mine"


def test_rows_without_expected_answers_are_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"turn on lamp {n}"} for n in range(8)]
    shown = evaluated(tiny_model_folder, "--data", write_rows(tmp_path / "prompts.jsonl", rows))
    assert shown.exit_code == 2
    assert "prompts without an expected answer" in shown.stderr


def test_rows_of_another_task_are_refused_with_the_model_that_they_need(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    shown = evaluated(tiny_model_folder, "--data", write_rows(tmp_path / "classes.jsonl", class_rows(12)))
    assert shown.exit_code == 2
    assert "texts with labels, which classification measures" in shown.stderr


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("no-such-run", "There is no run no-such-run, and no such model was found"),
        ("run:none", "There are no runs"),
        ("latest", "There are no runs"),
        ("./nothing/there", "is no run, no folder"),
        (".", "holds no model, no adapter and no run"),
    ],
)
def test_models_that_are_not_there_are_a_sentence(
    model: str, words: str, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    shown = evaluated(model, "--data", commands)
    assert shown.exit_code == 2
    assert words in shown.stderr


def test_all_of_it_can_be_written_to_a_file(tiny_model_folder: Path, commands: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    short = document(tiny_model_folder, "--data", commands, "--metrics", "exact_match", "--out", out)
    whole = json.loads(out.read_text())
    assert len(whole["measurement"]["answers"]) == 24
    assert "answers" not in short["measurement"]


def test_ctrl_c_ends_it_at_once_and_keeps_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tui.cli", "eval", str(tiny_model_folder), "--data"]
    rows = write_rows(tmp_path / "many.jsonl", command_rows(2000))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [*command, str(rows), "--max-rows", "2000"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = home_folders().cache / "inspection.log"
    deadline = time.monotonic() + 60
    while not log.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 10
    assert out == b""
    assert not (home_folders().cache / "evaluations").exists()


CHAT_ROWS = [{"messages": row["messages"]} for row in command_rows(80)]
RUNS: dict[str, tuple[str, list[dict[str, Any]], tuple[str, ...]]] = {
    "chat": ("llama", CHAT_ROWS, ("loss", "token_accuracy")),
    "classification": ("bert", class_rows(90), ("loss", "accuracy", "f1_macro")),
    "token-classification": ("bert", tag_rows(80), ("loss", "entity_f1")),
    "text-to-text": ("t5", [{"source": f"lamp {n} is on", "target": f"on {n}"} for n in range(60)], ("loss", "rougeL")),
}


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "adapter"])
@pytest.mark.parametrize("objective", RUNS)
def test_a_run_on_its_own_held_out_rows_has_the_numbers_of_the_run(
    objective: str, tmp_path: Path, *, merge: bool
) -> None:
    kind, rows, names = RUNS[objective]
    folder = tmp_path / "base"
    if kind == "bert":
        save_tiny_bert(folder, all_words())
    elif kind == "t5":
        save_pair_model(folder)
    else:
        save_tiny_model(folder)
    tree = {
        "objective": objective,
        "model": {"base": str(folder)},
        "method": {"name": "lora"},
        "data": {"source": str(write_rows(tmp_path / "rows.jsonl", rows)), "held_out": 0.2},
        "training": {"max_steps": 6, "effective_batch": 8, "learning_rate": 1e-2},
        "evaluation": {"few_shot": 0} if objective in ("chat", "text-to-text") else {},
        "delivery": {"merge": merge},
    }
    run, _ = finished(tree, tmp_path / "home")
    after = json.loads((run.evaluation_folder / "after.json").read_text())
    held_out = [json.loads(line) for line in run.held_out_file.read_text().splitlines()]
    content = document("latest", "--data", write_rows(tmp_path / "held-out.jsonl", held_out))
    assert content["objective"] == objective
    assert content["measurement"]["num_rows"] == after["num_rows"]
    for name in names:
        assert value(content, name) == pytest.approx(after["metrics"][name], rel=1e-4), name
