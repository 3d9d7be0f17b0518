"""The event log: what a killed writer, a full disk or a stranger leaves in it costs at most itself."""

import errno
import json
import math
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe.problems import ProblemError
from engine.runs.events import Event, EventReader, EventWriter, decode_chunk, encode_event
from tests.unit.runs_support import step_payload


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


def seqs(path):
    return [event.seq for event in EventReader(path).poll()]


def test_an_event_is_one_line_of_standard_json(log):
    EventWriter(log).write("notice.raised", severity="note", code="a.b", message="line\nbreak [/INST] \x1b]52;")
    (line,) = log.read_text().splitlines()
    record = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (record["seq"], record["type"]) == (1, "notice.raised")
    assert record["message"] == "line\nbreak [/INST] \x1b]52;"
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_survive_and_the_line_stays_json(log, value):
    writer = EventWriter(log)
    writer.write("step.logged", **step_payload(1, loss=value))
    writer.write("evaluation.completed", phase="before", step=0, metrics={"loss": value})
    for line in log.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    step, evaluation = EventReader(log).poll()
    assert repr(step.payload["loss"]) == repr(value)
    assert repr(evaluation.payload["metrics"]["loss"]) == repr(value)


def test_a_generated_text_may_be_the_word_nan(log):
    writer = EventWriter(log)
    writer.write(
        "samples.generated", phase="after", step=1, samples=[{"prompt": "NaN", "text": "Infinity"}], loss=math.nan
    )
    (event,) = EventReader(log).poll()
    assert event.payload["samples"] == [{"prompt": "NaN", "text": "Infinity"}]
    assert math.isnan(event.payload["loss"])


def test_a_lone_surrogate_does_not_break_the_line(log):
    EventWriter(log).write("notice.raised", message="bad \ud800 text", loss=math.inf)
    (event,) = EventReader(log).poll()
    assert event.payload["message"] == "bad \ud800 text"


def test_numbers_go_on_after_the_log_is_opened_again(log):
    for attempt in range(3):
        writer = EventWriter(log)
        writer.write("worker.started", attempt=attempt)
        writer.write("step.logged", step=attempt)
        writer.close()
    assert seqs(log) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "tail",
    [
        b'{"seq":3,"ti',
        b"\x00" * 5000,
        b"garbage \xff\xfe",
        b'{"seq":3}',
        b'["x"]',
        b" ",
        b'{"seq":3,"time":1,"type":"x"}'[:-1],
    ],
    ids=["torn", "nul bytes", "garbage", "no event", "list", "blank", "one byte short"],
)
def test_a_torn_tail_is_cut_off_and_no_event_is_lost(log, tail):
    writer = EventWriter(log)
    writer.write("a.b")
    writer.write("a.b", text="x" * 100_000)
    writer.close()
    with log.open("ab") as file:
        file.write(tail)
    again = EventWriter(log)
    again.write("a.c")
    reader = EventReader(log)
    assert [(event.seq, event.type) for event in reader.poll()] == [(1, "a.b"), (2, "a.b"), (3, "a.c")]
    assert reader.bad_lines == 0


def test_a_whole_last_line_without_its_newline_is_kept(log):
    log.write_bytes(encode_event(Event(7, 1.0, "a.b", {})).rstrip(b"\n"))
    assert seqs(log) == []
    EventWriter(log).write("a.c")
    assert seqs(log) == [7, 8]


def test_bad_lines_are_counted_and_skipped(log):
    good = encode_event(Event(1, 1.0, "a.b", {}))
    bad = [b"{", b"[]", b"null", b"1", b'{"seq":"1","time":1,"type":"a.b"}', b"\x00\x00", b"\xff", b"[" * 100_000]
    log.write_bytes(good + b"\n".join(bad) + b"\n" + good.replace(b":1,", b":2,", 1))
    reader = EventReader(log)
    assert [event.seq for event in reader.poll()] == [1, 2]
    assert reader.bad_lines == len(bad)


def test_lines_that_would_parse_only_when_glued_together_are_bad():
    halves = b'{"seq":1,"time":1,"type":"a.b","x":[1\n2]}\n'
    assert decode_chunk(halves) == ([], 2)
    twins = b'{"seq":1,"time":1,"type":"a.b"},{"seq":2,"time":1,"type":"a.b"}\n{"seq":3,"time":1,"type":"a.b"}\n'
    events, bad = decode_chunk(twins)
    assert ([event.seq for event in events], bad) == ([3], 1)


def test_a_reader_waits_for_the_rest_of_a_line(log):
    line = encode_event(Event(1, 1.0, "a.b", {"text": "é" * 50}))
    reader = EventReader(log)
    assert reader.poll() == []
    for cut in range(0, len(line), 7):
        log.write_bytes(line[:cut])
        assert reader.poll() == []
    log.write_bytes(line)
    assert len(reader.poll()) == 1
    assert reader.poll() == []
    assert reader.restarts == 0


def test_a_tail_that_the_writer_cuts_off_does_not_disturb_a_reader(log):
    writer = EventWriter(log)
    writer.write("a.b")
    writer.close()
    with log.open("ab") as file:
        file.write(b'{"seq":2,"time":1.0,"type":"lost.tail","x":"' + b"y" * 500)
    reader = EventReader(log)
    assert [event.seq for event in reader.poll()] == [1]
    EventWriter(log).write("a.c")
    assert [(event.seq, event.type) for event in reader.poll()] == [(2, "a.c")]
    assert (reader.bad_lines, reader.restarts) == (0, 0)


@pytest.mark.parametrize("how", ["shorter", "replaced"])
def test_a_log_that_was_replaced_is_read_from_its_start(log, tmp_path, how):
    writer = EventWriter(log)
    for _ in range(5):
        writer.write("a.b", text="some text")
    reader = EventReader(log)
    assert len(reader.poll()) == 5
    new = b"".join(encode_event(Event(seq, 1.0, "new.log", {})) for seq in range(1, 3 if how == "shorter" else 30))
    if how == "shorter":
        log.write_bytes(new)
    else:
        (tmp_path / "other").write_bytes(new)
        os.replace(tmp_path / "other", log)
    assert {event.type for event in reader.poll()} == {"new.log"}
    assert reader.restarts == 1


def test_a_line_longer_than_one_read_is_whole(log):
    EventWriter(log).write("samples.generated", text="x" * 3_000_000)
    (event,) = EventReader(log).poll()
    assert len(event.payload["text"]) == 3_000_000


def test_a_full_disk_drops_events_counts_them_and_says_so_later(log, monkeypatch):
    writer = EventWriter(log)
    writer.write("a.b")
    real_write = os.write
    state = {"full": True}

    def write_until_full(descriptor, content):
        if state["full"] and state.setdefault("torn", 0) == 0:
            state["torn"] = 1
            return real_write(descriptor, content[:10])
        if state["full"]:
            state["torn"] = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, content)

    monkeypatch.setattr(os, "write", write_until_full)
    assert writer.write("a.lost", text="x" * 100) is None
    assert writer.write("a.lost", text="x" * 100) is None
    assert writer.dropped_events == 2
    assert seqs(log) == [1]
    state["full"] = False
    event = writer.write("a.c")
    monkeypatch.undo()
    reader = EventReader(log)
    assert [found.type for found in reader.poll()] == ["a.b", "notice.raised", "a.c"]
    assert event is not None
    assert event.seq == 3
    assert reader.bad_lines == 0
    notice = EventReader(log).poll()[1]
    assert "2 events" in notice.payload["message"]
    assert "No space left" in notice.payload["message"]


def test_threads_never_mix_their_lines(log):
    writer = EventWriter(log)

    def work(name):
        for _ in range(100):
            writer.write("a.b", who=name, text="z" * 200)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = EventReader(log)
    assert [event.seq for event in reader.poll()] == list(range(1, 401))
    assert reader.bad_lines == 0


def test_only_lifecycle_events_are_synced(log, monkeypatch):
    synced = []
    writer = EventWriter(log)
    monkeypatch.setattr(os, "fsync", synced.append)
    for quiet in ("step.logged", "memory.sampled", "notice.raised", "evaluation.progressed"):
        writer.write(quiet)
    assert synced == []
    for loud in ("state.changed", "checkpoint.committed", "run.ended", "worker.started", "worker.failed"):
        writer.write(loud)
    assert len(synced) == 5


def test_a_log_that_cannot_be_opened_names_the_path(tmp_path):
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(ProblemError, match=r"events\.jsonl"):
        EventWriter(tmp_path / "events.jsonl")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key not in ("seq", "time", "type")), VALUES, max_size=4))
def test_any_payload_makes_one_line_that_reads_back(payload):
    line = encode_event(Event(1, 2.0, "a.b", payload))
    assert line.count(b"\n") == 1
    events, bad = decode_chunk(line)
    assert bad == 0
    assert events[0].payload.keys() == payload.keys()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content):
    events, bad = decode_chunk(content + b"\n")
    assert len(events) + bad == len([line for line in content.split(b"\n") if line])
