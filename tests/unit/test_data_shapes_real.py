"""Every real file of the shared assets that holds text rows is read as what it is."""

import os
from pathlib import Path

import pytest

from engine.data.conversations import canonical_rows
from engine.data.formats import TAKEN_FROM, candidates
from engine.data.rows import RawRow, Tally
from engine.data.shapes_roles import Shape
from engine.data.sources import read_sources

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
pytestmark = [pytest.mark.assets, pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")]

LABEL = {"text": "text", "label": "category"}
TURNS_AND_TOOLS = {"messages": "conversations", "tools": "tools"}
# File, shape, mapping, rows that cannot be used by reason.
FILES = [
    ("instruct/gsm8k_train_3000.jsonl", "prompt_completion", {"prompt": "question", "completion": "answer"}, {}),
    ("instruct/medquad_2500.jsonl", "prompt_completion", {"prompt": "question", "completion": "answer"}, {}),
    (
        "instruct/self_instruct_user_oriented_alpaca.json",
        "alpaca",
        {"instruction": "instruction", "input": "input", "output": "output"},
        {},
    ),
    (
        "summarise/MTS-Dialog-TrainingSet.csv",
        "source_target",
        {"source": "dialogue", "target": "section_text"},
        {},
    ),
    ("summarise/scitldr_a_train.jsonl", "source_target", {"source": "source", "target": "target"}, {}),
    ("classify/banking77_train.csv", "text_label", LABEL, {}),
    ("classify/banking77_valid.csv", "text_label", LABEL, {}),
    ("classify/rotten_tomatoes_4000.tsv", "text_label", {"text": "text", "label": "label"}, {}),
    (
        "preference/hh_helpful_base_2000.jsonl",
        "preference",
        {"chosen": "chosen", "rejected": "rejected"},
        {"empty_answer": 3, "equal_answers": 1},
    ),
    (
        "preference/dpo_en_demo.json",
        "preference",
        {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"},
        {},
    ),
    ("chat/glaive_toolcall_en_demo.json", "messages", TURNS_AND_TOOLS, {}),
    ("multilingual/glaive_toolcall_zh_demo.json", "messages", TURNS_AND_TOOLS, {"result_without_call": 2}),
    ("chat/sgd_messages_1000.jsonl", "messages", {"messages": "messages"}, {}),
    ("corpus/tinyshakespeare.txt", "text", {"text": "text"}, {}),
    ("multilingual/udhr", "text", {"text": "text"}, {}),
]
ASKED_ABOUT = ("summarise/MTS-Dialog-TrainingSet.csv",)


def rows_of(name: str) -> list[RawRow]:
    path = ASSETS / name
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    assert files
    return [row for file in read_sources([str(each) for each in files]) for row in file.rows]


@pytest.mark.parametrize(("name", "shape", "mapping", "unusable"), FILES, ids=[file[0] for file in FILES])
def test_real_file_is_read_as_what_it_is(name, shape, mapping, unusable):
    rows = rows_of(name)
    best = candidates(rows)[0]
    assert (best.format, best.mapping) == (shape, mapping)
    assert (best.confidence >= TAKEN_FROM) == (name not in ASKED_ABOUT)
    assert best.example["id"] == rows[0].where

    dropped = Tally()
    used = canonical_rows(rows, Shape(best.format, best.mapping, ""), dropped, Tally())
    assert dropped.counts == unusable
    assert len(used) + sum(unusable.values()) == len(rows)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("instruct/gsm8k_train_3000.jsonl", True),
        ("chat/glaive_toolcall_en_demo.json", True),
        ("summarise/scitldr_a_train.jsonl", True),
        ("preference/hh_helpful_base_2000.jsonl", False),
        ("preference/dpo_en_demo.json", False),
        ("classify/banking77_train.csv", False),
    ],
)
def test_chat_takes_answers_and_asks_about_everything_else(name, taken):
    best = candidates(rows_of(name), "chat")[0]
    assert (best.confidence >= TAKEN_FROM) == taken
    assert best.example["messages"][-1]["role"] == "assistant"
