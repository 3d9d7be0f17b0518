"""The few-shot baseline wherever numbers are shown: monitor, results screen, summary, plain progress."""

from typing import Any

from engine.catalog.metrics import find_metric
from engine.evaluation.report_data import metric_row
from engine.runs.events import Event
from engine.runs.picture import Picture
from tui.monitor.panels import evaluation_lines, sample_lines
from tui.results.screen import metric_table
from tui.summary import few_shot_of


def picture() -> Picture:
    """Return a run whose baseline has a lower loss than any of its steps."""
    found = Picture()
    events: list[tuple[str, dict[str, Any]]] = [
        ("evaluation.completed", {"phase": "before", "step": 0, "metrics": {"loss": 3.0}}),
        ("samples.generated", {"phase": "few_shot", "step": 0, "samples": [{"prompt": "p", "text": "shown"}]}),
        ("evaluation.completed", {"phase": "few_shot", "step": 0, "metrics": {"loss": 0.5}, "num_examples": 3}),
        ("training.started", {"start_step": 0, "total_steps": 4}),
        ("evaluation.completed", {"phase": "during", "step": 2, "metrics": {"loss": 2.0}}),
        ("evaluation.completed", {"phase": "during", "step": 4, "metrics": {"loss": 2.5}}),
    ]
    found.apply_all(Event(number, float(number), name, load) for number, (name, load) in enumerate(events, 1))
    assert found.odd_events == 0
    return found


def report() -> dict[str, Any]:
    sides = [{"metrics": {"exact_match": share}} for share in (0.0, 0.9, 0.4)]
    row = metric_row(find_metric("exact_match"), *sides)
    return {"metrics": [row], "few_shot": {"num_examples": 3, "text": "Training was worth it."}}


def test_the_baseline_is_a_row_and_no_point_of_the_curve() -> None:
    found = picture()
    assert [bucket.x for bucket in found.curves["eval_loss"].points()] == [0, 2, 4]
    assert found.best_step() == 2
    assert found.latest["eval_loss"] == 2.5
    lines = [line.plain for line in evaluation_lines(found, 76)]
    assert [line.split("  ")[0] for line in lines[1:]] == ["step 4", "step 2", "few-shot (3)", "before"]
    starts = {line.rstrip("▲▼ ").rindex(".") for line in lines[1:]}
    assert len(starts) == 2, "values line up, with and without an arrow"
    # A step is compared with the base model as it stands, not with the prompt.
    assert "▲" in lines[2]
    assert "few-shot" in "\n".join(line.plain for line in sample_lines(found, 0))


def test_a_resumed_run_keeps_it() -> None:
    found = picture()
    found.apply(Event(50, 50.0, "training.started", {"start_step": 0, "total_steps": 4}))
    assert [item["phase"] for item in found.evaluations] == ["before", "few_shot"]
    assert Picture.from_json(found.to_json()).evaluation("few_shot") == found.evaluation("few_shot")


def test_the_results_show_it_between_before_and_after() -> None:
    head, row, verdict = (line.plain for line in metric_table(report()))
    assert head.split() == ["Held-out", "rows", "before", "few-shot", "(3)", "after"]
    assert row.split()[2:8] == ["0.0", "%", "40.0", "%", "90.0", "%"]
    assert verdict == "Training was worth it."


def test_reports_without_it_look_as_before() -> None:
    old = {**report(), "few_shot": None}
    assert few_shot_of(old) == few_shot_of({}) == ("", "")
    assert "few-shot" not in "\n".join(line.plain for line in metric_table(old))
