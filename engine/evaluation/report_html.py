"""The report as one self-contained page: no script, no network, light and dark, text from data always escaped."""

import math
from importlib import resources
from pathlib import Path
from typing import Any

from engine.catalog.metrics import find_metric
from engine.evaluation.charts import Line, legend, line_chart
from engine.evaluation.markup import escape_html
from engine.evaluation.report_confusion import confusion_section
from engine.evaluation.report_markdown import TEST_TITLE, few_shot_title, worth_knowing
from engine.evaluation.report_memory import memory_section
from engine.evaluation.report_metrics import SURE
from engine.evaluation.report_preflight import preflight_section
from engine.runs.curves import Curve
from engine.runs.events import word_to_number
from engine.text import clean_line, human_count, human_duration

MAX_SAMPLE_CHARS = 6000
_GLYPHS = {"better": "✓", "worse": "✗", "same": "=", "unclear": "≈", "mixed": "◆", "unknown": ""}
# Nothing is loaded and nothing runs, even if an escape were missed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def html_report(content: dict[str, Any], curves: dict[str, Curve]) -> str:
    """Return the page.

    Args:
        content: As in `report.json`.
        curves: The picture's curves; `loss`, `eval_loss`, `learning_rate` and memory are drawn.
    """
    css = resources.files("engine.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    title = escape_html(clean_line(content["name"]))
    body = "\n".join(
        section
        for section in (
            _top(content),
            _facts(content),
            _metrics(content),
            _test(content["test"]),
            confusion_section(content["confusion"]),
            _samples(content["samples"]),
            _curves(content, curves),
            memory_section(content["memory"], curves),
            _notices(content),
            preflight_section(content["preflight"]),
            _recipe(content),
            _footer(content),
        )
        if section
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · ftwizard report</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _top(content: dict[str, Any]) -> str:
    model, line = content["model"], content["headline"]
    base = str(model["base"])
    # A folder by its name: its place says nothing about the model, and reports are passed on.
    base = Path(base).name if base.startswith(("/", "~", ".")) else base
    parts = [str(part) for part in (base, content["method"], content["objective"]) if part]
    return (
        f'<p class="eyebrow">{escape_html(clean_line(" · ".join(parts)))}</p>\n'
        f"<h1>{escape_html(clean_line(content['name']))}</h1>\n"
        f'<p class="headline">{_badge(line["direction"], _state_words(content))} {escape_html(line["text"])}</p>'
    )


def _state_words(content: dict[str, Any]) -> str:
    state = str(content["state"])
    direction = str(content["headline"]["direction"])
    return state if state in ("stopped", "failed") else "no evidence" if direction == "unclear" else direction


def _badge(direction: str, words: str) -> str:
    if direction == "unknown" and words == "unknown":
        return ""
    kind = direction if direction in _GLYPHS else "unknown"
    return f'<span class="verdict {kind}">{_GLYPHS[kind]} {escape_html(words)}</span>'


def _facts(content: dict[str, Any]) -> str:
    training, model, data = content["training"], content["model"], content["data"]
    share = _share(model["trainable_params"], model["num_params"])
    facts = [
        ("Weights", human_count(model["num_params"]), share),
        ("Training rows", f"{data['num_train']:,}", _aside(data)),
        ("Steps", f"{training['steps']:,}", f"{training['effective_batch']} rows each"),
        ("Training time", human_duration(_number(training["elapsed_s"])), str(training["device"])),
        ("Tokens learned from", human_count(_number(training["num_tokens"])), _speed(training["tokens_per_s"])),
    ]
    cells = "".join(
        f"<div><dt>{escape_html(name)}</dt><dd>{escape_html(value)}<small>{escape_html(note)}</small></dd></div>"
        for name, value, note in facts
    )
    return f'<dl class="card facts">{cells}</dl>{_data_report(data)}'


def _data_report(data: dict[str, Any]) -> str:
    """Return the way to the data report, which lies beside this one."""
    if not data["report"]:
        return ""
    return (
        f'\n<p class="soft"><a href="{escape_html(data["report"])}">What the data is, row by row accounted for</a></p>'
    )


def _aside(data: dict[str, Any]) -> str:
    """Return which rows are not trained on."""
    tested = f", {data['num_test']:,} test" if data["num_test"] else ""
    return f"{data['num_held_out']:,} held out{tested}"


def _share(part: Any, whole: Any) -> str:
    return f"{100 * part / whole:.3g} % of them trained" if part and whole else ""


def _speed(tokens_per_s: Any) -> str:
    speed = _number(tokens_per_s)
    return f"{human_count(speed)} a second" if speed else ""


def _number(value: Any) -> float | None:
    number = word_to_number(value)
    return float(number) if isinstance(number, int | float) else None


def _metrics(content: dict[str, Any]) -> str:
    rows = content["metrics"]
    if not rows:
        return ""
    evaluated = content["evaluated"]
    note = f"Measured on {evaluated['num_rows']:,} rows that were held out of training"
    if evaluated["num_generated"]:
        note += f"; {evaluated['num_generated']:,} of them were answered by the model, greedily"
    few_shot = content["few_shot"]
    titles = ["Before", *([few_shot_title(few_shot).capitalize()] if few_shot else []), "After"]
    numbers = "".join(f'<th class="number">{title}</th>' for title in titles)
    head = f'<th>Metric</th>{numbers}<th class="bars"></th><th></th>'
    body = "\n".join(_metric_row(row, prompted=bool(few_shot)) for row in rows)
    return (
        f'<h2>Before and after</h2>\n<p class="soft">{escape_html(note)}.</p>\n'
        f'<div class="card table"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
        f'{_forgetting(content)}\n<p class="soft">{SURE}</p>{_few_shot(few_shot)}'
    )


def _forgetting(content: dict[str, Any]) -> str:
    forgetting = content["forgetting"]
    return f"\n<p>{escape_html(forgetting['text'])}</p>" if forgetting else ""


def _test(test: dict[str, Any] | None) -> str:
    """Return the table of the test rows."""
    if not test:
        return ""
    note = f"Measured on {test['num_rows']:,} rows that decided nothing: no choice of the run saw them"
    if test["num_generated"]:
        note += f"; {test['num_generated']:,} of them were answered by the model, greedily"
    head = '<th>Metric</th><th class="number">Before</th><th class="number">After</th><th class="bars"></th><th></th>'
    body = "\n".join(_metric_row(row, prompted=False) for row in test["metrics"])
    return (
        f'<h2>{TEST_TITLE}</h2>\n<p class="soft">{escape_html(note)}.</p>\n'
        f'<div class="card table"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def _few_shot(few_shot: dict[str, Any] | None) -> str:
    """Return what the baseline says, with the examples that it showed."""
    if not few_shot:
        return ""
    examples = "".join(
        f"<pre>{escape_html(_turns(row), max_chars=MAX_SAMPLE_CHARS)}</pre>" for row in few_shot["examples"]
    )
    note = "Few-shot is the base model before training, with these training rows in every prompt."
    summary = f"{few_shot['num_examples']} examples in the prompt"
    return (
        f'\n<p class="few-shot">{escape_html(few_shot["text"])}</p>\n'
        f'<details><summary>{summary}</summary><p class="soft">{note}</p>{examples}</details>'
    )


def _turns(row: dict[str, Any]) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"])


def _metric_row(row: dict[str, Any], *, prompted: bool) -> str:
    verdict = _badge(row["direction"], row["verdict"]) if row["verdict"] else ""
    shown = f'<td class="number">{escape_html(row["few_shot_text"])}</td>' if prompted else ""
    better = find_metric(row["name"]).better_words.capitalize()
    note = f"{row['summary']} {better}." if better else str(row["summary"])
    return (
        f"<tr><td>{escape_html(row['title'])}<small>{escape_html(note)}</small></td>"
        f'<td class="number">{escape_html(row["before_text"])}</td>{shown}'
        f'<td class="number after">{escape_html(row["after_text"])}'
        f"<small>{escape_html(row['after_interval_text'])}</small></td>"
        f'<td class="bars">{_bars(row)}</td><td>{verdict}</td></tr>'
    )


def _bars(row: dict[str, Any]) -> str:
    before, after = _number(row["before"]), _number(row["after"])
    # A bar from zero says nothing of a reward below it.
    if before is None or after is None or before < 0 or after < 0:
        return ""
    # Shares fill up to 100 %; other numbers are drawn against the largest that is shown.
    intervals = {name: _interval(row[f"{name}_interval"]) for name in ("before", "after")}
    ends = [high for _, high in filter(None, intervals.values())]
    full = 1.0 if row["format"] == "share" else max(before, after, *ends)
    return "".join(
        f'<div class="bar {name}"><i style="width:{_width(value, full):.1f}%"></i>'
        f"{_whisker(intervals[name], full)}</div>"
        for name, value in (("before", before), ("after", after))
    )


def _interval(ends: Any) -> tuple[float, float] | None:
    """Return a 95 % interval; None where there is none that can be drawn."""
    low, high = (_number(end) for end in ends or (None, None))
    return (low, high) if low is not None and high is not None and math.isfinite(low + high) else None


def _whisker(interval: tuple[float, float] | None, full: float) -> str:
    """Return the line that shows between which values a number lies, on the scale of its bar."""
    if interval is None:
        return ""
    start, end = (_width(value, full) for value in interval)
    return f'<b style="left:{start:.1f}%;width:{end - start:.1f}%"></b>'


def _width(value: float, full: float) -> float:
    share = value / full if full and full == full else 0.0
    # Infinity over infinity is no number.
    return 100.0 if share != share else min(100.0, max(0.0, 100 * share))


def _samples(samples: list[dict[str, str]]) -> str:
    if not samples:
        return ""
    cards = "\n".join(_sample(sample) for sample in samples)
    return f"<h2>The same prompts, before and after</h2>\n{cards}"


def _sample(sample: dict[str, str]) -> str:
    columns = [("Before", "before"), *([("Few-shot", "few_shot")] if sample["few_shot"] else []), ("After", "after")]
    if sample["expected"]:
        columns.append(("Expected", "expected"))
    answers = "".join(f'<div class="answer-{key}"><h3>{name}</h3>{_answer(sample[key])}</div>' for name, key in columns)
    prompt = escape_html(sample["prompt"], max_chars=MAX_SAMPLE_CHARS)
    return f'<div class="card sample"><p class="prompt">{prompt}</p><div class="answers">{answers}</div></div>'


def _answer(text: str) -> str:
    if not text.strip():
        return '<pre class="empty">(nothing)</pre>'
    return f"<pre>{escape_html(text, max_chars=MAX_SAMPLE_CHARS)}</pre>"


def _curves(content: dict[str, Any], curves: dict[str, Curve]) -> str:
    training = content["training"]
    texts = [training[name] for name in ("ended_early_text", "best_text") if training[name]]
    charts = [chart for chart in (_loss_chart(curves), _rate_chart(curves)) if chart]
    parts = [*(f"<p>{escape_html(text)}</p>" for text in texts), *map(_alarm, content["alarms"]), *charts]
    return "<h2>How it learned</h2>\n" + "\n".join(parts) if charts else ""


def _alarm(alarm: dict[str, Any]) -> str:
    """Return an alarm that was not over when the run ended."""
    return f'<p class="alarm"><span class="verdict worse">!</span> {escape_html(clean_line(alarm["message"]))}</p>'


def _loss_chart(curves: dict[str, Curve]) -> str:
    train, held_out = curves.get("loss"), curves.get("eval_loss")
    lines = []
    if train is not None and len(train):
        buckets = train.points()
        # Long runs have many steps in a bucket: then its extremes are drawn, else the steps themselves.
        band = [(bucket.x, bucket.lowest, bucket.highest) for bucket in buckets] if train.points_per_bucket > 1 else []
        lines.append(Line("Training loss", "raw", [(bucket.x, bucket.mean) for bucket in buckets], band=band))
        lines.append(Line("smoothed", "train", train.smoothed()))
    if held_out is not None and len(held_out):
        points = [(bucket.x, bucket.mean) for bucket in held_out.points()]
        lines.append(Line("Held-out loss", "held-out", points, dots=len(points) <= 40))
    chart = line_chart("Training and held-out loss by step", lines, x_name="step", y_name="loss")
    return f'<div class="card"><h3>Loss</h3>{legend(lines)}{chart}</div>' if chart else ""


def _rate_chart(curves: dict[str, Curve]) -> str:
    rate = curves.get("learning_rate")
    points = [(bucket.x, bucket.mean) for bucket in rate.points()] if rate is not None else []
    line = Line("Learning rate", "rate", points)
    chart = line_chart("Learning rate by step", [line], x_name="step", y_name="learning rate", height=190)
    return f'<div class="card"><h3>Learning rate</h3>{chart}</div>' if chart else ""


def _notices(content: dict[str, Any]) -> str:
    texts = worth_knowing(content)
    if not texts:
        return ""
    items = "".join(f"<li>{escape_html(clean_line(text))}</li>" for text in texts)
    return f'<h2>Worth knowing</h2>\n<ul class="card notices">{items}</ul>'


def _recipe(content: dict[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><td><code>{escape_html(row['path'])}</code></td><td>{escape_html(_value(row['value']))}</td>"
        f'<td class="soft">{escape_html(row["source"])}</td></tr>'
        for row in content["recipe"]
    )
    head = "<tr><th>Setting</th><th>Value</th><th>Where it comes from</th></tr>"
    return (
        f"<h2>Recipe</h2>\n<details><summary>{len(content['recipe'])} settings, each with its source</summary>\n"
        f'<div class="card table"><table class="dense"><thead>{head}</thead>'
        f"<tbody>\n{rows}\n</tbody></table></div></details>"
    )


def _value(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _footer(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    model = content["model"]
    places = [f"{kind} in {model[kind]}" for kind in ("merged", "adapter") if model[kind]]
    lines = [
        f"Run {content['run_id']}, {content['state']}." + (f" Model: {'; '.join(places)}." if places else ""),
        f"Data sha256 {content['data']['sha256']}." if content["data"]["sha256"] else "",
        versions,
    ]
    said = "".join(f"<p>{escape_html(clean_line(line))}</p>" for line in lines if line)
    return f"<footer>{said}</footer>"
