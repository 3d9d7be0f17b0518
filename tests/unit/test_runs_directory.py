"""Run directories: whole or absent, private, found by what people type, listed even when damaged."""

import errno
import json
import os
import re
import shlex
import shutil
import stat
from pathlib import Path

import pytest

from engine.recipe.problems import ProblemError
from engine.runs import directory, disk
from engine.runs.directory import RunDirectory, create_run, find_run, new_run_id
from engine.runs.events import EventReader
from engine.runs.home import home_folders
from engine.runs.listing import list_runs, newest_live_run
from engine.runs.liveness import acquire, write_exit
from engine.runs.picture import PictureWriter
from tests.unit.runs_support import home_in, made_plan, made_run, step_payload


def test_the_home_is_the_variable_or_the_xdg_folders():
    chosen = home_folders({"FTWIZARD_HOME": "/srv/ft", "XDG_STATE_HOME": "/ignored"})
    assert (chosen.runs, chosen.cache, chosen.drafts) == (
        Path("/srv/ft/runs"),
        Path("/srv/ft/cache"),
        Path("/srv/ft/drafts"),
    )
    xdg = home_folders({"HOME": "/u", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "relative/is/invalid"})
    assert (xdg.runs, xdg.cache) == (Path("/s/ftwizard/runs"), Path("/u/.cache/ftwizard"))
    assert home_folders({"HOME": "/u"}).drafts == Path("/u/.local/state/ftwizard/drafts")
    assert home_folders({"FTWIZARD_HOME": "~/ft"}).runs == Path.home() / "ft/runs"
    assert home_folders({"FTWIZARD_HOME": "here"}).runs.is_absolute()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_run_is_private_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        run = made_run(tmp_path)
    finally:
        os.umask(before)
    for folder in (run.path, run.path.parent, run.path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in run.path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_run_holds_recipe_plan_and_its_first_event(tmp_path):
    run = made_run(tmp_path, "Größe: [/INST] of a très long name " + "x" * 300)
    assert re.fullmatch(r"\d{8}-\d{6}-gr-e-inst-of-a-tr-s-long-name-x+-[a-z0-9]{4}", run.run_id)
    assert len(run.run_id) < 80
    assert run.recipe_file.read_text() == "objective: chat\n"
    (created,) = EventReader(run.events_file).poll()
    assert (created.seq, created.type, created.payload["run_id"]) == (1, "run.created", run.folder_name)
    assert created.payload["method"] == "lora"


def test_a_run_without_a_name_gets_one(tmp_path):
    run = create_run(home_in(tmp_path), "", made_plan(None))
    assert run.run_id.split("-", 2)[2].startswith("base-chat-")
    assert new_run_id("日本語", 0.0).startswith("19700101-000000-run-")


def test_ids_sort_by_time():
    ids = [new_run_id(name, moment) for name, moment in [("z", 1.0), ("a", 61.0), ("m", 3600.0 * 24 * 40)]]
    assert ids == sorted(ids)


def test_a_full_disk_leaves_no_half_run(tmp_path, monkeypatch):
    calls = {"count": 0, "fail_at": -1}
    real = {name: getattr(os, name) for name in ("write", "fsync", "rename")}

    def counted(name):
        def call(*arguments, **options):
            calls["count"] += 1
            if calls["count"] == calls["fail_at"]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](*arguments, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, counted(name))
    made_run(tmp_path / "whole")
    steps = calls["count"]
    assert steps >= 8
    for fail_at in range(1, steps):
        calls.update(count=0, fail_at=fail_at)
        home = tmp_path / str(fail_at)
        with pytest.raises(ProblemError, match=r"full disk.*Free space|full disk[\s\S]*FTWIZARD_HOME") as caught:
            made_run(home)
        assert caught.value.problems[0].code == "disk.full"
        assert str(home) in str(caught.value)
        assert list((home / "home/runs").iterdir()) == []


def test_a_place_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ProblemError, match="may not be written") as caught:
        made_run(tmp_path)
    assert caught.value.problems[0].code == "disk.not_writable"


def test_a_home_that_is_a_file_is_named(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(ProblemError, match="home"):
        made_run(tmp_path)


def test_a_killed_creation_never_shows_and_goes_away_later(tmp_path):
    run = made_run(tmp_path)
    stale, fresh = run.path.parent / ".new-20000101-x", run.path.parent / ".new-now"
    for folder in (stale, fresh):
        folder.mkdir()
        (folder / "plan.json").write_text("{}")
    os.utime(stale, (0, 0))
    assert [summary.run_id for summary in list_runs(home_in(tmp_path))] == [run.folder_name]
    made_run(tmp_path)
    assert (stale.exists(), fresh.exists()) == (False, True)


# --- finding --------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path, monkeypatch):
    ids = iter(["20260101-000000-alpha-aaaa", "20260102-000000-beta-bbbb", "20260102-000000-beta-cccc"])
    monkeypatch.setattr(directory, "new_run_id", lambda title: next(ids))
    return [made_run(tmp_path) for _ in range(3)]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("20260101-000000-alpha-aaaa", 0),
        ("20260101", 0),
        ("alpha", 0),
        ("cccc", 2),
        ("latest", 2),
        ("  alpha \n", 0),
    ],
)
def test_a_run_is_found_by_what_people_type(tmp_path, three, text, index):
    assert find_run(home_in(tmp_path), text) == three[index]


def test_a_run_is_found_by_its_path(tmp_path, three, monkeypatch):
    home = home_in(tmp_path)
    assert find_run(home, str(three[1].path)) == three[1]
    assert find_run(home, f"{three[1].path}/") == three[1]
    monkeypatch.chdir(three[1].path.parent)
    assert find_run(home_folders({"FTWIZARD_HOME": "/nowhere"}), three[1].folder_name) == three[1]
    monkeypatch.chdir(three[1].path)
    assert find_run(home, "../" + three[0].folder_name).path.resolve() == three[0].path


def test_a_renamed_run_keeps_its_place_in_time(tmp_path, three):
    ids = [run.folder_name for run in three]
    record = json.loads(three[0].events_file.read_text())
    three[0].events_file.write_text(json.dumps({**record, "time": 1767225600.0}) + "\n")
    three[0].path.rename(three[0].path.with_name("my-first"))
    assert [summary.run_id for summary in list_runs(home_in(tmp_path))] == [ids[2], ids[1], "my-first"]
    assert find_run(home_in(tmp_path), "latest") == three[2]


def test_a_lock_that_cannot_be_read_hides_no_live_run(tmp_path, three):
    three[2].lock_file.symlink_to(three[2].lock_file)
    with acquire(three[1]):
        assert newest_live_run(home_in(tmp_path)) == three[1]


def test_what_fits_several_runs_is_refused_with_their_names(tmp_path, three):
    with pytest.raises(ProblemError, match=r"2 runs fit 'beta'.*cccc.*bbbb") as caught:
        find_run(home_in(tmp_path), "beta")
    assert caught.value.problems[0].code == "run.ambiguous"


@pytest.mark.parametrize("text", ["alhpa", "", "../../etc", "*", "~nobody-here", "\x1b]52;", "x" * 5000, "\x00"])
def test_what_fits_no_run_is_refused_with_the_nearest_names(tmp_path, three, text):
    with pytest.raises(ProblemError, match="Nearest: 2026") as caught:
        find_run(home_in(tmp_path), text)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["latest", "any", ""])
def test_without_runs_the_error_says_how_to_start_one(tmp_path, text):
    with pytest.raises(ProblemError, match="There are no runs.*ftwizard"):
        find_run(home_in(tmp_path), text)


def test_a_copied_and_renamed_run_keeps_its_id(tmp_path, three):
    moved = three[0].path.rename(tmp_path / "elsewhere")
    assert RunDirectory(moved).run_id == "20260101-000000-alpha-aaaa"
    assert find_run(home_in(tmp_path), str(moved)).folder_name == "elsewhere"


# --- listing --------------------------------------------------------------------------------------------------------


def test_a_list_shows_how_each_run_stands(tmp_path, three):
    finished, crashed, live = three
    for run in three:
        writer = PictureWriter(run)
        writer.write("worker.started", pid=1)
        writer.write("state.changed", state="training")
        writer.write("step.logged", **step_payload(7, 20))
        writer.close()
    write_exit(finished, "finished", 0)
    with acquire(live):
        listed = list_runs(home_in(tmp_path))
        assert newest_live_run(home_in(tmp_path)) == live
    assert [summary.run for summary in listed] == [live, crashed, finished]
    assert [(summary.state, summary.alive) for summary in listed] == [
        ("training", True),
        ("crashed", False),
        ("finished", False),
    ]
    assert (listed[0].step, listed[0].total_steps, listed[0].base, listed[2].exit_code) == (7, 20, "org/base", 0)
    assert newest_live_run(home_in(tmp_path)) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: run.events_file.unlink(), "events.jsonl is missing"),
        (lambda run: run.events_file.write_bytes(b"\x00" * 4096), "does not begin with run.created"),
        (lambda run: run.plan_file.unlink(), "plan.json"),
        (lambda run: run.plan_file.write_bytes(b""), "not a plan"),
        (lambda run: (run.events_file.unlink(), run.events_file.mkdir()), "events.jsonl"),
    ],
    ids=["no events", "nul events", "no plan", "empty plan", "events is a folder"],
)
def test_a_damaged_run_is_listed_as_damaged_and_hides_no_other(tmp_path, three, damage, words):
    damage(three[1])
    listed = list_runs(home_in(tmp_path))
    assert [summary.state for summary in listed] == ["created", "damaged", "created"]
    assert words in listed[1].damage


def test_folders_that_are_no_runs_are_not_listed(tmp_path, three):
    (three[0].path.parent / "notes").mkdir()
    (three[0].path.parent / "file.txt").write_text("")
    assert len(list_runs(home_in(tmp_path))) == 3


def test_a_plan_that_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(ProblemError, match="plan of run"):
        made_run(tmp_path).read_plan()


# --- files ----------------------------------------------------------------------------------------------------------


def test_an_atomic_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "exit.json"
    disk.write_atomically(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="No space"):
                disk.write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["exit.json"]


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, bytes(content)[:3]))
    disk.write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_errors_name_path_cause_and_next_action(tmp_path):
    for number, code in [(errno.ENOSPC, "disk.full"), (errno.EROFS, "disk.not_writable"), (errno.EIO, "disk.failed")]:
        problem = disk.disk_problem(OSError(number, os.strerror(number)), tmp_path, "write the plan")
        assert (problem.code, str(tmp_path) in problem.message, bool(problem.fix)) == (code, True, True)
    assert disk.free_bytes(tmp_path / "not" / "there" / "yet") > 0


def test_a_run_is_referred_to_by_what_a_verb_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    home = home_folders()
    inside = made_run(tmp_path)
    assert inside.reference == inside.folder_name
    copy = tmp_path / "else where" / "my copy"
    shutil.copytree(inside.path, copy)
    assert [copy.parent / "my copy"] == [Path(word) for word in shlex.split(RunDirectory(copy).reference)]
    renamed = inside.path.rename(home.runs / "two words")
    for run in (RunDirectory(copy), RunDirectory(renamed)):
        [word] = shlex.split(run.reference)
        assert find_run(home, word) == run
