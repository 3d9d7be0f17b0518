"""The control log: every request is carried out once, and none is lost."""

import pytest

from engine.recipe.problems import ProblemError
from engine.runs.control import ControlReader, mark_attempt, request
from engine.runs.events import EventWriter
from tests.unit.runs_support import made_run


@pytest.fixture
def run(tmp_path):
    return made_run(tmp_path)


def actions(requests):
    return [entry.action for entry in requests]


def test_requests_arrive_in_order_and_once(run):
    reader = ControlReader(run)
    assert reader.poll() == []
    ids = [request(run, action, "monitor") for action in ("pause", "resume", "checkpoint")]
    found = reader.poll()
    assert [(entry.id, entry.action, entry.by) for entry in found] == [
        (ids[0], "pause", "monitor"),
        (ids[1], "resume", "monitor"),
        (ids[2], "checkpoint", "monitor"),
    ]
    assert reader.poll() == []
    request(run, "stop", "cli")
    assert actions(reader.poll()) == ["stop"]
    assert run.control_file.stat().st_mode & 0o777 == 0o600


def test_a_request_made_before_the_worker_looked_is_not_lost(run):
    request(run, "stop", "monitor")
    assert actions(ControlReader(run).poll()) == ["stop"]


def test_what_was_acknowledged_is_never_carried_out_again(run):
    done, open_request = request(run, "checkpoint", "a"), request(run, "evaluate", "a")
    EventWriter(run.events_file).write("control.acknowledged", id=done, action="checkpoint", result="done")
    assert [entry.id for entry in ControlReader(run).poll()] == [open_request]


def test_what_was_asked_of_a_dead_attempt_expires(run):
    request(run, "pause", "a")
    old = request(run, "stop", "a")
    EventWriter(run.events_file).write("control.acknowledged", id=old, action="stop", result="done")
    mark_attempt(run, "resume")
    new = request(run, "evaluate", "b")
    reader = ControlReader(run)
    assert actions(reader.expired) == ["pause"]
    assert [entry.id for entry in reader.poll()] == [new]
    assert reader.poll() == []


def test_a_mark_while_the_worker_reads_takes_nothing_away(run):
    reader = ControlReader(run)
    request(run, "pause", "a")
    mark_attempt(run, "resume")
    request(run, "stop", "a")
    assert actions(reader.poll()) == ["pause", "stop"]


def test_a_mark_needs_no_log(run):
    mark_attempt(run, "resume")
    assert not run.control_file.exists()


def test_a_torn_line_swallows_no_request(run):
    request(run, "pause", "a")
    with run.control_file.open("ab") as log:
        log.write(b'{"id":"x","ti')
    reader = ControlReader(run)
    assert actions(reader.poll()) == ["pause"]
    request(run, "stop", "a")
    assert actions(reader.poll()) == ["stop"]
    assert reader.bad_lines == 1


def test_junk_is_counted(run):
    run.control_file.write_bytes(
        b'\x00\xff\n[]\n1\n{"id":"a","action":"format"}\n{"id":7,"action":"stop"}\n{"action":"stop"}\n'
        b'{"id":"a","action":["stop"]}\n{"id":"a","action":"stop","time":"soon"}\n'
    )
    reader = ControlReader(run)
    assert reader.poll() == []
    assert reader.bad_lines == 8


def test_the_same_id_twice_is_one_request(run):
    request(run, "evaluate", "a")
    run.control_file.write_bytes(run.control_file.read_bytes() * 2)
    assert actions(ControlReader(run).poll()) == ["evaluate"]


def test_an_unknown_action_is_refused_with_the_known_ones(run):
    with pytest.raises(ProblemError, match="pause, resume, checkpoint, evaluate, stop, kill"):
        request(run, "explode\x1b[2J", "a")
    assert not run.control_file.exists()


def test_a_log_that_cannot_be_written_is_a_problem(run):
    run.control_file.mkdir()
    with pytest.raises(ProblemError, match=r"control\.jsonl"):
        request(run, "stop", "a")
