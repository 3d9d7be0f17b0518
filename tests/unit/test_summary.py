"""What the command line prints of a report: its judgement, its places, and text from outside made harmless."""

import json

import pytest

from engine.catalog.metrics import find_metric
from engine.evaluation.report_data import metric_row
from engine.runs.directory import RunDirectory
from tui.summary import MISTAKES_SHOWN, best_sample, metric_rows, print_summary


def report(**changes):
    before, after = {"exact_match": 0.5, "perplexity": 3.0}, {"exact_match": 0.5004, "perplexity": 9.0}
    return {
        "metrics": [metric_row(find_metric(name), {"metrics": before}, {"metrics": after}) for name in before],
        "samples": [{"prompt": "p", "expected": "e", "before": "b", "after": "e"}],
        "model": {"merged": "model/merged", "adapter": None, "output": "/srv/models/commands"},
        **changes,
    }


@pytest.fixture
def printed(tmp_path, capsys):
    def show(content):
        run = RunDirectory(tmp_path / "run")
        run.path.mkdir(exist_ok=True)
        run.report_json_file.write_text(json.dumps(content))
        print_summary(run)
        return capsys.readouterr().out

    return show


def test_the_verdicts_are_those_of_the_report():
    judged = [(row["name"], row["direction"]) for row in report()["metrics"]]
    assert judged == [("exact_match", "same"), ("perplexity", "worse")]
    assert [row.direction for row in metric_rows(report())] == ["same", "worse"]


def test_every_place_of_the_model_is_told(printed, tmp_path):
    lines = printed(report()).splitlines()
    places = dict(line.split(maxsplit=1) for line in lines[-4:])
    assert places["merged"] == str(tmp_path / "run" / "model" / "merged")
    assert places["copy"] == "/srv/models/commands"
    assert places["report"].endswith("report.html")
    assert "ftwizard chat " in places["try"]
    (line,) = (line for line in lines if line.startswith("try it"))
    assert line.index("ftwizard") == 10


def test_text_from_data_and_models_cannot_act_on_the_terminal(printed):
    hostile = "[/INST] \x1b[2J\x9b31m\u202e\rover"
    output = printed(report(samples=[dict.fromkeys(("prompt", "expected", "before", "after"), hostile)]))
    assert output.count("[/INST]") == 4
    assert not any(character in output for character in "\x1b\x9b\u202e\r")


def test_a_damaged_report_is_no_reason_to_crash(printed):
    assert "report" in printed({"metrics": [1, {}], "samples": [None, "x"], "model": None})


def test_the_sample_shown_is_the_one_that_became_right():
    same = {"prompt": "1", "expected": "x", "before": "y", "after": "y"}
    changed = {"prompt": "2", "expected": "x", "before": "y", "after": "z"}
    right = {"prompt": "3", "expected": "x", "before": "y", "after": " x"}
    assert best_sample({"samples": [same, changed, right]}) == right
    assert best_sample({"samples": [same, changed]}) == changed
    assert best_sample({"samples": [same]}) == same
    assert best_sample({"samples": []}) is None


def mistakes(*pairs):
    return {"mistakes": [{"expected": left, "given": right, "rows": rows, "of": of} for left, right, rows, of in pairs]}


def test_labels_confused_most_are_told_in_short(printed):
    many = mistakes(("loan", "card", 6, 10), *((f"label {number}", "card", 1, 9) for number in range(9)))
    lines = printed(report(confusion=many)).splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("Confused most")]
    assert lines[place + 1].split() == ["loan", "→", "card", "6", "of", "10"]
    assert len([line for line in lines if "→" in line]) == 1 + MISTAKES_SHOWN
    assert "No label of a held-out row was wrong." in printed(report(confusion=mistakes()))
    assert "Confused most" not in printed(report(confusion=None))
    assert "\x1b" not in printed(report(confusion=mistakes(("\x1b[2J", "b" * 500, 1, 1))))
    printed(report(confusion={"mistakes": [None, {}]}))
