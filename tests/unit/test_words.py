"""Texts as words, and entities that begin and end anywhere in them."""

from collections import Counter

import pytest

from engine.data.rendered import Tally
from engine.data.rows import RawRow, RowDefectError
from engine.data.shapes_tags import named_tags, span_row
from engine.data.words import word_spans

MAPPING = {"text": "text", "entities": "entities"}


def words(text: str, *borders: int) -> list[str]:
    return [text[start:end] for start, end in word_spans(text, borders)]


def tagged(text: str, *entities: tuple[int, int, str]) -> list[tuple[str, str]]:
    row = span_row(RawRow("r.jsonl:1", {"text": text, "entities": [list(each) for each in entities]}), MAPPING, Tally())
    return list(zip(row["tokens"], row["tags"], strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We met in Rome.", ["We", "met", "in", "Rome", "."]),
        ('("Rome")!', ["(", '"', "Rome", '"', ")", "!"]),
        ("don't mail a.b@c.org, ok", ["don't", "mail", "a.b@c.org", ",", "ok"]),
        ("我住在北京", ["我", "住", "在", "北", "京"]),
        ("東京tower へ", ["東", "京", "tower", "へ"]),
        ("Müller\u00a0& Söhne", ["Müller", "&", "Söhne"]),
        (" \n\t", []),
        ("...", [".", ".", "."]),
    ],
)
def test_words_are_what_people_would_tag(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "text", ["naïve co-op, e.g. 3.5 %", "ไทย and 日本語, mixed.", "a\u200bb \U0001f600x", "'tis—so"]
)
def test_no_character_but_white_space_is_lost(text: str) -> None:
    assert Counter("".join(words(text))) == Counter(text) - Counter(c for c in text if c.isspace())


def test_a_word_ends_where_an_entity_does() -> None:
    assert words("Berlin-based", 6) == ["Berlin", "-", "based"]
    assert tagged("Berlin-based firm", (0, 6, "LOC")) == [
        ("Berlin", "B-LOC"), ("-", "O"), ("based", "O"), ("firm", "O"),
    ]  # fmt: skip


def test_entities_in_a_script_without_spaces() -> None:
    assert tagged("我住在北京", (3, 5, "LOC")) == [
        ("我", "O"), ("住", "O"), ("在", "O"), ("北", "B-LOC"), ("京", "I-LOC"),
    ]  # fmt: skip


def test_two_entities_side_by_side_begin_anew() -> None:
    assert tagged("Rome Paris", (0, 4, "LOC"), (5, 10, "LOC")) == [("Rome", "B-LOC"), ("Paris", "B-LOC")]


def test_an_entity_that_is_named_twice_is_one() -> None:
    assert tagged("in Rome", (3, 7, "LOC"), (3, 7, "LOC")) == [("in", "O"), ("Rome", "B-LOC")]


@pytest.mark.parametrize("none", [None, []])
def test_a_text_without_entities_is_a_row(none: object) -> None:
    row = span_row(RawRow("r.jsonl:1", {"text": "in Rome", "entities": none}), MAPPING, Tally())
    assert row["tags"] == ["O", "O"]


@pytest.mark.parametrize("entity", [(2, 3, "LOC"), (0, 99, "LOC"), (5, 4, "LOC")])
def test_places_without_a_word_are_refused(entity: tuple[int, int, str]) -> None:
    with pytest.raises(RowDefectError):
        tagged("in Rome", entity)


def test_numbers_get_names_and_names_stay() -> None:
    assert named_tags({"tags": ["0", "1"]}, ["O", "B-X"])["tags"] == ["O", "B-X"]
    assert named_tags({"tags": ["O", "B-Y"]}, ["O", "B-X"])["tags"] == ["O", "B-Y"]
    with pytest.raises(RowDefectError):
        named_tags({"tags": ["2"]}, ["O", "B-X"])
