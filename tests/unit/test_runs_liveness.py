"""Alive means the lock is held; stopped means it was seen to end; a signal hits the right process or none."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from engine.recipe.problems import ProblemError
from engine.runs import crash, liveness, logind
from engine.runs.directory import RunDirectory
from engine.runs.listing import summarize
from engine.runs.liveness import acquire, is_alive, read_exit, status, terminate, write_exit
from engine.runs.picture import PictureWriter
from tests.forks import fork
from tests.unit.runs_support import made_run, wait_for

HOLD = """
import sys, time
from pathlib import Path
from engine.runs.directory import RunDirectory
from engine.runs.liveness import acquire
with acquire(RunDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path):
    return made_run(tmp_path)


@pytest.fixture
def holder(run):
    command = [sys.executable, "-P", "-c", HOLD, str(run.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def start_attempt(run):
    writer = PictureWriter(run)
    writer.write("worker.started", pid=os.getpid(), attempt=1)
    writer.write("state.changed", state="training")
    writer.close()


def rewrite_owner(run, **changes):
    record = {**json.loads(run.lock_file.read_text()), **changes}
    run.lock_file.write_text(json.dumps(record))


def leave_dead_owner(run, **changes):
    """Leave a lock file as a killed worker does."""
    lock = acquire(run)
    record = {**json.loads(run.lock_file.read_text()), "start_time": 1, **changes}
    lock.release()
    run.lock_file.write_text(json.dumps(record))


def test_a_new_run_is_created_and_nobody_carries_it(run):
    assert status(run) == liveness.RunStatus("created", False)
    assert not run.lock_file.exists()


def test_the_second_worker_is_refused_with_the_name_of_the_first(run, holder):
    assert is_alive(run)
    assert status(run).pid == holder.pid
    with pytest.raises(ProblemError, match=f"process {holder.pid} on .* since 20.*attach") as caught:
        acquire(run)
    assert caught.value.problems[0].code == "run.locked"
    assert liveness.read_owner(run).pid == holder.pid


def test_a_killed_worker_leaves_a_free_lock(run, holder):
    holder.kill()
    holder.wait()
    assert not is_alive(run)
    assert status(run).state == "crashed"
    with acquire(run) as lock:
        assert is_alive(run)
        lock.release()
        lock.release()
    assert not is_alive(run)


def test_a_forked_child_neither_keeps_nor_frees_the_lock(run):
    read_end, write_end = os.pipe()
    lock = acquire(run)

    def wait_for_the_end():
        os.close(write_end)
        os.read(read_end, 1)

    child = fork(wait_for_the_end)
    os.waitpid(fork(lambda: None), 0)
    assert liveness._is_locked(run)
    lock.release()
    try:
        assert not liveness._is_locked(run)
        acquire(run).release()
    finally:
        os.close(write_end)
        os.waitpid(child, 0)
        os.close(read_end)


def test_a_lock_held_only_by_a_dead_workers_child_is_not_life(run, holder):
    rewrite_owner(run, pid=2**22 - 1)
    assert liveness._is_locked(run)
    assert not is_alive(run)
    with pytest.raises(ProblemError, match="child of the dead worker"):
        acquire(run)


def test_a_worker_that_starts_over_is_alive_in_between(run):
    gate = run.path / "gate"
    os.mkfifo(gate)
    second = "import sys; open(sys.argv[1]).read()"
    first = (
        "import os, sys; from pathlib import Path; from engine.runs.directory import RunDirectory;"
        "from engine.runs.liveness import acquire; lock = acquire(RunDirectory(Path(sys.argv[1])));"
        "lock.keep_through_exec();"
        f"os.execv(sys.executable, [sys.executable, '-c', {second!r}, sys.argv[1] + '/gate'])"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", first, str(run.path)])
    try:
        with gate.open("w"):
            assert is_alive(run)
            assert status(run).pid == process.pid
            with pytest.raises(ProblemError, match=f"carried by process {process.pid}"):
                acquire(run)
        process.wait()
        assert not is_alive(run)
        acquire(run).release()
    finally:
        process.kill()
        process.wait()


def test_a_copy_of_a_live_run_is_not_alive_and_can_be_carried(run, holder):
    shutil.copytree(run.path, run.path.with_name("copy"))
    copy = RunDirectory(run.path.with_name("copy"))
    assert is_alive(run)
    assert not is_alive(copy)
    with acquire(copy):
        assert is_alive(copy)


@pytest.mark.parametrize("earlier", [None, "stopped"])
def test_a_worker_that_takes_the_run_while_somebody_looks_did_not_crash(run, monkeypatch, earlier):
    if earlier:
        start_attempt(run)
        write_exit(run, earlier, 75)
    locks = []

    def worker_starts_first(run):
        locks.extend([] if locks else [acquire(run)])
        return read_exit(run)

    monkeypatch.setattr(liveness, "read_exit", worker_starts_first)
    try:
        assert status(run).alive
        assert status(run).state != "crashed"
    finally:
        locks[0].release()


def test_a_worker_that_ends_while_a_list_is_made_did_not_crash(run, monkeypatch):
    start_attempt(run)
    lock = acquire(run)

    def worker_ends_first(run):
        write_exit(run, "stopped", 75)
        lock.release()
        return is_alive(run)

    monkeypatch.setattr(liveness, "is_alive", worker_ends_first)
    assert summarize(run).state == "stopped"


def test_looking_at_the_lock_never_gets_in_the_way_of_a_worker(run):
    looker = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "import sys; from pathlib import Path; from engine.runs.directory import RunDirectory;"
            "from engine.runs.liveness import _is_locked; run = RunDirectory(Path(sys.argv[1])); print(1, flush=True)\n"
            "while True: _is_locked(run)",
            str(run.path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        looker.stdout.readline()
        for _ in range(200):
            acquire(run).release()
    finally:
        looker.kill()
        looker.wait()
        looker.stdout.close()


def test_taking_the_lock_forgets_the_exit_status_of_the_last_attempt(run):
    write_exit(run, "stopped", 75, "SIGTERM")
    assert status(run).exit_code == 75
    start_attempt(run)
    with acquire(run):
        assert not run.exit_file.exists()
        assert status(run).alive
    assert status(run).state == "crashed"


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("stopped", 75), ("failed", 1)])
def test_the_exit_status_decides(run, state, code):
    start_attempt(run)
    write_exit(run, state, code, "because")
    found = status(run)
    assert (found.state, found.exit_code, found.reason, found.alive) == (state, code, "because", False)
    assert found.resumable == (state != "finished")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"state":"done","exit_code":0}', b'{"state":"finished"}', b"\x00"]
)
def test_a_damaged_exit_status_is_none(run, content):
    start_attempt(run)
    run.exit_file.write_bytes(content)
    assert read_exit(run) is None
    assert status(run).state == "crashed"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"pid":"1"}', b'{"pid":0,"start_time":1,"boot_id":"","host":""}']
)
def test_a_damaged_lock_file_does_not_stop_a_worker(run, content):
    run.lock_file.write_bytes(content)
    assert not is_alive(run)
    acquire(run).release()


@pytest.mark.parametrize("changes", [{"host": ["a"]}, {"time": "soon"}, {"time": 1e300}, {"memory_counter": [1]}])
def test_a_lock_file_that_names_nobody_takes_no_viewer_down(run, changes):
    leave_dead_owner(run, **changes)
    assert status(run).state == "created"
    assert liveness.read_owner(run) is None


def test_a_crash_shows_the_end_of_the_log_cleaned(run):
    start_attempt(run)
    bar = "".join(f"\r{done} %" for done in range(101))
    noise = "".join(f"line {number}\n" for number in range(5000))
    run.log_file.write_bytes(f"{noise}{bar}\n\x1b]52;c;evil\x07boom\n\n".encode() + b"\xff\xfe\n")
    found = status(run)
    assert found.state == "crashed"
    assert len(found.last_log_lines) == 20
    assert found.last_log_lines[-3] == "100 %"
    assert "boom" in found.last_log_lines[-2]
    assert not any("\x1b" in line or "\x07" in line for line in found.last_log_lines)


def test_a_crash_for_lack_of_host_memory_is_named(run, tmp_path, monkeypatch):
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 3\noom_kill 3\n")
    monkeypatch.setattr(crash, "_KERNEL_LOG", tmp_path / "no-kernel-log")
    monkeypatch.setattr(crash, "memory_cgroup", lambda: counter)
    leave_dead_owner(run)
    assert "host memory" not in status(run).reason
    counter.write_text("low 0\noom 4\noom_kill 4\n")
    assert "out of host memory (not GPU memory)" in status(run).reason


@pytest.mark.parametrize(("share", "likely"), [(0.95, True), (0.3, False)])
def test_a_crash_of_a_worker_that_held_nearly_all_memory_names_the_likely_cause(
    run, tmp_path, monkeypatch, share, likely
):
    from engine.hardware.host import read_host
    from engine.hardware.readings import known

    monkeypatch.setattr(crash, "_KERNEL_LOG", tmp_path / "no-kernel-log")
    monkeypatch.setattr(crash, "memory_cgroup", lambda: None)
    leave_dead_owner(run)
    writer = PictureWriter(run)
    held = int(share * (known(read_host().ram_total_bytes) or 0))
    writer.write("memory.sampled", phase="training", peak_bytes=held, peak_kind="rss", rss_bytes=held)
    writer.close()
    reason = status(run).reason
    assert reason.startswith("The worker ended without an exit status")
    assert ("memory is the likely cause" in reason) is likely


def test_the_kernel_log_names_a_process_killed_for_memory(tmp_path, monkeypatch):
    log = tmp_path / "kmsg"
    log.write_bytes(b"6,1,1,-;Out of memory: Killed process 4242 (python) total-vm:1kB\n")
    monkeypatch.setattr(crash, "_KERNEL_LOG", log)
    monkeypatch.setattr(crash, "_MAX_KERNEL_RECORDS", 3)
    assert crash.killed_for_memory(4242, None, None) is True
    assert crash.killed_for_memory(424, None, None) is None


def test_a_restarted_machine_is_named(run):
    leave_dead_owner(run, boot_id="another boot")
    assert status(run).reason == "The machine was restarted while the run was going."


def test_a_crash_before_the_first_event_is_a_crash(run, holder):
    assert status(run).state == "created"
    holder.kill()
    holder.wait()
    assert status(run).state == "crashed"


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_worker_and_the_end_is_seen(run, holder, number):
    assert terminate(run, number, wait_s=20.0)
    assert not is_alive(run)
    assert holder.wait() == -number


def test_a_worker_that_ends_just_before_the_signal_has_ended(run, holder, monkeypatch):
    def send_late(process, number):
        holder.kill()
        holder.wait()
        return send(process, number)

    send = signal.pidfd_send_signal
    monkeypatch.setattr(signal, "pidfd_send_signal", send_late)
    assert terminate(run, signal.SIGTERM)


@pytest.mark.parametrize("changes", [{"start_time": 1}, {"boot_id": "another boot"}])
def test_a_process_that_only_has_the_same_number_is_never_hit(run, holder, changes):
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        rewrite_owner(run, pid=bystander.pid, **changes)
        with pytest.raises(ProblemError, match="No worker carries"):
            terminate(run, signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("changes", [{"host": "another-host"}, {"pid_namespace": "pid:[1]"}])
def test_a_worker_elsewhere_is_alive_by_its_lock_and_gets_no_signal(run, holder, changes):
    rewrite_owner(run, **changes)
    assert is_alive(run)
    with pytest.raises(ProblemError, match="not here"):
        terminate(run)
    assert holder.poll() is None


def test_nobody_to_signal_is_a_problem(run):
    with pytest.raises(ProblemError, match="No worker carries"):
        terminate(run)


def test_a_zombie_does_not_live():
    child = fork(lambda: None)
    wait_for(lambda: liveness.process_start_time(child) is None)
    os.waitpid(child, 0)


def test_a_process_name_with_parentheses_is_read_right(tmp_path):
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(odd), "600"])
    try:
        started = wait_for(lambda: liveness.process_start_time(process.pid))
        uptime_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
        assert uptime_ticks - 60 * 100 < started <= uptime_ticks
    finally:
        process.kill()
        process.wait()


# --- logging out ----------------------------------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch):
    said = {}
    monkeypatch.setenv("XDG_SESSION_ID", "1")
    monkeypatch.setattr(logind.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(logind, "_ask", lambda command: said.get(command.split()[0]))
    for cached in (logind.kills_user_processes, logind.scope_prefix):
        cached.cache_clear()
    yield said
    for cached in (logind.kills_user_processes, logind.scope_prefix):
        cached.cache_clear()


def test_where_logout_is_harmless_nothing_is_wrapped(answers):
    answers["busctl"] = "b false"
    assert logind.scope_prefix() == []
    assert logind.logout_problem() is None


def test_where_logout_kills_a_scope_is_used_and_lingering_asked_for(answers, monkeypatch, tmp_path):
    answers.update({"busctl": "b true", "systemd-run": ""})
    assert logind.scope_prefix()[:3] == ["systemd-run", "--user", "--scope"]
    monkeypatch.setattr(logind, "_LINGER_FOLDER", tmp_path)
    assert "enable-linger" in logind.logout_problem().fix
    (tmp_path / logind.getpass.getuser()).touch()
    assert logind.logout_problem() is None


def test_where_logout_kills_and_no_scope_can_be_made_the_person_is_told(answers):
    answers["busctl"] = "b true"
    assert logind.scope_prefix() == []
    assert "log out" in logind.logout_problem().message


def test_a_command_that_hangs_or_is_missing_says_nothing(monkeypatch):
    monkeypatch.setattr(logind, "_ASK_DEADLINE_S", 0.05)
    assert logind._ask("sleep 600") is None
    assert logind._ask("no-such-command-anywhere") is None
    assert logind._ask("false") is None
    assert logind._ask("echo b true") == "b true"
