"""Stage 1 from end to end: every row is used or counted, the split is seeded, and nothing leaks."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.lengths import length_profile, percentile
from engine.data.pipeline import prepare
from engine.data.row_keys import RowKeys, row_key
from engine.data.row_store import picked
from engine.data.rows import Tally
from engine.data.split import Division, different_rows, limited, split_rows
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))


def recipe(source, *, objective: str = "chat", seed: int = 17, **data) -> Recipe:
    section = {"source": str(source) if isinstance(source, Path) else source, **data}
    return Recipe.model_validate(
        {"objective": objective, "model": {"base": "m"}, "data": section, "training": {"seed": seed}}
    )


def pairs(folder: Path, count: int, name: str = "rows.jsonl", start: int = 0) -> Path:
    path = folder / name
    lines = (json.dumps({"prompt": f"Q{n}", "completion": f"A{n}"}) for n in range(start, start + count))
    path.write_text("\n".join(lines) + "\n")
    return path


def text_rows(count: int) -> list[dict]:
    return [{"id": f"t:{n}", "text": f"text {n}"} for n in range(count)]


class TestSplit:
    def test_default_is_a_tenth_of_the_rows(self, tmp_path):
        data = prepare(recipe(pairs(tmp_path, 200)))
        assert (len(data.train_rows), len(data.held_out_rows)) == (180, 20)

    def test_default_is_at_most_500(self):
        split = split_rows(text_rows(9000), Division(), 1)
        assert (len(split.train), len(split.held_out)) == (8500, 500)

    def test_same_seed_same_split_other_seed_other_split(self, tmp_path):
        path = pairs(tmp_path, 100)
        first, again, other = (prepare(recipe(path, seed=seed)).held_out_rows for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_rows_keep_their_order_and_none_is_lost(self):
        rows = text_rows(50)
        split = split_rows(rows, Division(share=0.3), 5)
        train, held = split.train, split.held_out
        assert sorted([*train, *held], key=rows.index) == rows
        assert train == sorted(train, key=rows.index)
        assert len(held) == 15

    @given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 5))
    def test_both_sides_always_have_a_row(self, count, share, seed):
        split = split_rows(text_rows(count), Division(share=share), seed)
        train, held = split.train, split.held_out
        assert train
        assert held
        assert len(train) + len(held) == count

    def test_equal_rows_stay_on_one_side(self):
        rows = [{"id": f"t:{n}", "text": f"text {n % 10}"} for n in range(100)]
        split = split_rows(rows, Division(share=0.3), 3)
        assert not {row_key(row) for row in split.train} & {row_key(row) for row in split.held_out}

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 7.0])
    def test_share_out_of_range(self, tmp_path, share):
        with pytest.raises(ProblemError, match="between 0 and 1"):
            prepare(recipe(pairs(tmp_path, 10), held_out=share))

    def test_share_may_be_spelled_as_text(self, tmp_path):
        assert len(prepare(recipe(pairs(tmp_path, 100), held_out="0.2")).held_out_rows) == 20

    def test_one_row_is_too_few(self, tmp_path):
        with pytest.raises(ProblemError, match="at least two"):
            prepare(recipe(pairs(tmp_path, 1)))

    def test_too_few_rows_say_where_the_others_went(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"prompt": "Q", "completion": "A"}\n' * 4 + '{"prompt": "Q", "completion": ""}\n')
        with pytest.raises(ProblemError) as caught:
            prepare(recipe(path))
        message = caught.value.problems[0].message
        assert "3 rows are equal to an earlier row" in message
        assert "1 row has an empty answer" in message
        assert "rows.jsonl:5" in message


class TestHeldOutFile:
    def test_is_used_whole(self, tmp_path):
        held = pairs(tmp_path, 5, "held.jsonl", start=100)
        data = prepare(recipe(pairs(tmp_path, 20), held_out=str(held)))
        assert (len(data.train_rows), len(data.held_out_rows)) == (20, 5)
        assert data.held_out_rows[0]["id"] == "held.jsonl:1"

    def test_rows_of_both_are_taken_out_of_training_and_reported(self, tmp_path):
        held = pairs(tmp_path, 5, "held.jsonl", start=17)
        data = prepare(recipe(pairs(tmp_path, 20), held_out=str(held), cleaning={"leaked_rows": "drop"}))
        assert data.profile.dropped == {"in_held_out": 3}
        assert len(data.train_rows) == 17
        finding = next(finding for finding in data.profile.findings if "held-out row" in finding.message)
        assert finding.severity == "warning"
        assert "rows.jsonl:18" in finding.message

    def test_training_file_as_held_out_file(self, tmp_path):
        path = pairs(tmp_path, 20)
        with pytest.raises(ProblemError, match="20 of 20 held-out rows are training rows too"):
            prepare(recipe(path, held_out=str(path)))
        with pytest.raises(ProblemError, match="None of the"):
            prepare(recipe(path, held_out=str(path), cleaning={"leaked_rows": "drop"}))

    def test_missing(self, tmp_path):
        with pytest.raises(ProblemError, match="does not exist"):
            prepare(recipe(pairs(tmp_path, 5), held_out=str(tmp_path / "none.jsonl")))


class TestCleaning:
    def test_duplicates_are_dropped_before_the_split_and_counted(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Q{n % 50}", "completion": "A"}) + "\n" for n in range(100)))
        data = prepare(recipe(path))
        assert data.profile.dropped == {"duplicate": 50}
        assert len(data.train_rows) + len(data.held_out_rows) == 50

    def test_duplicates_may_stay(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Q{n % 50}", "completion": "A"}) + "\n" for n in range(100)))
        data = prepare(recipe(path, drop_duplicates=False))
        held = {row_key(row) for row in data.held_out_rows}
        assert data.profile.dropped == {}
        assert not held & {row_key(row) for row in data.train_rows}

    def test_ids_do_not_make_rows_different(self):
        tally = Tally()
        rows = [{"id": "a:1", "text": "x"}, {"id": "a:2", "text": "x"}]
        kept = picked(rows, different_rows(rows, RowKeys.of(rows), tally))
        assert [row["id"] for row in kept] == ["a:1"]
        assert tally.details == {"duplicate": "equal to a:1"}

    def test_row_limit_draws_with_the_seed(self):
        rows = text_rows(100)
        first, again, other = (picked(rows, limited(rows, RowKeys.of(rows), 10, seed, Tally())) for seed in (1, 1, 2))
        assert len(first) == 10
        assert first == again
        assert first != other

    def test_every_row_is_used_or_counted(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        values = [{"prompt": f"Q{n}", "completion": ["", "A", None, " ", "B"][n % 5]} for n in range(100)]
        values += [{"prompt": "Q1", "completion": "A"}, {"question": "x"}]
        path.write_text("\n".join(json.dumps(value) for value in values))
        profile = prepare(recipe(path, max_rows=30)).profile
        assert profile.num_rows == 102
        assert profile.num_train + profile.num_held_out + sum(profile.dropped.values()) == 102
        assert set(profile.dropped) == {"empty_answer", "null_value", "duplicate", "missing_column", "row_limit"}
        assert all(any(reason in finding.code for finding in profile.findings) for reason in profile.dropped)

    def test_all_rows_unusable_says_why(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"prompt": "a", "completion": ""}\n{"prompt": "b", "completion": " "}\n')
        with pytest.raises(ProblemError, match=r"None of the 2 rows .*2 rows have an empty answer.*rows\.jsonl:1"):
            prepare(recipe(path))


class TestProfile:
    def test_facts(self, tmp_path):
        profile = prepare(recipe(pairs(tmp_path, 60))).profile
        assert profile.format == "prompt_completion"
        assert profile.columns == ["prompt", "completion"]
        assert profile.bytes == (tmp_path / "rows.jsonl").stat().st_size
        assert len(profile.sha256) == 64
        assert profile.lengths is not None
        assert profile.lengths.estimated
        assert profile.examples[0] == {"prompt": "Q0", "completion": "A0"} or len(profile.examples) == 5

    def test_hash_follows_the_content_and_the_held_out_file(self, tmp_path):
        one, two = pairs(tmp_path, 10, "a.jsonl"), pairs(tmp_path, 10, "b.jsonl", start=50)
        hashes = {
            prepare(recipe(str(one))).profile.sha256,
            prepare(recipe(str(two))).profile.sha256,
            prepare(recipe([str(one), str(two)])).profile.sha256,
            prepare(recipe(str(one), held_out=str(two), drop_duplicates=False)).profile.sha256,
        }
        assert len(hashes) == 3

    def test_few_rows_are_a_warning_and_no_defect_is_silent(self, tmp_path):
        findings = prepare(recipe(pairs(tmp_path, 10))).profile.findings
        assert [finding.code for finding in findings] == ["data.few_rows"]

    def test_clean_data_raises_no_alarm(self, tmp_path):
        assert prepare(recipe(pairs(tmp_path, 100))).profile.findings == []

    def test_text_has_no_answers(self, tmp_path):
        path = tmp_path / "book.txt"
        path.write_text("\n\n".join(f"Paragraph {n}. " + "Word " * 40 for n in range(200)))
        profile = prepare(recipe(path, objective="domain-adaptation")).profile
        assert (profile.format, profile.answer_lengths) == ("text", None)
        assert profile.examples[0].keys() == {"text"}

    def test_text_file_for_chat_is_refused(self, tmp_path):
        path = tmp_path / "book.txt"
        path.write_text("Some text.")
        with pytest.raises(ProblemError, match="domain-adaptation"):
            prepare(recipe(path))


def test_lengths():
    profile = length_profile(range(1, 101))
    assert profile is not None
    assert (profile.p50, profile.p90, profile.p99, profile.longest, profile.total) == (50, 90, 99, 100, 5050)
    assert length_profile([]) is None
    assert percentile([7], 0.99) == 7


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")
def test_corpus_keeps_every_word():
    data = prepare(recipe(str(ASSETS / "corpus/tinyshakespeare.txt"), objective="domain-adaptation"))
    rows = sorted([*data.train_rows, *data.held_out_rows], key=lambda row: int(row["id"].split(":")[1]))
    text = (ASSETS / "corpus/tinyshakespeare.txt").read_text()
    assert " ".join(row["text"] for row in rows).split() == text.split()
