"""Classes made equal: training rows alone, seeded by row, counted, and refused where there are no classes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.data.balance import MAX_REPEATS, find_balance
from engine.data.pipeline import PreparedData, prepare
from engine.data.rows import Row, Tally
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

SIZES = {"refund": 80, "card": 40, "theft": 7}


def labelled(sizes: dict[str, int]) -> list[Row]:
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [{"id": f"t.csv:{n}", "text": f"Parcel {n}.", "label": name} for n, name in enumerate(names, 2)]


def classes(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(row["label"] for row in rows))


def balanced(rows: list[Row], action: Any, seed: int = 1) -> tuple[list[Row], Tally, str]:
    balance, dropped = find_balance(rows, action, seed), Tally()
    assert balance is not None
    return list(balance.applied(rows, dropped, [])), dropped, balance.note


def test_oversampling_brings_every_class_up_to_the_largest_but_repeats_no_row_without_end():
    rows, dropped, note = balanced(labelled(SIZES), "oversample")
    assert classes(rows) == {"refund": 80, "card": 80, "theft": 7 * MAX_REPEATS}
    assert dropped.total() == 0
    assert "card 40 -> 80" in note
    assert "127 training rows become 230" in note
    assert "1 of 3 stay rarer" in note
    assert max(Counter(row["id"].split("*")[0] for row in rows).values()) == MAX_REPEATS


def test_undersampling_brings_every_class_down_to_the_rarest_and_counts_the_rest():
    rows, dropped, note = balanced(labelled(SIZES), "undersample")
    assert classes(rows) == dict.fromkeys(SIZES, 7)
    assert dropped.counts == {"class_balance": 127 - 21}
    assert "127 training rows become 21" in note


@pytest.mark.parametrize("action", ["oversample", "undersample"])
def test_every_use_has_an_id_of_its_own_and_only_the_id_differs(action):
    source = labelled({"a": 50, "b": 18})
    rows, _, _ = balanced(source, action)
    assert len({row["id"] for row in rows}) == len(rows)
    taught = {row["id"]: row["text"] for row in source}
    assert all(row["text"] == taught[row["id"].split("*")[0]] for row in rows)
    assert [row["id"].split("*")[0] for row in rows] == sorted(
        (row["id"].split("*")[0] for row in rows), key=lambda place: int(place.split(":")[1])
    )


@pytest.mark.parametrize("action", ["oversample", "undersample"])
def test_the_draw_follows_seed_and_row_and_not_the_order(action):
    source = labelled({"a": 60, "b": 25})

    def drawn(rows: list[Row], seed: int) -> list[str]:
        return sorted(row["id"] for row in balanced(rows, action, seed)[0])

    assert drawn(source, 1) == drawn(source[::-1], 1)
    assert drawn(source, 1) != drawn(source, 2)


def test_equal_classes_stay_as_they_are():
    source = labelled({"a": 30, "b": 30})
    rows, dropped, note = balanced(source, "undersample")
    assert rows == source
    assert dropped.total() == 0
    assert "have 30 rows already" in note


@pytest.mark.parametrize("action", ["report", "off"])
def test_nothing_is_done_unless_asked_for(action):
    assert find_balance(labelled(SIZES), action, 1) is None


class TestWithinTheData:
    def prepared(self, folder: Path, **data: Any) -> PreparedData:
        rows = [{"prompt": f"t {n}", "completion": "no" if n % 5 else "yes"} for n in range(200)]
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tree: dict[str, Any] = {"objective": "chat", "model": {"base": "m"}, "training": {"seed": 4}}
        return prepare(Recipe.model_validate({**tree, "data": {"source": str(path), "held_out": 0.2, **data}}))

    def answers(self, rows: Any) -> Counter[str]:
        return Counter(row["messages"][-1]["content"] for row in rows)

    def test_held_out_rows_keep_the_classes_as_they_are(self, tmp_path):
        plain = self.prepared(tmp_path)
        for action in ("oversample", "undersample"):
            even = self.prepared(tmp_path, cleaning={"class_balance": action})
            assert list(even.held_out_rows) == list(plain.held_out_rows)
            counts = self.answers(even.train_rows)
            assert counts["yes"] == counts["no"]
            (note,) = [finding for finding in even.profile.findings if finding.code == "data.balanced"]
            assert note.severity == "note"
            assert f"become {len(even.train_rows)}" in note.message

    def test_rows_left_out_are_counted_as_the_check_s_own(self, tmp_path):
        profile = self.prepared(tmp_path, cleaning={"class_balance": "undersample"}).profile
        left_out = profile.dropped["class_balance"]
        assert profile.num_train + profile.num_held_out + left_out == profile.num_rows == 200
        (result,) = [check for check in profile.checks if check.name == "class_balance"]
        assert (result.action, result.dropped) == ("undersample", left_out)

    def test_data_without_classes_refuses_the_switch(self, tmp_path):
        path = tmp_path / "prose.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"q {n}", "completion": f"a {n}"}) + "\n" for n in range(90)))
        with pytest.raises(ProblemError) as caught:
            self.prepared(tmp_path, source=str(path), cleaning={"class_balance": "oversample"})
        (problem,) = caught.value.problems
        assert (problem.code, problem.path) == ("data.no_classes", "data.cleaning.class_balance")
        assert "have no classes: 72 answers differ" in problem.message
