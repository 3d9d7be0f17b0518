"""The stages of a run in order: prepare, measure, train, measure, export, report.

Imports everything heavy; `engine.worker` imports it once the lock is held, or early in a standby worker.
"""

import contextlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, set_seed

from engine.data.preflight import RunRows, blocking, check_of_run
from engine.data.progress import WorkWatch
from engine.data.rendered import RenderedRows
from engine.data.rendering import renderer_of
from engine.data.report import with_checks, write_data_report
from engine.data.rows import Row
from engine.data.run_rows import load_rows
from engine.data.tokenized import tokenize
from engine.deployment.export import export_run, parity_prompts
from engine.evaluation.few_shot import choose_examples
from engine.evaluation.measurement import measurement_file
from engine.evaluation.report import write_report
from engine.methods.apply import apply_method, trainable_summary
from engine.methods.new_tokens import add_token_rows
from engine.models.dropout import set_dropout
from engine.models.loading import check_vocabulary, load_model
from engine.models.tokenizers import LoadedTokenizer, load_tokenizer
from engine.objectives.build import make_examples
from engine.objectives.rewarding import make_rewarding
from engine.planning.plan import MemoryEstimate, Plan
from engine.planning.profiles import PreflightCheck
from engine.recipe.problems import Problem, ProblemError
from engine.runs.checkpoints import Checkpoint, CheckpointStore
from engine.runs.directory import RunDirectory
from engine.runs.disk import write_atomically
from engine.runs.home import home_folders
from engine.training.batching import Batching
from engine.training.calibrate import MachineLog, learn_from_run
from engine.training.context import RunContext
from engine.training.device_memory import device_free_bytes
from engine.training.download import fetch_model
from engine.training.event_log import EventLog
from engine.training.few_shot import measure_few_shot
from engine.training.interrupt import Interrupt
from engine.training.preflight import Preflight, check_comparison, check_learner
from engine.training.preflight_packing import without_packing
from engine.training.preflight_weights import check_files, loaded_whole
from engine.training.probe import ENOUGH_RATIOS, Probe, reason_to_probe
from engine.training.probe_request import measured_estimate
from engine.training.ranks import RankFailedError, RankJob, Ranks
from engine.training.recovery import Attempts
from engine.training.references import prepare_references
from engine.training.requests import RequestDesk
from engine.training.run import TrainingFaultError, evaluate, train

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "safetensors")
PARITY_ROWS = 4
SMALL_REHEARSAL_LIMIT_S = 30.0
"""A small model is rehearsed in 1 to 10 s; its comparison is not worth more waiting."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What the worker knows before anything heavy is imported.

    Attributes:
        run: The run directory.
        plan: Its plan.
        events: Its event log.
        interrupt: Where signals arrive.
        desk: Where requests of viewers arrive.
        batching: How a step is cut up in this attempt.
        store: The run's checkpoints.
        checkpoint: Where this attempt goes on from; None at the start.
        attempts: What earlier attempts have learnt about this machine.
        ranks: The other processes of a run on several GPUs; whoever carries the run closes them.
    """

    run: RunDirectory
    plan: Plan
    events: EventLog
    interrupt: Interrupt
    desk: RequestDesk
    batching: Batching
    store: CheckpointStore
    checkpoint: Checkpoint | None
    attempts: Attempts = field(default_factory=Attempts)
    ranks: Ranks = field(default_factory=Ranks)


def carry_through(carried: Carried) -> None:
    """Take a run from its plan to its report.

    Raises:
        StopRequested: A stop was asked for; what training had learnt is saved.
        ProblemError: Something is wrong that a person can put right.
        TrainingFaultError: Training cannot go on in this process.
    """
    events, run, interrupt = carried.events, carried.run, carried.interrupt
    refuse_blocked(carried.plan)
    with interrupt.interruptible():
        events.write("state.changed", state="preparing", reason="")
        write_environment(run, carried.plan)
        tell_prediction(events, carried.plan.memory, carried.plan.steps.micro_batch)
        context = prepare_context(carried)
        if not (run.evaluation_folder / "before.json").exists():
            events.write("state.changed", state="evaluating", reason="before training")
            evaluate(context, "before", 0)
        measure_test_rows(context, "test_before", 0)
        measure_few_shot(context)
    carried.desk.phase = "training"
    train(context)
    carried.desk.phase = "after"
    with interrupt.interruptible():
        carried.desk.attend()
        if not (run.evaluation_folder / "after.json").exists():
            events.write("state.changed", state="evaluating", reason="after training")
            evaluate(context, "after", context.steps_done)
        measure_test_rows(context, "test", context.steps_done)
        with context.memory.within("merging"):
            finish(context)
        learn_from_run(context)


def measure_test_rows(context: RunContext, phase: Literal["test_before", "test"], step: int) -> None:
    """Measure the test rows where the data has any, once before and once after training; nothing is decided by them.

    Raises:
        StopRequested: A stop was asked for in the middle.
        TrainingFaultError: The device failed.
    """
    if context.test_rows and not (context.run.evaluation_folder / measurement_file(phase, step)).exists():
        context.events.write("state.changed", state="evaluating", reason="the test rows")
        evaluate(context, phase, step)


def refuse_blocked(plan: Plan) -> None:
    """Raise the plan's own findings when they forbid the start."""
    if plan.blocked:
        errors = [finding for finding in plan.findings if finding.severity == "error"]
        raise ProblemError(*(Problem(**finding.model_dump()) for finding in errors))


def prepare_context(carried: Carried) -> RunContext:
    """Load rows, tokenizer and model, and apply the method."""
    cache = home_folders().cache
    watch = WorkWatch(tell=lambda _: carried.desk.attend())
    rows = load_rows(carried.run, carried.plan, cache=cache, watch=watch)
    carried.desk.attend()
    plan, folder = fetch_model(carried.plan, carried.events, carried.desk)
    if carried.attempts.packing_off:
        plan = without_packing(plan)
    recipe = plan.recipe
    loaded = load_tokenizer(folder, recipe)
    _filled(recipe.row_tokens, "max_length")
    renderer = renderer_of(plan, loaded.tokenizer)
    tokens = tokenize(rows.train, renderer, rows_sha256=rows.train_sha256, cache=cache, watch=watch)
    rendered = tokens.cut(renderer.max_length, renderer.max_target)
    counts = {"num_train": len(rows.train), "num_held_out": len(rows.held_out), "num_test": len(rows.test)}
    _tell_data(carried.events, plan, rendered, counts, rows.dropped)
    write_data_report(carried.run, plan.data)
    if problems := rendered.problems():
        raise ProblemError(*problems)
    carried.desk.attend()
    if carried.checkpoint is None:
        run_rows = RunRows(rows.train, rows.held_out, rows.test)
        tell_checks(carried.events, check_of_run(plan, run_rows, tokens, renderer, watch=watch))
        carried.desk.attend()
    preflight = Preflight(carried.events)
    check_files(preflight, folder)
    probed = probe_run(carried, plan, folder, rendered, rows.held_out)
    model = loaded_whole(preflight, lambda: load_learner(plan, loaded))
    _tell_model(carried.events, model, loaded)
    carried.desk.attend()
    context = RunContext(
        run=carried.run,
        plan=plan,
        events=carried.events,
        interrupt=carried.interrupt,
        desk=carried.desk,
        batching=probed.batching,
        tokenizer=loaded.tokenizer,
        renderer=renderer,
        rendered=rendered,
        held_out_rows=rows.held_out,
        test_rows=rows.test,
        examples=choose_examples(rows.train, rows.held_out, recipe.evaluation.few_shot or 0, recipe.training.seed),
        checkpoint=carried.checkpoint,
        store=carried.store,
        model=model,
    )
    context.memory.context_bytes = probed.context_bytes
    if plan.task.signal == "prompts":
        context.rewarding = make_rewarding(recipe, model)
    check_learner(preflight, context, carried.attempts)
    prepare_references(context)
    check_comparison(preflight, context)
    write_data_report(carried.run, with_checks(plan.data, preflight.checks))
    if context.batching.num_gpus > 1:
        start_ranks(context, carried.ranks, folder)
    return context


def start_ranks(context: RunContext, ranks: Ranks, folder: Path) -> None:
    """Start the processes that share the training; they load while this one measures the untouched model.

    Raises:
        TrainingFaultError: One could not be started.
    """
    batching, checkpoint = context.batching, context.checkpoint
    job = RankJob(
        plan=context.plan,
        run=str(context.run.path),
        folder=str(folder),
        micro_batch=batching.micro_batch,
        accumulation=batching.accumulation,
        num_gpus=batching.num_gpus,
        checkpoint=None if checkpoint is None else str(checkpoint.folder),
    )
    try:
        ranks.start(job)
    except RankFailedError as error:
        raise TrainingFaultError(error.fault) from error
    context.ranks = ranks


@dataclass(frozen=True, slots=True)
class Probed:
    """How a run goes on after its probe.

    Attributes:
        batching: How a step is cut so that it fits.
        context_bytes: What the process holds of the GPU besides tensors; None where it was not measured.
    """

    batching: Batching
    context_bytes: int | None = None


def probe_run(
    carried: Carried, plan: Plan, folder: Path, rendered: RenderedRows, held_out_rows: Sequence[Row]
) -> Probed:
    """Measure the longest batches on the device where that is worth it, while nothing of the model is loaded here.

    Raises:
        ProblemError: Not even one row at a time fits.
        StopRequested: A stop was asked for.
    """
    machine = MachineLog(plan.device, carried.events)
    wanted = plan.device.kind == "cuda" or plan.recipe.training.probe == "always"
    if plan.task.signal == "prompts":
        # How much memory a step takes is decided by what the model writes; a step that does not fit is cut smaller.
        return Probed(carried.batching)
    # After a fault the cut of a step is the one that the fault has led to.
    if not wanted or carried.attempts.faults:
        return Probed(carried.batching)
    known, free_bytes = machine.known(), device_free_bytes(plan.device)
    reason = reason_to_probe(plan, known, free_bytes)
    if not reason:
        return Probed(carried.batching, None if known is None else known.context_bytes)
    carried.events.write("state.changed", state="preparing", reason=f"probing the memory: {reason}")
    # Only a run that is probed needs it.
    from engine.planning.rehearse import Rehearsals

    rehearsals = Rehearsals(home_folders().cache, timeout_s=SMALL_REHEARSAL_LIMIT_S)
    probe = Probe(
        run=carried.run,
        plan=plan,
        folder=folder,
        sequences=make_examples(plan.recipe, plan.task, rendered, _filled(plan.recipe.row_tokens, "max_length")),
        held_out_rows=held_out_rows,
        events=carried.events,
        desk=carried.desk,
        attempts=carried.attempts,
        machine=machine,
        rehearser=rehearsals,
    )
    small = known is None or len(known.memory_ratios) < ENOUGH_RATIOS
    with contextlib.closing(rehearsals):
        batching, findings = probe.fit(carried.batching, small=small)
    measured = measured_estimate(plan.memory, findings)
    if measured is not None:
        tell_prediction(carried.events, measured, batching.micro_batch)
    carried.events.write("state.changed", state="preparing", reason="")
    return Probed(batching, findings.context_bytes if plan.device.kind == "cuda" else None)


def load_learner(plan: Plan, loaded: LoadedTokenizer) -> PreTrainedModel:
    """Return the model on its device with the method applied; the seed decides the initial adapters."""
    recipe = plan.recipe
    device = "cuda:0" if plan.device.kind == "cuda" else "cpu"
    # The seed decides a new head, and then the initial adapters.
    set_seed(recipe.training.seed)
    model = load_model(recipe, device, bits=recipe.method.facts.bits, task=plan.task)
    add_token_rows(model, recipe, loaded.tokenizer)
    check_vocabulary(loaded.tokenizer, model)
    if plan.task.head == "sequence-classification" and loaded.tokenizer.pad_token_id is not None:
        # Models that write text find the end of a text in a batch by it.
        model.config.get_text_config().pad_token_id = loaded.tokenizer.pad_token_id
    if recipe.training.dropout is not None:
        set_dropout(model, recipe.training.dropout)
    set_seed(recipe.training.seed)
    return apply_method(model, recipe, loaded.tokenizer)


def tell_checks(events: EventLog, checks: Sequence[PreflightCheck]) -> None:
    """Write what the checks of the rendered rows found.

    Raises:
        ProblemError: One of them forbids the start.
    """
    for check in checks:
        events.write("preflight.checked", **check.model_dump())
    if problems := blocking(checks):
        raise ProblemError(*problems)


def tell_prediction(events: EventLog, memory: MemoryEstimate, micro_batch: int) -> None:
    """Say what memory is expected with so many rows at once, so that it can be held against what is measured."""
    events.write(
        "memory.predicted",
        low_bytes=memory.low_bytes,
        expected_bytes=memory.expected_bytes,
        high_bytes=memory.high_bytes,
        depth=memory.depth,
        basis=memory.basis,
        where=memory.where,
        available_bytes=memory.available_bytes,
        components=memory.components,
        peaks=memory.peaks,
        confidence=memory.confidence,
        micro_batch=micro_batch,
    )


def finish(context: RunContext) -> None:
    """Export the model and write the report."""
    desk = context.desk

    def emit(event_type: str, **payload: Any) -> None:
        context.events.write(event_type, **payload)
        desk.attend()

    context.events.write("state.changed", state="exporting", reason="")
    desk.attend()
    prompts = parity_prompts(context.held_out_rows[:PARITY_ROWS], context.renderer)
    export_run(context.run, context.plan, context.model, context.tokenizer, prompts=prompts, emit=emit)
    desk.attend()
    write_report(context.run, state="finished")
    context.events.write("report.written", folder=".")


def write_environment(run: RunDirectory, plan: Plan) -> None:
    """Write `environment.json`: what a bug report needs."""
    document = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": device_facts(plan),
        "threads": torch.get_num_threads(),
        "command": list(plan.command),
    }
    write_atomically(run.environment_file, json.dumps(document, indent=1).encode() + b"\n")


def device_facts(plan: Plan) -> dict[str, Any]:
    """Return the device of a plan with what PyTorch sees of it."""
    device = dict(plan.device.model_dump())
    if plan.device.kind == "cuda" and torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        device |= {"seen": facts.name, "memory_bytes": facts.total_memory, "cuda": torch.version.cuda}
    return device


def _filled(value: int | None, name: str) -> int:
    if value is None:
        raise ProblemError(
            Problem("plan.incomplete", f"The plan does not say training.{name}.", "Make the plan again.")
        )
    return value


def _tell_data(
    events: EventLog, plan: Plan, rendered: RenderedRows, counts: dict[str, int], dropped: dict[str, int]
) -> None:
    share = rendered.num_trained / rendered.num_tokens if rendered.num_tokens else 0.0
    if plan.task.head == "masked-lm":
        # So many of the words that may be hidden are hidden at a time.
        share *= plan.recipe.domain_adaptation.masked_share
    dropped = dropped | dict(rendered.dropped.counts)
    events.write(
        "data.prepared",
        **counts,
        dropped=dropped,
        trained_token_share=share,
    )
    for sentence in rendered.sentences():
        events.write("notice.raised", severity="warning", code="data.rendering", message=sentence)


def _tell_model(events: EventLog, model: Any, loaded: LoadedTokenizer) -> None:
    summary = trainable_summary(model)
    events.write(
        "model.loaded",
        num_params=summary.num_params,
        trainable_params=summary.trainable_params,
        dtype=str(model.dtype).removeprefix("torch."),
        choices=list(loaded.choices),
    )
