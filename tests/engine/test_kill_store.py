"""Faults of every kind inside a save: what was committed before is whole afterwards, and the next save works."""

import errno
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.recipe.problems import ProblemError
from engine.runs import checkpoints
from engine.runs.checkpoints import MANIFEST_NAME, CheckpointStore
from tests.forks import fork

RUN_ID = "20260101-000000-test-aaaa"
CONTENT = {"weights.safetensors": 7_000, "optimizer.bin": 13_000, "state/trainer.json": 300, "state/empty": 0}
# Every change that a save or a removal makes on the disk goes through one of these.
STEPS = ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "scandir")


def store_in(folder, keep=2, run_id=RUN_ID):
    return CheckpointStore(folder, run_id, keep)


@functools.cache
def content_of(step, name):
    return random.Random(f"{step} {name}").randbytes(CONTENT[name])


def fill(staging, step):
    for name in CONTENT:
        path = staging / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content_of(step, name))


def save(store, step, **facts):
    staging = store.stage(step)
    fill(staging, step)
    return store.commit(staging, step, {"epoch": step / 10, **facts})


def is_right(checkpoint):
    """Return whether every file is what was written for its step, byte for byte."""
    files = {str(path.relative_to(checkpoint.folder)) for path in checkpoint.folder.rglob("*") if path.is_file()}
    expected = {name: content_of(checkpoint.step, name) for name in CONTENT}
    found = {name: (checkpoint.folder / name).read_bytes() for name in files - {MANIFEST_NAME}}
    return found == expected


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def hidden(folder):
    return [name for name in names(folder) if name.startswith(".")]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


# --- without faults -------------------------------------------------------------------------------------------------


def test_a_saved_checkpoint_is_found_whole_with_its_facts(folder):
    saved = save(store_in(folder), 120, loss=float("nan"), position=[1, 2])
    found = store_in(folder).newest_whole()
    assert (found.folder, found.step, found.num_bytes) == (folder / "step-000120", 120, sum(CONTENT.values()))
    assert found.facts == {"epoch": 12.0, "loss": "NaN", "position": [1, 2]}
    assert saved.folder == found.folder
    assert is_right(found)
    assert folder.stat().st_mode & 0o777 == found.folder.stat().st_mode & 0o777 == 0o700
    json.loads((found.folder / MANIFEST_NAME).read_text())


def test_an_empty_store_has_no_checkpoint(folder):
    store = store_in(folder)
    assert store.newest_whole() is None
    assert store.prune() == []
    assert not folder.exists()


def test_steps_are_compared_as_numbers(folder):
    store = store_in(folder, keep=9)
    for step in (999_999, 1_000_000, 5):
        save(store, step)
    assert store.newest_whole().step == 1_000_000


def test_old_checkpoints_go_and_the_newest_stay(folder):
    store = store_in(folder)
    for step in (10, 20, 30, 40):
        save(store, step)
    assert [path.name for path in store.prune()] == ["step-000020", "step-000010"]
    assert names(folder) == ["step-000030", "step-000040"]
    assert store.prune() == []


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_fewer_than_two_are_refused(folder, keep):
    with pytest.raises(ValueError, match="at least 2"):
        store_in(folder, keep=keep)


def test_saving_a_step_again_displaces_nothing(folder):
    store = store_in(folder)
    first, second = save(store, 10), save(store, 10, again=True)
    assert first.folder.exists()
    assert second.folder.name == "step-000010-r2"
    assert store_in(folder).newest_whole().facts["again"] is True


# --- damage ---------------------------------------------------------------------------------------------------------


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path: flip(path, path.stat().st_size // 3),
    "missing": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a link": lambda path: (path.rename(path.with_suffix(".moved")), path.symlink_to(path.with_suffix(".moved"))),
}


@pytest.mark.parametrize("name", [*(name for name in CONTENT if CONTENT[name]), MANIFEST_NAME])
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damaged_file_is_named_and_the_older_checkpoint_taken(folder, name, damage):
    store = store_in(folder)
    save(store, 10)
    newest = save(store, 20)
    DAMAGES[damage](newest.folder / name)
    again = store_in(folder)
    found = again.newest_whole()
    if name == MANIFEST_NAME and damage == "a link":
        assert found.step == 20
        return
    if name == MANIFEST_NAME and damage == "longer":
        assert found.step == 10 or is_right(found)
        return
    assert found.step == 10
    assert is_right(found)
    (rejected,) = again.rejected
    assert rejected.folder == newest.folder
    assert (name if name != MANIFEST_NAME else "manifest") in rejected.reason


def test_any_flipped_bit_of_a_manifest_is_harmless_or_seen(folder):
    store = store_in(folder)
    save(store, 10)
    manifest = save(store, 20).folder / MANIFEST_NAME
    whole = manifest.read_bytes()
    facts = store.newest_whole().facts
    for position in range(0, len(whole), 7):
        manifest.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        found = store_in(folder).newest_whole()
        assert found.step == 10 or (found.facts == facts and is_right(found))
        manifest.write_bytes(whole)
    assert store_in(folder).newest_whole().step == 20


def test_a_newer_version_is_refused_in_words(folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "MANIFEST_VERSION", 9)
    save(store_in(folder), 10)
    monkeypatch.undo()
    store = store_in(folder)
    assert store.newest_whole() is None
    assert "version 9" in store.rejected[0].reason


def test_a_folder_under_another_steps_name_is_refused(folder):
    save(store_in(folder), 10).folder.rename(folder / "step-000999")
    store = store_in(folder)
    assert store.newest_whole() is None
    assert "of step 10" in store.rejected[0].reason


def test_what_is_not_ours_is_neither_used_nor_removed(folder, tmp_path):
    save(store_in(folder, run_id="another run"), 900)
    foreign_staging = store_in(folder, run_id="another run").stage(901)
    (folder / "step-000800").mkdir()
    (folder / "step-000800" / "model.bin").write_text("mine")
    (folder / "step-000700").symlink_to(tmp_path)
    (folder / ".staging-notes").mkdir()
    (folder / "notes.txt").write_text("mine")
    before = names(folder)
    store = store_in(folder)
    for step in (10, 20, 30, 40):
        save(store, step)
    store.prune()
    assert names(folder) == sorted([*before, "step-000030", "step-000040"])
    assert foreign_staging.exists()
    found = store.newest_whole()
    assert found.step == 40
    assert [(item.folder.name, item.ours) for item in store.rejected] == [
        ("step-000900", False),
        ("step-000800", False),
    ]
    assert "another run" in store.rejected[0].reason


def test_a_broken_one_counts_for_nothing_when_old_ones_go(folder):
    store = store_in(folder)
    for step in (10, 20, 30):
        save(store, step)
    flip(folder / "step-000030" / "optimizer.bin", 5)
    again = store_in(folder)
    assert again.prune() == []
    save(again, 40)
    assert [path.name for path in again.prune()] == ["step-000010"]
    save(again, 50)
    assert [path.name for path in again.prune()] == ["step-000030", "step-000020"]


def test_a_copied_store_is_still_whole(folder, tmp_path):
    save(store_in(folder), 10)
    shutil.copytree(folder, tmp_path / "copy")
    assert store_in(tmp_path / "copy").newest_whole().step == 10


@pytest.mark.parametrize("odd", ["link", "fifo", "folder link"])
def test_only_plain_files_are_committed(folder, tmp_path, odd):
    store = store_in(folder)
    staging = store.stage(10)
    fill(staging, 10)
    match odd:
        case "link":
            (staging / "odd").symlink_to("/etc/hostname")
        case "fifo":
            os.mkfifo(staging / "odd")
        case "folder link":
            (staging / "odd").symlink_to(tmp_path)
    with pytest.raises(ProblemError, match="odd"):
        store.commit(staging, 10, {})
    assert names(folder) == []


# --- kills ----------------------------------------------------------------------------------------------------------


def in_child(work):
    """Run work in a forked child and return its wait status."""
    return os.waitpid(fork(work), 0)[1]


def kill_before(number):
    """Make this process kill itself just before the given one of its steps; returns the count so far."""
    count = [0]

    def wrapped(real):
        def step(*arguments, **options):
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return step

    for name in STEPS:
        setattr(os, name, wrapped(getattr(os, name)))
    return count


def test_a_kill_before_any_step_of_a_save_and_a_removal_loses_nothing(folder):
    first = store_in(folder)
    save(first, 10)
    save(first, 20)
    kills = 0
    outcomes = set()
    for number in range(1, 2000):
        shutil.rmtree(folder.parent / "trial", ignore_errors=True)
        trial = shutil.copytree(folder, folder.parent / "trial")

        def work(number=number, trial=trial):
            kill_before(number)
            store = store_in(trial)
            save(store, 30)
            store.prune()

        ended = in_child(work)
        assert os.WIFSIGNALED(ended) or ended == 0, number
        kills += os.WIFSIGNALED(ended)
        store = store_in(trial)
        found = store.newest_whole()
        assert found.step in (20, 30), number
        assert is_right(found), number
        whole = [path for path in trial.glob("step-*") if isinstance(store._examine(path), checkpoints.Checkpoint)]
        assert len(whole) >= 2, number
        assert len(list(trial.glob("step-*"))) == len(whole), number
        save(store, 40)
        store.prune()
        assert hidden(trial) == [], number
        assert (store.newest_whole().step, len(names(trial))) == (40, 2), number
        outcomes.add(found.step)
        if kills < number:
            break
    assert kills > 40
    assert outcomes == {20, 30}


def keep_saving(folder, start):
    mine = store_in(folder)
    for step in range(start, start + 10_000):
        save(mine, step)
        mine.prune()


def test_twenty_kills_at_random_moments_lose_nothing(folder):
    dice = random.Random(7)
    store = store_in(folder)
    save(store, 1)
    save(store, 2)
    inside = 0
    for _ in range(20):
        start = store_in(folder).newest_whole().step + 1
        child = fork(lambda start=start: keep_saving(folder, start))
        time.sleep(dice.uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        inside += bool(hidden(folder))
        again = store_in(folder)
        found = again.newest_whole()
        assert found.step >= start - 1
        assert is_right(found)
        assert again.rejected == []
    assert inside >= 5, "too few kills hit a save to mean anything"
    final = store_in(folder)
    save(final, 10**6)
    final.prune()
    assert len(names(folder)) == 2


# --- full disks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename", "mkdir"])
def test_an_error_at_any_step_leaves_the_old_checkpoints_and_names_the_place(folder, monkeypatch, name, number):
    store = store_in(folder)
    save(store, 10)
    real = getattr(os, name)
    for fail_at in range(1, 100):
        count = [0]

        def step(*arguments, count=count, fail_at=fail_at, **options):
            count[0] += 1
            if count[0] == fail_at:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        staging = store.stage(20) if name != "mkdir" else None
        if staging is not None:
            fill(staging, 20)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, step)
            try:
                if staging is None:
                    store.stage(20)
                else:
                    store.commit(staging, 20, {})
            except ProblemError as error:
                said = str(error)
            else:
                break
        assert str(folder) in said
        assert re.search(r"intact|Change its permissions|Check the path|Free space", said)
        for left in folder.glob("step-000020*"):
            # The rename had happened; only its durability is in doubt.
            assert (name, left.name) in {("fsync", "step-000020"), ("open", "step-000020")}
            shutil.rmtree(left)
        assert names(folder) == ["step-000010"]
        assert store_in(folder).newest_whole().step == 10
    assert fail_at > 1


def test_a_real_full_disk_says_what_is_needed_and_free(folder):
    store = store_in(folder)
    save(store, 10)

    def work():
        # The kernel itself refuses to let any file grow past this.
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        staging = store.stage(20)
        for number in range(20):
            (staging / f"{number}.bin").write_bytes(b"x" * 150)
        try:
            store.commit(staging, 20, {})
        except ProblemError as error:
            (folder.parent / "said").symlink_to(str(error))

    assert in_child(work) == 0
    said = os.readlink(folder.parent / "said")
    assert str(folder) in said
    assert re.search(r"At least .* are needed, .* free", said)
    assert names(folder) == ["step-000010"]
    save(store, 20)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left"), RuntimeError("I/O error: No space left on device (os error 28)")],
    ids=["system", "library"],
)
def test_a_save_that_a_library_could_not_write_names_place_and_bytes(folder, error):
    store = store_in(folder)
    save(store, 10)
    staging = store.stage(20)
    problem = store.save_problem(error, staging, 20)
    assert problem.code == "disk.full"
    assert re.search(rf"step 20: {folder} is on a full disk.*At least 19.8 KiB are needed, .* free", problem.message)


def test_too_little_space_is_seen_before_the_save(folder, monkeypatch):
    store = store_in(folder)
    save(store, 10)
    monkeypatch.setattr(checkpoints, "free_bytes", lambda path: 10_000)
    with pytest.raises(ProblemError, match=r"needs 19.8 KiB in .*, where 9\.8 KiB are free") as caught:
        store.stage(20)
    assert caught.value.problems[0].code == "disk.too_little"
    assert str(folder) in str(caught.value)
    with pytest.raises(ProblemError, match="needs 10.0 GiB"):
        store_in(folder).stage(20, needed_bytes=10 * 2**30)
    assert names(folder) == ["step-000010"]
    monkeypatch.undo()
    save(store, 20)


# --- power loss -----------------------------------------------------------------------------------------------------

SAVE_ONCE = """
import sys
from pathlib import Path
from engine.runs.checkpoints import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]), "r")
staging = store.stage(7)
(staging / "sub").mkdir()
for name in ("a.bin", "sub/b.bin"):
    (staging / name).write_bytes(b"x" * 1000)
store.commit(staging, 7, {})
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_everything_is_durable_before_the_rename_and_the_rename_after(folder, tmp_path):
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,openat,close"
    argv = ["strace", "-f", "-y", "-e", calls, "-o", str(trace), sys.executable, "-P", "-c", SAVE_ONCE, str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "ptrace" in done.stderr.lower():
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    order = []
    for line in trace.read_text().splitlines():
        if synced := re.search(r"f(?:data)?sync\(\d+<([^>]+)>", line):
            order.append(Path(synced[1]).relative_to(folder.parent).as_posix())
        elif renamed := re.search(r'rename\w*\((?:AT_FDCWD\S*, )?"([^"]+)",.*"([^"]+)"', line):
            order.append("rename to " + Path(renamed[2]).name)
    staging = next(name for name in order if ".staging-" in name).split("/")[1]
    inside = f"checkpoints/{staging}"
    assert order == [
        f"{inside}/a.bin",
        f"{inside}/sub/b.bin",
        f"{inside}/{MANIFEST_NAME}",
        f"{inside}/sub",
        inside,
        "rename to step-000007",
        "checkpoints",
    ]
