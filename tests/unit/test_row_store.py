"""Rows in a file: what goes in comes out, in any order, without holding it."""

import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.row_store import RowStore, RowWriter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def store_of(path: Path, rows: list[dict]) -> RowStore:
    with RowWriter(path) as writer:
        for row in rows:
            writer.add(row)
    assert writer.num_rows == len(rows)
    return RowStore(path)


def numbered(count: int) -> list[dict]:
    return [{"id": f"rows.jsonl:{n}", "text": f"text {n}"} for n in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6))
def test_rows_of_any_shape_come_back_as_they_were(tmp_path_factory, values):
    rows = [value | {"id": f"{number}"} for number, value in enumerate(values)]
    store = store_of(tmp_path_factory.mktemp("rows") / "rows.arrow", rows)
    assert list(store) == rows
    assert store == rows
    assert [store[place] for place in range(len(rows))] == rows


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\nb\u2028c", "写"])
def test_characters_that_files_do_not_like(tmp_path, text):
    rows = [{"id": f"{text}:1", "text": text, text: text}]
    store = store_of(tmp_path / "rows.arrow", rows)
    assert store == rows
    assert store.id(0) == rows[0]["id"]
    assert b"\n" not in next(store.texts())


def test_slices_and_views_are_those_of_a_list(tmp_path):
    rows = numbered(5000)
    store = store_of(tmp_path / "rows.arrow", rows)
    draw = random.Random(4)
    numbers = draw.sample(range(5000), 700)
    assert store[-1] == rows[-1]
    for part in (slice(None, None, 7), slice(4000, 20, -3), slice(10), slice(-5, None), slice(9, 9)):
        assert store[part] == rows[part]
        assert store[part].only(range(0, len(rows[part]), 2)) == rows[part][::2]
    view = store.only(np.array(numbers))
    assert view == [rows[number] for number in numbers]
    assert view[3:600:5].only([0, 7]) == [rows[number] for number in numbers][3:600:5][:8:7]
    assert list(view.ids()) == [rows[number]["id"] for number in numbers]
    assert store != rows[:-1]
    assert view != rows[:700]
    with pytest.raises(IndexError):
        view[700]


def test_texts_are_the_lines_of_a_file(tmp_path):
    rows = numbered(40)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert b"".join(text + b"\n" for text in store_of(tmp_path / "rows.arrow", rows).texts()) == lines


def test_a_row_of_thirty_megabytes_is_a_row(tmp_path):
    rows = [*numbered(3), {"id": "large", "text": "écrit" * 6_000_000}, *numbered(2)]
    store = store_of(tmp_path / "rows.arrow", rows)
    assert hashlib.sha256(store[3]["text"].encode()).digest() == hashlib.sha256(rows[3]["text"].encode()).digest()
    assert [row["id"] for row in store] == [row["id"] for row in rows]


def test_a_store_of_no_rows_is_empty(tmp_path):
    store = store_of(tmp_path / "rows.arrow", [])
    assert list(store) == []
    assert not store
    assert store.only(np.array([], dtype=np.int64)) == []


def test_rows_are_there_after_the_file_is_removed(tmp_path):
    store = store_of(tmp_path / "rows.arrow", numbered(3000))
    (tmp_path / "rows.arrow").unlink()
    assert store == numbered(3000)


def test_bytes_never_become_text(tmp_path):
    (row,) = store_of(tmp_path / "rows.arrow", [{"id": "a", "image": b"\x89PNG"}])
    assert not isinstance(row["image"], str)


def mapped_bytes() -> int:
    """Return the bytes of mapped files that count as memory of this process."""
    return 1024 * int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_rows_read_at_distances_give_their_pages_back(tmp_path):
    rows = ({"id": f"r:{n}", "text": f"{n} " * 4000} for n in range(3000))
    with RowWriter(tmp_path / "rows.arrow") as writer:
        for row in rows:
            writer.add(row)
    store = RowStore(tmp_path / "rows.arrow")
    before, most = mapped_bytes(), 0
    for number, row in enumerate(store[::3]):
        most = max(most, mapped_bytes() - before)
        assert row["id"] == f"r:{3 * number}"
    assert most < 40 << 20
