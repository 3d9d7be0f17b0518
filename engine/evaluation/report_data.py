"""What came out of a run, gathered from its directory into the content of `report.json`.

The shape is described in docs/evaluation.md; the command line and the results screen read nothing else.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from engine.evaluation.comparison import compare_few_shot
from engine.evaluation.measurement import load_measurement
from engine.evaluation.measures import known_metrics
from engine.evaluation.report_confusion import confusion_facts
from engine.evaluation.report_metrics import headline, metric_row, test_facts, with_forgetting
from engine.planning.plan import Plan
from engine.recipe.sources import Source, flatten
from engine.runs.best_words import best_sentence, early_end_sentence
from engine.runs.directory import RunDirectory
from engine.runs.events import numbers_to_words
from engine.runs.measured_memory import compare_memory
from engine.runs.picture import Picture
from engine.runs.reducer import BESIDE_THE_CURVE

REPORT_VERSION = 1

_PREDICTED = ("low_bytes", "expected_bytes", "high_bytes", "depth", "basis", "confidence", "components", "peaks")
_PROBED = (
    "outcome", "fits", "peak_bytes", "free_bytes", "context_bytes", "tensor_bytes", "phases", "ratio", "micro_batch",
)  # fmt: skip


def collect(run: RunDirectory, picture: Picture, *, state: str | None = None) -> dict[str, Any]:
    """Return the content of `report.json`: strict JSON values, numbers that JSON cannot carry as words.

    Args:
        run: The run; every file but the plan may be missing, as a stopped or failed run has a report too.
        picture: The reduced events of the run.
        state: State that the run is about to have; that of the picture when None.

    Raises:
        ProblemError: The plan cannot be read.
    """
    plan = run.read_plan()
    before = load_measurement(run.evaluation_folder / "before.json") or {}
    after = load_measurement(run.evaluation_folder / "after.json") or {}
    few_shot = load_measurement(run.evaluation_folder / "few_shot.json") or {}
    test_before = load_measurement(run.evaluation_folder / "test_before.json") or {}
    test = load_measurement(run.evaluation_folder / "test.json") or {}
    names = {**_metrics(before), **_metrics(few_shot), **_metrics(after)}
    rows = [metric_row(metric, before, after, few_shot) for metric in known_metrics(names)]
    measured = (before, few_shot, after, test_before, test)
    line, forgetting = with_forgetting(rows, headline(rows), plan.model.vocab_size)
    content = {
        "version": REPORT_VERSION,
        "run_id": run.run_id,
        "name": picture.name or plan.recipe.name or run.run_id,
        "state": state or picture.state,
        "objective": plan.recipe.objective,
        "method": plan.recipe.method.name,
        "headline": line,
        "forgetting": forgetting,
        "before": _metrics(before),
        "after": _metrics(after),
        "few_shot": few_shot_facts(few_shot, after),
        "metrics": rows,
        "test": test_facts(test_before, test),
        "confusion": confusion_facts(after),
        "evaluated": {name: (after or before).get(name, 0) for name in ("num_rows", "num_tokens", "num_generated")},
        "samples": paired_samples(before, after, few_shot),
        "training": training_facts(plan, picture),
        "memory": memory_facts(plan, picture),
        "data": _data(run, plan, picture),
        "model": model_facts(run, plan, picture),
        "recipe": _recipe(plan),
        "remarks": list(dict.fromkeys(text for one in measured for text in one.get("remarks", []))),
        "preflight": picture.preflight,
        "alarms": [{"kind": kind, **alarm} for kind, alarm in picture.alarms.items()],
        "notices": [_notice(notice) for notice in picture.notices],
        "versions": read_versions(run.environment_file),
    }
    result: dict[str, Any] = numbers_to_words(content)
    return result


def _metrics(measurement: dict[str, Any]) -> dict[str, float]:
    metrics: dict[str, float] = measurement.get("metrics", {})
    return metrics


def few_shot_facts(few_shot: dict[str, Any], after: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was asked with which examples, and whether that does as well as training; None without a baseline."""
    if not few_shot:
        return None
    compared = compare_few_shot(few_shot, after)
    examples = few_shot.get("examples", [])
    return {
        "num_examples": len(examples),
        "metrics": _metrics(few_shot),
        "verdict": compared.verdict,
        "text": compared.text,
        "examples": [{"id": row.get("id", ""), "messages": row.get("messages", [])} for row in examples],
        "elapsed_s": few_shot.get("elapsed_s"),
    }


def paired_samples(
    before: dict[str, Any], after: dict[str, Any], few_shot: dict[str, Any] | None = None
) -> list[dict[str, str]]:
    """Return prompts with the texts of the measurements; a missing text is empty.

    Short prompts (the last message of a long conversation, say) may stand for several rows; those are paired in order.
    """
    earlier, later = _numbered_samples(before), _numbered_samples(after)
    prompted = _numbered_samples(few_shot or {})
    return [
        {
            "prompt": key[0],
            "expected": (later.get(key) or earlier[key])["expected"],
            "before": _told(earlier.get(key, {})),
            "few_shot": prompted.get(key, {}).get("text", ""),
            "after": _told(later.get(key, {})),
        }
        for key in {**later, **earlier}
    ]


def _told(sample: dict[str, Any]) -> str:
    """Return a text with what it has earned, where answers are rewarded."""
    text, reward = str(sample.get("text", "")), sample.get("reward")
    return text if reward is None else f"{text}\n(reward {reward:.3g})"


def _numbered_samples(measurement: dict[str, Any]) -> dict[tuple[str, int], dict[str, str]]:
    """Return samples by prompt and how many of the same prompt stand before it."""
    seen: Counter[str] = Counter()
    samples: dict[tuple[str, int], dict[str, str]] = {}
    for sample in measurement.get("samples", []):
        samples[sample["prompt"], seen[sample["prompt"]]] = sample
        seen[sample["prompt"]] += 1
    return samples


def training_facts(plan: Plan, picture: Picture) -> dict[str, Any]:
    latest = picture.latest
    held_out = [item for item in picture.evaluations if item.get("metrics") and item["phase"] not in BESIDE_THE_CURVE]
    losses = [(item["metrics"].get("loss"), item["step"]) for item in held_out]
    finite = [(loss, step) for loss, step in losses if isinstance(loss, int | float) and math.isfinite(loss)]
    lowest = min(finite, default=None)
    return {
        "steps": picture.step,
        "total_steps": picture.total_steps or plan.steps.total_steps,
        "epoch": latest.get("epoch"),
        "effective_batch": plan.recipe.training.effective_batch,
        "micro_batch": picture.training.get("micro_batch", plan.steps.micro_batch),
        "attempts": picture.attempts,
        "elapsed_s": latest.get("elapsed_s"),
        "num_tokens": latest.get("num_tokens"),
        "tokens_per_s": latest.get("tokens_per_s"),
        "final_loss": latest.get("loss"),
        "lowest_held_out": {"loss": lowest[0], "step": lowest[1]} if lowest else None,
        "best": picture.restored or picture.best or None,
        "best_text": best_sentence(picture),
        "ended_early": picture.ended_early or None,
        "ended_early_text": early_end_sentence(picture),
        "device": plan.device.name,
    }


def memory_facts(plan: Plan, picture: Picture) -> dict[str, Any]:
    """Return what was predicted, probed and measured; the prediction is the worker's own where it told one."""
    predicted = picture.predicted or plan.memory.model_dump()
    compared = compare_memory(picture, plan.memory)
    probed = {name: picture.probed.get(name) for name in _PROBED} if picture.probed else None
    return {
        "where": str(predicted.get("where") or plan.memory.where),
        "planned_bytes": plan.memory.expected_bytes,
        "planned_low_bytes": plan.memory.low_bytes,
        "planned_high_bytes": plan.memory.high_bytes,
        "available_bytes": predicted.get("available_bytes"),
        "measured_bytes": compared.measured_bytes if compared else None,
        "predicted": {name: predicted.get(name) for name in _PREDICTED},
        "probed": probed,
        "measured": {
            **{name: picture.measured_peak.get(name) for name in ("step", "phase", "kind")},
            "phases": {phase: peak.get("bytes") for phase, peak in picture.measured_peaks.items()},
        },
        "verdict": compared.verdict if compared else "unknown",
        "error_percent": compared.error_percent if compared else None,
        "sentence": compared.sentence() if compared else "",
        "caveats": compared.caveats if compared else [],
    }


def _data(run: RunDirectory, plan: Plan, picture: Picture) -> dict[str, Any]:
    page = run.data_report_html_file
    return {
        "source": plan.recipe.data.sources(),
        "sha256": plan.data.sha256,
        "num_train": picture.data.get("num_train", plan.data.num_train),
        "num_held_out": picture.data.get("num_held_out", plan.data.num_held_out),
        "num_test": picture.data.get("num_test", plan.data.num_test),
        "dropped": picture.data.get("dropped", plan.data.dropped),
        "report": page.name if page.exists() else None,
    }


def model_facts(run: RunDirectory, plan: Plan, picture: Picture) -> dict[str, Any]:
    export = _read_json(run.model_folder / "export.json")
    folders = {"adapter": run.adapter_folder, "merged": run.merged_folder}
    return {
        "base": plan.model.base,
        "revision": plan.model.revision,
        "num_params": picture.model.get("num_params", plan.model.num_params),
        "trainable_params": picture.model.get("trainable_params"),
        **{kind: f"model/{kind}" if folder.is_dir() else None for kind, folder in folders.items()},
        "output": export.get("output"),
        "dtype": export.get("dtype"),
        "parity": export.get("parity"),
        "quantization_gap": export.get("quantization_gap"),
    }


def _recipe(plan: Plan) -> list[dict[str, Any]]:
    rows = []
    for path, value in flatten(plan.recipe.model_dump(mode="json")).items():
        source = plan.sources.get(path)
        if value is None and source is None:
            continue
        words = str(Source(source.kind, source.detail)) if source else "default"
        rows.append({"path": path, "value": value, "source": words})
    return rows


def _notice(notice: dict[str, Any]) -> dict[str, Any]:
    return {name: notice.get(name) for name in ("time", "severity", "code", "message")}


def read_versions(environment_file: Path) -> dict[str, str]:
    """Return `{package: version}` from a run's `environment.json`; empty when it is not there or not ours."""
    content = _read_json(environment_file)
    libraries = content.get("libraries")
    if not isinstance(libraries, dict):
        return {}
    return {str(name): str(value) for name, value in {"python": content.get("python", "?"), **libraries}.items()}


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty when there is none, as a run may have ended before it was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
