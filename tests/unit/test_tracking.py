"""Trackers: TensorBoard's files hold each step once, and nothing that a tracker does reaches the run."""

import struct
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from engine.recipe.read import check_recipe
from engine.runs.directory import RunDirectory
from engine.runs.events import Event, EventWriter
from engine.tracking.event_file import EventFile, masked_crc
from engine.tracking.scalars import Scalar
from engine.tracking.services import wanted
from engine.tracking.tensorboard import FOLDER, TensorBoardFiles
from engine.tracking.trackers import Trackers


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return number, at


def fields(data: bytes) -> dict[int, object]:
    """Return the fields of a protobuf message by the wire format alone."""
    found: dict[int, object] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        match key & 7:
            case 0:
                found[key >> 3], at = varint(data, at)
            case 1:
                found[key >> 3], at = struct.unpack_from("<d", data, at)[0], at + 8
            case 5:
                found[key >> 3], at = struct.unpack_from("<f", data, at)[0], at + 4
            case _:
                length, at = varint(data, at)
                found[key >> 3], at = data[at : at + length], at + length
    return found


def records(path: Path) -> list[dict[int, object]]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc(body)
        found.append(fields(body))
        at += length + 16
    return found


def points(run: RunDirectory, tag: str) -> list[tuple[int, float]]:
    (path,) = (run.path / FOLDER).iterdir()
    found = []
    for record in records(path):
        if 5 in record:
            value = fields(fields(record[5])[1])  # type: ignore[arg-type]
            if value[1] == tag.encode():
                found.append((record.get(2, 0), pytest.approx(value[2])))
    return found  # type: ignore[return-value]


class Log:
    """An event log with its TensorBoard files."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDirectory(folder)
        self.writer = EventWriter(self.run.events_file)
        self.files = TensorBoardFiles(self.run)

    def write(self, event_type: str, **payload: object) -> None:
        event = self.writer.write(event_type, **payload)
        assert event is not None
        self.files.take(event)

    def steps(self, *numbers: int, loss: float) -> None:
        for step in numbers:
            self.write("step.logged", step=step, loss=loss + step, learning_rate=0.1, grad_norm=None)


def test_the_checksum_is_that_of_the_standard():
    # CRC-32C of RFC 3720, B.4: 32 bytes of zeros.
    assert masked_crc(bytes(32)) == (((0x8A9136AA >> 15) | (0x8A9136AA << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_resumed_run_has_each_step_once(tmp_path):
    log = Log(tmp_path)
    log.write("evaluation.completed", phase="before", step=0, metrics={"loss": 9.0})
    log.write("training.started", start_step=0)
    log.steps(1, 2, 3, 4, loss=10)
    log.write("evaluation.completed", phase="during", step=4, metrics={"loss": 5.0})
    log.files.close()
    log.files = TensorBoardFiles(log.run)
    log.write("training.started", start_step=2)
    log.steps(3, 4, loss=20)
    log.write("memory.sampled", peak_bytes=77, peak_kind="rss")
    log.write("evaluation.completed", phase="after", step=4, metrics={"loss": 3.0})
    log.files = TensorBoardFiles(log.run)
    log.write("training.started", start_step=3)
    log.steps(4, 5, loss=30)
    log.files.close()
    assert points(log.run, "train/loss") == [(1, 11), (2, 12), (3, 23), (4, 34), (5, 35)]
    assert points(log.run, "held_out/loss") == [(0, 9)], "those of steps that were taken back are gone"
    assert points(log.run, "train/learning_rate") == [(step, 0.1) for step in range(1, 6)]
    assert points(log.run, "train/grad_norm") == []
    log.write("evaluation.completed", phase="after", step=5, metrics={"loss": 2.0})
    assert points(log.run, "held_out/loss") == [(0, 9), (5, 2)]


def test_numbers_that_four_bytes_do_not_hold_are_infinite_and_rewards_have_curves(tmp_path):
    file = EventFile(tmp_path / "x.tfevents")
    file.write([Scalar("a", 300, 1e300, 1.0), Scalar("a", 301, float("nan"), 1.0)])
    file.close()
    first, _, big, broken = records(tmp_path / "x.tfevents")
    assert first[3] == b"brain.Event:2"
    assert big[2] == 300
    assert fields(fields(big[5])[1])[2] == float("inf")
    assert str(fields(fields(broken[5])[1])[2]) == "nan"
    log = Log(tmp_path)
    log.write("step.logged", step=1, loss=1.0, extra={"reward": 0.5})
    assert points(log.run, "train/reward") == [(1, 0.5)]


class Recorder:
    name = "recorder"

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.closed = False

    def take(self, event: Event) -> None:
        self.taken.append(event.seq)

    def close(self) -> None:
        self.closed = True


def events(count: int) -> list[Event]:
    return [Event(seq, 0.0, "step.logged", {}) for seq in range(count)]


def test_a_tracker_that_fails_is_told_once_and_the_others_get_everything():
    class Broken(Recorder):
        def take(self, event: Event) -> None:
            raise SystemExit("hf_secret_token")

    def absent() -> Recorder:
        raise ImportError("no such thing")

    notices: list[tuple[str, str]] = []
    good = Recorder()
    trackers = Trackers(
        {"good": lambda: good, "broken": Broken, "absent": absent}, lambda code, text: notices.append((code, text))
    )
    for event in events(50):
        trackers.take(event)
    trackers.close()
    assert (good.taken, good.closed) == (list(range(50)), True)
    assert sorted(code for code, _ in notices) == ["tracking.absent", "tracking.broken"]
    assert "secret" not in str(notices)


def test_a_service_that_never_answers_holds_nobody_up():
    gate = threading.Event()

    class Hanging(Recorder):
        def take(self, event: Event) -> None:
            gate.wait(60)

    notices: list[str] = []
    trackers = Trackers({"hanging": Hanging}, lambda code, text: notices.append(text))
    began = time.monotonic()
    for event in events(30_000):
        trackers.take(event)
    trackers.close(within_s=0.2)
    gate.set()
    assert time.monotonic() - began < 10
    assert notices == ["hanging gets no more numbers of this run: it is slower than the run."]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_services_get_the_recipe_the_metrics_by_step_and_the_final_numbers(name, monkeypatch):
    calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    class StandIn(types.ModuleType):
        """Records every call, also of what calls return."""

        def __getattr__(self, called: str) -> object:
            if called.startswith("__"):
                raise AttributeError(called)
            if called == "summary":
                return self

            def record(*args: object, **values: object) -> object:
                calls.append((called, args, values))
                return self

            return record

    monkeypatch.setitem(sys.modules, name, StandIn(name))
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": "d"}, "tracking": {name: "mine"}}
    makers = wanted(check_recipe(tree, name="r"), "run-1")
    assert set(makers) == {name}
    trackers = Trackers(makers, lambda code, text: pytest.fail(text))
    trackers.take(Event(1, 0.0, "step.logged", {"step": 3, "loss": 2.0, "grad_norm": float("nan")}))
    trackers.take(Event(2, 0.0, "evaluation.completed", {"phase": "after", "step": 4, "metrics": {"loss": 1.5}}))
    trackers.close()
    said = str(calls)
    assert "'mine'" in said
    assert "run-1" in said
    assert "'model.base': 'm'" in said
    logged = [(args[0], values.get("step")) for _, args, values in calls if args and isinstance(args[0], dict)]
    assert ({"train/loss": 2.0}, 3) in logged, "what is no number is left out"
    assert ({"held_out/loss": 1.5}, 4) in logged
    assert ({"final/loss": 1.5}, None) in logged
    assert calls[-1][0] in ("finish", "end_run")


def test_nothing_is_sent_unless_asked_for():
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": "d"}}
    assert wanted(check_recipe(tree, name="r"), "run-1") == {}
