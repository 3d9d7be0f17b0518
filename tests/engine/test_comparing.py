"""`ftwizard compare`: verdicts on planted runs, refusals where rows differ, and real models measured on one file."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.measurement import save_measurement
from engine.evaluation.row_groups import mean_group
from engine.runs.directory import RunDirectory
from engine.runs.home import home_folders
from tests.engine.made_plan import made_plan, made_run, write_story
from tests.engine.made_runs import write_rows
from tests.engine.test_report_verdicts import IDS, accuracies, measurement
from tests.engine.tiny_models import command_rows, save_tiny_model, tiny_llama, tiny_tokenizer
from tests.engine.whole_runs import finished
from tests.unit.test_data_verbs import HelperHere
from tui.cli import app
from tui.verbs import compare as verb
from tui.verbs import eval as eval_verb
from tui.verbs import report as report_verb

HELD_OUT = '{"id": "rows.jsonl:1", "text": "one"}\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    for module in (verb, eval_verb):
        monkeypatch.setattr(module, "InspectionHelper", HelperHere)
    home_folders().runs.mkdir(parents=True)
    return tmp_path


def planted(
    name: str, groups: list[RowGroup] | None, *, held_out: str = HELD_OUT, base: str = "made/base", **recipe: Any
) -> RunDirectory:
    """Write a run whose measurement after training has these rows; none at all without any."""
    plan = made_plan(base, recipe={"name": name, **recipe})
    run = made_run(home_folders().runs / f"20261120-120000-{name}-k3f9", plan)
    write_story(run)
    run.data_folder.mkdir()
    run.held_out_file.write_text(held_out)
    if groups is not None:
        save_measurement(measurement("after", groups), run.evaluation_folder)
    return run


def put_aside(run: RunDirectory, groups: list[RowGroup]) -> None:
    run.test_file.write_text('{"id": "test"}\n')
    save_measurement(measurement("test", groups), run.evaluation_folder)


def compared(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def document(*arguments: object) -> dict[str, Any]:
    shown = compared(*arguments, "--json")
    assert shown.exit_code == 0, shown.output
    content: dict[str, Any] = json.loads(shown.stdout)
    return content


def against(content: dict[str, Any], name: str, side: int = 1, table: int = 0) -> dict[str, Any]:
    (line,) = (line for line in content["tables"][table]["metrics"] if line["name"] == name)
    found: dict[str, Any] = line["against"][side]
    return found


@pytest.mark.parametrize(
    ("shares", "verdict", "says"),
    [
        ((0.4, 0.8), "better", "better in accuracy"),
        ((0.8, 0.4), "worse", "worse in accuracy"),
        ((0.6, 0.64), "no evidence", "no evidence"),
    ],
)
def test_a_planted_difference_is_called_what_it_is(shares: tuple[float, float], verdict: str, says: str) -> None:
    planted("one", accuracies(shares[0], 1))
    planted("two", accuracies(shares[1], 2))
    content = document("one", "two")
    found = against(content, "accuracy")
    assert found["verdict"] == verdict
    assert found["compared_rows"] == len(IDS)
    assert says in content["tables"][0]["headlines"][0]
    shown = compared("one", "two").stdout
    assert "B is" in shown
    assert verdict in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_equal_models_are_unchanged_and_all_are_held_against_the_first() -> None:
    for name, share in (("one", 0.4), ("two", 0.4), ("three", 0.9)):
        planted(name, accuracies(share, 1 if share == 0.4 else 2))
    content = document("one", "two", "three")
    assert [against(content, "accuracy", side)["verdict"] for side in (1, 2)] == ["unchanged", "better"]
    shown = compared("one", "two", "three").stdout
    assert "Against A" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_rows_are_paired_so_that_hard_rows_hide_nothing() -> None:
    hard = [float(number % 2) for number in range(100)]
    ever_so_little = [min(1.0, value + 0.02) for value in hard]
    planted("one", mean_group("rougeL", IDS, hard))
    planted("two", mean_group("rougeL", IDS, ever_so_little))
    assert against(document("one", "two"), "rougeL")["verdict"] == "better"


@pytest.mark.parametrize(
    ("other_hash", "words"), [("ab" * 32, "divided differently"), ("cd" * 32, "they had different data")]
)
def test_other_held_out_rows_are_shown_and_not_compared(other_hash: str, words: str) -> None:
    planted("one", accuracies(0.4, 1))
    two = planted("two", accuracies(0.9, 2), held_out='{"id": "other.jsonl:1", "text": "two"}\n')
    plan = two.read_plan()
    data = plan.data.model_copy(update={"sha256": other_hash})
    two.plan_file.write_text(plan.model_copy(update={"data": data}).model_dump_json())
    content = document("one", "two")
    (table,) = content["tables"]
    assert not table["comparable"]
    assert words in table["why_not"][1]
    assert table["headlines"] == []
    assert table["metrics"][0]["against"] == [None, None]
    shown = compared("one", "two").stdout
    assert "ftwizard eval one --data FILE" in shown
    assert "ftwizard compare one two --data FILE" in shown
    assert "better" not in shown.replace("may be", "")


def test_of_three_those_with_the_same_rows_are_compared() -> None:
    planted("one", accuracies(0.4, 1))
    planted("two", accuracies(0.9, 2), held_out='{"id": "other.jsonl:1", "text": "two"}\n')
    planted("three", accuracies(0.9, 2))
    content = document("one", "two", "three")
    assert [bool(why) for why in content["tables"][0]["why_not"]] == [False, True, False]
    (line,) = content["tables"][0]["metrics"]
    assert line["against"][1] is None
    assert line["against"][2]["verdict"] == "better"
    assert [line[0] for line in content["tables"][0]["headlines"]] == ["C"]


def test_a_run_that_was_not_measured_is_told_and_its_settings_are_compared() -> None:
    planted("one", accuracies(0.4, 1), training={"seed": 17, "learning_rate": 1e-4})
    planted("two", None, training={"seed": 18, "learning_rate": 1e-4})
    content = document("one", "two")
    assert content["tables"][0]["why_not"][1].startswith("B was not measured after training")
    assert content["settings"] == [{"path": "training.seed", "values": [17, 18]}]
    shown = compared("one", "two").stdout
    for words in ("training.seed", "Training time", "Most memory", "lora"):
        assert words in shown


def test_test_rows_are_compared_beside_the_held_out_ones() -> None:
    for name, share in (("one", 0.3), ("two", 0.9)):
        put_aside(planted(name, accuracies(0.5, 1)), accuracies(share, len(name)))
    content = document("one", "two")
    assert [table["rows"] for table in content["tables"]] == ["held-out", "test"]
    assert against(content, "accuracy")["verdict"] == "unchanged"
    assert against(content, "accuracy", table=1)["verdict"] == "better"


def test_rewards_of_other_losses_are_not_compared() -> None:
    group = mean_group("reward_accuracy", IDS, [1.0] * 100)
    worse = mean_group("reward_accuracy", IDS, [0.0] * 100)
    planted("one", group, objective="preference", preference={"loss": "dpo"})
    planted("two", worse, objective="preference", preference={"loss": "simpo"})
    content = document("one", "two")
    assert against(content, "reward_accuracy")["verdict"] == "not comparable"
    assert "preference.loss" in content["tables"][0]["notes"][0]


def test_which_run_started_from_which() -> None:
    planted("one", accuracies(0.4, 1))
    planted("two", accuracies(0.4, 1), base="run:20261120-120000-one-k3f9")
    planted("three", accuracies(0.4, 1), base="run:20261120-120000-two-k3f9")
    content = document("one", "three")
    assert content["lineage"] == ["B started from the model of run:20261120-120000-two-k3f9, which started from A."]
    assert content["sides"][1]["started_from"] == ["run:20261120-120000-two-k3f9", "run:20261120-120000-one-k3f9"]
    assert document("one", "two")["lineage"] == ["B started from the model of A."]
    shutil.rmtree(home_folders().runs / "20261120-120000-one-k3f9")
    assert document("two", "three")["lineage"] == [
        "A started from the model of run:20261120-120000-one-k3f9.",
        "B started from the model of A, which started from run:20261120-120000-one-k3f9.",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("one",), "two to 6"),
        (("one", "one"), "A and B are the same"),
        (("one", "latest"), "A and B are the same"),
        (("one", "nothing-there"), "no run nothing-there"),
        (("one", "two", "--again"), "say how --data is measured"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    planted("one", accuracies(0.4, 1))
    shown = compared(*arguments)
    assert shown.exit_code == 2
    assert words in shown.stderr


def test_names_from_outside_cannot_act_on_the_terminal() -> None:
    planted("one", accuracies(0.4, 1))
    two = planted("two", accuracies(0.4, 1))
    plan = two.read_plan()
    recipe = plan.recipe.model_copy(
        update={"method": plan.recipe.method.model_copy(update={"initial_text": "\x1b[2J"})}
    )
    two.plan_file.write_text(plan.model_copy(update={"recipe": recipe}).model_dump_json())
    shown = compared("one", "two").stdout
    assert "method.initial_text" in shown
    assert "\x1b" not in shown


def test_models_are_measured_on_one_file_and_remembered(tiny_model_folder: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=8)
    rows = write_rows(tmp_path / "rows.jsonl", command_rows(16))
    refused = compared(tiny_model_folder, other)
    assert refused.exit_code == 2
    assert "Add --data FILE" in refused.stderr
    content = document(tiny_model_folder, other, "--data", rows, "--metrics", "perplexity")
    assert content["tables"][0]["comparable"]
    assert against(content, "loss")["compared_rows"] == 16
    # What was measured then answers the same question without the file.
    assert document(tiny_model_folder, other)["tables"] == content["tables"]


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "adapter"])
def test_a_run_that_learned_is_better_than_its_base_on_a_file(
    tiny_model_folder: Path, tmp_path: Path, *, merge: bool
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", command_rows(96))
    tree = {
        "objective": "chat",
        "model": {"base": str(tiny_model_folder)},
        "method": {"name": "lora"},
        "data": {"source": str(rows)},
        "training": {"max_steps": 30, "learning_rate": 1e-2, "effective_batch": 8},
        "evaluation": {"metrics": ["perplexity"], "few_shot": 0},
        "delivery": {"merge": merge},
    }
    run, _ = finished(tree, tmp_path / "home")
    assert run.merged_folder.is_dir() == merge
    content = document(tiny_model_folder, run.folder_name, "--data", rows, "--metrics", "perplexity")
    assert against(content, "perplexity")["verdict"] == "better"
    assert [side["kind"] for side in content["sides"]] == ["model", "run"]
    (line,) = (each for each in content["tables"][0]["metrics"] if each["name"] == "perplexity")
    assert line["sides"][1]["value"] < line["sides"][0]["value"]
    # The file is the one that it learnt from, and that is said.
    assert content["sides"][0]["remarks"] == []
    (remark,) = content["sides"][1]["remarks"]
    assert remark.startswith("The run has learnt 86 of the 96 rows")


def test_the_commands_of_the_page_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("ftwizard ")]
    assert {words[1] for words in commands} == {"report", "eval", "compare"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_verb, "InspectionHelper", HelperHere)
    monkeypatch.setattr(report_verb.webbrowser, "open", lambda address: True)
    save_tiny_model(tmp_path / "my-model")
    planted("short", accuracies(0.4, 1))
    planted("long", accuracies(0.8, 2))
    for words in commands:
        ended = CliRunner().invoke(app, words[1:])
        assert ended.exit_code == 0, (words, ended.output)
    assert (tmp_path / "measured.json").is_file()


def test_models_with_other_tokenizers_share_what_needs_no_tokens(tiny_model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tokenizer = tiny_tokenizer(vocab_size=330)
    tiny_llama(len(tokenizer)).save_pretrained(other)
    tokenizer.save_pretrained(other)
    rows = write_rows(tmp_path / "rows.jsonl", command_rows(8))
    content = document(tiny_model_folder, other, "--data", rows)
    assert against(content, "perplexity")["verdict"] == "not comparable"
    assert against(content, "rougeL")["verdict"] != "not comparable"
    assert "different tokens" in content["tables"][0]["notes"][0]
