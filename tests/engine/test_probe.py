"""The probe: measures a run in a process of its own, and what does not fit is found before the first step."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.stages
from engine.data.rendering import Renderer
from engine.models.tokenizers import load_tokenizer
from engine.objectives.sequences import cut_sequences
from engine.planning.calibration import Calibration, MachineKey
from engine.planning.plan import Device, MemoryEstimate, Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import Problem, ProblemError
from engine.runs.control import request
from engine.runs.directory import RunDirectory
from engine.training import probe as probe_module
from engine.training.batching import Batching
from engine.training.device_memory import HostMeter
from engine.training.order import FixedOrder, StepOrder
from engine.training.probe import Probe, longest_rows, read_notes, reason_to_probe
from engine.training.probe_phases import Notebook, carry_out
from engine.training.probe_request import NOTES, Findings, Note, ProbeRequest, findings_of, measured_estimate
from engine.training.recovery import Attempts
from engine.training.small_models import small_config
from engine.training.small_rehearsal import small_ratio
from tests.engine.forked import ForkedWorker, carry
from tests.engine.made_runs import events_of, loss_curve, made_plan, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows

GIB = 2**30
KEY = MachineKey(device="NVIDIA L4")


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "commands.jsonl", command_rows(24))


def quick_recipe(model: Path, data: Path, **training: Any):
    """Return a recipe whose run does little beside the probe."""
    settings = {"max_steps": 4, "probe": "always", **training}
    recipe = made_recipe(model, data, training=settings)
    return recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"generate_rows": 1, "max_new_tokens": 1})}
    )


def only_training() -> None:
    """Leave out what these tests are not about."""
    vars(engine.stages).update(evaluate=lambda *_: None, finish=lambda _: None)


def with_command(code: str) -> Callable[[], None]:
    """Return a fault: the probe's process runs this code instead."""

    def inject() -> None:
        only_training()
        probe_module.COMMAND = (sys.executable, "-c", code)
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])

    return inject


SAYS = """
import json, os, sys
request = json.loads(sys.stdin.readline())
notes = open(os.path.join(request["scratch"], "notes.jsonl"), "a")
def say(**note):
    print(json.dumps(note), file=notes, flush=True)
say(begun="context"); say(context_bytes=100, free_bytes=1000); say(begun="loading")
say(phase="loading", tensor_bytes=10, held_bytes=10); say(begun="training")
"""
OUT_OF_MEMORY = 'say(outcome="out_of_memory", text="OutOfMemoryError: CUDA out of memory")\n'


# --- when -----------------------------------------------------------------------------------------------------------


def planned(*, kind: str = "cuda", probe: str = "auto", high: float = 4.0, confidence: str = "normal") -> Plan:
    plan = made_plan(made_recipe("made/base", "rows.jsonl", training={"probe": probe}))
    memory = MemoryEstimate(
        components={},
        expected_bytes=int(high * GIB),
        low_bytes=0,
        high_bytes=int(high * GIB),
        where="GPU 0",
        confidence=confidence,
    )
    return plan.model_copy(update={"device": Device(kind=kind), "memory": memory})


MEASURED_BEFORE = Calibration(key=KEY, context_bytes=500 << 20)


@pytest.mark.parametrize(
    ("plan", "known", "free_gib", "why"),
    [
        (planned(), MEASURED_BEFORE, 24, ""),
        (planned(high=15), MEASURED_BEFORE, 24, "15.0 GiB of 24.0 GiB"),
        (planned(high=14), MEASURED_BEFORE, 24, ""),
        (planned(), None, 24, "nothing was measured"),
        (planned(), Calibration(key=KEY, flops={"bfloat16": 1e14}), 24, "nothing was measured"),
        (planned(), MEASURED_BEFORE, None, "does not tell"),
        (planned(confidence="low"), MEASURED_BEFORE, 24, "low confidence"),
        (planned(high=40, probe="never"), None, 24, ""),
        (planned(probe="always"), MEASURED_BEFORE, 24, "the recipe asks"),
        (planned(kind="cpu", high=40), None, 24, ""),
        (planned(kind="cpu", probe="always"), None, 24, "the recipe asks"),
    ],
)
def test_a_run_is_probed_where_memory_may_be_tight_or_is_unknown(plan, known, free_gib, why) -> None:
    reason = reason_to_probe(plan, known, None if free_gib is None else free_gib * GIB)
    assert (why in reason) if why else reason == ""


# --- which batches --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    effective=st.integers(1, 12),
    micro=st.integers(1, 6),
    num_steps=st.integers(1, 20),
)
def test_the_largest_micro_batches_of_a_run_are_found(lengths, effective, micro, num_steps) -> None:
    order = StepOrder(lengths, effective_batch=effective, micro_batch=min(micro, effective), seed=3)

    def tokens(step: int, place: int) -> int:
        batches = order.micro_batches(step)
        return max(lengths[row] for row in batches[place]) * len(batches[place]) if place < len(batches) else 0

    found = order.largest_micro_batches(num_steps)
    for place in (0, 1):
        largest = max(tokens(step, place) for step in range(num_steps))
        assert (tokens(found[place], place) if place < len(found) else 0) == largest
    assert all(step < num_steps for step in found)


def test_padding_counts_in_the_tokens_of_a_step() -> None:
    order = StepOrder([10, 4, 4, 2], effective_batch=4, micro_batch=2, seed=0)
    assert order.padded_tokens_of_step(0) == 2 * 10 + 2 * 4


def test_a_fixed_order_gives_its_micro_batches_in_turn() -> None:
    order = FixedOrder([[[0, 1], [2]], [[3], [0]]])
    assert list(order) == [[0, 1], [2], [3], [0]]
    assert (len(order), order.steps_per_epoch) == (4, 2)


def made_probe(tmp_path: Path, model: Path, data: Path, **training: Any) -> Probe:
    recipe = quick_recipe(model, data, **training)
    plan = made_plan(recipe)
    loaded = load_tokenizer(model, recipe)
    rendered = Renderer(loaded.tokenizer, 64).render_rows(command_rows(24))
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    sequences = cut_sequences(rendered, 64, packed=bool(recipe.training.packing))
    nobody: Any = None
    return Probe(run, plan, model, sequences, command_rows(6), nobody, nobody, Attempts(), nobody, nobody)


def test_a_probe_reads_the_largest_steps_and_the_first_of_them_again(tmp_path, tiny_model_folder, commands) -> None:
    probe = made_probe(tmp_path, tiny_model_folder, commands, effective_batch=8, micro_batch=2)
    asked = probe.request(Batching(2, 4), small=True)
    assert asked.steps[0] == asked.steps[-1]
    assert {len(step) for step in asked.steps} == {2}
    longest = max(probe.sequences.lengths)
    first = [sum(len(part.input_ids) for part in asked.sequences[row]) for row in asked.steps[0][0]]
    assert max(first) == longest
    assert asked.small_layers == [], "resident memory of a processor says nothing of small models"
    assert ProbeRequest.model_validate_json(asked.model_dump_json()) == asked


def test_the_longest_rows_are_evaluated() -> None:
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "a" * 9}, {"id": "3", "text": "a" * 5}]
    assert [row["id"] for row in longest_rows(rows, 2)] == ["2", "3"]


# --- what it measures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("full", {"activation_checkpointing": True}),
        ("lora", {"packing": True, "precision": "bfloat16"}),
        ("qlora", {"effective_batch": 4, "micro_batch": 4}),
    ],
)
def test_every_phase_of_a_run_is_measured(method, training, tmp_path, tiny_model_folder, commands) -> None:
    probe = made_probe(tmp_path, tiny_model_folder, commands, **training)
    recipe = probe.plan.recipe
    changed = recipe.model_copy(update={"method": recipe.method.model_copy(update={"name": method})})
    plan = probe.plan.model_copy(update={"recipe": changed})
    batching = Batching(recipe.training.micro_batch, recipe.training.effective_batch // recipe.training.micro_batch)
    asked = probe.request(batching, small=False).model_copy(update={"plan": plan, "small_layers": [1]})
    scratch = Path(asked.scratch)
    scratch.mkdir()
    meter = HostMeter()
    carry_out(asked, meter, Notebook(scratch / NOTES, meter))
    notes = read_notes(scratch / NOTES)
    assert [note.phase for note in notes if note.phase] == ["small 1", "loading", "training", "saving", "evaluation"]
    assert [note.skipped for note in notes if note.skipped] == []
    findings = findings_of([*notes, Note(outcome="measured")], outcome="failed", text="", elapsed_s=1.0)
    assert findings.fits
    assert (findings.context_bytes or 0) > 100 << 20
    assert list(findings.small) == [1]
    (checkpoint,) = (scratch / "run" / "checkpoints").glob("step-*")
    assert (checkpoint / "MANIFEST.json").is_file()


def test_a_checkpoint_that_takes_long_is_not_saved_for_trial(
    tmp_path, tiny_model_folder, commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.training.probe_phases.MAX_SAVED_BYTES", 10)
    asked = made_probe(tmp_path, tiny_model_folder, commands).request(Batching(4, 1), small=False)
    Path(asked.scratch).mkdir()
    meter = HostMeter()
    carry_out(asked, meter, Notebook(Path(asked.scratch) / NOTES, meter))
    findings = findings_of(read_notes(Path(asked.scratch) / NOTES), outcome="measured", text="", elapsed_s=1.0)
    assert "not saved for trial" in findings.skipped["saving"]
    assert set(findings.phases) == {"loading", "training", "evaluation"}


def test_small_configurations_keep_everything_but_their_depth() -> None:
    document = {
        "model_type": "made",
        "num_hidden_layers": 32,
        "layer_types": ["full", "sliding"] * 16,
        "hidden_size": 64,
        "text_config": {"num_hidden_layers": 8, "vocab_size": 5},
    }
    assert small_config(document, 2) == {
        "model_type": "made",
        "num_hidden_layers": 2,
        "layer_types": ["full", "sliding"],
        "hidden_size": 64,
        "text_config": {"num_hidden_layers": 2, "vocab_size": 5},
    }


# --- what its lines say ---------------------------------------------------------------------------------------------


def found(*notes: Note, outcome: str = "failed") -> Findings:
    return findings_of(list(notes), outcome=outcome, text="killed", elapsed_s=2.0)


TRAINED = (
    Note(context_bytes=100, free_bytes=1000),
    Note(phase="loading", tensor_bytes=300, held_bytes=400),
    Note(begun="training"),
    Note(phase="training", tensor_bytes=600, held_bytes=800),
)


def test_what_fits_is_the_context_and_what_was_held() -> None:
    findings = found(*TRAINED, Note(outcome="measured"))
    assert (findings.peak_bytes, findings.tensor_bytes, findings.fits) == (900, 600, True)


def test_a_driver_that_spills_to_the_host_does_not_make_it_fit() -> None:
    findings = found(Note(context_bytes=100, free_bytes=850), *TRAINED[1:], Note(outcome="measured"))
    assert findings.fits is False


def test_without_a_word_on_free_memory_running_is_fitting() -> None:
    assert found(*TRAINED[1:], Note(outcome="measured")).fits is True


PLANNED = MemoryEstimate(
    components={"activations": 500, "CUDA context": 200, "slack": 100},
    expected_bytes=800,
    low_bytes=700,
    high_bytes=900,
    where="GPU 0",
    depth="simulated",
    peaks={"training": 500, "evaluation": 450},
)


def test_what_was_measured_takes_the_place_of_the_estimate() -> None:
    estimate = measured_estimate(PLANNED, found(*TRAINED, Note(outcome="measured")))
    assert estimate is not None
    assert estimate.components == {"tensors": 600, "CUDA context": 100, "slack": 200}
    assert (estimate.expected_bytes, estimate.low_bytes, estimate.high_bytes) == (900, 873, 927)
    assert (estimate.depth, estimate.available_bytes, estimate.peaks["training"]) == ("measured", 1000, 600)


def test_what_the_probe_leaves_out_stays_as_predicted() -> None:
    merging = PLANNED.model_copy(update={"peaks": {"training": 500, "merging": 2000}})
    estimate = measured_estimate(merging, found(*TRAINED, Note(outcome="measured")))
    assert estimate is not None
    assert estimate.expected_bytes == sum(estimate.components.values()) == 2100
    long_answers = PLANNED.model_copy(update={"peaks": {"training": 500, "evaluation": 2000}})
    answered = Note(phase="evaluation", tensor_bytes=100, held_bytes=100)
    estimate = measured_estimate(long_answers, found(*TRAINED, answered, Note(outcome="measured")))
    assert estimate is not None
    assert (estimate.expected_bytes, estimate.high_bytes) == (900, round(1.03 * 2100))


def test_what_was_not_measured_replaces_nothing() -> None:
    assert measured_estimate(PLANNED, found(*TRAINED[:3])) is None
    assert measured_estimate(PLANNED, found(*TRAINED, Note(outcome="out_of_memory"))) is None


def test_a_probe_that_was_killed_says_where_it_was() -> None:
    findings = found(*TRAINED[:3])
    assert (findings.fits, findings.ended_in, findings.text) == (None, "training", "killed")


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / NOTES).write_bytes(b'{"begun":"loading"}\n\xff\n{"phase":3}\n{"begun":"trai')
    assert read_notes(tmp_path / NOTES) == [Note(begun="loading")]
    assert read_notes(tmp_path / "none") == []


# --- in a run -------------------------------------------------------------------------------------------------------


def test_a_probed_run_says_what_it_needs_and_then_trains(tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    worker = ForkedWorker(run, only_training)
    assert worker.wait() == 0, worker.log()[-3000:]
    (probed,) = events_of(run, "memory.probed")
    assert (probed["outcome"], probed["fits"]) == ("measured", True)
    assert {"loading", "training", "saving", "evaluation"} == set(probed["phases"])
    assert 0 < probed["context_bytes"] < probed["peak_bytes"] < probed["free_bytes"]
    assert (probed["micro_batch"], probed["accumulation"]) == (4, 1)
    types = [event["type"] for event in events_of(run)]
    assert types.index("memory.predicted") < types.index("memory.probed") < types.index("model.loaded")
    planned, measured = events_of(run, "memory.predicted")
    assert (planned["depth"], measured["depth"], measured["micro_batch"]) == ("formula", "measured", 4)
    assert measured["low_bytes"] < probed["peak_bytes"] <= measured["high_bytes"]
    assert not (run.path / "probe").exists()
    sampled = events_of(run, "memory.sampled")
    assert {"loading", "training"} <= {event["phase"] for event in sampled}
    assert all(event["peak_bytes"] >= 0 and event["peak_kind"] == "rss" for event in sampled)


def test_what_does_not_fit_is_halved_and_learns_the_same(tmp_path, tiny_model_folder, commands) -> None:
    straight = make_run(tmp_path / "straight", quick_recipe(tiny_model_folder, commands, probe="never"))
    assert carry(straight, only_training) == 0
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    fits_two = f'{SAYS}\nif request["micro_batch"] > 2:\n    {OUT_OF_MEMORY}else:\n    ' + (
        'say(phase="training", tensor_bytes=20, held_bytes=20)\n    say(outcome="measured")\n'
    )
    worker = ForkedWorker(run, with_command(fits_two))
    assert worker.wait() == 0, worker.log()[-3000:]
    probed = [(event["micro_batch"], event["accumulation"], event["fits"]) for event in events_of(run, "memory.probed")]
    assert probed == [(4, 1, False), (2, 2, True)]
    (started,) = events_of(run, "training.started")
    assert (started["micro_batch"], started["accumulation"]) == (2, 2)
    kept = json.loads((run.path / "attempts.json").read_text())["batching"]
    assert kept == {"micro_batch": 2, "accumulation": 2, "num_gpus": 1}
    (halved,) = [event for event in events_of(run, "notice.raised") if event["code"] == "probe.halved"]
    assert "effective batch stays the same" in halved["message"]
    assert loss_curve(run) == pytest.approx(loss_curve(straight), rel=1e-4)


def test_what_never_fits_ends_before_the_first_step_and_names_the_rows(tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, with_command(SAYS + OUT_OF_MEMORY)) == 1
    assert [event["micro_batch"] for event in events_of(run, "memory.probed")] == [4, 2, 1]
    (failed,) = events_of(run, "worker.failed")
    assert failed["code"] == "training.out_of_memory"
    assert "commands.jsonl:" in failed["message"]
    assert "QLoRA" in failed["fix"]
    assert events_of(run, "model.loaded") == []


def test_a_model_that_does_not_load_is_not_tried_with_fewer_rows(tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    says = SAYS.split('say(phase="loading"')[0]
    assert carry(run, with_command(says + OUT_OF_MEMORY)) == 1
    assert len(events_of(run, "memory.probed")) == 1
    (failed,) = events_of(run, "worker.failed")
    assert "model alone does not fit" in failed["message"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "ended with 3"),
        ("import os; os.abort()", "ended with -6"),
        (SAYS + 'say(outcome="failed", text="KeyError: \\x1b[2J")', "KeyError"),
    ],
)
def test_a_probe_that_breaks_is_a_notice_and_nothing_more(code, says, tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    worker = ForkedWorker(run, with_command(code))
    assert worker.wait() == 0, worker.log()[-3000:]
    (notice,) = [event for event in events_of(run, "notice.raised") if event["code"] == "probe.failed"]
    assert says in notice["message"]
    assert "\x1b" not in notice["message"]
    assert events_of(run, "memory.probed")[0]["fits"] is None
    assert events_of(run, "training.started")[0]["micro_batch"] == 4


HANGS = (
    SAYS + 'print(os.getpid(), file=open(os.path.join(request["scratch"], "pid"), "w"), flush=True)\nsys.stdin.read()'
)


@pytest.mark.parametrize("how", ["request", "signal"])
def test_a_stop_ends_the_probe_too(how, tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    # Ends only by its worker's hand: it does not even look at its stdin.
    worker = ForkedWorker(run, with_command(HANGS.replace("sys.stdin.read()", "import time; time.sleep(600)")))
    pid_file = run.path / "probe" / "pid"
    worker.wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    pid = int(pid_file.read_text())
    if how == "request":
        request(run, "stop", "test")
    else:
        worker.send(signal.SIGTERM)
    assert worker.wait() == 75
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (run.path / "probe").exists()


def test_a_probe_that_takes_too_long_is_ended_and_the_run_goes_on(tmp_path, tiny_model_folder, commands) -> None:
    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))

    def inject() -> None:
        with_command(HANGS)()
        probe_module.BASE_LIMIT_S = 0.2

    worker = ForkedWorker(run, inject)
    assert worker.wait() == 0, worker.log()[-3000:]
    (notice,) = [event for event in events_of(run, "notice.raised") if event["code"] == "probe.failed"]
    assert "took too long" in notice["message"]


@pytest.mark.parametrize("finished", [True, False], ids=["in the middle of its work", "while it is asked"])
def test_the_probe_does_not_outlive_its_worker(finished, tmp_path, tiny_model_folder, commands) -> None:
    asked = made_probe(tmp_path, tiny_model_folder, commands).request(Batching(4, 1), small=False)
    Path(asked.scratch).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(probe_module.COMMAND, stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(asked.model_dump_json().encode() + (b"\n" if finished else b""))
    process.stdin.close()
    assert process.wait(timeout=120) == (1 if finished else 2)
    assert not [note for note in read_notes(Path(asked.scratch) / NOTES) if note.outcome]


# --- against the rehearsal ------------------------------------------------------------------------------------------


class Rehearsed:
    """Answers with these peaks, by depth; refuses where there is none."""

    def __init__(self, peaks: dict[int, int], confidence: str = "normal") -> None:
        self.peaks, self.confidence = peaks, confidence

    def of_blocking(self, plan: Plan) -> RehearsalResult:
        layers = plan.model.num_layers
        document = json.loads((Path(str(plan.model.folder)) / "config.json").read_text())
        assert document["num_hidden_layers"] == layers
        if layers not in self.peaks:
            raise ProblemError(Problem("rehearsal.failed", "No.", "None."))
        return RehearsalResult(
            key="k",
            device_kind="cuda",
            peaks={"training": self.peaks[layers]},
            peak_phase="training",
            components={},
            num_layers=layers,
            cpu_s=1.0,
            confidence=self.confidence,
        )


def deep_model(tmp_path: Path) -> Path:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 32}))
    return folder


def of_small(tmp_path: Path, small: dict[int, int], rehearsed: Rehearsed) -> float | None:
    plan = planned()
    plan = plan.model_copy(update={"model": plan.model.model_copy(update={"num_layers": 32})})
    ratio = small_ratio(plan, deep_model(tmp_path), small, tmp_path / "scratch", rehearsed)
    assert not (tmp_path / "scratch").exists()
    return ratio


def test_small_models_are_compared_at_the_depth_of_the_whole_one(tmp_path: Path) -> None:
    # Per block 110 measured and 100 rehearsed, beside 1000 that do not grow: 4520 over 4200.
    ratio = of_small(tmp_path, {2: 1220, 4: 1440}, Rehearsed({2: 1200, 4: 1400}))
    assert ratio == pytest.approx((1000 + 32 * 110) / (1000 + 32 * 100))


@pytest.mark.parametrize(
    ("small", "rehearsed"),
    [
        ({2: 1220, 4: 1440}, Rehearsed({2: 1200})),
        ({2: 1220, 4: 1440}, Rehearsed({2: 1200, 4: 1400}, "low")),
        ({4: 1440}, Rehearsed({2: 1200, 4: 1400})),
        ({2: 9000, 4: 10}, Rehearsed({2: 1200, 4: 1400})),
    ],
    ids=["not rehearsed", "low confidence", "one depth", "nonsense"],
)
def test_small_models_that_cannot_be_compared_say_nothing(tmp_path: Path, small, rehearsed) -> None:
    assert of_small(tmp_path, small, rehearsed) is None


def test_the_whole_model_is_compared_where_its_cut_was_rehearsed(tmp_path, tiny_model_folder, commands) -> None:
    probe = made_probe(tmp_path, tiny_model_folder, commands)
    memory = probe.plan.memory.model_copy(update={"depth": "simulated", "peaks": {"training": 500, "merging": 900}})
    plan = probe.plan.model_copy(update={"memory": memory, "device": Device(kind="cuda")})
    probe = replace(probe, plan=plan, rehearser=Rehearsed({}))
    findings = found(*TRAINED, Note(outcome="measured"))
    assert probe.ratio(findings, Batching(4, 1)) == 1.2
    assert probe.ratio(findings, Batching(2, 2)) is None, "another cut than the plan's was not rehearsed"
    on_host = replace(probe, plan=plan.model_copy(update={"device": Device(kind="cpu")}))
    assert on_host.ratio(findings, Batching(4, 1)) is None, "resident memory is no measure of tensors"
