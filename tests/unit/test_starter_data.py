"""The quick start's data and the generator behind it: what the file promises, and that pre-training never saw it."""

import json
import random
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

import presets
from scripts.starter import words
from scripts.starter.commands import NUM_ROWS, SEED, write_commands
from scripts.starter.corpus import Document, documents, public_domain_passages
from scripts.starter.grammar import expand, listing
from scripts.starter.skills import made_up_word

PRESETS = Path(presets.__file__).parent
DATA = PRESETS / "commands/commands.jsonl"
COMMAND = re.compile(r"[a-z]+\.[a-z]+( --[a-z]+ [A-Za-z0-9:]+)* --[a-z]+ [A-Za-z0-9: ]+")
SPOKEN_LEVELS = {"0": "off", "50": "half", "100": "all the way up"}


def _pairs() -> list[tuple[str, str]]:
    rows = [json.loads(line)["messages"] for line in DATA.read_text(encoding="utf-8").splitlines()]
    assert all([message["role"] for message in row] == ["user", "assistant"] for row in rows)
    return [(row[0]["content"], row[1]["content"]) for row in rows]


def _text(document: Document) -> str:
    return document if isinstance(document, str) else "\n".join(message["content"] for message in document)


def test_the_generator_writes_the_shipped_file_again_to_the_byte(tmp_path: Path) -> None:
    write_commands(tmp_path / "again.jsonl", NUM_ROWS, SEED)
    assert (tmp_path / "again.jsonl").read_bytes() == DATA.read_bytes()


def test_another_seed_writes_other_rows(tmp_path: Path) -> None:
    write_commands(tmp_path / "other.jsonl", 50, SEED + 1)
    known = {request for request, _ in _pairs()}
    other = [json.loads(line)["messages"][0]["content"] for line in (tmp_path / "other.jsonl").open(encoding="utf-8")]
    assert len(known.intersection(other)) < 10


def test_more_rows_than_there_are_commands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no new [a-z_]+ row is left"):
        write_commands(tmp_path / "many.jsonl", 5000, SEED)


def test_no_request_and_no_command_occurs_twice() -> None:
    pairs = _pairs()
    assert len(pairs) >= 600
    assert len({request.casefold() for request, _ in pairs}) == len(pairs)
    assert len({command for _, command in pairs}) == len(pairs)


def test_every_command_has_the_same_grammar_and_every_kind_many_rows() -> None:
    commands = [command for _, command in _pairs()]
    assert [command for command in commands if not COMMAND.fullmatch(command)] == []
    kinds = Counter(command.split(" ", 1)[0] for command in commands)
    assert len(kinds) == 14
    assert min(kinds.values()) >= 50


def test_words_of_a_command_are_copied_from_its_request() -> None:
    for request, command in _pairs():
        for value in re.findall(r"--[a-z]+ ((?:(?! --).)+)", command):
            assert value in request or SPOKEN_LEVELS[value] in request, (request, command)


def test_requests_read_as_clean_sentences() -> None:
    for request, _ in _pairs():
        assert request == request.strip()
        assert request[0].isupper()
        assert not re.search(r"[$()|=]|  | ,|\ba [aeio]|, please, |at at|\.\.", request), request


@pytest.mark.parametrize("seed", [1, 17, 18])
def test_pretraining_text_never_holds_a_command_or_a_request(seed: int) -> None:
    requests = {request.casefold() for request, _ in _pairs()}
    kinds = {command.split(" ", 1)[0] for _, command in _pairs()}
    for document in islice(documents(seed), 3000):
        text = _text(document)
        assert "=" not in text
        assert not any(kind in text for kind in kinds)
        assert requests.isdisjoint(line.casefold() for line in text.split("\n"))


def test_the_same_seed_gives_the_same_documents() -> None:
    first, again, other = (list(islice(documents(seed), 40)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_documents_are_plain_text_or_whole_conversations() -> None:
    for document in islice(documents(5), 500):
        text = _text(document)
        assert text
        assert "$" not in text
        assert "|" not in text
        if not isinstance(document, str):
            roles = [message["role"] for message in document if message["role"] != "system"]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_public_domain_passages_are_short_and_whole() -> None:
    passages = public_domain_passages()
    assert len(passages) >= 30
    assert all(20 <= len(passage) <= 600 for passage in passages)
    assert any("all men are created equal" in passage for passage in passages)


def test_expand_fills_choices_slots_articles_and_capitals() -> None:
    text = expand("a (apple|orange) for $name. (it is (ripe|sweet).)", random.Random(0), name="Ada")
    assert re.fullmatch(r"An (apple|orange) for Ada\. It is (ripe|sweet)\.", text)


def test_expand_keeps_what_a_slot_holds() -> None:
    assert expand("say $text", random.Random(0), text="a (b|c) $d") == "Say a (b|c) $d"


def test_expand_names_a_slot_without_a_value() -> None:
    with pytest.raises(KeyError, match="thing"):
        expand("the $thing", random.Random(0))


def test_listing_joins_with_a_last_word() -> None:
    assert [listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"], "or")] == ["a", "a and b", "a, b or c"]


@pytest.mark.parametrize(
    ("number", "word"), [(0, "zero"), (13, "thirteen"), (20, "twenty"), (47, "forty-seven"), (100, "one hundred")]
)
def test_number_word(number: int, word: str) -> None:
    assert words.number_word(number) == word


def test_made_up_words_are_mostly_new() -> None:
    rng = random.Random(2)
    made = {made_up_word(rng) for _ in range(500)}
    assert len(made) > 350


def test_what_is_shipped_stays_small() -> None:
    files = [path for path in PRESETS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 6_000_000
