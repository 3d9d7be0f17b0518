"""What the panels of the monitor say: pure functions from a picture to lines of `Content`."""

from collections.abc import Sequence
from typing import Any

from textual.content import Content

from engine.catalog.metrics import METRICS, Metric
from engine.catalog.step_numbers import step_words
from engine.runs.best_words import best_sentence, early_end_sentence
from engine.runs.picture import ENDED_STATES, Picture
from engine.text import clean, clean_line, human_duration
from tui.widgets.labels import SEVERITY_MARKS, check_lines, muted, state_label

_TITLES = {
    "token_accuracy": "token acc", "exact_match": "exact", "rouge1": "rouge-1", "rougeL": "rouge-L", "chrf": "chrF",
    "f1_macro": "macro F1", "f1_micro": "micro F1", "entity_f1": "entity F1", "entity_precision": "precision",
    "entity_recall": "recall", "reward_accuracy": "reward acc", "reward_margin": "margin", "kl": "KL",
    "solved_rate": "solved", "completion_length": "length", "masked_perplexity": "perplexity",
    "masked_accuracy": "guessed", "general_perplexity": "general", "general_masked_perplexity": "general",
    "cer": "char errors", "wer": "word errors", "json_schema": "fits schema", "regex": "fits",
}  # fmt: skip
_BAR_MOST = 28
ASKED_CHARS = 240
"""Of a prompt: three lines of 80 columns."""
_LABEL_WIDTH, _CELL_WIDTH = 12, 12

_TEST_LABELS = {"test_before": "test, before", "test": "test, after"}


def progress_bar(share: float, width: int) -> Content:
    """Return a bar of `width` cells, filled to `share` of it."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return Content.assemble(("━" * filled, "$primary"), ("╌" * (width - filled), "$text-disabled"))


def status_line(picture: Picture, state: str, now: float, width: int) -> Content:
    """Return state, progress and the time that is left, on one row.

    Args:
        picture: What is known of the run.
        state: State as liveness sees it, which may be `crashed` where the log still says `training`.
        now: Unix time, for the time that is left.
        width: Columns.
    """
    parts: list[Content] = [state_label(state), Content("  ")]
    if picture.total_steps:
        share = picture.progress or 0.0
        parts += [progress_bar(share, min(_BAR_MOST, max(8, width // 4))), Content(f" {100 * share:.0f} %")]
        parts += [muted(f"  step {picture.step:,} of {picture.total_steps:,}")]
    evaluation = picture.evaluation_progress
    if evaluation is not None and state not in ENDED_STATES:
        # Rows count once for the loss and once more where an answer is generated: only the share means something.
        total, done = evaluation.get("total") or 0, evaluation.get("done") or 0
        part = f": {100 * done / total:.0f} %" if total else ""
        parts += [muted(f"  {clean_line(evaluation.get('phase')).replace('_', '-')}{part}")]
    elif state == "training":
        eta_s = picture.eta_s(now)
        words = f"{human_duration(eta_s)} left" if eta_s is not None else "measuring the speed"
        parts += [Content.styled(f"  {words}", "$accent")]
    elif picture.reason and state in ("stopped", "paused", "preparing", "exporting"):
        parts += [muted(f"  {clean_line(picture.reason)}")]
    return Content("").join(parts)


def numbers_line(picture: Picture) -> Content:
    """Return the newest numbers of training, on one row."""
    latest = picture.latest
    pairs = [
        ("loss", _number(latest.get("loss"), "{:.3f}")),
        ("held-out", _number(latest.get("eval_loss"), "{:.3f}")),
        ("rate", _number(latest.get("learning_rate"), "{:.1e}")),
        ("gradient", _number(latest.get("grad_norm"), "{:.2f}")),
        ("tokens/s", _number(latest.get("tokens_per_s"), "{:,.0f}")),
    ]
    pairs[2:2] = step_words(latest.get("extra"))
    parts: list[Content] = []
    for name, value in pairs:
        if value:
            parts += [muted(f"{name} "), Content.styled(value, "bold"), Content("  ")]
    return Content("").join(parts)


def alarm_line(picture: Picture) -> Content | None:
    """Return the newest alarm that is not over, on one row, and how many others there are; None without."""
    active = sorted(picture.alarms.values(), key=lambda alarm: alarm["step"])
    if not active:
        return None
    more = f" (and {len(active) - 1} more, panel 4)" if len(active) > 1 else ""
    glyph, style = SEVERITY_MARKS["warning"]
    return Content.styled(f"{glyph}{more} {clean_line(active[-1]['message'])}", style)


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def evaluation_lines(picture: Picture, width: int) -> list[Content]:
    """Return the table of evaluations over time, the newest first, `before` always last.

    Args:
        picture: What is known of the run.
        width: Columns; metrics that do not fit are left out from the right, and the header counts them.
    """
    if not picture.evaluations:
        return [muted("No evaluation yet. The base model is measured before training starts.")]
    measured = [m for m in METRICS if any(m.name in item.get("metrics", {}) for item in picture.evaluations)]
    shown = measured[: max(1, (width - _LABEL_WIDTH - 3) // _CELL_WIDTH)]
    more = f" +{len(measured) - len(shown)}" if len(shown) < len(measured) else ""
    titles = "".join(f"{_TITLES.get(m.name, m.title.lower()):>{_CELL_WIDTH}}" for m in shown)
    lines = [muted(f"{'★ best':<{_LABEL_WIDTH}}{titles}{more}")]
    best = picture.best_step()
    for index in range(len(picture.evaluations) - 1, -1, -1):
        item = picture.evaluations[index]
        earlier = next((one for one in reversed(picture.evaluations[:index]) if _comparable(one, item)), None)
        lines.append(_evaluation_row(item, earlier, shown, is_best=item["step"] == best and item["phase"] == "during"))
    return lines


def _evaluation_row(
    item: dict[str, Any], earlier: dict[str, Any] | None, shown: Sequence[Metric], *, is_best: bool
) -> Content:
    label = measurement_label(item)
    # The best is always a step of training, whose label leaves room for the star.
    style = "bold" if item["phase"] in ("before", "after") else ""
    width = _LABEL_WIDTH - 2 if is_best else _LABEL_WIDTH
    # A long step still has a space before its star.
    parts = [Content.styled(f"{label} ".ljust(width) if is_best else label.ljust(width), style)]
    parts += [Content.styled("★ ", "$accent")] if is_best else []
    parts += [_metric_cell(metric, item["metrics"].get(metric.name), earlier) for metric in shown]
    return Content("").join(parts)


def _comparable(earlier: dict[str, Any], item: dict[str, Any]) -> bool:
    """Return whether two measurements are of the same rows, asked in the same way."""
    tested = ("test_before", "test")
    return earlier["phase"] != "few_shot" and (earlier["phase"] in tested) == (item["phase"] in tested)


def measurement_label(item: dict[str, Any]) -> str:
    """Return what a measurement is called: `before`, `few-shot (3)`, `step 40`, `after`."""
    phase = clean_line(item.get("phase"))
    if phase == "during":
        return f"step {item['step']:,}"
    if phase in _TEST_LABELS:
        return _TEST_LABELS[phase]
    if phase != "few_shot":
        return phase
    count = item.get("num_examples")
    return f"few-shot ({count})" if isinstance(count, int) else "few-shot"


def _metric_cell(metric: Metric, value: Any, earlier: dict[str, Any] | None) -> Content:
    if not isinstance(value, int | float):
        return muted(f"{'·':>{_CELL_WIDTH}}")
    text, style = metric.format(value), ""
    was = earlier["metrics"].get(metric.name) if earlier is not None else None
    if isinstance(was, int | float) and was != value and metric.better != "neither":
        better = metric.improved(was, value)
        text = f"{text} {'▲' if better else '▼'}"
        style = "$success" if better else "$warning"
    return Content.styled(f"{text:>{_CELL_WIDTH}}", style)


def sample_lines(picture: Picture, prompt: int) -> list[Content]:
    """Return what the base model answered to one of the fixed prompts, then the answers since, the newest first.

    Args:
        picture: What is known of the run.
        prompt: Index of the prompt; taken modulo the number of prompts.
    """
    newest = picture.samples[-1]["samples"] if picture.samples else []
    if not newest:
        return [muted("No samples yet. The same prompts are answered at each evaluation.")]
    index = prompt % len(newest)
    lines = [
        Content.assemble(
            ("prompt ", "$text-muted"),
            (f"{index + 1} of {len(newest)}", "bold"),
            ("   left, right: page", "$text-muted"),
        )
    ]
    # What was answered has to be seen under it; the report shows the prompt whole.
    lines += _text_lines("asked", clean(newest[index].get("prompt") or "", max_chars=ASKED_CHARS), "")
    if newest[index].get("expected"):
        lines += _text_lines("expected", newest[index].get("expected"), "$text-muted")
    answered = [item for item in reversed(picture.samples) if index < len(item["samples"])]
    # The base model's answer stands first, beside what is expected: every later one is read against it.
    base = [item for item in answered if item["phase"] == "before"]
    for item in [*base, *(item for item in answered if item["phase"] != "before")]:
        sample = item["samples"][index]
        label, style = ("base", "$text-muted") if item in base else (measurement_label(item), "$primary")
        lines += _text_lines(label, sample.get("text"), style)
        if reward := _number(sample.get("reward"), "{:.3g}"):
            lines.append(Content.assemble((f"{'earned':<10} ", "$text-muted"), (reward, "bold")))
    return lines


def _text_lines(label: str, text: Any, style: str) -> list[Content]:
    """Return text that somebody else wrote, its lines under each other beside a label."""
    rows = clean("" if text is None else text).splitlines() or [""]
    shown = [row for row in rows if row.strip()][:12] or ["(nothing)"]
    return [
        Content.assemble((f"{label if i == 0 else '':<10} ", "$text-muted"), (row, style))
        for i, row in enumerate(shown)
    ]


def log_lines(picture: Picture, tail: Sequence[str]) -> list[Content]:
    """Return the notices of the run, a failure if there was one, and the end of the worker's own output."""
    lines = check_lines(picture.preflight)
    for notice in picture.notices:
        glyph, style = SEVERITY_MARKS.get(str(notice.get("severity")), SEVERITY_MARKS["note"])
        lines.append(Content.assemble((f"{glyph} ", style), (clean_line(notice.get("message")), "")))
    for rejected in picture.rejected_checkpoints:
        text = f"{rejected.get('folder')}: {rejected.get('reason')}"
        lines.append(Content.assemble(("! ", "$warning"), (f"checkpoint set aside, {clean_line(text)}", "")))
    for sentence in (early_end_sentence(picture), best_sentence(picture)):
        if sentence:
            lines.append(Content.assemble(("★ ", "$accent"), (sentence, "")))
    if picture.checkpoints:
        newest = picture.checkpoints[-1]
        lines.append(Content.assemble(("✓ ", "$success"), (f"checkpoint at step {newest.get('step')} is whole", "")))
    lines += failure_lines(picture)
    lines += [muted(line) for line in tail]
    return lines or [muted("Nothing to report.")]


def failure_lines(picture: Picture) -> list[Content]:
    """Return why the run failed and what to do next; empty when it did not."""
    if picture.failure is None:
        return []
    lines = [Content.assemble(("✗ ", "bold $error"), (clean_line(picture.failure.get("message")), "$error"))]
    if picture.failure.get("fix"):
        lines.append(Content.assemble(("  ", ""), (clean_line(picture.failure["fix"]), "")))
    return lines
