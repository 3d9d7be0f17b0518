"""The reducer behind every viewer: the picture of a run, made from its events in fixed memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from engine.runs.alarm_notices import after_notice
from engine.runs.curves import Curve
from engine.runs.events import Event, numbers_to_words, word_to_number
from engine.runs.payloads import clipped, keep_newest, of_base, same_measurement, with_sizes, with_steps

PICTURE_VERSION = 1

ENDED_STATES = frozenset({"finished", "stopped", "failed"})
STEP_CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_s")
EXTRA_CURVE = "extra_"
"""Begin of the names of curves of what an objective tells besides the loss."""
MAX_EXTRAS = 16
MEMORY_CURVES = ("rss_bytes", "gpu_allocated_bytes", "gpu_reserved_bytes")

MAX_EVALUATIONS = 400
MAX_SAMPLE_SETS = 12
MAX_SAMPLES_IN_SET = 16
MAX_CHECKPOINTS = 50
MAX_NOTICES = 100
MAX_CHECKS = 100
MAX_ACKNOWLEDGED = 50
_SPEED_WINDOW = 64

# Steps and values of points that wait to be drawn.
_Points = tuple[list[int], list[float]]
BESIDE_THE_CURVE = frozenset({"few_shot", "test_before", "test"})
"""Measurements that the held-out curve and the best step leave aside."""


@dataclass
class Picture:
    """Everything a screen shows of a run; rebuilt from its events at any time.

    Attributes:
        seq: Number of the newest event applied.
        time: Unix time of that event.
        state: State from docs/architecture.md; `created` until the worker says more.
        reason: Why the state changed, as the worker put it.
        phase: Evaluation phase in progress: `before`, `few_shot`, `during`, `after`, `test_before` or
            `test`; None outside an evaluation.
        step: Optimizer steps done.
        start_step: Step that this attempt began at.
        latest: Newest value of each series of `step.logged` and `memory.sampled`, and `eval_` plus metric.
        curves: `loss`, `learning_rate`, `grad_norm`, `tokens_per_s`, `rss_bytes`, `gpu_allocated_bytes`,
            `gpu_reserved_bytes`, `eval_` plus metric and `extra_` plus the name of what an objective tells besides
            the loss; x is the step.
        evaluations: Payloads of `evaluation.completed` in order; the first always, else the newest 400.
        evaluation_progress: `phase, done, total` while an evaluation runs.
        samples: Payloads of `samples.generated`; the first, the best and the newest sets are kept.
        predicted: Payload of `memory.predicted`; empty until the worker has told what was expected.
        probed: Payload of the newest `memory.probed`; empty where nothing was probed.
        preflight: Payloads of `preflight.checked`, the newest of each check.
        measured_peak: Highest memory measured in the whole run, comparable with `predicted`: `bytes, step, phase, kind`
            (`device`, `reserved`, `tensors` or `rss`); empty until something was measured.
        measured_peaks: `{phase: the same}` for each phase of a memory estimate that was measured.
        checkpoints: Payloads of `checkpoint.committed`, the newest 50.
        best: Payload of the newest `best.changed`: the step that is best by the chosen metric; empty without one.
        ended_early: Payload of `training.ended_early`; empty while training goes on, or went to its last step.
        restored: Payload of `best.restored`: the best step's weights took the place of the last one's; else empty.
        notices: `time, severity, code, message` of the newest 100.
        alarms: `{kind: {step, message}}` of the alarms on the curve that are not over.
        exports: Payloads of `export.completed`, the newest of each kind.
        failure: Payload of `worker.failed` of this attempt.
        acknowledged: `{request id: {action, result}}` of the newest 50 requests.
        odd_events: Events of a known type whose payload could not be read.
    """

    seq: int = 0
    time: float = 0.0
    run_id: str = ""
    name: str = ""
    objective: str = ""
    base: str = ""
    method: str = ""
    created_time: float | None = None
    started_time: float | None = None
    ended_time: float | None = None
    state: str = "created"
    reason: str = ""
    phase: str | None = None
    step: int = 0
    start_step: int = 0
    total_steps: int | None = None
    attempts: int = 0
    worker: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    latest: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    evaluation_progress: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    predicted: dict[str, Any] = field(default_factory=dict)
    probed: dict[str, Any] = field(default_factory=dict)
    preflight: list[dict[str, Any]] = field(default_factory=list)
    measured_peak: dict[str, Any] = field(default_factory=dict)
    measured_peaks: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    rejected_checkpoints: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    ended_early: dict[str, Any] = field(default_factory=dict)
    restored: dict[str, Any] = field(default_factory=dict)
    notices: list[dict[str, Any]] = field(default_factory=list)
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    exports: list[dict[str, Any]] = field(default_factory=list)
    report_folder: str | None = None
    failure: dict[str, Any] | None = None
    exit_code: int | None = None
    acknowledged: dict[str, dict[str, Any]] = field(default_factory=dict)
    odd_events: int = 0
    pauses_s: float = 0.0
    speed_window: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_SPEED_WINDOW))
    curves: dict[str, Curve] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting: dict[str, _Points] | None = None

    # --- reducing ---------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take in one event; an older one than the newest applied is ignored, and so is an unknown type."""
        if event.seq <= self.seq:
            return
        self.seq = event.seq
        self.time = event.time
        handler = _HANDLERS.get(event.type)
        if handler is None:
            return
        try:
            handler(self, event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            # Another version or a damaged line must not take the screen down; the count is shown.
            self.odd_events += 1

    def apply_all(self, events: Iterable[Event]) -> None:
        """Take in many events: the same as `apply` for each, faster on long logs."""
        with self.replaying():
            for event in events:
                self.apply(event)

    def apply_steps(self, last_seq: int, steps: list[int], columns: dict[str, list[float]]) -> None:
        """Take in consecutive `step.logged` events inside `replaying`, all but the `latest` values.

        Args:
            last_seq: Number of the last of them.
            steps: Their steps, at least one.
            columns: `{payload key: values}`, each as long as `steps`.
        """
        self.seq = last_seq
        self.step = steps[-1]
        for name, values in columns.items():
            if name in STEP_CURVES or name.startswith(EXTRA_CURVE):
                xs, waiting = self._waiting_points(name)
                xs += steps
                waiting += values
        elapsed = columns.get("elapsed_s")
        if elapsed is not None:
            self.speed_window.extend(zip(steps[-_SPEED_WINDOW:], elapsed[-_SPEED_WINDOW:], strict=True))

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Gather the points of curves and draw them at the end, several times faster than one by one."""
        self._waiting = {}
        try:
            yield
        finally:
            self._draw_waiting()
            self._waiting = None

    def _draw(self, name: str, x: int, value: Any) -> None:
        """Add a point to a curve; None is no point."""
        if value is None:
            return
        if self._waiting is None:
            self._curve(name).add(x, float(value))
            return
        xs, waiting = self._waiting_points(name)
        waiting.append(float(value))
        xs.append(x)

    def _waiting_points(self, name: str) -> "_Points":
        if self._waiting is None:
            raise RuntimeError("points wait only inside `replaying`")
        points = self._waiting.get(name)
        if points is None:
            points = self._waiting[name] = ([], [])
        return points

    def _draw_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for name, (xs, values) in (waiting or {}).items():
            self._curve(name).extend(xs, values)

    def _curve(self, name: str) -> Curve:
        curve = self.curves.get(name)
        if curve is None:
            curve = self.curves[name] = Curve()
        return curve

    def _run_created(self, event: Event) -> None:
        payload = event.payload
        self.run_id = str(payload["run_id"])
        self.name = str(payload.get("name") or "")
        self.objective = str(payload.get("objective") or "")
        self.base = str(payload.get("base") or "")
        self.method = str(payload.get("method") or "")
        self.created_time = event.time

    def _worker_started(self, event: Event) -> None:
        self.attempts += 1
        self.worker = event.payload
        # The log still ends with the last attempt's state while this one imports its libraries.
        self.state, self.reason = "preparing", ""
        self.started_time = self.started_time or event.time
        self.ended_time = self.exit_code = self.failure = None
        self._interrupt()

    def _interrupt(self) -> None:
        """Forget what was under way: a new attempt or the end of the run."""
        self.phase = self.evaluation_progress = None
        self.speed_window.clear()
        self.pauses_s = 0.0

    def _state_changed(self, event: Event) -> None:
        self.state = str(event.payload["state"])
        self.reason = str(event.payload.get("reason") or "")

    def _notice_raised(self, event: Event) -> None:
        keep_newest(self.notices, {"time": event.time, **event.payload}, MAX_NOTICES)
        self.alarms = after_notice(self.alarms, event.payload)

    def _data_prepared(self, event: Event) -> None:
        self.data = event.payload

    def _model_loaded(self, event: Event) -> None:
        self.model = event.payload

    def _training_started(self, event: Event) -> None:
        payload = event.payload
        start_step = int(payload["start_step"])
        if self._waiting is not None:
            self._draw_waiting()
        for curve in self.curves.values():
            curve.cut(start_step)
        later = [item for item in self.evaluations if not of_base(item) and item["step"] > start_step]
        self.evaluations = [item for item in self.evaluations if item not in later]
        self.samples = [s for s in self.samples if of_base(s) or s["step"] <= start_step]
        self.alarms = {kind: alarm for kind, alarm in self.alarms.items() if alarm["step"] <= start_step}
        self.training = payload
        if self.best and self.best["step"] > start_step:
            self.best = {}
        self.ended_early, self.restored = {}, {}
        self.step = self.start_step = start_step
        self.total_steps = int(payload["total_steps"])
        self.speed_window.clear()
        self.pauses_s = 0.0

    def _step_logged(self, event: Event) -> None:
        payload = event.payload
        step = payload["step"]
        self.step = step
        total_steps = payload.get("total_steps")
        if total_steps is not None:
            self.total_steps = total_steps
        self.latest.update(payload)
        for name in STEP_CURVES:
            self._draw(name, step, payload.get(name))
        for name, value in list(payload.get("extra", {}).items())[:MAX_EXTRAS]:
            self._draw(f"{EXTRA_CURVE}{name}", step, value)
        elapsed_s = payload.get("elapsed_s")
        if elapsed_s is not None:
            self.speed_window.append((step, elapsed_s))

    def _memory_sampled(self, event: Event) -> None:
        self.latest.update(event.payload)
        for name in MEMORY_CURVES:
            self._draw(name, self.step, event.payload.get(name))
        peak_bytes = event.payload.get("peak_bytes")
        if peak_bytes is not None:
            phase, kind = str(event.payload["phase"]), str(event.payload["peak_kind"])
            self._measure_peak({"bytes": int(peak_bytes), "step": self.step, "phase": phase, "kind": kind})

    def _measure_peak(self, peak: dict[str, Any]) -> None:
        if peak["bytes"] > self.measured_peak.get("bytes", 0):
            self.measured_peak = peak
        if peak["bytes"] > self.measured_peaks.get(peak["phase"], {}).get("bytes", 0):
            self.measured_peaks[peak["phase"]] = peak

    def _memory_predicted(self, event: Event) -> None:
        self.predicted = with_sizes(event.payload, ("low_bytes", "expected_bytes", "high_bytes"))

    def _memory_probed(self, event: Event) -> None:
        self.probed = with_sizes(event.payload, ("peak_bytes", "free_bytes", "context_bytes", "tensor_bytes"))

    def _preflight_checked(self, event: Event) -> None:
        check = event.payload
        others = [item for item in self.preflight if item["id"] != check["id"]]
        self.preflight = [*others, check][-MAX_CHECKS:]

    def _evaluation_started(self, event: Event) -> None:
        self.phase = str(event.payload["phase"])
        self.evaluation_progress = {"phase": self.phase, "done": 0, "total": event.payload.get("num_rows")}

    def _evaluation_progressed(self, event: Event) -> None:
        self.phase = str(event.payload["phase"])
        self.evaluation_progress = event.payload

    def _evaluation_completed(self, event: Event) -> None:
        payload = event.payload
        phase, step, metrics = payload["phase"], int(payload["step"]), dict(payload["metrics"])
        self.phase = self.evaluation_progress = None
        self.evaluations = [item for item in self.evaluations if not same_measurement(item, phase, step)]
        keep_newest(self.evaluations, payload, MAX_EVALUATIONS, keep_first=True)
        if phase in BESIDE_THE_CURVE:
            # No point of the curve: the same weights asked in another way, or other rows.
            return
        if phase == "after" and self.restored:
            # Of an earlier step, whose point is drawn already.
            self.latest.update({f"eval_{name}": value for name, value in metrics.items()})
            return
        for name, value in metrics.items():
            self.latest[f"eval_{name}"] = value
            self._draw(f"eval_{name}", step, value)
        if phase == "during":
            self.pauses_s += float(payload.get("elapsed_s") or 0.0)

    def _samples_generated(self, event: Event) -> None:
        payload = event.payload
        phase, step = payload["phase"], int(payload["step"])
        texts = [clipped(sample) for sample in payload["samples"][:MAX_SAMPLES_IN_SET]]
        self.samples = [item for item in self.samples if not same_measurement(item, phase, step)]
        self.samples.append({"phase": phase, "step": step, "samples": texts})
        if len(self.samples) > MAX_SAMPLE_SETS:
            best = self.best_step()
            # The first set, the best and the newest few tell the story.
            del self.samples[1 if self.samples[1]["step"] != best else 2]

    def _checkpoint_committed(self, event: Event) -> None:
        keep_newest(self.checkpoints, {"time": event.time, **event.payload}, MAX_CHECKPOINTS)
        self.pauses_s += float(event.payload.get("elapsed_s") or 0.0)

    def _best_changed(self, event: Event) -> None:
        self.best = with_steps(event.payload, ("step",))

    def _ended_early(self, event: Event) -> None:
        self.ended_early = with_steps(event.payload, ("step", "total_steps", "best_step", "waited"))

    def _best_restored(self, event: Event) -> None:
        self.restored = with_steps(event.payload, ("step", "last_step"))

    def _checkpoint_rejected(self, event: Event) -> None:
        keep_newest(self.rejected_checkpoints, {"time": event.time, **event.payload}, MAX_CHECKPOINTS)

    def _control_acknowledged(self, event: Event) -> None:
        payload = event.payload
        self.acknowledged[str(payload["id"])] = {"action": payload.get("action"), "result": payload.get("result")}
        while len(self.acknowledged) > MAX_ACKNOWLEDGED:
            del self.acknowledged[next(iter(self.acknowledged))]

    def _export_completed(self, event: Event) -> None:
        self.exports = [item for item in self.exports if item.get("kind") != event.payload.get("kind")]
        self.exports.append(event.payload)

    def _report_written(self, event: Event) -> None:
        self.report_folder = str(event.payload["folder"])

    def _worker_failed(self, event: Event) -> None:
        self.failure = event.payload

    def _run_ended(self, event: Event) -> None:
        self.state = str(event.payload["state"])
        self.exit_code = int(event.payload["exit_code"])
        self.ended_time = event.time
        self._interrupt()

    # --- what viewers ask -------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float | None:
        """Share of the training steps done, from 0 to 1; None until the number of steps is known."""
        if not self.total_steps:
            return None
        return min(1.0, max(0.0, self.step / self.total_steps))

    def eta_s(self, now: float | None = None) -> float | None:
        """Return the seconds until training ends; None until the speed is known.

        The recent training speed of this attempt, and the share of time that its evaluations and checkpoints took on
        top. A wall clock that jumps cannot distort it.

        Args:
            now: Unix time; what passed since the last event is taken off, at most two steps' worth.
        """
        if self.state != "training" or not self.total_steps or len(self.speed_window) < 3:
            return None
        # The first step of an attempt pays for warm-up; it leaves the window as soon as there are others.
        first = self.speed_window[1] if len(self.speed_window) < _SPEED_WINDOW else self.speed_window[0]
        last = self.speed_window[-1]
        steps = last[0] - first[0]
        if steps <= 0 or last[1] < first[1]:
            return None
        step_s = (last[1] - first[1]) / steps + self.pauses_s / max(1, last[0] - self.start_step)
        since_last_s = 0.0 if now is None else min(max(0.0, now - self.time), 2 * step_s)
        return max(0.0, (self.total_steps - last[0]) * step_s - since_last_s)

    def best_step(self) -> int | None:
        """Return the best step by the run's own metric, else that with the lowest held-out loss; None before one."""
        if self.best:
            step: int = self.best["step"]
            return step
        measured = [
            (item["metrics"]["loss"], item["step"])
            for item in self.evaluations
            if item["phase"] not in BESIDE_THE_CURVE and isinstance(item.get("metrics", {}).get("loss"), int | float)
        ]
        finite = [pair for pair in measured if pair[0] == pair[0]]
        return min(finite)[1] if finite else None

    def evaluation(self, phase: str) -> dict[str, Any] | None:
        """Return the newest measurement of a phase; None when there is none."""
        return next((item for item in reversed(self.evaluations) if item["phase"] == phase), None)

    def head(self) -> dict[str, Any]:
        """Return what a list of runs shows, small enough to be read on its own."""
        names = ("run_id", "name", "objective", "base", "method", "created_time", "ended_time", "state", "attempts")
        head: dict[str, Any] = {name: getattr(self, name) for name in (*names, "step", "total_steps")}
        return {**head, "loss": self.latest.get("loss"), "eval_loss": self.latest.get("eval_loss")}

    # --- JSON -------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the picture as JSON values."""
        record: dict[str, Any] = {"version": PICTURE_VERSION}
        for entry in fields(self):
            record[entry.name] = getattr(self, entry.name)
        record["speed_window"] = list(self.speed_window)
        record["curves"] = {name: curve.to_json() for name, curve in self.curves.items()}
        for name in ("latest", "evaluations"):
            record[name] = numbers_to_words(record[name])
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Picture":
        """Return the picture that `to_json` described.

        Raises:
            KeyError, TypeError, ValueError: The record is not one of this version.
        """
        if record["version"] != PICTURE_VERSION:
            raise ValueError(f"picture of version {record['version']}, not {PICTURE_VERSION}")
        values = {entry.name: record[entry.name] for entry in fields(cls)}
        values["latest"] = {name: word_to_number(value) for name, value in record["latest"].items()}
        extra = values["latest"].get("extra")
        if isinstance(extra, dict):
            values["latest"]["extra"] = {name: word_to_number(value) for name, value in extra.items()}
        for item in values["evaluations"]:
            item["metrics"] = {name: word_to_number(value) for name, value in item["metrics"].items()}
        window = [(int(step), float(elapsed_s)) for step, elapsed_s in record["speed_window"]]
        values["speed_window"] = deque(window, maxlen=_SPEED_WINDOW)
        values["curves"] = {name: Curve.from_json(curve) for name, curve in record["curves"].items()}
        return cls(**values)


_HANDLERS: dict[str, Callable[[Picture, Event], None]] = {
    "run.created": Picture._run_created,
    "worker.started": Picture._worker_started,
    "state.changed": Picture._state_changed,
    "notice.raised": Picture._notice_raised,
    "data.prepared": Picture._data_prepared,
    "model.loaded": Picture._model_loaded,
    "training.started": Picture._training_started,
    "step.logged": Picture._step_logged,
    "memory.predicted": Picture._memory_predicted,
    "memory.probed": Picture._memory_probed,
    "memory.sampled": Picture._memory_sampled,
    "preflight.checked": Picture._preflight_checked,
    "evaluation.started": Picture._evaluation_started,
    "evaluation.progressed": Picture._evaluation_progressed,
    "evaluation.completed": Picture._evaluation_completed,
    "samples.generated": Picture._samples_generated,
    "checkpoint.committed": Picture._checkpoint_committed,
    "checkpoint.rejected": Picture._checkpoint_rejected,
    "best.changed": Picture._best_changed,
    "best.restored": Picture._best_restored,
    "training.ended_early": Picture._ended_early,
    "control.acknowledged": Picture._control_acknowledged,
    "export.completed": Picture._export_completed,
    "report.written": Picture._report_written,
    "worker.failed": Picture._worker_failed,
    "run.ended": Picture._run_ended,
}
