"""Plain progress lines: for logs, pipes, dumb terminals and screen readers. No colours, no cursor, no screen."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from engine.catalog.metrics import METRICS
from engine.catalog.step_numbers import step_words
from engine.runs.best_words import best_sentence, early_end_sentence
from engine.runs.events import Event
from engine.text import clean_line, human_bytes, human_duration
from tui.monitor.follower import RunFollower
from tui.summary import check_counts
from tui.verbs.output import EXIT_FAILED, EXIT_RESUMABLE

POLL_S = 0.25
STEP_EVERY_S = 5.0
STEP_EVERY_SHARE = 0.05
_EXIT_CODES = {"finished": 0, "stopped": EXIT_RESUMABLE}


class PlainProgress:
    """Turns events into lines.

    Steps are thinned out: a line when five seconds have passed or a twentieth of the run is done, whichever is later to
    come, and always the last one.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._last_s = float("-inf")
        self._last_share = -1.0
        self._download_s = float("-inf")
        self._checks: Counter[str] = Counter()
        self._trains = False

    def line(self, text: str) -> None:
        """Write one line at once."""
        self._out.write(clean_line(text) + "\n")
        self._out.flush()

    def event(self, event: Event, follower: RunFollower) -> None:
        """Write what an event means to a person, if anything."""
        payload = event.payload
        match event.type:
            case "state.changed":
                self._state(event)
            case "notice.raised":
                self.line(f"{payload['severity']}: {payload['message']}")
            case "preflight.checked":
                self._check(event)
            case "data.prepared":
                tested = f", {payload['num_test']} test rows" if payload.get("num_test") else ""
                self.line(f"{payload['num_train']} training rows, {payload['num_held_out']} held out{tested}")
            case "model.loaded":
                self._model(event)
            case "training.started":
                self._training(event)
            case "step.logged":
                self._step(event, follower)
            case "evaluation.completed":
                self._evaluation(event)
            case "checkpoint.committed":
                self.line(f"checkpoint at step {payload['step']} ({human_bytes(payload.get('bytes'))})")
            case "checkpoint.rejected":
                self.line(f"checkpoint set aside: {payload.get('folder')}: {payload.get('reason')}")
            case "best.restored":
                self.line(best_sentence(follower.picture))
            case "training.ended_early":
                self.line(early_end_sentence(follower.picture))
            case "control.acknowledged":
                self.line(f"{payload.get('action')}: {payload.get('result')}")
            case "export.completed":
                self.line(
                    f"wrote the {payload['kind']} model to {payload['folder']} ({human_bytes(payload.get('bytes'))})"
                )
            case "worker.failed":
                self.line(f"error: {payload.get('message')} {payload.get('fix') or ''}".rstrip())

    def _state(self, event: Event) -> None:
        state, reason = event.payload["state"], str(event.payload.get("reason") or "")
        if state != "preparing":
            self._tell_checks()
        if reason.startswith("downloading "):
            # It comes every second.
            if self._clock() - self._download_s < STEP_EVERY_S:
                return
            self._download_s = self._clock()
        self.line(f"{state}: {reason}" if reason else str(state))

    def _check(self, event: Event) -> None:
        payload = event.payload
        self._checks[str(payload["status"])] += 1
        # What blocks is told as the error that ends the run.
        if payload["status"] == "warning":
            self.line(f"warning: {payload['title']}: {payload['message']} {payload.get('fix') or ''}".rstrip())

    def _tell_checks(self) -> None:
        """Say once how many checks there were and how they went."""
        if told := check_counts(self._checks):
            self.line(f"checks {'while training' if self._trains else 'before the first step'}: {told}")
        self._checks.clear()

    def _model(self, event: Event) -> None:
        payload = event.payload
        total, trainable = payload["num_params"], payload["trainable_params"]
        self.line(f"{total:,} weights, {trainable:,} of them learn ({100 * trainable / max(total, 1):.2f} %)")
        for choice in payload.get("choices") or ():
            self.line(f"note: {choice}")

    def _training(self, event: Event) -> None:
        payload = event.payload
        self._trains = True
        start = f", from step {payload['start_step']}" if payload["start_step"] else ""
        num_gpus = payload.get("num_gpus", 1)
        gpus = f" on each of {num_gpus} GPUs" if num_gpus > 1 else ""
        rows = f"{payload['micro_batch']} x {payload['accumulation']} rows"
        self.line(f"{payload['total_steps']} steps of {rows}{gpus}{start}")

    def _step(self, event: Event, follower: RunFollower) -> None:
        payload = event.payload
        step, total = payload["step"], payload.get("total_steps") or 0
        share = step / total if total else 0.0
        now = self._clock()
        waiting = now - self._last_s < STEP_EVERY_S or share - self._last_share < STEP_EVERY_SHARE
        if waiting and step != total and now - self._last_s < 6 * STEP_EVERY_S:
            return
        self._last_s, self._last_share = now, share
        left = human_duration(follower.picture.eta_s())
        speed = payload.get("tokens_per_s")
        parts = [f"step {step}/{total}", f"loss {payload['loss']:.4f}", f"learning rate {payload['learning_rate']:.2e}"]
        parts[2:2] = [f"{title} {value}" for title, value in step_words(payload.get("extra"))]
        parts += [f"{speed:,.0f} tokens/s"] if speed else []
        parts += [f"{left} left"] if left != "n/a" and step != total else []
        self.line("  ".join(parts))

    def _evaluation(self, event: Event) -> None:
        payload = event.payload
        when = (
            f"step {payload['step']}"
            if payload["phase"] == "during"
            else _PHASES.get(payload["phase"], str(payload["phase"]))
        )
        if payload["phase"] == "few_shot":
            when = f"{when}, {payload.get('num_examples')} examples in the prompt"
        metrics = payload["metrics"]
        values = [f"{m.word} {m.format(metrics[m.name])}" for m in METRICS if m.name in metrics]
        self.line(f"evaluation {when}: {', '.join(values)}")


_PHASES = {"few_shot": "few-shot", "test_before": "test rows, before", "test": "test rows, after"}


def follow_plain(run_path: Path, out: TextIO | None = None, *, skip_past: bool = False) -> int:
    """Write progress lines until the run ends and return its exit code.

    Args:
        run_path: Run directory.
        out: Where the lines go; stdout when None.
        skip_past: Say nothing of what happened before; for a run that was just resumed.
    """
    from engine.runs.directory import RunDirectory

    progress = PlainProgress(sys.stdout if out is None else out)
    follower = RunFollower(RunDirectory(run_path))
    if skip_past:
        follower.open()
    follower.on_event = lambda event: progress.event(event, follower)
    while True:
        follower.poll()
        if follower.ended:
            # The status came before the events: one more look finds the last ones.
            follower.poll()
            return _ended(follower, progress)
        time.sleep(POLL_S)


def _ended(follower: RunFollower, progress: PlainProgress) -> int:
    status = follower.status
    if status.state == "crashed":
        progress.line(f"crashed: {status.reason}")
        for line in status.last_log_lines:
            progress.line(f"  {line}")
        progress.line(f"`ftwizard resume {follower.run.reference}` goes on from the last whole checkpoint.")
    elif status.state == "stopped":
        progress.line(f"`ftwizard resume {follower.run.reference}` goes on from the last checkpoint.")
    return exit_code_of(follower)


def exit_code_of(follower: RunFollower) -> int:
    """Return the exit code of a verb that watched a run to its end."""
    state = follower.status.state
    if state in _EXIT_CODES:
        return _EXIT_CODES[state]
    return follower.status.exit_code or EXIT_FAILED
