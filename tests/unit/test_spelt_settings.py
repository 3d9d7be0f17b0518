"""Fixes spell settings so that a key and an option can carry them out: every fix of the source is held to that."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.data.readers import ReadOptions, open_source
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.spelt_settings import spelt, spelt_settings
from tui.engine_backend import EngineBackend
from tui.verbs.data_fixes import options_of
from tui.wizard.settings_offered import offered_settings

SPOKEN = re.compile(r"\b[Ss]et (data\.[a-z_.]+): ")


def fixes() -> Iterator[tuple[str, str]]:
    """Yield `(file:line, text)` of every text of the engine that tells somebody to set something of the data.

    What a formatted text puts in is written as `PLACE`.
    """
    for file in sorted(Path(engine.__file__).parent.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
        for node in nodes:
            match node:
                case ast.JoinedStr(values=values):
                    text = "".join(str(p.value) if isinstance(p, ast.Constant) else "PLACE" for p in values)
                case ast.Constant(value=str(text)) if id(node) not in pieces:
                    pass
                case _:
                    continue
            if SPOKEN.search(text):
                yield f"{file.name}:{node.lineno}", text


FIXES = sorted(set(fixes()))


def test_there_are_fixes_to_hold() -> None:
    assert len(FIXES) > 8


@pytest.mark.parametrize(("place", "fix"), FIXES, ids=[place for place, _ in FIXES])
def test_a_fix_that_says_set_is_offered_as_it_is_meant(place: str, fix: str) -> None:
    said = [path for path in SPOKEN.findall(fix) if "PLACE" not in dict(spelt_settings(fix)).get(path, "")]
    offered = [path for setting in offered_settings([Problem("x", "y", fix)], EngineBackend()) for path in setting]
    assert [path for path in said if path not in offered] == []
    assert bool(options_of(fix)) >= bool(said)


@pytest.mark.parametrize(
    "key", ["rows", "the rows", 'say "rows"', "a, b: c.", "行", "v1.2", "true", "none", "12", ".", "x\ny"]
)
def test_any_key_of_a_wrapper_is_offered_as_it_stands_in_the_file(key: str, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.json"
    file.write_text(json.dumps({"version": 3, key: [{"prompt": "a", "completion": "b"}] * 3}), encoding="utf-8")
    with pytest.raises(ProblemError) as caught, open_source(file, "wrapped.json", options=ReadOptions()) as source:
        list(source)
    assert offered_settings(caught.value.problems, EngineBackend()) == [{"data.unwrap": key}]
    (option,) = options_of(caught.value.problems[0].fix)
    path, _, text = option.partition("=")
    assert (path, EngineBackend().parse(path, text)) == ("data.unwrap", key)


def test_words_that_only_look_like_a_setting_are_none() -> None:
    fix = "Look at the rows and at data.mapping: the column of the answers may be the wrong one."
    assert options_of(fix) == []
    assert offered_settings([Problem("x", "y", fix)], EngineBackend()) == []
    assert spelt_settings('data.unwrap: "no end') == []


def test_a_plain_word_is_spelt_as_it_is() -> None:
    assert [spelt(text) for text in ("windows-1252", "utf-8", "data/rows.x")] == [
        "windows-1252",
        "utf-8",
        "data/rows.x",
    ]
