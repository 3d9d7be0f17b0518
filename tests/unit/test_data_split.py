"""The split: by chance, class, group or time; seeded, whatever the order of the files, and nothing on two sides."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.pipeline import PreparedData, prepare
from engine.data.row_keys import RowKeys, row_key
from engine.data.row_store import picked
from engine.data.rows import Tally
from engine.data.split import Division, limited, split_rows
from engine.data.split_values import times_of
from engine.planning.derive import choose_held_out
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe


def text_rows(count: int) -> list[dict]:
    return [{"id": f"t:{n}", "text": f"text {n}"} for n in range(count)]


def prepared(folder: Path, rows: list[dict], *, seed: int = 17, **data) -> PreparedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "objective": "chat",
        "model": {"base": "m"},
        "data": {"source": str(path)} | data,
        "training": {"seed": seed},
    }
    return prepare(Recipe.model_validate(tree))


def table(count: int, **columns) -> list[dict]:
    return [
        {"prompt": f"question {n}", "completion": f"answer {n}"} | {key: make(n) for key, make in columns.items()}
        for n in range(count)
    ]


def number(row: dict) -> int:
    return int(row["messages"][0]["content"].split()[-1])


def sides(data: PreparedData) -> tuple[list[int], list[int], list[int]]:
    return tuple(sorted(map(number, rows)) for rows in (data.train_rows, data.held_out_rows, data.test_rows))


class TestDraw:
    def test_the_order_of_the_rows_changes_nothing(self, tmp_path):
        rows = table(120)
        turned = random.Random(1).sample(rows, len(rows))
        options = {"split": {"test": 0.1}, "max_rows": 100}
        assert sides(prepared(tmp_path, rows, **options)) == sides(prepared(tmp_path, turned, **options))

    def test_more_rows_move_few_of_those_that_were_there(self):
        before = split_rows(text_rows(1000), Division(share=0.2), 5)
        after = split_rows(text_rows(1050), Division(share=0.2), 5)
        old = {row["text"] for row in before.held_out}
        new = {row["text"] for row in after.held_out}
        assert len(old & new) >= 180

    def test_the_row_limit_draws_by_what_rows_hold(self):
        rows = text_rows(100)
        drawn, again = (
            {row["text"] for row in picked(some, limited(some, RowKeys.of(some), 10, 3, Tally()))}
            for some in (rows, rows[::-1])
        )
        assert drawn == again

    def test_two_draws_have_nothing_to_do_with_each_other(self):
        rows = text_rows(2000)
        drawn = picked(rows, limited(rows, RowKeys.of(rows), 1000, 3, Tally()))
        assert 60 <= len(split_rows(drawn, Division(share=0.1), 3).held_out) <= 140

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.integers(0, 8), min_size=3, max_size=60),
        st.floats(0.05, 0.6),
        st.floats(0.05, 0.4),
        st.integers(0, 3),
    )
    def test_every_row_is_on_one_side_and_groups_are_whole(self, groups, share, test, seed):
        rows = text_rows(len(groups))
        division = Division(share=share, test=test, together=groups)
        if len(set(groups)) < 3:
            with pytest.raises(ProblemError, match="3 are needed"):
                split_rows(rows, division, seed)
            return
        split = split_rows(rows, division, seed)
        parts = [split.train, split.held_out, split.test]
        assert all(parts)
        assert sorted(row["id"] for part in parts for row in part) == sorted(row["id"] for row in rows)
        seen = [{groups[int(row["id"][2:])] for row in part} for part in parts]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]

    def test_rows_that_are_all_alike_are_split_all_the_same_and_it_is_said(self):
        split = split_rows(text_rows(40), Division(share=0.25, alike=[0] * 30 + list(range(30, 40))), 1)
        assert len(split.held_out) == 10
        (note,) = split.notes
        assert "30 of 40 rows" in note


class TestTestRows:
    def test_are_put_aside_and_counted(self, tmp_path):
        data = prepared(tmp_path, table(100), split={"test": 0.2}, held_out=0.1)
        assert [len(side) for side in sides(data)] == [70, 10, 20]
        assert data.profile.num_test == 20

    def test_beside_a_held_out_file(self, tmp_path):
        held = tmp_path / "held.jsonl"
        held.write_text("".join(json.dumps(row) + "\n" for row in table(110)[100:]))
        data = prepared(tmp_path, table(100), split={"test": 0.2}, held_out=str(held))
        assert [len(side) for side in sides(data)] == [80, 10, 20]

    def test_three_sides_need_three_rows(self, tmp_path):
        with pytest.raises(ProblemError, match="at least three"):
            prepared(tmp_path, table(2), split={"test": 0.2})


@pytest.mark.parametrize("weight", [1.0, 2.5])
@pytest.mark.parametrize("test", [None, 0.15])
@pytest.mark.parametrize("count", [31, 75, 233])
def test_the_share_that_a_plan_writes_down_gives_the_same_split_again(tmp_path, count, test, weight):
    rows = tmp_path / "rows.jsonl"
    options = {"source": [{"path": str(rows), "weight": weight}], "split": {"test": test}}
    first = prepared(tmp_path, table(count), **options)
    again = prepared(tmp_path, table(count), held_out=choose_held_out(first.profile), **options)
    assert again.held_out_rows == first.held_out_rows
    assert again.train_rows == first.train_rows


@pytest.mark.parametrize("method", ["stratified", "group"])
@pytest.mark.parametrize("count", [61, 75, 233])
def test_the_same_holds_where_whole_groups_give_fewer_rows(tmp_path, count, method):
    rows = table(count, kind=lambda n: f"kind {n % 7 if n % 5 else n}")
    options = {"split": {"method": method, "column": "kind", "test": 0.1}}
    first = prepared(tmp_path, rows, **options)
    again = prepared(tmp_path, rows, held_out=choose_held_out(first.profile), **options)
    assert again.held_out_rows == first.held_out_rows


class TestStratified:
    def test_each_value_keeps_its_share(self, tmp_path):
        rows = table(200, kind=lambda n: "rare" if n % 10 == 0 else "usual")
        data = prepared(tmp_path, rows, held_out=0.2, split={"method": "stratified", "column": "kind", "test": 0.1})
        for side, expected in zip(sides(data), (14, 4, 2), strict=True):
            assert sum(n % 10 == 0 for n in side) == expected

    def test_a_value_of_one_row_is_learned(self, tmp_path):
        rows = table(60, kind=lambda n: "once" if n == 31 else "usual")
        for seed in range(5):
            data = prepared(tmp_path, rows, seed=seed, held_out=0.4, split={"method": "stratified", "column": "kind"})
            assert 31 in sides(data)[0]

    def test_a_column_of_unique_values_is_no_class(self, tmp_path):
        with pytest.raises(ProblemError, match="too many for classes"):
            prepared(tmp_path, table(60, key=str), split={"method": "stratified", "column": "key"})

    def test_without_a_label_it_needs_a_column(self, tmp_path):
        with pytest.raises(ProblemError, match="needs a column"):
            prepared(tmp_path, table(60), split={"method": "stratified"})


class TestGroups:
    def test_a_value_stays_on_one_side(self, tmp_path):
        rows = table(200, user=lambda n: f"user {n % 23}")
        data = prepared(tmp_path, rows, held_out=0.2, split={"method": "group", "column": "user", "test": 0.1})
        users = [Counter(n % 23 for n in side) for side in sides(data)]
        assert not users[0].keys() & users[1].keys()
        assert not users[0].keys() & users[2].keys()
        assert 30 <= users[1].total() <= 40

    def test_rows_without_a_value_stand_alone(self, tmp_path):
        rows = table(60, user=lambda n: None if n % 2 else "one")
        data = prepared(tmp_path, rows, held_out=0.2, split={"method": "group", "column": "user"})
        assert len(data.held_out_rows) == 12
        assert all(n % 2 for n in sides(data)[1])

    def test_two_groups_are_too_few_for_three_sides(self, tmp_path):
        rows = table(60, user=lambda n: n % 2)
        with pytest.raises(ProblemError, match="2 groups that stay together; 3 are needed"):
            prepared(tmp_path, rows, split={"method": "group", "column": "user", "test": 0.1})

    def test_a_missing_column_is_named_with_the_nearest(self, tmp_path):
        with pytest.raises(ProblemError, match="Did you mean 'user'"):
            prepared(tmp_path, table(60, user=str), split={"method": "group", "column": "users"})


class TestTime:
    @pytest.mark.parametrize(
        "when",
        [
            lambda n: n,
            lambda n: f"{2000 + n}",
            lambda n: f"2026-{n // 28 + 1:02d}-{n % 28 + 1:02d}",
            lambda n: f"2026/01/01 {n // 60:02d}:{n % 60:02d}:00",
            lambda n: f"2026-01-01T{n // 60:02d}:{n % 60:02d}:00Z",
        ],
    )
    def test_the_newest_are_tested_the_next_are_held_out(self, tmp_path, when):
        rows = random.Random(2).sample(table(100, when=when), 100)
        data = prepared(tmp_path, rows, held_out=0.2, split={"method": "time", "column": "when", "test": 0.1})
        assert sides(data) == (list(range(70)), list(range(70, 90)), list(range(90, 100)))

    @pytest.mark.parametrize(("value", "shown"), [(None, "no value"), ("03/04/2026", "03/04/2026"), ("soon", "soon")])
    def test_what_is_no_point_in_time_is_named(self, tmp_path, value, shown):
        rows = table(60, when=lambda n: value if n == 7 else f"2026-01-{n % 28 + 1:02d}")
        with pytest.raises(ProblemError) as caught:
            prepared(tmp_path, rows, split={"method": "time", "column": "when"})
        message = caught.value.problems[0].message
        assert "rows.jsonl:8" in message
        assert shown in message

    def test_numbers_and_dates_together_are_refused(self):
        rows = text_rows(2)
        with pytest.raises(ProblemError, match="numbers in some rows and dates in others"):
            times_of(rows, [2026, "2026-01-01"])

    def test_zones_are_heeded(self):
        rows = text_rows(2)
        east, utc = times_of(rows, ["2026-01-01T12:00+02:00", "2026-01-01T11:00"])
        assert east < utc


def test_equal_rows_never_part():
    rows = [{"id": f"t:{n}", "text": f"text {n % 10}"} for n in range(100)]
    split = split_rows(rows, Division(share=0.3, test=0.2, times=[float(n) for n in range(100)]), 3)
    keys = [{row_key(row) for row in side} for side in (split.train, split.held_out, split.test)]
    assert not keys[0] & keys[1]
    assert not keys[1] & keys[2]
