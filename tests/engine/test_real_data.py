"""Real data as people have it: read as what it is, every row accounted for, and nothing cried that is not so."""

import csv
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.data.pipeline import prepare
from engine.data.profile import profile_data
from engine.planning.profiles import DataProfile
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
MODEL = ASSETS / "models" / "tinystories-656k"
pytestmark = [pytest.mark.assets, pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")]

CHAT, TEXT = "chat", "domain-adaptation"


@dataclass(frozen=True, slots=True)
class Real:
    """One real data set and what is true of it, looked up by hand.

    Attributes:
        path: Below the assets.
        shape: How it is read.
        mapping: The columns in use.
        num_rows: Rows in it.
        dropped: Rows that cannot be used, or stand there twice.
        told: Codes of the notes about it, each of which was looked at and is true.
        warned: Codes of the warnings, likewise.
        objective: What it can teach.
        data: What has to be said, where the columns do not tell.
    """

    path: str
    shape: str
    mapping: dict[str, str]
    num_rows: int
    dropped: dict[str, int] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    warned: frozenset[str] = frozenset()
    objective: str = CHAT
    data: dict[str, Any] = field(default_factory=dict)


def codes(*names: str) -> frozenset[str]:
    return frozenset(f"data.{name}" for name in names)


QUESTION = {"prompt": "question", "completion": "answer"}
CALLS = {"messages": "conversations", "tools": "tools"}
REAL = [
    Real("instruct/gsm8k_train_3000.jsonl", "prompt_completion", QUESTION, 3000),
    Real(
        "instruct/self_instruct_user_oriented_alpaca.json",
        "alpaca",
        {"instruction": "instruction", "output": "output", "input": "input"},
        252,
        told=codes("personal_data"),
    ),
    Real(
        "instruct/medquad_2500.jsonl",
        "prompt_completion",
        QUESTION,
        2500,
        # 516 rows answer a question that another row answers otherwise; one sentence answers 25 of them.
        told=codes("personal_data", "contradictions", "repeated_answers"),
    ),
    Real(
        "summarise/MTS-Dialog-TrainingSet.csv",
        "source_target",
        {"source": "dialogue", "target": "section_text"},
        1201,
        {"duplicate": 1},
        told=codes("contradictions", "dropped.duplicate"),
        data={"mapping": {"source": "dialogue", "target": "section_text"}},
    ),
    Real(
        "summarise/scitldr_a_train.jsonl",
        "source_target",
        {"source": "source", "target": "target"},
        1992,
        {"duplicate": 1},
        told=codes("hidden_characters", "dropped.duplicate", "joined_list"),
    ),
    Real(
        "classify/banking77_train.csv",
        "prompt_completion",
        {"prompt": "text", "completion": "category"},
        3810,
        told=codes("near_duplicates"),
        data={"mapping": {"prompt": "text", "completion": "category"}},
    ),
    Real(
        "classify/banking77_valid.csv",
        "prompt_completion",
        {"prompt": "text", "completion": "category"},
        616,
        data={"mapping": {"prompt": "text", "completion": "category"}},
    ),
    Real(
        "classify/rotten_tomatoes_4000.tsv",
        "prompt_completion",
        {"prompt": "text", "completion": "label"},
        4000,
        # Ten of the reviews are Spanish or Portuguese, and 17 hold C1 control characters.
        told=codes("hidden_characters", "other_languages"),
        data={"mapping": {"prompt": "text", "completion": "label"}},
    ),
    Real(
        "classify/rotten_tomatoes_4000.tsv",
        "text",
        {"text": "text"},
        4000,
        told=codes("hidden_characters", "other_languages"),
        objective=TEXT,
    ),
    Real(
        "preference/hh_helpful_base_2000.jsonl",
        "messages",
        {"messages": "chosen"},
        2000,
        {"empty_answer": 1},
        told=codes("personal_data", "merged_turns"),
        warned=codes("dropped.empty_answer"),
        data={"mapping": {"messages": "chosen"}},
    ),
    Real(
        "preference/dpo_en_demo.json",
        "messages",
        {"messages": "conversations", "completion": "chosen"},
        300,
        {"duplicate": 5},
        told=codes("hidden_characters", "personal_data", "other_languages", "dropped.duplicate"),
        # Row 286 says `cafÃ©` and the like: real mojibake.
        warned=codes("double_encoding"),
        data={"mapping": {"messages": "conversations", "completion": "chosen"}},
    ),
    Real(
        "chat/glaive_toolcall_en_demo.json",
        "messages",
        CALLS,
        300,
        {"duplicate": 35},
        told=codes("personal_data", "near_duplicates", "contradictions", "repeated_answers", "dropped.duplicate"),
    ),
    Real(
        "multilingual/glaive_toolcall_zh_demo.json",
        "messages",
        CALLS,
        300,
        {"duplicate": 43, "result_without_call": 2},
        told=codes("personal_data", "near_duplicates", "contradictions", "other_languages", "dropped.duplicate"),
        warned=codes("dropped.result_without_call"),
    ),
    Real(
        "chat/sgd_messages_1000.jsonl",
        "messages",
        {"messages": "messages"},
        1000,
        told=codes("personal_data", "repeated_answers"),
    ),
    Real("corpus/tinyshakespeare.txt", "text", {"text": "text"}, 855, told=codes("length_outliers"), objective=TEXT),
    Real(
        "multilingual/udhr",
        "text",
        {"text": "text"},
        101,
        told=codes("length_outliers", "other_languages"),
        objective=TEXT,
    ),
]
IDS = [f"{real.path}, {real.shape}" for real in REAL]


def recipe_of(path: object, objective: str = CHAT, **data: Any) -> Recipe:
    tree = {"objective": objective, "model": {"base": "m"}, "training": {"seed": 5}}
    return Recipe.model_validate({**tree, "data": {"source": str(path), **data}})


def check_counts(profile: DataProfile) -> None:
    assert profile.num_train + profile.num_held_out + sum(profile.dropped.values()) == profile.num_rows


@pytest.mark.parametrize("real", REAL, ids=IDS)
def test_real_data_is_read_as_what_it_is_without_false_alarm(real):
    profile = prepare(recipe_of(ASSETS / real.path, real.objective, **real.data)).profile
    assert (profile.format, profile.mapping, profile.num_rows) == (real.shape, real.mapping, real.num_rows)
    assert profile.dropped == real.dropped
    check_counts(profile)
    by_severity: dict[str, set[str]] = {"error": set(), "warning": set(), "note": set()}
    for finding in profile.findings:
        by_severity[finding.severity].add(finding.code)
    assert by_severity["error"] == set()
    assert by_severity["warning"] == real.warned
    # Another bound of a check may name fewer; none may say more.
    assert by_severity["note"] <= real.told


SMALL = [real for real in REAL if real.num_rows <= 400]


@pytest.mark.parametrize("real", SMALL, ids=lambda real: real.path)
def test_a_real_tokenizer_measures_every_row(real):
    recipe = recipe_of(ASSETS / real.path, real.objective, **real.data)
    tree = recipe.model_dump()
    tree["model"]["base"] = str(MODEL)
    profile = profile_data(Recipe.model_validate(tree), folder=str(MODEL))
    assert profile.lengths is not None
    assert not profile.lengths.estimated
    assert profile.lengths.count >= profile.num_train - sum(
        finding.code == "data.not_rendered" for finding in profile.findings
    )
    assert (profile.answer_lengths is None) == (real.objective == TEXT)
    # Its context is 512 tokens, and most rows are longer; it knows English alone. That is said, and nothing else.
    errors = {finding.code: finding.message for finding in profile.findings if finding.severity == "error"}
    assert set(errors) - {"preflight.p7"} == ({"preflight.p1"} if "multilingual" in real.path else set())
    assert "does not know" in errors.get("preflight.p1", "does not know")


@pytest.mark.parametrize(
    ("path", "says", "fix"),
    [
        ("summarise/MTS-Dialog-TrainingSet.csv", "2 ways, none of them certain", "source: dialogue"),
        ("classify/banking77_train.csv", "taking the label as the answer", "prompt: text, completion: category"),
        ("preference/hh_helpful_base_2000.jsonl", "leaving the rejected ones out", "messages: chosen"),
        ("preference/dpo_en_demo.json", "'conversations' as messages and 'chosen'", "completion: chosen"),
        ("audio/fsdd/metadata.csv", "'file', 'text', 'speaker'", "data.mapping"),
        ("audio/fsdd", "No columns of questions and answers", "data.mapping"),
        ("image/sign_digits", "it holds 600 other files", "Name files"),
        ("", "files of several kinds", "**/*.txt"),
    ],
)
def test_what_real_data_leaves_open_is_asked_with_the_likely_answer(path, says, fix):
    with pytest.raises(ProblemError) as caught:
        prepare(recipe_of(ASSETS / path))
    (problem,) = caught.value.problems
    assert says in problem.message
    assert fix in problem.fix


def test_multi_line_cells_are_whole():
    prepared = prepare(recipe_of(ASSETS / REAL[3].path, **REAL[3].data))
    with (ASSETS / REAL[3].path).open(encoding="utf-8", newline="") as file:
        dialogues = {row["dialogue"] for row in csv.DictReader(file)}
    asked = {row["messages"][0]["content"] for row in (*prepared.train_rows, *prepared.held_out_rows)}
    assert asked <= dialogues
    assert len(asked) == len(dialogues)
    assert any("\n" in dialogue for dialogue in asked)


# --- Mutations of real files -----------------------------------------------------------------------------------------

MUTATED = {
    "instruct/gsm8k_train_3000.jsonl": {},
    "classify/banking77_train.csv": {"mapping": {"prompt": "text", "completion": "category"}},
    "summarise/MTS-Dialog-TrainingSet.csv": {"mapping": {"source": "dialogue", "target": "section_text"}},
    "chat/glaive_toolcall_en_demo.json": {},
    "classify/rotten_tomatoes_4000.tsv": {"mapping": {"prompt": "text", "completion": "label"}},
}
KEPT_ROWS = 60


def read_rows(name: str) -> list[dict[str, Any]]:
    content = (ASSETS / name).read_bytes().decode()
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in content.splitlines()[:KEPT_ROWS]]
    if name.endswith(".json"):
        rows: list[dict[str, Any]] = json.loads(content)
        return rows[:KEPT_ROWS]
    return list(csv.DictReader(io.StringIO(content, newline=""), delimiter="," if "csv" in name else "\t"))[:KEPT_ROWS]


def written(rows: list[dict[str, Any]], name: str, delimiter: str | None = None) -> bytes:
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if name.endswith(".json"):
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), delimiter=delimiter or ("," if "csv" in name else "\t"))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(1, len(content))]


def flip(content: bytes, draw: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(draw.choice((1, 3, 20))):
        spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
    return bytes(spoilt)


def tear_out(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.randrange(1, 400) :]


def put_in(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + draw.choice((b"\0", b'"', b"\n", b"\xff", b"{", b"]", b"\xe2\x80\xa8", b"\\")) + content[at:]


def looked_at(path: Path, data: dict[str, Any]) -> tuple[DataProfile | None, list[Problem]]:
    """Return the profile of a file, or why it is refused."""
    try:
        return prepare(recipe_of(path, **data)).profile, []
    except ProblemError as error:
        return None, list(error.problems)


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": cut,
    "flip": flip,
    "tear": tear_out,
    "put": put_in,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTATED)
@pytest.mark.parametrize("how", MUTATIONS)
def test_a_mutated_file_is_refused_or_every_row_of_it_is_accounted_for(name, how, tmp_path):
    content, draw = written(read_rows(name), name), random.Random(f"{name} {how}")
    path = tmp_path / Path(name).name
    for _ in range(8):
        spoilt = MUTATIONS[how](content, draw)
        path.write_bytes(spoilt)
        profile, refused = looked_at(path, MUTATED[name])
        assert all(problem.code.startswith("data.") and problem.message for problem in refused)
        assert all(len(problem.fix) > 5 for problem in refused)
        if profile is None:
            continue
        check_counts(profile)
        # What was read to its end without a word holds all rows, up to where it was cut or torn.
        if how in ("flip", "put"):
            assert profile.num_rows >= KEPT_ROWS - 1, spoilt[:200]
        if name.endswith(".jsonl"):
            assert profile.num_rows == sum(bool(line.strip()) for line in spoilt.split(b"\n"))


@pytest.mark.parametrize("name", MUTATED)
def test_the_same_rows_in_another_form_are_the_same_rows(name, tmp_path):
    rows = read_rows(name)
    plain = written(rows, name).decode()
    forms = {encoding: plain.encode(encoding) for encoding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32")}
    forms["crlf"] = plain.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    if not name.endswith((".json", ".jsonl")):
        forms |= {f"cut at {mark!r}": written(rows, name, mark) for mark in (",", ";", "\t", "|")}
    path = tmp_path / Path(name).name
    path.write_text(plain, newline="")
    expected = prepare(recipe_of(path, **MUTATED[name])).profile
    for form, content in forms.items():
        path.write_bytes(content)
        profile = prepare(recipe_of(path, **MUTATED[name])).profile
        found = (profile.num_rows, profile.mapping, profile.dropped, profile.num_train)
        assert found == (expected.num_rows, expected.mapping, expected.dropped, expected.num_train), form


@pytest.mark.parametrize("name", MUTATED)
def test_a_column_that_was_deleted_is_asked_for_or_not_needed(name, tmp_path):
    rows = read_rows(name)
    for column in rows[0]:
        path = tmp_path / Path(name).name
        path.write_bytes(written([{key: row[key] for key in row if key != column} for row in rows], name))
        profile, refused = looked_at(path, MUTATED[name])
        assert all("column" in problem.message for problem in refused), refused
        if profile is not None:
            assert column not in profile.mapping.values()
            check_counts(profile)
