"""The data report: every row accounted for, nothing of the data acting on the page, both forms saying the same."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from engine.data.report import (
    ReportSubject,
    markdown_report,
    subject_of,
    with_checks,
    write_data_report,
    write_report_files,
)
from engine.data.report_html import histogram, html_page
from engine.evaluation.report import write_report
from engine.planning.data_words import account, cut_rows, length_bins
from engine.planning.profiles import CheckResult, DataProfile, Finding, LengthCut, LengthProfile, PreflightCheck
from engine.recipe.read import check_recipe
from engine.runs.directory import create_run
from engine.runs.home import home_folders
from tests.engine.made_plan import made_plan
from tui.summary import model_places

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> | [a](javascript:b) `c` \x1b[2J'
SUBJECT = ReportSubject("rows.jsonl", "chat", ["rows.jsonl"], model="starter", max_length=128, seed=17)
LENGTHS = LengthProfile(
    count=100,
    mean=60,
    p50=60,
    p90=120,
    p99=180,
    longest=200,
    total=6000,
    covered=[(32, 10), (64, 55), (128, 95), (192, 99), (200, 100)],
)


def made_profile(**changes: object) -> DataProfile:
    fields: dict[str, object] = {
        "format": "prompt_completion",
        "mapping": {"prompt": "question", "completion": "answer"},
        "evidence": "Read as prompt_completion: by their names.",
        "columns": ["question", "answer"],
        "num_rows": 120,
        "num_train": 100,
        "num_held_out": 10,
        "num_test": 4,
        "dropped": {"duplicate": 5, "empty_answer": 1},
        "lengths": LENGTHS,
        "checks": [
            CheckResult(name="secrets", action="mask", count=2, changed=2, places=["rows.jsonl:7", "rows.jsonl:9"]),
            CheckResult(name="contradictions", action="report"),
        ],
        "cuts": [
            LengthCut(length=64, num_cut=45, num_answers_cut=40, num_answers_lost=3, lost_tokens=900),
            LengthCut(length=128, num_cut=5, num_answers_cut=5, num_answers_lost=0, lost_tokens=100),
        ],
        "preflight": [
            PreflightCheck(id="P7", title="Cut answers", status="warning", message="5 %.", fix="Longer.", rows=["r:3"]),
            PreflightCheck(id="P1", title="What is trained", status="passed"),
        ],
        "findings": [Finding(code="data.x", message="One thing.", fix="Mend it.", severity="warning")],
        "examples": [{"prompt": "Where?", "completion": "There."}],
        "sha256": "ab" * 32,
    }
    return DataProfile.model_validate(fields | changes)


class Elements(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)


def elements_of(page: str) -> Elements:
    parsed = Elements()
    parsed.feed(page)
    return parsed


def test_the_accounting_adds_up_and_tells_rows_that_weights_repeat() -> None:
    plain, repeated = account(made_profile()), account(made_profile(num_train=150))
    assert plain.read + plain.repeated == plain.train + plain.held_out + plain.test + plain.num_dropped
    assert plain.repeated == 0
    assert repeated.repeated == 50
    assert plain.sentence() == "120 read = 100 train + 10 held out + 4 test + 6 dropped"


def test_the_bars_of_a_histogram_count_every_row_once() -> None:
    bins = length_bins(LENGTHS)
    assert sum(each.num_rows for each in bins) == LENGTHS.count
    assert [each.over for each in bins[1:]] == [each.up_to for each in bins[:-1]]
    assert bins[-1].up_to == LENGTHS.longest


def test_many_lengths_are_gathered_into_few_bars() -> None:
    covered = [(length, length) for length in range(1, 101)]
    bins = length_bins(LENGTHS.model_copy(update={"covered": covered}))
    assert len(bins) <= 16
    assert sum(each.num_rows for each in bins) == 100


def test_cuts_are_measured_with_a_tokenizer_and_of_rows_alone_without() -> None:
    measured = cut_rows(made_profile())
    assert [(cut.length, cut.num_answers_lost) for cut in measured] == [(64, 3), (128, 0)]
    estimated = cut_rows(made_profile(cuts=[]))
    assert [(cut.length, cut.num_cut, cut.num_answers_cut) for cut in estimated] == [(128, 5, None)]


@pytest.mark.parametrize("form", [markdown_report, html_page])
def test_both_forms_hold_counts_shape_checks_rows_lengths_and_verdicts(
    form: Callable[[ReportSubject, DataProfile], str],
) -> None:
    text = re.sub(r"<[^>]*>|\\", "", form(SUBJECT, made_profile()))
    for words in ("120 read = 100 train", "question", "by their names", "rows.jsonl:9", "P7", "Cut answers", "r:3"):
        assert words in text
    for words in ("equal to an earlier row", "900", "Mend it", "There.", "ab" * 32):
        assert words in text


@pytest.mark.parametrize(
    "changes",
    [
        {"examples": [{"prompt": HOSTILE, "completion": HOSTILE}]},
        {"columns": [HOSTILE], "mapping": {"prompt": HOSTILE}, "evidence": HOSTILE},
        {"findings": [Finding(code="x", message=HOSTILE, fix=HOSTILE)]},
        {"checks": [CheckResult(name="secrets", action=HOSTILE, count=1, places=[HOSTILE])]},
        {"preflight": [PreflightCheck(id="P1", title=HOSTILE, status="blocked", message=HOSTILE, rows=[HOSTILE])]},
        {"dropped": {HOSTILE: 6}},
    ],
)
def test_nothing_of_the_data_acts_on_the_page(changes: dict[str, object]) -> None:
    clean = elements_of(html_page(SUBJECT, made_profile()))
    page = html_page(SUBJECT, made_profile(**changes))
    hostile = elements_of(page)
    assert hostile.names <= clean.names | {"details", "summary"}
    assert not {"script", "img", "link", "iframe"} & hostile.names
    assert hostile.attributes <= clean.attributes
    assert "\x1b" not in page
    assert "alert(1)" in page


def test_hostile_names_of_files_and_settings_are_text() -> None:
    file = {"name": HOSTILE, "kind": "CSV", "encoding": HOSTILE}
    subject = ReportSubject(HOSTILE, "chat", [HOSTILE], HOSTILE, settings={"data.mapping": HOSTILE}, files=[file])
    assert "script" not in elements_of(html_page(subject, made_profile())).names
    markdown = markdown_report(subject, made_profile())
    assert "\x1b" not in markdown
    rendered = elements_of(MarkdownIt("commonmark").enable("table").render(markdown))
    assert not {"script", "img", "a"} & rendered.names


def test_a_markdown_table_of_the_data_stays_inside_its_cell() -> None:
    check = CheckResult(name="secrets", action="report", count=1, places=["a|b\n| x | y |"])
    profile = made_profile(checks=[check], examples=[{"text": "```\n| a | b |\n# head\n```"}])
    lines = markdown_report(SUBJECT, profile).splitlines()
    [row] = [line for line in lines if line.startswith("| secrets")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    fence = next(line for line in lines if line.startswith("````"))
    assert lines.count(fence) == 2


def test_the_page_is_one_file_that_loads_nothing() -> None:
    page = html_page(SUBJECT, made_profile())
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)\s*=", page)
    assert not re.search(r"url\(|@import", page)


def test_the_histogram_marks_what_the_sequence_length_cuts() -> None:
    assert histogram(LENGTHS, 128).count('class="column cut"') == 2
    assert 'class="column cut"' not in histogram(LENGTHS, None)
    assert histogram(LENGTHS.model_copy(update={"covered": []})) == ""


def test_settings_that_differ_from_the_defaults_are_told() -> None:
    tree = {
        "objective": "chat",
        "model": {"base": "builtin:starter"},
        "data": {
            "source": "/home/somebody/rows.jsonl",
            "held_out": "/home/somebody/held.jsonl",
            "cleaning": {"secrets": "mask"},
            "max_rows": 50,
        },
    }
    subject = subject_of(check_recipe(tree, name="recipe"))
    assert subject.settings == {
        "data.held_out": "held.jsonl",
        "data.cleaning.secrets": "mask",
        "data.max_rows": 50,
    }
    assert subject.sources == ["rows.jsonl"]


def test_a_run_gets_both_files_and_nobody_else_can_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path))
    run = create_run(home_folders(), "objective: chat\n", made_plan())
    write_data_report(run, made_profile())
    for file in (run.data_report_markdown_file, run.data_report_html_file):
        assert "120 read" in file.read_text()
        assert file.stat().st_mode & 0o077 == 0


def test_the_report_of_a_run_leads_to_that_of_its_data_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path))
    run = create_run(home_folders(), "objective: chat\n", made_plan())
    assert "data-report" not in write_report(run).read_text()
    write_data_report(run, made_profile())
    assert '<a href="data-report.html">' in write_report(run).read_text()
    assert "(data-report.html)" in run.report_markdown_file.read_text()
    assert ("data", str(run.data_report_html_file)) in model_places(run, {})


def test_a_check_made_again_takes_the_place_of_the_earlier_one() -> None:
    later = [
        PreflightCheck(id="P7", title="Cut answers", status="passed"),
        PreflightCheck(id="P19", title="Weights", status="passed"),
    ]
    checks = with_checks(made_profile(), later).preflight
    assert [(check.id, check.status) for check in checks] == [("P7", "passed"), ("P1", "passed"), ("P19", "passed")]


def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    write_report_files(tmp_path / "new", SUBJECT, made_profile())
    markdown, page = write_report_files(tmp_path / "new", SUBJECT, made_profile(num_train=99, num_held_out=11))
    assert "99 train" in markdown.read_text()
    assert "99 train" in page.read_text()
