"""Rows kept by content: read once, never wrong, and nothing half-made left behind."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from engine.data import pipeline, row_cache
from engine.data.bytes_in import ReadingStoppedError
from engine.data.content_cache import ContentCache
from engine.data.pipeline import PreparedData, prepare
from engine.data.progress import Progress, WorkWatch
from engine.data.row_store import RowWriter
from engine.planning.derive import choose_held_out
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe


def write(path: Path, count: int = 60, word: str = "answer") -> str:
    rows = ({"prompt": f"question {n}?", "completion": f"{word} {n}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe(source: Any, *, seed: int = 1, **data: Any) -> Recipe:
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": source, **data}, "training": {"seed": seed}}
    return Recipe.model_validate(tree)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose rows were read, in order."""
    names: list[str] = []
    read = pipeline.read_raw

    def counted(files: Any, *arguments: Any) -> Any:
        names.extend(file.name for file in files)
        return read(files, *arguments)

    monkeypatch.setattr(pipeline, "read_raw", counted)
    return names


def same(one: PreparedData, other: PreparedData) -> bool:
    sides = ("train_rows", "held_out_rows", "test_rows", "profile", "train_sha256")
    return all(getattr(one, side) == getattr(other, side) for side in sides)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith((".making", "passes-", "raw")))


class TestHits:
    def test_the_same_data_is_read_once_and_is_what_it_is_without_a_cache(self, tmp_path, reads):
        made = recipe([write(tmp_path / "a.jsonl"), {"path": write(tmp_path / "b.jsonl", 20, "b"), "weight": 2.5}])
        first, again = (prepare(made, cache=tmp_path / "cache") for _ in range(2))
        assert reads == ["a.jsonl", "b.jsonl"]
        assert same(first, again)
        assert same(first, prepare(made))
        assert {path.name for path in (tmp_path / "cache/rows").glob("*/*")} == {
            "train.arrow",
            "held_out.arrow",
            "test.arrow",
            "profile.json",
            "same-as",
        }
        assert leftovers(tmp_path) == []

    def test_a_copy_elsewhere_is_the_same_data(self, tmp_path, reads):
        (tmp_path / "other").mkdir()
        sources = [write(tmp_path / "a.jsonl"), write(tmp_path / "other/a.jsonl")]
        one, other = (prepare(recipe(source), cache=tmp_path / "cache") for source in sources)
        assert same(one, other)
        assert len(reads) == 1

    @pytest.mark.parametrize(
        "options",
        [{"split": {"test": 0.2}}, {"max_rows": 40}, {"drop_duplicates": False}, {"cleaning": {"secrets": "mask"}}],
    )
    def test_another_recipe_gives_other_rows(self, tmp_path, reads, options):
        source = write(tmp_path / "a.jsonl")
        prepare(recipe(source), cache=tmp_path / "cache")
        prepare(recipe(source, seed=2), cache=tmp_path / "cache")
        prepare(recipe(source, **options), cache=tmp_path / "cache")
        assert len(reads) == 3

    def test_what_says_nothing_of_rows_changes_nothing(self, tmp_path, reads):
        source = write(tmp_path / "a.jsonl")
        for prompt in (None, "Be short."):
            prepare(recipe(source, system_prompt=prompt), cache=tmp_path / "cache")
        assert len(reads) == 1

    def test_the_recipe_of_a_plan_finds_the_rows_of_the_recipe_it_came_from(self, tmp_path, reads):
        source = write(tmp_path / "a.jsonl")
        first = prepare(recipe(source), cache=tmp_path / "cache")
        found = {"format": first.profile.format, "mapping": first.profile.mapping}
        resolved = recipe(source, **found, held_out=choose_held_out(first.profile))
        assert same(prepare(resolved, cache=tmp_path / "cache"), first)
        assert len(reads) == 1
        fresh = prepare(resolved)
        assert (fresh.train_rows, fresh.held_out_rows) == (first.train_rows, first.held_out_rows)


class TestDamage:
    @pytest.mark.parametrize("said", ["", ".", "..", "../..", "/"])
    def test_a_pointer_that_says_nothing_leads_nowhere(self, tmp_path, reads, said):
        source, cache = write(tmp_path / "a.jsonl"), tmp_path / "cache"
        first = prepare(recipe(source), cache=cache)
        (pointer,) = (cache / "rows").glob("*/same-as")
        pointer.write_text(said)
        found = {"format": first.profile.format, "mapping": first.profile.mapping}
        resolved = recipe(source, **found, held_out=choose_held_out(first.profile))
        assert same(prepare(resolved, cache=cache), prepare(resolved))
        assert same(prepare(recipe(source), cache=cache), first)
        assert len(reads) == 3


class TestChanges:
    def test_a_changed_file_is_read_again_even_where_its_times_are_put_back(self, tmp_path):
        path = Path(write(tmp_path / "a.jsonl"))
        first = prepare(recipe(str(path)), cache=tmp_path / "cache")
        times = path.stat()
        write(path, word="anders")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        again = prepare(recipe(str(path)), cache=tmp_path / "cache")
        assert path.stat().st_size == times.st_size
        assert again.profile.sha256 != first.profile.sha256
        assert again.train_rows[0]["messages"][1]["content"].startswith("anders")

    def test_a_changed_held_out_file_is_noticed(self, tmp_path):
        held = tmp_path / "held.jsonl"
        data = []
        for count in (10, 12):
            write(held, count, "held")
            data.append(prepare(recipe(write(tmp_path / "a.jsonl"), held_out=str(held)), cache=tmp_path / "cache"))
        assert [len(each.held_out_rows) for each in data] == [10, 12]

    def test_a_file_that_is_written_to_meanwhile_is_not_kept(self, tmp_path, monkeypatch):
        path = tmp_path / "a.jsonl"
        write(path)
        make = pipeline._make

        def slow(*arguments: Any) -> None:
            make(*arguments)
            write(path, 61)

        monkeypatch.setattr(pipeline, "_make", slow)
        with pytest.raises(ProblemError, match="written to while it was read"):
            prepare(recipe(str(path)), cache=tmp_path / "cache")
        assert list((tmp_path / "cache/rows").iterdir()) == []

    @pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
    @pytest.mark.parametrize("name", ["train.arrow", "profile.json"])
    def test_a_damaged_entry_is_made_again(self, tmp_path, reads, damage, name):
        made = recipe(write(tmp_path / "a.jsonl"))
        first = prepare(made, cache=tmp_path / "cache")
        (file,) = (tmp_path / "cache/rows").glob(f"*/{name}")
        damage(file)
        assert same(prepare(made, cache=tmp_path / "cache"), first)
        assert len(reads) == 2

    def test_only_settled_large_files_have_their_hash_remembered(self, tmp_path, monkeypatch):
        monkeypatch.setattr(row_cache, "_REMEMBERED_BYTES", 1)
        hashed: list[str] = []
        hash_of = row_cache._content_hash
        monkeypatch.setattr(row_cache, "_content_hash", lambda path, watch: hashed.append(path) or hash_of(path, watch))
        made = recipe(write(tmp_path / "a.jsonl"))
        for settled_s in (1e9, 1e9, -1.0, -1.0, -1.0):
            monkeypatch.setattr(row_cache, "_SETTLED_S", settled_s)
            prepare(made, cache=tmp_path / "cache")
        assert len(hashed) == 3
        write(tmp_path / "a.jsonl", 61)
        assert prepare(made, cache=tmp_path / "cache").profile.num_rows == 61
        assert len(hashed) == 4


class TestEndings:
    @pytest.mark.parametrize("stage", ["Reading a.jsonl", "Forming and checking the rows", "Comparing rows", "Writing"])
    @pytest.mark.parametrize("cached", [True, False])
    def test_a_stop_leaves_nothing_half_made(self, tmp_path, monkeypatch, stage, cached):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        (tmp_path / "scratch").mkdir()
        seen: list[str] = []
        watch = WorkWatch(lambda progress: seen.append(progress.stage), lambda: any(s.startswith(stage) for s in seen))
        with pytest.raises(ReadingStoppedError):
            prepare(recipe(write(tmp_path / "a.jsonl")), cache=tmp_path / "cache" if cached else None, watch=watch)
        assert leftovers(tmp_path) == []
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_a_broken_file_leaves_nothing_half_made(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", \n')
        with pytest.raises(ProblemError):
            prepare(recipe(str(path)), cache=tmp_path / "cache")
        assert list((tmp_path / "cache/rows").iterdir()) == []

    def test_a_full_disk_is_named_with_the_next_action(self, tmp_path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(RowWriter, "put", full)
        with pytest.raises(ProblemError) as caught:
            prepare(recipe(write(tmp_path / "a.jsonl")), cache=tmp_path / "cache")
        assert caught.value.problems[0].code == "disk.full"
        assert leftovers(tmp_path) == []

    def test_without_a_cache_the_files_are_gone_and_the_rows_are_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        (tmp_path / "scratch").mkdir()
        data = prepare(recipe(write(tmp_path / "a.jsonl")))
        assert list((tmp_path / "scratch").iterdir()) == []
        assert len(list(data.train_rows)) == 54

    def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(self, tmp_path):
        cache = ContentCache(tmp_path, "rows")
        (tmp_path / "rows/.making-dead").mkdir(parents=True)
        (tmp_path / "rows/.making-dead/raw.arrow").write_bytes(b"x")
        os.utime(tmp_path / "rows/.making-dead", (1, 1))
        with cache.making("one") as living:
            os.utime(living, (1, 1))
            with cache.making("two"):
                assert living.is_dir()
        assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == ["one", "two"]


def test_the_first_rows_tell_how_the_data_is_read_before_all_of_it_is(tmp_path):
    told: list[Progress] = []
    prepare(recipe(write(tmp_path / "a.jsonl", 3000)), cache=tmp_path / "cache", watch=WorkWatch(told.append))
    found = [progress for progress in told if progress.found]
    assert "prompt_completion" in found[0].found
    assert all(progress.stage == "Reading a.jsonl" for progress in told[: told.index(found[0])])
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == [
        "Reading a.jsonl",
        "Looking whether a.jsonl is new",
        "Forming and checking the rows",
        "Comparing rows",
        "Writing training rows",
        "Writing held-out rows",
        "Measuring the rows",
    ]
