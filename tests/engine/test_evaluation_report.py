"""The report of a run, gathered from its directory: content, and that no text from outside acts in it."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from engine.evaluation.measurement import Confusion, Measurement, Sample, save_measurement
from engine.evaluation.report import write_report
from engine.evaluation.report_confusion import MAX_MATRIX_LABELS, most_frequent_mistakes
from engine.runs.events import EventWriter
from tests.engine.made_plan import made_plan, made_run, write_story

HOSTILE = "<script>alert(1)</script>\x1b[2J | `code` ``` [link](http://x) </pre> \ud800 \u202e ![i](x)"


def measured(phase, metrics, text, *, prompt="turn on the red lamp", step=75):
    return Measurement(
        phase=phase,
        step=step,
        metrics=metrics,
        samples=[Sample(prompt, "on(red_lamp)", text), Sample("what is that", "state(that)", "state(that)")],
        num_rows=20,
        num_tokens=400,
        num_generated=6,
        elapsed_s=2.0,
    )


BEFORE = {"loss": 6.0, "perplexity": 403.4, "token_accuracy": 0.02, "exact_match": 0.0, "rouge1": 0.1, "rougeL": 0.09}
AFTER = {"loss": 0.5, "perplexity": 1.65, "token_accuracy": 0.9, "exact_match": 0.86, "rouge1": 0.9, "rougeL": 0.09}


@pytest.fixture
def run(tmp_path):
    run = made_run(tmp_path / "20261120-120000-made-k3f9", made_plan(recipe={"name": "Lamp commands"}))
    write_story(run)
    save_measurement(measured("before", BEFORE, "on on on"), run.evaluation_folder)
    save_measurement(measured("after", AFTER, "on(red_lamp)"), run.evaluation_folder)
    return run


class Page(HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    VOID = frozenset({"meta", "line", "circle", "path", "br", "!doctype"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes.extend(name for name, _ in attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_report_says_what_changed_and_in_which_direction(run):
    page = write_report(run, state="finished")
    report = json.loads(run.report_json_file.read_text(), parse_constant=pytest.fail)
    assert report["version"] == 1
    assert report["state"] == "finished"
    assert report["before"] == BEFORE
    assert report["after"] == AFTER
    verdicts = {row["name"]: (row["direction"], row["before_text"], row["after_text"]) for row in report["metrics"]}
    assert verdicts["perplexity"][0] == "better"
    assert verdicts["exact_match"] == ("better", "0.0 %", "86.0 %")
    assert verdicts["rougeL"][0] == "same"
    assert report["headline"] == {
        "direction": "better",
        "text": "The model learned: exact match rose from 0.0 % to 86.0 % and perplexity fell from 403.40 to 1.65.",
    }
    assert report["samples"][0] == {
        "prompt": "turn on the red lamp", "expected": "on(red_lamp)", "before": "on on on", "few_shot": "",
        "after": "on(red_lamp)",
    }  # fmt: skip
    assert report["training"]["steps"] == 75
    assert report["training"]["lowest_held_out"]["step"] in (50, 60)
    memory = report["memory"]
    assert memory["measured_bytes"] == 198 << 20
    assert memory["predicted"]["depth"] == "simulated"
    assert memory["predicted"]["components"] == {"weights": 110 << 20, "activations": 80 << 20}
    assert memory["measured"] == {
        "step": 75, "phase": "training", "kind": "rss",
        "phases": {"training": 198 << 20, "evaluation": 175 << 20},
    }  # fmt: skip
    assert memory["verdict"] == "inside"
    assert memory["error_percent"] == pytest.approx(100 * (190 - 198) / 198)
    assert memory["sentence"] == "peak 198 MiB at step 75, predicted 170 to 220 MiB: inside"
    assert report["model"]["merged"] is None
    assert report["versions"]["torch"] == "2.13.0"
    sources = {row["path"]: row["source"] for row in report["recipe"]}
    assert sources["model.base"] == "you"
    assert sources["training.micro_batch"] == "derived: the largest that fits"
    assert sources["training.schedule"] == "default"
    text = page.read_text()
    assert "The model learned" in text
    assert text.count("<svg") == 4
    assert "Peak 198 MiB at step 75, predicted 170 to 220 MiB: inside." in text
    markdown = run.report_markdown_file.read_text()
    assert "The model learned" in markdown
    assert "190 MiB of host RAM were expected" in markdown
    assert "4.0 % less than was used (rehearsed, not measured)." in text


def test_a_peak_outside_of_the_prediction_is_said(run):
    log = EventWriter(run.events_file)
    log.write("memory.probed", outcome="measured", peak_bytes=200 << 20, fits=True, free_bytes=4 << 30)
    log.write("memory.sampled", phase="merging", peak_bytes=300 << 20, peak_kind="rss", rss_bytes=1, peak_rss_bytes=1)
    log.close()
    page = write_report(run).read_text()
    memory = json.loads(run.report_json_file.read_text())["memory"]
    assert (memory["verdict"], memory["measured_bytes"]) == ("above", 300 << 20)
    assert memory["probed"]["peak_bytes"] == 200 << 20
    assert "while the model was exported, predicted 170 to 220 MiB: 80.0 MiB above the range" in memory["sentence"]
    assert "✗ above the prediction" in page
    assert "The probe before the first step measured 200 MiB." in page
    Page(page)


def test_alarms_are_told_with_their_end_and_those_without_one_above_the_curve(run):
    log = EventWriter(run.events_file)
    for code, severity, message, step in (
        ("alarm.spike", "warning", "The loss jumped <b>", 30), ("alarm.spike_over", "note", "The loss is back", 40),
        ("alarm.divergence", "warning", "The loss is rising", 60), ("other.note", "note", "Nothing of note", 61),
    ):  # fmt: skip
        log.write("notice.raised", severity=severity, code=code, message=message, step=step)
    log.close()
    page = write_report(run).read_text()
    report = json.loads(run.report_json_file.read_text())
    assert report["alarms"] == [{"kind": "divergence", "step": 60, "message": "The loss is rising"}]
    above, below = page.index('<p class="alarm">'), page.index("<h3>Loss</h3>")
    assert "The loss is rising" in page[above:below]
    assert "jumped" not in page[above:below]
    worth = run.report_markdown_file.read_text().split("## Worth knowing")[1]
    assert all(text in worth for text in ("The loss jumped", "The loss is back", "The loss is rising"))
    assert "Nothing of note" not in worth + page
    assert "b" not in Page(page).elements


def test_a_model_that_got_worse_is_called_worse(run):
    worse = {"perplexity": 900.0, "exact_match": 0.0, "loss": math.inf}
    save_measurement(measured("after", worse, ""), run.evaluation_folder)
    write_report(run)
    report = json.loads(run.report_json_file.read_text())
    assert report["headline"]["direction"] == "worse"
    assert report["headline"]["text"].startswith("The model got worse: perplexity rose from 403.40 to 900.00 and exact")
    assert report["after"]["loss"] == "Infinity"
    loss = next(row for row in report["metrics"] if row["name"] == "loss")
    assert (loss["direction"], loss["after_text"]) == ("worse", "∞")
    Page(run.report_html_file.read_text())


def test_text_from_data_and_models_stays_text(tmp_path):
    plan = made_plan(f"/srv/{HOSTILE.replace('/', '_')}".replace("\ud800", ""), recipe={"name": "<b>x</b> | [y](z)"})
    run = made_run(tmp_path / "run", plan)
    for phase in ("before", "after"):
        save_measurement(measured(phase, AFTER, HOSTILE, prompt=HOSTILE), run.evaluation_folder)
    page = Page(write_report(run).read_text())
    assert "script" not in page.elements
    assert "b" not in page.elements
    assert not [name for name in page.attributes if name.startswith("on")]
    assert any("<script>alert(1)</script>" in text for text in page.texts)
    for path in (run.report_html_file, run.report_markdown_file):
        text = path.read_text()
        assert "\x1b" not in text
        assert "\u202e" not in text
    tokens = MarkdownIt("commonmark").enable("table").parse(run.report_markdown_file.read_text())
    kinds = {token.type for token in tokens} | {inner.type for token in tokens for inner in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open", "hr", "blockquote_open"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h2", "h2", "h2"]
    assert all(len(list(row)) == 3 for row in recipe_rows(tokens))


def labelled(run, confusion):
    """Write the report of a run whose finished model was measured with this matrix; return page, Markdown, content."""
    scores = {"accuracy": 0.7, "f1_macro": 0.6}
    after = replace(measured("after", scores, ""), samples=[], confusion=confusion)
    save_measurement(replace(measured("before", {"accuracy": 0.1}, ""), samples=[]), run.evaluation_folder)
    save_measurement(after, run.evaluation_folder)
    page = write_report(run).read_text()
    return page, run.report_markdown_file.read_text(), json.loads(run.report_json_file.read_text())


def test_a_planted_confusion_is_shown_where_it_was_planted(run):
    confusion = Confusion(
        ["card", "loan", "fee"], cells=[[0, 0, 8], [0, 1, 2], [1, 0, 6], [1, 1, 3], [1, 2, 1], [2, 2, 5]]
    )
    page, markdown, report = labelled(run, confusion)
    assert report["headline"]["text"] == "The model learned: accuracy rose from 10.0 % to 70.0 %."
    assert report["confusion"]["num_rows"] == 25
    assert report["confusion"]["mistakes"] == [
        {"expected": "loan", "given": "card", "rows": 6, "of": 10},
        {"expected": "card", "given": "loan", "rows": 2, "of": 10},
        {"expected": "loan", "given": "fee", "rows": 1, "of": 10},
    ]
    rows = re.findall(r'<tr><th scope="row"[^>]*>(\w+)</th>(.*?)</tr>', page)
    cells = {label: [int(text or 0) for text in re.findall(r"<td[^>]*>(\d*)</td>", row)] for label, row in rows}
    assert cells == {"card": [8, 2, 0, 10], "loan": [6, 3, 1, 10], "fee": [0, 0, 5, 5]}
    assert '<td class="wrong strong" style="--share:60%">6</td>' in page
    assert '<td class="right strong" style="--share:100%">5</td>' in page
    assert "| loan | card | 6 of 10 |" in markdown
    Page(page)


def test_many_labels_are_told_by_the_pairs_confused_most(run):
    count = MAX_MATRIX_LABELS + 1
    cells = [[label, label, 4] for label in range(count)] + [[7, 9, 6], [3, 2, 6], [0, 5, 1]]
    confusion = Confusion([f"label {number}" for number in range(count)], cells=cells)
    page, markdown, report = labelled(run, confusion)
    assert 'class="matrix' not in page
    shown = [(mistake["expected"], mistake["given"]) for mistake in report["confusion"]["mistakes"]]
    assert shown == [("label 7", "label 9"), ("label 3", "label 2"), ("label 0", "label 5")]
    assert "<td>label 7</td><td>label 9</td>" in page
    assert "| label 7 | label 9 | 6 of 10 |" in markdown
    assert len(most_frequent_mistakes({"labels": confusion.labels, "cells": cells, "per_label": []}, limit=1)) == 1
    Page(page)


def test_several_labels_a_row_are_told_one_by_one(run):
    confusion = Confusion(["toxic", "rude", "fine"], per_label=[[80, 2, 9, 9], [90, 0, 0, 10], [50, 20, 10, 20]])
    page, markdown, report = labelled(run, confusion)
    assert report["confusion"]["num_rows"] == 100
    assert [tuple(mistake.values()) for mistake in report["confusion"]["mistakes"]] == [
        ("(not expected)", "fine", 20, 70), ("fine", "(not given)", 10, 30),
        ("toxic", "(not given)", 9, 18), ("(not expected)", "toxic", 2, 82),
    ]  # fmt: skip
    assert re.findall(r"<tr><td>(\w+)</td>", page)[:3] == ["fine", "toxic", "rude"]
    assert "| toxic | \\(not given\\) | 9 of 18 |" in markdown
    Page(page)


def test_no_mistake_is_said_and_no_label_says_nothing(run):
    _, markdown, report = labelled(run, Confusion(["card"], cells=[[0, 0, 5]]))
    assert "No label of the 5 held-out rows was wrong." in markdown
    assert report["confusion"]["mistakes"] == []
    page, markdown, report = labelled(run, None)
    assert report["confusion"] is None
    assert "mistaken" not in page + markdown


@pytest.mark.parametrize("count", [2, MAX_MATRIX_LABELS + 1])
@pytest.mark.parametrize("several", [False, True])
def test_labels_from_data_stay_text(run, count, several):
    labels = [HOSTILE, *(f"{number}" for number in range(1, count))]
    per_label = [[1, 1, 1, 1]] * count
    page, markdown, _ = labelled(
        run, Confusion(labels, per_label=per_label) if several else Confusion(labels, cells=[[0, 1, 2], [1, 0, 2]])
    )
    parsed = Page(page)
    assert "script" not in parsed.elements
    assert not [name for name in parsed.attributes if name.startswith("on")]
    assert "\x1b" not in page + markdown
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    kinds = {token.type for token in tokens} | {inner.type for token in tokens for inner in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"}


def recipe_rows(tokens):
    """Yield the cells of each row of the last table."""
    last = max(place for place, token in enumerate(tokens) if token.type == "table_open")
    starts = [place for place, token in enumerate(tokens) if token.type == "tr_open" and place > last]
    for start in starts:
        end = next(place for place in range(start, len(tokens)) if tokens[place].type == "tr_close")
        yield [token for token in tokens[start:end] if token.type in ("td_open", "th_open")]


def test_a_run_that_stopped_early_has_a_report_too(tmp_path):
    run = made_run(tmp_path / "run", made_plan())
    write_report(run, state="failed")
    report = json.loads(run.report_json_file.read_text())
    assert report["headline"]["direction"] == "unknown"
    assert report["metrics"] == report["samples"] == []
    assert any(text.endswith(", failed.") for text in Page(run.report_html_file.read_text()).texts)


def test_an_unreadable_measurement_is_an_error_and_not_an_empty_report(run):
    (run.evaluation_folder / "after.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"after\.json"):
        write_report(run)
    assert not run.report_json_file.exists()
