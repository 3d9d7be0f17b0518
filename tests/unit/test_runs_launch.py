"""A launched worker belongs to nobody: no terminal, no pipe, no parent that it needs, and one of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.recipe.problems import ProblemError
from engine.runs import launch
from engine.runs.control import ControlReader, request
from engine.runs.liveness import is_alive, process_start_time, read_owner, status, terminate, write_exit
from tests.unit.runs_support import made_run, wait_for

SCRIPT = str(Path(__file__).with_name("runs_worker.py"))


def command(behaviour="waits"):
    return [sys.executable, "-P", SCRIPT, behaviour]


@pytest.fixture
def run(tmp_path):
    run = made_run(tmp_path)
    yield run
    if is_alive(run):
        terminate(run, signal.SIGKILL)
        wait_for(lambda: not is_alive(run))


def said(run, key):
    def read():
        lines = run.log_file.read_text().splitlines()
        return next((line.split()[1:] for line in reversed(lines) if line.startswith(f"{key}:")), None)

    return wait_for(read)


def stat_fields(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_detached(run, pid):
    """Return whether a process has its own session, no terminal, and nothing open but files of the run."""
    fields = stat_fields(pid)
    session, terminal = int(fields[3]), int(fields[4])
    targets = dict(entry.split("=", 1) for entry in said(run, "open"))
    pipes = [target for target in targets.values() if "pipe:" in target or "socket:" in target or "/pts/" in target]
    at_home = os.readlink(f"/proc/{pid}/cwd") == str(run.path)
    streams = [targets[number] for number in "012"]
    expected = ["/dev/null", str(run.log_file), str(run.log_file)]
    return (session, terminal, pipes, at_home, streams) == (pid, 0, [], True, expected)


def test_a_launched_worker_is_detached_and_holds_the_lock(run):
    worker = launch.launch(run, command=command())
    assert (worker.from_standby, is_alive(run), read_owner(run).pid) == (False, True, worker.pid)
    assert worker.start_time == process_start_time(worker.pid)
    assert is_detached(run, worker.pid)
    assert run.log_file.stat().st_mode & 0o777 == 0o600


def test_a_standby_worker_detaches_before_it_says_so(run):
    with launch.start_standby(command("waits") + ["--standby"]) as standby:
        assert standby.is_waiting()
        worker = launch.launch(run, standby, command=command())
        assert (worker.from_standby, worker.pid) == (True, standby.pid)
        assert not standby.is_waiting()
    assert is_alive(run)
    assert is_detached(run, worker.pid)


def test_closing_a_standby_that_has_no_run_ends_it():
    standby = launch.start_standby(command() + ["--standby"])
    standby.close()
    standby.close()
    assert process_start_time(standby.pid) is None


def test_a_standby_ends_with_the_front_end():
    front_end = (
        "import sys, time; from engine.runs.launch import start_standby;"
        f"standby = start_standby({command() + ['--standby']!r}); print(standby.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", front_end], stdout=subprocess.PIPE)
    pid = int(process.stdout.readline())
    assert process_start_time(pid) is not None
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: process_start_time(pid) is None)


@pytest.mark.parametrize("behaviour", ["deaf", "dies"])
def test_a_standby_that_does_not_take_the_run_is_replaced(run, behaviour, monkeypatch):
    monkeypatch.setattr(launch.Standby.hand_over, "__kwdefaults__", {"deadline_s": 0.3})
    standby = launch.start_standby(command(behaviour) + ["--standby"])
    worker = launch.launch(run, standby, command=command())
    assert (worker.from_standby, is_alive(run)) == (False, True)
    assert worker.pid != standby.pid
    assert process_start_time(standby.pid) is None


def test_a_standby_is_used_once(run, tmp_path):
    other = made_run(tmp_path, "other")
    standby = launch.start_standby(command() + ["--standby"])
    assert launch.launch(run, standby, command=command()).from_standby
    assert not launch.launch(other, standby, command=command()).from_standby
    assert is_alive(run)
    terminate(other, signal.SIGKILL)


def test_the_worker_outlives_the_process_that_launched_it(run):
    front_end = (
        "import sys; from pathlib import Path; from engine.runs.directory import RunDirectory;"
        "from engine.runs.launch import launch, start_standby; run = RunDirectory(Path(sys.argv[1]));"
        f"standby = start_standby({command() + ['--standby']!r}); print(launch(run, standby).pid, flush=True);"
        "import os, signal; os.killpg(0, signal.SIGKILL)"
    )
    argv = [sys.executable, "-P", "-c", front_end, str(run.path)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, start_new_session=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert is_alive(run)
    assert read_owner(run).pid == int(done.stdout)
    request(run, "checkpoint", "test")
    wait_for(lambda: status(run).state == "training")


def test_a_second_launch_is_refused_and_leaves_the_first_alone(run):
    worker = launch.launch(run, command=command())
    with pytest.raises(ProblemError, match=f"process {worker.pid}") as caught:
        launch.launch(run, command=command())
    assert caught.value.problems[0].code == "run.locked"
    assert read_owner(run).pid == worker.pid


def test_a_worker_that_dies_at_once_is_reported_with_its_last_words(run):
    with pytest.raises(ProblemError, match="exit code 3 before it began.*cannot import torch") as caught:
        launch.launch(run, command=command("dies"))
    assert "\x1b" not in str(caught.value)
    assert str(run.log_file) in str(caught.value)


def test_a_program_that_is_not_there_is_a_problem(run):
    with pytest.raises(ProblemError, match="could not be started"):
        launch.launch(run, command=["/no/such/python"])


def test_a_worker_that_is_done_before_anyone_looks_was_still_launched(run):
    launch.launch(run, command=command("finishes"))
    wait_for(lambda: status(run).state == "finished")
    assert status(run).exit_code == 0


def test_a_worker_that_nobody_saw_holding_the_lock_was_still_launched(run, monkeypatch):
    write_exit(run, "stopped", 75, "the attempt before")
    pause = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: launch._children[-1].wait())
    monkeypatch.setattr(launch, "time", pause)
    launch.launch(run, command=command("finishes"))
    assert status(run).state == "finished"


def test_a_worker_that_dies_at_once_is_not_explained_by_the_attempt_before(run):
    write_exit(run, "stopped", 75, "Stopped: a viewer asked to stop.")
    with pytest.raises(ProblemError, match="before it began") as caught:
        launch.launch(run, command=command("dies"))
    assert "a viewer asked" not in str(caught.value)


def test_sigterm_stops_and_resume_goes_on(run):
    launch.launch(run, command=command())
    request(run, "evaluate", "before the stop")
    assert terminate(run, signal.SIGTERM)
    assert (status(run).state, status(run).exit_code) == ("stopped", 75)
    launch.resume(run, command=command())
    assert status(run).alive
    reader = ControlReader(run)
    assert ([entry.by for entry in reader.expired], reader.poll()) == (["before the stop"], [])
    with pytest.raises(ProblemError, match="is going"):
        launch.resume(run, command=command())


def test_a_crashed_run_is_resumed_and_counts_its_attempts(run):
    first = launch.launch(run, command=command())
    wait_for(lambda: "training" in run.events_file.read_text())
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(run))
    assert status(run).state == "crashed"
    second = launch.resume(run, command=command())
    assert second.pid != first.pid
    wait_for(lambda: '"attempt":2' in run.events_file.read_text())


def test_a_finished_run_is_not_resumed(run):
    launch.launch(run, command=command("finishes"))
    wait_for(lambda: status(run).state == "finished")
    with pytest.raises(ProblemError, match="is finished"):
        launch.resume(run, command=command())


def test_a_worker_that_does_not_end_is_not_called_ended(run):
    launch.launch(run, command=command("ignores-term"))
    wait_for(lambda: "training" in run.events_file.read_text())
    assert not terminate(run, signal.SIGTERM, wait_s=0.1)
    assert is_alive(run)


def test_sigkill_ends_the_workers_children_too(run):
    launch.launch(run, command=command("has-child"))
    child = int(said(run, "child")[0])
    assert process_start_time(child) is not None
    assert terminate(run, signal.SIGKILL)
    wait_for(lambda: process_start_time(child) is None)


def test_a_child_that_left_its_group_does_not_keep_the_run_alive(run):
    launch.launch(run, command=command("leaves-child"))
    wait_for(lambda: "training" in run.events_file.read_text())
    terminate(run, signal.SIGKILL)
    wait_for(lambda: not is_alive(run))
    launch.resume(run, command=command())


def test_the_worker_gets_training_variables_and_no_others(run, monkeypatch):
    for name in ("HF_TOKEN", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "https_proxy"):
        monkeypatch.setenv(name, "1")
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "SSH_AUTH_SOCK", "TERM"):
        monkeypatch.setenv(name, "secret-value")
    worker = launch.launch(run, command=command())
    names = set(said(run, "env"))
    assert {"HF_TOKEN", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "https_proxy", "PATH", "HOME"} <= names
    assert not names & {"AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "SSH_AUTH_SOCK", "TERM"}
    assert b"secret-value" not in Path(f"/proc/{worker.pid}/cmdline").read_bytes()


def test_relative_paths_of_the_environment_mean_the_same_to_the_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = {
        "FTWIZARD_HOME": "runs",
        "HF_HOME": "hf",
        "PYTHONPATH": "src::/lib",
        "TORCH_HOME": "~/torch",
        "HF_TOKEN": "a/b",
    }
    assert (
        launch.worker_environment(source).items()
        >= {
            "FTWIZARD_HOME": f"{tmp_path}/runs",
            "HF_HOME": f"{tmp_path}/hf",
            "PYTHONPATH": f"{tmp_path}/src:{tmp_path}:/lib",
            "TORCH_HOME": "~/torch",
            "HF_TOKEN": "a/b",
        }.items()
    )


def test_code_lying_in_the_run_folder_is_not_imported(run):
    (run.path / "json.py").write_text("raise SystemExit('hijacked')")
    (run.path / "engine.py").write_text("raise SystemExit('hijacked')")
    launch.launch(run, command=command())
    assert is_alive(run)
