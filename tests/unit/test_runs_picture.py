"""The picture: the same from a replay, a side-car or event by event; honest about time, bounded, hard to upset."""

import json
import math
import os
import random

import pytest

from engine.runs import replay, sidecar
from engine.runs.events import Event, EventReader, EventWriter, encode_event
from engine.runs.measured_memory import compare_memory
from engine.runs.picture import Picture, PictureWriter, follow, open_picture, read_head
from engine.runs.reducer import MAX_EXTRAS
from tests.unit.runs_support import events_of, made_run, step_payload, write_steps


@pytest.fixture
def run(tmp_path):
    return made_run(tmp_path)


def started(total_steps=100, start_step=0):
    return {"total_steps": total_steps, "start_step": start_step, "micro_batch": 1, "accumulation": 1}


def training_picture(steps, *, total_steps=100, start_step=0, step_s=0.5):
    picture = Picture()
    items = [
        ("worker.started", {"pid": 1}),
        ("state.changed", {"state": "training"}),
        ("training.started", started(total_steps, start_step)),
    ]
    items += [("step.logged", {**step_payload(step, total_steps), "elapsed_s": step * step_s}) for step in steps]
    picture.apply_all(events_of(*items))
    return picture


def told_besides(seed, dice):
    """Return what an objective tells of a step besides its loss, in two of three stories."""
    if seed % 3 == 0:
        return {}
    margin = math.nan if dice.random() < 0.02 else dice.random()
    return {"extra": {"reward_accuracy": dice.random(), "reward_margin": margin}}


def story(seed, length=400):
    """Return a random but well-formed life of a run with crashes, evaluations and odd values."""
    dice = random.Random(seed)
    items = [("run.created", {"run_id": "r", "name": "n", "objective": "chat", "base": "b", "method": "lora"})]
    step = 0
    for _ in range(length):
        roll = dice.random()
        if step == 0 or roll < 0.01:
            step = dice.randint(0, step)
            items += [("worker.started", {"pid": 1}), ("training.started", started(1000, step))]
        if roll < 0.7:
            step += 1
            loss = dice.choice([1.5, 2, math.nan, None]) if dice.random() < 0.05 else dice.random()
            items.append(("step.logged", {**step_payload(step, 1000), "loss": loss, **told_besides(seed, dice)}))
        elif roll < 0.85:
            items.append(("memory.sampled", {"rss_bytes": dice.randint(1, 10**10), "gpu_allocated_bytes": None}))
        elif roll < 0.9:
            metrics = {"loss": dice.random(), "rouge": dice.random()}
            items.append(
                ("evaluation.completed", {"phase": "during", "step": step, "metrics": metrics, "elapsed_s": 2.0})
            )
        elif roll < 0.95:
            items.append(
                ("samples.generated", {"phase": "during", "step": step, "samples": [{"text": '"type":"step.logged"'}]})
            )
        else:
            items.append(("future.happened", {"step": "?", "text": "\n[/INST]"}))
    return events_of(*items)


def comparable(picture):
    """Return the picture with sums rounded: they are added up in another order."""
    record = json.loads(json.dumps(picture.to_json()))
    for curve in record["curves"].values():
        curve["buckets"] = [[float(f"{value:.9g}") for value in bucket] for bucket in curve["buckets"]]
    return record


@pytest.mark.parametrize("seed", range(12))
def test_one_by_one_in_bulk_and_by_columns_give_the_same_picture(seed, monkeypatch):
    monkeypatch.setattr(replay, "_MIN_CHUNK_BYTES", 0)
    events = story(seed)
    one_by_one, in_bulk, by_columns = Picture(), Picture(), Picture()
    for event in events:
        one_by_one.apply(event)
    in_bulk.apply_all(events)
    bounds = sorted({0, len(events), *random.Random(seed).sample(range(len(events)), 5)})
    for start, end in zip(bounds, bounds[1:], strict=False):
        chunk = b"".join(encode_event(event) for event in events[start:end])
        assert replay.replay_chunk(by_columns, chunk) == 0
    assert comparable(in_bulk) == comparable(one_by_one)
    assert comparable(by_columns) == comparable(one_by_one)


def test_what_an_objective_tells_besides_the_loss_is_read_and_drawn():
    told = [{**step_payload(step), "extra": {"reward_accuracy": step / 10, "new": math.inf}} for step in (1, 2)]
    picture = Picture()
    picture.apply_all(events_of(*(("step.logged", payload) for payload in told)))
    picture = Picture.from_json(json.loads(json.dumps(picture.to_json())))
    assert picture.latest["extra"] == {"reward_accuracy": 0.2, "new": math.inf}
    assert picture.curves["extra_reward_accuracy"].last == (2, 0.2)
    assert picture.curves["extra_new"].num_not_finite == 2


def test_more_numbers_than_a_screen_can_show_are_not_all_drawn():
    extra = {f"number {index}": 1.0 for index in range(100)}
    picture = Picture()
    picture.apply_all(events_of(("step.logged", {**step_payload(1), "extra": extra})))
    assert sum(name.startswith("extra_") for name in picture.curves) == MAX_EXTRAS


@pytest.mark.parametrize(
    "damage",
    [
        b'{"seq":9,"time":1.0,"type":"step.logged","step":9.5,"total_steps":100}\n',
        b"\x00\x00\xff\n",
        b'{"seq":1,"time":1.0,"type":"step.logged","step":-3}\n',
        b'{"seq":99,"time":1,"type":"step.logged","step":"x","loss":{}}\n',
    ],
)
def test_a_damaged_line_among_steps_costs_itself_only(damage, monkeypatch):
    monkeypatch.setattr(replay, "_MIN_CHUNK_BYTES", 0)
    lines = [encode_event(Event(seq, 1.0, "step.logged", step_payload(seq))) for seq in range(100, 200)]
    plain, damaged = Picture(), Picture()
    replay.replay_chunk(plain, b"".join(lines))
    replay.replay_chunk(damaged, b"".join(lines[:50]) + damage + b"".join(lines[50:]))
    assert damaged.step == plain.step == 199
    assert damaged.curves["loss"].points() == plain.curves["loss"].points()


def test_the_side_car_and_the_log_give_the_same_picture(run):
    writer = PictureWriter(run)
    for event in story(3)[1:]:
        writer.write(event.type, **event.payload)
    writer.close()
    replayed = Picture()
    replayed.apply_all(EventReader(run.events_file).poll())
    attached, reader = open_picture(run)
    assert reader.offset == run.events_file.stat().st_size
    assert comparable(attached) == comparable(replayed) == comparable(writer.picture)


def test_what_came_after_the_side_car_is_read_from_the_log(run):
    writer = PictureWriter(run)
    writer.write("training.started", **started())
    write_steps(writer, range(1, 11))
    writer.close()
    late = EventWriter(run.events_file)
    write_steps(late, range(11, 21))
    picture, reader = open_picture(run)
    assert (picture.step, len(picture.curves["loss"])) == (20, 20)
    write_steps(late, range(21, 23))
    assert follow(picture, reader) is picture
    assert picture.step == 22


def damage_sidecar(how, run):
    file = run.picture_file
    content = file.read_bytes()
    match how:
        case "torn":
            file.write_bytes(content[: len(content) // 2])
        case "empty":
            file.write_bytes(b"")
        case "no json":
            file.write_bytes(b"\x00\xff" * 100)
        case "other version":
            file.write_bytes(content.replace(b'"version":1', b'"version":999'))
        case "missing key":
            file.write_bytes(content.replace(b'"speed_window"', b'"other_window"'))
        case "missing":
            file.unlink()
        case "offset beyond the log":
            file.write_bytes(content.replace(b'"offset":', b'"offset":9'))


@pytest.mark.parametrize(
    "how", ["torn", "empty", "no json", "other version", "missing key", "missing", "offset beyond the log"]
)
def test_a_bad_side_car_costs_a_replay_and_nothing_else(run, how):
    writer = PictureWriter(run)
    writer.write("training.started", **started())
    write_steps(writer, range(1, 31))
    writer.close()
    damage_sidecar(how, run)
    picture, _ = open_picture(run)
    assert (picture.step, picture.name) == (30, "a run")
    assert picture.to_json() == writer.picture.to_json()


def test_a_side_car_of_another_log_is_not_taken(run, tmp_path):
    writer = PictureWriter(run)
    write_steps(writer, range(1, 31))
    writer.close()
    lines = run.events_file.read_bytes().splitlines(keepends=True)
    run.events_file.write_bytes(b"".join(lines[:10] + lines[11:20]) + b" " * 2000 + b"\n")
    picture, reader = open_picture(run)
    assert (len(picture.curves["loss"]), reader.bad_lines) == (18, 1)


def test_the_side_car_is_json_and_its_first_line_is_enough_for_a_list(run):
    writer = PictureWriter(run)
    writer.write("training.started", **started())
    writer.write("step.logged", **step_payload(7, loss=math.nan))
    writer.close()
    whole = json.loads(run.picture_file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert whole["body"]["step"] == 7
    head = read_head(run)
    assert (head["step"], head["name"], math.isnan(head["loss"])) == (7, "a run", True)
    assert math.isnan(open_picture(run)[0].latest["loss"])


def test_a_head_without_a_side_car_comes_from_the_log(run):
    write_steps(EventWriter(run.events_file), range(1, 4))
    assert read_head(run)["step"] == 3


def test_the_side_car_is_written_at_lifecycle_events_and_rarely_else(run, monkeypatch):
    writes = []
    monkeypatch.setattr(sidecar, "write_sidecar", lambda *arguments: writes.append(arguments))
    clock = [1000.0]
    monkeypatch.setattr("engine.runs.picture.time.monotonic", lambda: clock[0])
    writer = PictureWriter(run)
    writer.write("state.changed", state="training")
    assert len(writes) == 1
    for step in range(1, 100):
        writer.write("step.logged", **step_payload(step))
    assert len(writes) == 1
    clock[0] += 1.1
    writer.write("step.logged", **step_payload(100))
    writer.write("step.logged", **step_payload(101))
    assert len(writes) == 2
    writer.write("checkpoint.committed", step=101, folder="f", bytes=1, elapsed_s=0.1)
    assert len(writes) == 3


def test_a_side_car_that_cannot_be_written_does_not_stop_the_run(run):
    writer = PictureWriter(run)
    run.picture_file.unlink(missing_ok=True)
    run.picture_file.mkdir()
    assert writer.write("state.changed", state="training") is not None
    writer.close()
    assert open_picture(run)[0].state == "training"
    assert [name for name in os.listdir(run.path) if name.startswith(".")] == []


def test_a_replaced_log_gives_a_new_picture(run):
    write_steps(EventWriter(run.events_file), range(1, 50))
    picture, reader = open_picture(run)
    run.events_file.write_bytes(encode_event(Event(1, 1.0, "run.created", {"run_id": "other"})))
    fresh = follow(picture, reader)
    assert fresh is not picture
    assert (fresh.run_id, fresh.step) == ("other", 0)


def test_an_emptied_log_gives_an_empty_picture(run):
    write_steps(EventWriter(run.events_file), range(1, 50))
    picture, reader = open_picture(run)
    run.events_file.write_bytes(b"")
    picture = follow(picture, reader)
    assert picture == Picture()
    run.events_file.write_bytes(encode_event(Event(1, 1.0, "run.created", {"run_id": "other"})))
    assert follow(picture, reader).run_id == "other"


def test_sample_sets_of_one_step_do_not_stop_the_picture():
    picture = Picture()
    measured = ("evaluation.completed", {"phase": "during", "step": 5, "metrics": {"loss": 0.1}})
    again = [("samples.generated", {"phase": phase, "step": 5, "samples": []}) for phase in ("during", "after")]
    later = [("samples.generated", {"phase": "during", "step": step, "samples": []}) for step in range(6, 40)]
    first = ("samples.generated", {"phase": "before", "step": 0, "samples": []})
    picture.apply_all(events_of(first, measured, *again, *later))
    assert len(picture.samples) == 12
    assert picture.samples[-1]["step"] == 39


@pytest.mark.parametrize("kind", ["memory.predicted", "memory.probed"])
@pytest.mark.parametrize("size", [float("inf"), float("nan"), "much"])
def test_a_size_that_is_none_costs_its_event_only(kind, size):
    picture = Picture()
    name = "high_bytes" if kind == "memory.predicted" else "peak_bytes"
    picture.apply_all(events_of((kind, {"low_bytes": 1, "expected_bytes": 2, name: size})))
    assert (picture.odd_events, picture.predicted, picture.probed) == (1, {}, {})
    assert compare_memory(picture, None) is None


def test_a_number_that_no_counter_holds_costs_its_event_only():
    picture = Picture()
    picture.apply_all(events_of(("samples.generated", {"phase": "during", "step": float("inf"), "samples": []})))
    assert picture.odd_events == 1


# --- what the numbers mean ------------------------------------------------------------------------------------------


def test_eta_is_unknown_until_the_speed_is_known_and_then_right():
    assert training_picture([]).eta_s() is None
    assert training_picture([1, 2]).eta_s() is None
    assert training_picture(range(1, 41)).eta_s() == pytest.approx(30.0)
    assert training_picture(range(1, 101)).eta_s() == 0.0


def test_eta_follows_the_recent_speed_not_the_warm_up():
    picture = training_picture([])
    elapsed_s = 0.0
    for seq, step in enumerate(range(1, 51), start=10):
        elapsed_s += 60.0 if step == 1 else 1.0
        picture.apply(Event(seq, 1.0, "step.logged", {**step_payload(step), "elapsed_s": elapsed_s}))
    assert picture.eta_s() == pytest.approx(50.0)


def test_eta_counts_the_pauses_of_evaluations_and_checkpoints():
    picture = training_picture(range(1, 51), step_s=1.0)
    evaluation = {"phase": "during", "step": 50, "metrics": {"loss": 1.0}, "elapsed_s": 20.0}
    checkpoint = {"step": 50, "folder": "f", "bytes": 1, "elapsed_s": 5.0}
    picture.apply_all(
        events_of(("evaluation.completed", evaluation), ("checkpoint.committed", checkpoint), first_seq=90)
    )
    assert picture.eta_s() == pytest.approx(50 * (1.0 + 25.0 / 50))


def test_eta_after_a_resume_uses_the_new_attempt_only():
    picture = training_picture(range(1, 61), step_s=10.0)
    training = ("state.changed", {"state": "training"})
    again = [("worker.started", {"pid": 2}), training, ("training.started", started(100, 40))]
    picture.apply_all(events_of(*again, first_seq=100))
    assert picture.eta_s() is None
    steps = [("step.logged", {**step_payload(step), "elapsed_s": 400 + (step - 40) * 1.0}) for step in range(41, 51)]
    picture.apply_all(events_of(*steps, first_seq=200))
    assert picture.eta_s() == pytest.approx(50.0)


@pytest.mark.parametrize("clock_jump_s", [-3600, 3600 * 24 * 365])
def test_a_clock_that_jumps_cannot_distort_the_eta(clock_jump_s):
    picture = training_picture(range(1, 51), step_s=1.0)
    assert picture.eta_s(now=picture.time + 1) == pytest.approx(49.0)
    assert 48.0 <= picture.eta_s(now=picture.time + clock_jump_s) <= 50.0


@pytest.mark.parametrize("state", ["paused", "evaluating", "finished", "failed"])
def test_there_is_no_eta_outside_training(state):
    picture = training_picture(range(1, 51))
    picture.apply(Event(999, 1.0, "state.changed", {"state": state}))
    assert picture.eta_s() is None


def test_progress_is_a_share_and_unknown_before_training():
    assert Picture().progress is None
    assert training_picture(range(1, 26)).progress == 0.25


def test_a_resumed_run_draws_its_steps_once():
    picture = training_picture(range(1, 61))
    during = [("evaluation.completed", {"phase": "during", "step": s, "metrics": {"loss": 1.0}}) for s in (20, 50)]
    picture.apply_all(events_of(*during, first_seq=100))
    picture.apply_all(events_of(("worker.started", {}), ("training.started", started(100, 40)), first_seq=200))
    assert [item["step"] for item in picture.evaluations] == [20]
    steps = [("step.logged", step_payload(step)) for step in range(41, 71)]
    picture.apply_all(events_of(*steps, first_seq=300))
    straight = training_picture(range(1, 71))
    assert picture.curves["loss"].points() == straight.curves["loss"].points()
    assert picture.attempts == 2


def test_a_new_attempt_begins_by_preparing_whatever_the_last_one_did():
    picture = training_picture(range(1, 11))
    picture.apply_all(events_of(("state.changed", {"state": "stopped", "reason": "asked"}), first_seq=100))
    picture.apply_all(events_of(("worker.started", {"pid": 2}), first_seq=200))
    assert (picture.state, picture.reason, picture.eta_s()) == ("preparing", "", None)


def test_an_event_seen_before_changes_nothing():
    picture = training_picture(range(1, 11))
    before = picture.to_json()
    picture.apply(Event(5, 1.0, "state.changed", {"state": "failed"}))
    assert picture.to_json() == before


def test_before_and_after_are_measured_once_each():
    picture = Picture()
    payload = {"phase": "before", "step": 0, "metrics": {"loss": 3.0}, "num_rows": 5, "elapsed_s": 1.0}
    picture.apply_all(
        events_of(
            ("evaluation.started", {"phase": "before", "step": 0, "num_rows": 5}),
            ("evaluation.completed", payload),
            ("evaluation.completed", {**payload, "metrics": {"loss": 2.9}}),
            ("evaluation.completed", {**payload, "phase": "after", "step": 10, "metrics": {"loss": 1.0, "rouge": 0.5}}),
        )
    )
    assert [(item["phase"], item["metrics"]["loss"]) for item in picture.evaluations] == [
        ("before", 2.9),
        ("after", 1.0),
    ]
    assert picture.evaluation("before")["metrics"] == {"loss": 2.9}
    assert picture.evaluation("during") is None
    assert picture.latest["eval_rouge"] == 0.5
    assert picture.phase is None
    assert picture.best_step() == 10


def test_the_best_step_is_never_one_without_a_number():
    picture = Picture()
    losses = [math.nan, None, "odd", 2.0, 1.5, math.inf]
    items = [
        ("evaluation.completed", {"phase": "during", "step": s, "metrics": {"loss": loss}})
        for s, loss in enumerate(losses)
    ]
    picture.apply_all(events_of(*items))
    assert picture.best_step() == 4


def test_samples_keep_the_first_the_best_and_the_newest():
    picture = Picture()
    items = [("samples.generated", {"phase": "before", "step": 0, "samples": [{"text": "x" * 10**6}] * 100})]
    for step in range(1, 60):
        loss = 0.1 if step == 20 else 1.0
        items.append(("evaluation.completed", {"phase": "during", "step": step, "metrics": {"loss": loss}}))
        items.append(("samples.generated", {"phase": "during", "step": step, "samples": [{"text": str(step)}]}))
    picture.apply_all(events_of(*items))
    steps = [item["step"] for item in picture.samples]
    assert (steps[:2], steps[-1], len(steps)) == ([0, 20], 59, 12)
    assert len(json.dumps(picture.samples)) < 200_000


def test_the_picture_stays_small_whatever_happens():
    picture = Picture()
    noisy = [
        ("notice.raised", {"severity": "note", "code": "a", "message": "m" * 100}),
        ("checkpoint.committed", {"step": 1, "folder": "f", "bytes": 1, "elapsed_s": 0.0}),
        ("checkpoint.rejected", {"folder": "f", "reason": "r"}),
        ("export.completed", {"kind": "merged", "folder": "f", "bytes": 1, "elapsed_s": 1.0}),
    ]
    for turn in range(2000):
        acknowledged = ("control.acknowledged", {"id": str(turn), "action": "pause", "result": "done"})
        evaluation = ("evaluation.completed", {"phase": "during", "step": turn, "metrics": {"loss": 1.0}})
        picture.apply_all(events_of(*noisy, acknowledged, evaluation, first_seq=1 + turn * 10))
    assert len(json.dumps(picture.to_json())) < 400_000
    assert picture.evaluations[0]["step"] == 0
    assert "1999" in picture.acknowledged
    assert len(picture.exports) == 1


@pytest.mark.parametrize("kind", sorted(__import__("engine.runs.reducer", fromlist=["_HANDLERS"])._HANDLERS))
@pytest.mark.parametrize("payload", [{}, {"step": "x", "metrics": 7, "samples": None, "state": None, "exit_code": "?"}])
def test_an_event_with_an_odd_payload_does_not_take_the_screen_down(kind, payload):
    picture = Picture()
    picture.apply(Event(1, 1.0, kind, payload))
    assert picture.seq == 1
    Picture.from_json(json.loads(json.dumps(picture.to_json())))


def test_the_end_of_a_run_is_in_the_picture():
    picture = training_picture(range(1, 101))
    failure = {"code": "worker.x", "message": "m", "fix": "f", "where": "w"}
    picture.apply_all(
        events_of(("worker.failed", failure), ("run.ended", {"state": "failed", "exit_code": 1}), first_seq=500)
    )
    assert (picture.state, picture.exit_code, picture.failure, picture.ended_time) == ("failed", 1, failure, 1001.0)
    picture.apply(Event(900, 1.0, "worker.started", {"pid": 3}))
    assert (picture.exit_code, picture.failure, picture.ended_time) == (None, None, None)


def sampled(phase, peak_bytes, kind="rss"):
    return "memory.sampled", {"phase": phase, "peak_bytes": peak_bytes, "peak_kind": kind, "rss_bytes": peak_bytes}


def test_the_highest_measured_memory_is_kept_with_its_place():
    picture = training_picture(range(1, 41))
    events = events_of(sampled("training", 700), sampled("evaluation", 900), sampled("training", 800))
    for event in events:
        event.seq += picture.seq
    picture.apply_all(events)
    assert picture.measured_peak == {"bytes": 900, "step": 40, "phase": "evaluation", "kind": "rss"}
    assert {phase: peak["bytes"] for phase, peak in picture.measured_peaks.items()} == {
        "training": 800,
        "evaluation": 900,
    }


def test_a_measured_peak_outlives_attempts_and_the_side_car():
    picture = Picture()
    predicted = {"low_bytes": 1, "expected_bytes": 2, "high_bytes": 3, "depth": "simulated"}
    probed = {"fits": True, "peak_bytes": 2, "micro_batch": 4}
    picture.apply_all(
        events_of(
            ("memory.predicted", predicted),
            ("memory.probed", probed),
            sampled("training", 5, "device"),
            ("worker.started", {"pid": 2}),
            sampled("training", 4, "device"),
        )
    )
    again = Picture.from_json(json.loads(json.dumps(picture.to_json())))
    assert again.predicted == predicted
    assert again.probed == probed
    assert again.measured_peak["bytes"] == again.measured_peaks["training"]["bytes"] == 5


def test_memory_samples_of_older_runs_have_no_peak_to_compare():
    picture = Picture()
    picture.apply_all(events_of(("memory.sampled", {"rss_bytes": 5, "peak_rss_bytes": 7})))
    assert picture.measured_peak == {}
    assert picture.odd_events == 0


def alarm(kind, step, *, over=False):
    code = f"alarm.{kind}{'_over' if over else ''}"
    return "notice.raised", {"severity": "warning", "code": code, "message": f"{kind} at {step}", "step": step}


def test_alarms_that_are_not_over_are_in_the_picture():
    picture = training_picture(range(1, 81))
    picture.apply_all(events_of(alarm("spike", 30), alarm("divergence", 60), first_seq=500))
    assert {kind: found["step"] for kind, found in picture.alarms.items()} == {"spike": 30, "divergence": 60}
    picture.apply_all(events_of(alarm("spike", 70, over=True), first_seq=510))
    assert picture.alarms == {"divergence": {"step": 60, "message": "divergence at 60"}}
    again = Picture.from_json(json.loads(json.dumps(picture.to_json())))
    assert again.alarms == picture.alarms
    assert len(picture.notices) == 3


def test_a_resume_before_an_alarm_takes_it_back_and_one_after_it_keeps_it():
    for start_step, kept in ((50, set()), (60, {"divergence"})):
        picture = training_picture(range(1, 81))
        resumed = ("training.started", started(100, start_step))
        picture.apply_all(events_of(alarm("divergence", 60), resumed, first_seq=500))
        assert set(picture.alarms) == kept
