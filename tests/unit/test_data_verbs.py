"""`ftwizard data inspect|clean|split|xray`: what they print, write, refuse and leave behind.

The verbs ask the real functions of the inspection helper, here in this process instead of in one of their own; one
test goes the whole way.
"""

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner, Result

from engine.data import cleaned_file
from engine.data.progress import WorkWatch
from engine.inspection import FUNCTIONS
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from tui.cli import app
from tui.verbs import data_recipe

ROWS = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}.", "kind": "ab"[n % 2]} for n in range(60)]


class HelperHere:
    """Answers at once, in this process."""

    def __init__(self) -> None:
        self.before: Callable[[str], None] = lambda name: None

    def call_blocking(
        self, name: str, on_progress: Callable[[dict[str, Any]], None] | None = None, **given: Any
    ) -> Any:
        self.before(name)
        if "watch" in inspect.signature(FUNCTIONS[name]).parameters:
            given["watch"] = WorkWatch(tell=lambda word: on_progress(word.to_json()) if on_progress else None)
        answer = FUNCTIONS[name](**given)
        return json.loads(json.dumps(answer))

    def start(self) -> None:
        """Nothing has to start."""

    def close(self) -> None:
        """Nothing has to end."""


@pytest.fixture(autouse=True)
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperHere:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    here = HelperHere()
    monkeypatch.setattr(data_recipe, "InspectionHelper", lambda: here)
    return here


def data(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def write_rows(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"home"}


def test_inspect_tells_shape_accounting_checks_and_lengths(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[3], {"question": "And this?", "answer": "", "kind": "a"}]
    shown = data("inspect", write_rows(tmp_path / "rows.jsonl", rows))
    assert shown.exit_code == 0
    assert "62 read = 54 train + 6 held out + 2 dropped" in shown.stdout
    for words in ("JSON Lines, UTF-8", "'question' as prompt", "empty answer", "secrets", "estimated", "What is"):
        assert words in shown.stdout
    assert "rows.jsonl:62" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.split("First rows")[0].splitlines())


def test_inspect_as_json_adds_up(tmp_path: Path) -> None:
    shown = json.loads(data("inspect", write_rows(tmp_path / "rows.jsonl"), "--json").stdout)
    sums = shown["accounting"]
    assert sums["read"] + sums["repeated"] == sums["train"] + sums["held_out"] + sums["test"]
    assert shown["objective"] == "chat"
    assert shown["files"][0]["encoding"] == "UTF-8"


def test_a_model_makes_lengths_exact(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl")
    estimated, counted = (
        json.loads(data("inspect", path, "--json", *more).stdout)["lengths"]["estimated"]
        for more in ([], ["--model", "builtin:starter"])
    )
    assert (estimated, counted) == (True, False)


def test_plain_text_is_read_for_domain_adaptation_and_several_paths_are_one_data(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n\n".join(f"Paragraph {n} of {name}, which says little." * 30 for n in range(9)))
    shown = json.loads(data("inspect", tmp_path / "a.txt", tmp_path / "b.txt", "--json").stdout)
    assert shown["objective"] == "domain-adaptation"
    assert [file["name"] for file in shown["files"]] == ["a.txt", "b.txt"]


def test_rows_are_read_for_the_objective_that_they_suit(tmp_path: Path) -> None:
    rows = [{"text": f"{row['question']} Tell me at once please.", "label": row["kind"]} for row in ROWS]
    shown = data("inspect", write_rows(tmp_path / "rows.jsonl", rows))
    assert "text_label" in shown.output
    assert "classification" in shown.output


def test_a_broken_file_is_placed_with_cause_and_fix(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "a?", "answer": "b"}\n{"question": "c?" "answer": "d"}\n')
    shown = data("inspect", "rows.jsonl")
    assert shown.exit_code == 2
    assert "rows.jsonl:2:19" in shown.output
    assert "Correct or delete this line" in shown.output


def test_settings_that_no_data_verb_reads_are_refused(tmp_path: Path) -> None:
    shown = data("inspect", write_rows(tmp_path / "rows.jsonl"), "--set", "training.epochs=3")
    assert shown.exit_code == 2
    assert "training.epochs" in shown.output


def test_the_report_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    shown = data("inspect", write_rows(tmp_path / "rows.jsonl"), "--report", "out/report")
    assert shown.exit_code == 0
    assert names_in(tmp_path / "out/report") == {"data-report.md", "data-report.html"}
    assert str(tmp_path / "out/report/data-report.html") in shown.stdout.replace("\n", "")


def test_clean_writes_every_row_once_in_the_files_order_and_the_same_rows_again(tmp_path: Path) -> None:
    shown = data("clean", write_rows(tmp_path / "rows.jsonl"), "--out", "clean.jsonl")
    assert shown.exit_code == 0
    cleaned = read_rows(tmp_path / "clean.jsonl")
    assert [row["id"] for row in cleaned] == [f"rows.jsonl:{n}" for n in range(1, 61)]
    assert [row["messages"][0]["content"] for row in cleaned] == [row["question"] for row in ROWS]
    assert data("clean", "clean.jsonl", "--out", "again.jsonl").exit_code == 0
    assert [row["messages"] for row in read_rows(tmp_path / "again.jsonl")] == [row["messages"] for row in cleaned]


def test_clean_takes_each_row_once_whatever_the_weights_of_its_sources(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", ROWS[:30])
    write_rows(tmp_path / "b.jsonl", ROWS[30:])
    assert data("clean", "b.jsonl", "a.jsonl", "--out", "clean.jsonl").exit_code == 0
    ids = [row["id"] for row in read_rows(tmp_path / "clean.jsonl")]
    assert ids == [f"{name}.jsonl:{n}" for name in "ba" for n in range(1, 31)]


@pytest.mark.parametrize("tools", [False, True])
def test_parquet_holds_the_same_rows_as_json_lines(tmp_path: Path, tools: bool) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]}
        for row in ROWS
    ]
    if tools:
        rows[5]["messages"][1] = {"role": "assistant", "content": "", "tool_calls": [call]}
        rows[5]["tools"] = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    write_rows(tmp_path / "rows.jsonl", rows)
    for name in ("one.jsonl", "two.parquet"):
        assert data("clean", "rows.jsonl", "--out", name).exit_code == 0
    assert pq.read_table(tmp_path / "two.parquet").num_rows == 60
    assert data("clean", "two.parquet", "--out", "three.jsonl").exit_code == 0
    first, third = ([{**row, "id": ""} for row in read_rows(tmp_path / name)] for name in ("one.jsonl", "three.jsonl"))
    assert first == third


def test_fix_takes_out_secrets_and_keeps_the_row_while_the_default_changes_no_text(tmp_path: Path) -> None:
    key = "ghp_" + "a8Kd93mZq0LxT5vB2nR7yWcE4uJs6HgP1fQo"
    write_rows(tmp_path / "rows.jsonl", [*ROWS, {"question": "Which key?", "answer": f"Take {key} for it."}])
    assert data("clean", "rows.jsonl", "--out", "plain.jsonl").exit_code == 0
    shown = data("clean", "rows.jsonl", "--out", "fixed.jsonl", "--fix")
    assert key in (tmp_path / "plain.jsonl").read_text()
    fixed = (tmp_path / "fixed.jsonl").read_text()
    assert key not in fixed
    assert key not in shown.output
    assert "<TOKEN>" in fixed
    assert "rows.jsonl:61" in shown.output
    kept = data("clean", "rows.jsonl", "--out", "kept.jsonl", "--fix", "--set", "data.cleaning.secrets=report")
    assert kept.exit_code == 0
    assert key in (tmp_path / "kept.jsonl").read_text()


def test_dropped_rows_are_listed_as_they_stand_with_their_reasons(tmp_path: Path) -> None:
    empty = {"question": "And this?", "answer": " ", "kind": "a"}
    write_rows(tmp_path / "rows.jsonl", [*ROWS, ROWS[3], empty])
    assert data("clean", "rows.jsonl", "--out", "clean.jsonl", "--dropped", "dropped.jsonl").exit_code == 0
    listed = read_rows(tmp_path / "dropped.jsonl")
    assert [(row["where"], row["reason"]) for row in listed] == [
        ("rows.jsonl:61", "duplicate"),
        ("rows.jsonl:62", "empty_answer"),
    ]
    assert listed[1]["row"] == empty
    assert len(read_rows(tmp_path / "clean.jsonl")) + len(listed) == 62


@pytest.mark.parametrize(
    ("out", "force", "words"),
    [
        ("there.jsonl", (), "is there already"),
        ("rows.jsonl", ("--force",), "is a file of the data itself"),
        ("link.jsonl", ("--force",), "is a file of the data itself"),
        ("folder", ("--force",), "ending"),
        ("rows.xlsx", (), "ending"),
        ("missing/clean.jsonl", (), "mkdir -p"),
    ],
)
def test_clean_never_writes_over_what_is_there(tmp_path: Path, out: str, force: tuple[str, ...], words: str) -> None:
    source = write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "link.jsonl").symlink_to(source)
    (tmp_path / "folder").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    shown = data("clean", "rows.jsonl", "--out", out, *force)
    assert shown.exit_code == 2
    assert words in shown.output
    assert {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
    assert names_in(tmp_path) == {"rows.jsonl", "there.jsonl", "link.jsonl", "folder"}


def test_force_replaces_a_file_that_is_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "there.jsonl").write_text("mine")
    assert data("clean", "rows.jsonl", "--out", "there.jsonl", "--force").exit_code == 0
    assert len(read_rows(tmp_path / "there.jsonl")) == 60


def test_a_file_written_into_the_data_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write_rows(tmp_path / "corpus/rows.jsonl")
    shown = data("clean", "corpus", "--out", "corpus/clean.jsonl")
    assert shown.exit_code == 0
    assert "the next reading takes it too" in shown.output


@pytest.mark.parametrize(("verb", "function"), [("clean", "clean_data"), ("split", "split_data")])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, helper: HelperHere, verb: str, function: str) -> None:
    write_rows(tmp_path / "rows.jsonl")

    def interrupt(name: str) -> None:
        if name == function:
            raise KeyboardInterrupt

    helper.before = interrupt
    shown = data(verb, "rows.jsonl", "--out", "out.jsonl")
    assert shown.exit_code == 130
    assert names_in(tmp_path) == {"rows.jsonl"}


def test_split_refuses_data_that_changes_while_it_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_rows(tmp_path / "rows.jsonl", ROWS)
    recipe = Recipe.model_validate({"objective": "chat", "model": {"base": "m"}, "data": {"source": str(source)}})
    raw_rows = cleaned_file.raw_rows
    monkeypatch.setattr(cleaned_file, "raw_rows", lambda data: islice(raw_rows(data), 10))
    with pytest.raises(ProblemError, match="written to while"):
        cleaned_file.split_files(recipe, tmp_path)


def test_split_keeps_the_rows_as_they_are_and_says_how_to_repeat_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [*ROWS, ROWS[3]])
    shown = data("split", "rows.jsonl", "--out", "one", "--held-out", "0.2", "--test", "0.1", "--seed", "5")
    assert shown.exit_code == 0
    sides = {name: read_rows(tmp_path / "one" / f"{name}.jsonl") for name in ("train", "held_out", "test")}
    assert {name: len(rows) for name, rows in sides.items()} == {"train": 42, "held_out": 12, "test": 6}
    assert sorted((row for rows in sides.values() for row in rows), key=str) == sorted(ROWS, key=str)
    record = json.loads((tmp_path / "one/split.json").read_text())
    assert (record["seed"], record["method"], record["dropped"]) == (5, "random", {"duplicate": 1})
    again = data("split", "rows.jsonl", "--out", "two", "--held-out", "0.2", "--test", "0.1", "--seed", "5", "--json")
    assert json.loads(again.stdout)["sha256"] == record["sha256"]
    other = data("split", "rows.jsonl", "--out", "three", "--held-out", "0.2", "--test", "0.1", "--seed", "6", "--json")
    assert json.loads(other.stdout)["sha256"] != record["sha256"]


def test_split_by_group_keeps_a_group_on_one_side(tmp_path: Path) -> None:
    rows = [{**row, "person": f"p{n % 12}"} for n, row in enumerate(ROWS)]
    write_rows(tmp_path / "rows.jsonl", rows)
    shown = data("split", "rows.jsonl", "--out", "out", "--method", "group", "--column", "person")
    assert shown.exit_code == 0
    sides = [{row["person"] for row in read_rows(tmp_path / "out" / f"{name}.jsonl")} for name in ("train", "held_out")]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert names_in(tmp_path / "out") == {"train.jsonl", "held_out.jsonl", "split.json"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "by-moon"], "method"),
        (["--method", "time"], "data.split.column"),
        (["--held-out", "1.5"], "between 0 and 1"),
        (["--held-out", "0"], "between 0 and 1"),
    ],
)
def test_a_split_that_cannot_be_made_leaves_no_folder(tmp_path: Path, options: list[str], words: str) -> None:
    write_rows(tmp_path / "rows.jsonl")
    shown = data("split", "rows.jsonl", "--out", "out", *options)
    assert shown.exit_code == 2
    assert words in shown.output
    assert names_in(tmp_path) == {"rows.jsonl"}


def test_split_never_writes_into_a_folder_that_holds_something(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    shown = data("split", "rows.jsonl", "--out", "out")
    assert shown.exit_code == 2
    assert "is there already" in shown.output
    assert names_in(tmp_path / "out") == {"mine.txt"}


def made_page(**changes: Any) -> dict[str, Any]:
    tokens = [("<|user|>", False, True), ("Hi\x1b[2J\n", False, False), ("Hel", True, False), ("lo", True, False)]
    sequence = {
        "number": 4,
        "row_ids": ["rows.jsonl:9"],
        "tokens": [
            {"text": text, "trained": trained, "special": special, "padding": False, "segment": 0}
            for text, trained, special in tokens
        ]
        + [{"text": "<pad>", "trained": False, "special": True, "padding": True, "segment": 0}] * 3,
        "num_tokens": 6,
        "num_trained": 2,
        "num_padding": 3,
        "num_lost": 7,
        "reasons": ["The answer is cut."],
        "learns": "",
    }
    facts = {
        "start": 0,
        "total": 1,
        "num_sequences": 9,
        "num_cut": 1,
        "num_odd": 1,
        "num_dropped": 0,
        "packed": False,
        "learnt": "",
    }
    lengths = {"trained_share": 0.25, "max_length": 64, "length_from": "you", "problems": []}
    return {"sequences": [sequence], **facts, **lengths, **changes}


def show_xray(monkeypatch: pytest.MonkeyPatch, page: dict[str, Any], *options: str) -> tuple[Result, dict[str, Any]]:
    asked: dict[str, Any] = {}

    def xray(**given: Any) -> dict[str, Any]:
        asked.update(given)
        return page

    monkeypatch.setitem(FUNCTIONS, "xray", xray)
    return data("xray", "builtin:commands", "--model", "builtin:starter", *options), asked


def test_xray_tells_trained_context_and_special_tokens_apart_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = show_xray(monkeypatch, made_page())
    assert shown.exit_code == 0
    assert "⟦<|user|>⟧Hi\N{REPLACEMENT CHARACTER}[2J⏎\n«Hello»" in shown.stdout
    for words in ("25.0 %", "Sequence 5", "rows.jsonl:9", "The answer is cut.", "7 tokens are lost", "3 padding"):
        assert words in shown.stdout
    assert "+ 2 more tokens" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "<pad>" not in shown.stdout


def test_xray_asks_for_the_sequences_that_the_options_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*options: str) -> tuple[Any, ...]:
        given = show_xray(monkeypatch, made_page(), *options)[1]
        return given["start"], given["count"], given["order"]

    assert asked() == (0, 3, "file")
    assert asked("--sequence", "7", "--count", "1") == (6, 1, "file")
    assert asked("--page", "3", "--count", "5", "--longest") == (10, 5, "longest")
    assert asked("--odd") == (0, 3, "odd")
    given = show_xray(monkeypatch, made_page(), "--max-length", "99")[1]
    assert given["recipe"]["training"]["max_length"] == 99


@pytest.mark.parametrize(
    "options", [("--cut", "--odd"), ("--sequence", "2", "--page", "1"), ("--sequence", "2", "--longest")]
)
def test_xray_refuses_options_that_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    shown, asked = show_xray(monkeypatch, made_page(), *options)
    assert shown.exit_code == 2
    assert not asked


def test_xray_ends_with_2_where_a_run_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem("preflight.p1", "Nothing is trained.", "Check the template.").to_json()
    shown, _ = show_xray(monkeypatch, made_page(problems=[problem], trained_share=0.0))
    assert shown.exit_code == 2
    assert "Nothing is trained." in shown.stdout


def test_an_empty_order_is_said_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = show_xray(monkeypatch, made_page(sequences=[], total=0), "--cut")
    assert shown.exit_code == 0
    assert "No sequence is cut." in shown.stdout


def test_the_real_command_reads_in_its_helper_and_ends_with_130_on_ctrl_c(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    os.mkfifo(tmp_path / "log")
    write_rows(source, ROWS * 4000)
    environment = {**os.environ, "FTWIZARD_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tui.cli", "data", "clean", str(source), "--out", str(tmp_path / "clean.jsonl")]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    staging = wait_for_staging(tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert not staging.exists()
    assert not (tmp_path / "clean.jsonl").exists()


def wait_for_staging(folder: Path, process: "subprocess.Popen[bytes]") -> Path:
    import time

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = list(folder.glob(".ftwizard-*"))
        if found:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("the command never came to its work")


LABELLED = [{"text": f"{row['question']} Tell me at once please.", "label": row["kind"]} for row in ROWS]
PREFERRED = [
    {"prompt": row["question"], "chosen": row["answer"], "rejected": f"I would not know, number {n}."}
    for n, row in enumerate(ROWS)
]


@pytest.mark.parametrize(
    ("rows", "keys"),
    [(LABELLED, {"id", "text", "label"}), (PREFERRED, {"id", "prompt", "chosen", "rejected"})],
)
def test_rows_that_no_objective_reads_yet_are_cleaned_and_split_all_the_same(
    tmp_path: Path, rows: list[dict[str, Any]], keys: set[str]
) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    assert data("clean", "rows.jsonl", "--out", "clean.jsonl").exit_code == 0
    cleaned = read_rows(tmp_path / "clean.jsonl")
    assert len(cleaned) == 60
    assert set(cleaned[0]) == keys
    assert data("split", "rows.jsonl", "--out", "out").exit_code == 0
    parts = [read_rows(tmp_path / "out" / name) for name in ("train.jsonl", "held_out.jsonl")]
    assert sorted((row for part in parts for row in part), key=str) == sorted(rows, key=str)


def test_stratified_keeps_the_share_of_each_label(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", LABELLED)
    assert data("split", "rows.jsonl", "--out", "out", "--method", "stratified", "--held-out", "0.2").exit_code == 0
    held_out = [row["label"] for row in read_rows(tmp_path / "out/held_out.jsonl")]
    assert (held_out.count("a"), held_out.count("b")) == (6, 6)


@pytest.mark.parametrize(
    ("verb", "setting"),
    [("clean", "data.split.test=0.1"), ("clean", "data.held_out=0.1"), ("split", "data.held_out=0.5")],
)
def test_a_setting_that_a_verb_does_not_read_is_refused(tmp_path: Path, verb: str, setting: str) -> None:
    write_rows(tmp_path / "rows.jsonl")
    shown = data(verb, "rows.jsonl", "--out", "out.jsonl", "--set", setting)
    assert shown.exit_code == 2
    assert setting.partition("=")[0] in shown.output
    assert names_in(tmp_path) == {"rows.jsonl"}


def test_a_fix_for_a_recipe_is_also_said_as_an_option_that_works(tmp_path: Path) -> None:
    lines = "".join(f"Wo ist Café {n}?;Bei Müller {n}.\n" for n in range(60))
    (tmp_path / "rows.csv").write_text(f"question;answer\n{lines}", encoding="windows-1252")
    refused = data("inspect", "rows.csv")
    assert refused.exit_code == 2
    options = shlex.split(" ".join(refused.output.rpartition("Here:")[2].split()))
    assert options == ["--set", "data.encoding=windows-1252"]
    assert data("inspect", "rows.csv", *options).exit_code == 0


def test_ways_to_read_rows_are_said_as_options_that_work(tmp_path: Path) -> None:
    rows = [
        {
            "left side": f"{row['question']} Explain it at length, please.",
            "right side": f"{row['answer']} Because. " * 9,
        }
        for row in ROWS
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    refused = data("inspect", "rows.jsonl")
    assert refused.exit_code == 2
    options = shlex.split(" ".join(refused.output.rpartition("Here:")[2].split()))
    assert options.count("--set") == 2
    assert data("inspect", "rows.jsonl", *options).exit_code == 0
