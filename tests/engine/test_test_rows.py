"""Rows put aside for a last test: measured before and after, told as such, and without a say in the run."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation.report import write_report
from engine.runs.directory import RunDirectory
from engine.runs.picture import open_picture
from tests.engine.forked import carry
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows
from tui.monitor.panels import measurement_label
from tui.progress import follow_plain
from tui.results.screen import metric_table
from tui.summary import last_test, print_summary, read_report

TEST_SHARE = 0.2


def run_of(folder: Path, model: Path, rows: Path, **data: Any) -> RunDirectory:
    evaluation = {"metrics": ["perplexity", "exact_match"], "max_rows": 40, "generate_rows": 3, "max_new_tokens": 8}
    recipe = made_recipe(model, rows, training={"max_steps": 6, "evaluate_every": 3}, evaluation=evaluation)
    tree = recipe.model_dump(mode="json")
    tree["data"] = {**tree["data"], **data}
    run = make_run(folder, type(recipe).model_validate(tree))
    assert carry(run) == 0, run.log_file.read_text()[-3000:]
    return run


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> RunDirectory:
    folder = tmp_path_factory.mktemp("tested")
    rows = write_rows(folder / "commands.jsonl", command_rows(60))
    return run_of(folder / "run", tiny_model_folder, rows, split={"test": TEST_SHARE})


def measured(run: RunDirectory, phase: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.evaluation_folder / f"{phase}.json").read_text())
    return content


def test_test_rows_are_measured_once_before_and_once_after(tested):
    phases = [event["phase"] for event in events_of(tested, "evaluation.completed")]
    assert phases[:2] == ["before", "test_before"]
    assert phases[-2:] == ["after", "test"]
    assert phases.count("test") == phases.count("test_before") == 1
    rows = [json.loads(line) for line in tested.test_file.read_text().splitlines()]
    asked = {answer["id"] for answer in measured(tested, "test")["answers"]}
    assert asked
    assert asked <= {row["id"] for row in rows}
    assert measured(tested, "test")["num_rows"] == len(rows)
    assert measured(tested, "test")["samples"] == []
    assert measured(tested, "test")["metrics"]["loss"] < measured(tested, "test_before")["metrics"]["loss"]


def test_no_row_stands_on_two_sides_and_the_counts_are_told(tested):
    (prepared,) = events_of(tested, "data.prepared")
    sides = [tested.train_file, tested.held_out_file, tested.test_file]
    ids = [[json.loads(line)["id"] for line in side.read_text().splitlines()] for side in sides]
    assert [prepared["num_train"], prepared["num_held_out"], prepared["num_test"]] == [len(side) for side in ids]
    assert len({row for side in ids for row in side}) == sum(map(len, ids))
    assert len(ids[2]) == 60 * TEST_SHARE


def test_test_rows_are_no_point_of_the_curve_and_name_no_best_step(tested):
    picture, _ = open_picture(tested)
    assert picture.latest["eval_loss"] == measured(tested, "after")["metrics"]["loss"]
    assert picture.evaluation("test")["metrics"]["loss"] == measured(tested, "test")["metrics"]["loss"]
    assert measurement_label(picture.evaluation("test_before")) == "test, before"
    lowest = min(one["metrics"]["loss"] for one in picture.evaluations if one["phase"] in ("before", "during", "after"))
    report = read_report(tested)
    assert report["training"]["lowest_held_out"]["loss"] == pytest.approx(lowest)


def test_report_results_and_summary_show_them_apart(tested, capsys):
    report = read_report(tested)
    num_rows, rows = last_test(report)
    assert num_rows == 12
    assert report["data"]["num_test"] == 12
    by_name = {row["name"]: row for row in report["test"]["metrics"]}
    assert by_name["loss"]["before"] == measured(tested, "test_before")["metrics"]["loss"]
    assert by_name["loss"]["after"] == measured(tested, "test")["metrics"]["loss"]
    for text in (tested.report_markdown_file.read_text(), tested.report_html_file.read_text()):
        assert "Test rows (never seen)" in text
        assert by_name["perplexity"]["after_text"] in text
    shown = "\n".join(line.plain for line in metric_table(report))
    assert "12 test rows (never seen)" in shown
    print_summary(tested)
    assert "12 test rows (never seen)" in capsys.readouterr().out
    assert [row.title for row in rows]


def test_putting_rows_aside_and_measuring_them_changes_no_step(tested, tiny_model_folder, tmp_path):
    """The same training rows without the others give the same losses."""
    plain = run_of(tmp_path / "run", tiny_model_folder, tested.train_file, held_out=str(tested.held_out_file))
    assert "test" not in {event["phase"] for event in events_of(plain, "evaluation.completed")}
    assert loss_curve(plain) == loss_curve(tested)
    assert read_report(plain)["test"] is None
    assert metric_table(read_report(plain))
    assert "never seen" not in plain.report_markdown_file.read_text()


def test_a_report_of_a_run_that_ended_before_its_test_has_the_first_half(tested):
    moved = tested.evaluation_folder / "test.json"
    kept = moved.read_bytes()
    moved.unlink()
    try:
        write_report(tested)
        test = read_report(tested)["test"]
        assert {row["after_text"] for row in test["metrics"]} == {"n/a"}
    finally:
        moved.write_bytes(kept)
        write_report(tested)


def test_progress_lines_name_the_rows_and_both_measurements(tested):
    out = io.StringIO()
    assert follow_plain(tested.path, out) == 0
    assert ", 12 test rows\n" in out.getvalue()
    for moment in ("before", "after"):
        assert f"evaluation test rows, {moment}: " in out.getvalue()
