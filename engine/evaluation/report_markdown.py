"""The report in Markdown, for a terminal, a merge request or a mail."""

from typing import Any

from engine.catalog.metrics import find_metric
from engine.evaluation.markup import code_block, escape_markdown, inline_code
from engine.evaluation.report_confusion import confusion_markdown
from engine.evaluation.report_memory import memory_words
from engine.evaluation.report_metrics import SURE
from engine.evaluation.report_preflight import preflight_markdown
from engine.runs.alarm_notices import is_alarm
from engine.text import clean_line, human_count, human_duration

MAX_SAMPLE_CHARS = 2000
TEST_TITLE = "Test rows (never seen)"


def markdown_report(content: dict[str, Any]) -> str:
    """Return the report; `content` is that of `report.json`."""
    sections = (
        f"# {escape_markdown(content['name'])}",
        escape_markdown(content["headline"]["text"]),
        _metrics(content),
        _test(content["test"]),
        confusion_markdown(content["confusion"]),
        _samples(content["samples"]),
        _training(content),
        _worth_knowing(content),
        preflight_markdown(content["preflight"]),
        _recipe(content["recipe"]),
        _versions(content),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _metrics(content: dict[str, Any]) -> str:
    if not content["metrics"]:
        return ""
    few_shot = content["few_shot"]
    columns = ["before", *(["few_shot"] if few_shot else []), "after"]
    rows = [
        f"| {_titled(row)} | "
        + " | ".join(row[f"{column}_text"] for column in columns)
        + f" | {row['after_interval_text']} | {row['verdict']} |"
        for row in content["metrics"]
    ]
    note = f"{content['evaluated']['num_rows']:,} held-out rows."
    names = [few_shot_title(few_shot) if column == "few_shot" else column for column in columns]
    table = [f"| | {' | '.join(names)} | 95 % interval | |", f"|---|{'---:|' * len(names)}---:|---|", *rows]
    forgetting = [escape_markdown(content["forgetting"]["text"]), ""] if content["forgetting"] else []
    return "\n".join(["## Before and after", "", note, "", *table, "", *forgetting, SURE, *_few_shot(few_shot)])


def _titled(row: dict[str, Any]) -> str:
    words = find_metric(row["name"]).better_words
    return f"{row['title']} ({words})" if words else str(row["title"])


def _test(test: dict[str, Any] | None) -> str:
    """Return the table of the test rows."""
    if not test:
        return ""
    note = f"{test['num_rows']:,} rows that decided nothing: neither training nor the choice of a checkpoint saw them."
    rows = [
        f"| {_titled(row)} | "
        + " | ".join(row[key] for key in ("before_text", "after_text", "after_interval_text", "verdict"))
        + " |"
        for row in test["metrics"]
    ]
    head = ["| | before | after | 95 % interval | |", "|---|---:|---:|---:|---|"]
    return "\n".join([f"## {TEST_TITLE}", "", note, "", *head, *rows])


def few_shot_title(few_shot: dict[str, Any]) -> str:
    """Return the head of the baseline's column."""
    return f"few-shot ({few_shot['num_examples']})"


def _few_shot(few_shot: dict[str, Any] | None) -> list[str]:
    """Return what the baseline says and which examples it showed."""
    if not few_shot:
        return []
    note = "Few-shot is the base model before training, with these training rows in every prompt:"
    examples = [
        code_block(
            "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"]), max_chars=MAX_SAMPLE_CHARS
        )
        for row in few_shot["examples"]
    ]
    verdict = ["", escape_markdown(few_shot["text"])] if few_shot["text"] else []
    return [*verdict, "", note, *(line for example in examples for line in ("", example))]


def _samples(samples: list[dict[str, str]]) -> str:
    parts = ["## Samples"] if samples else []
    for sample in samples:
        for name in ("prompt", "before", "few_shot", "after", "expected"):
            if sample[name] or name not in ("expected", "few_shot"):
                text = code_block(sample[name] or "(nothing)", max_chars=MAX_SAMPLE_CHARS)
                parts.append(f"{name.replace('_', '-').capitalize()}:\n\n{text}")
    return "\n\n".join(parts)


def _training(content: dict[str, Any]) -> str:
    training, model, memory, data = (content[name] for name in ("training", "model", "memory", "data"))
    elapsed = training["elapsed_s"] if isinstance(training["elapsed_s"], int | float) else None
    lines = [
        f"- Base model: {inline_code(model['base'])}, {human_count(model['num_params'])} weights, "
        f"{human_count(model['trainable_params'])} of them trained ({escape_markdown(content['method'])})",
        f"- Data: {data['num_train']:,} training rows, {data['num_held_out']:,} held out"
        f"{_put_aside(data['num_test'])}; "
        f"sha256 {inline_code(data['sha256'] or 'unknown')}"
        + (f" ([what happened to each row]({data['report']}))" if data["report"] else ""),
        f"- Steps: {training['steps']:,} of {training['total_steps']:,}, {training['effective_batch']} rows each, "
        f"{human_duration(elapsed)} on {escape_markdown(training['device'])}",
        f"- Memory: {escape_markdown(memory_words(memory))}",
    ]
    lines += [f"- {escape_markdown(training[name])}" for name in ("ended_early_text", "best_text") if training[name]]
    for kind in ("merged", "adapter"):
        if model[kind]:
            lines.append(f"- {kind.capitalize()} model: {inline_code(model[kind])}")
    return "## Training\n\n" + "\n".join(lines)


def _put_aside(num_test: int) -> str:
    return f", {num_test:,} test rows" if num_test else ""


def worth_knowing(content: dict[str, Any]) -> list[str]:
    """Return the remarks and what went wrong on the way; of an alarm its end too, which is only a note."""
    worth = [
        str(notice["message"])
        for notice in content["notices"]
        if notice["severity"] in ("warning", "error") or is_alarm(notice["code"])
    ]
    return list(dict.fromkeys([*content["remarks"], *worth]))


def _worth_knowing(content: dict[str, Any]) -> str:
    texts = worth_knowing(content)
    return "## Worth knowing\n\n" + "\n".join(f"- {escape_markdown(text)}" for text in texts) if texts else ""


def _recipe(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {inline_code(row['path'])} | {escape_markdown(_value(row['value']))} | {escape_markdown(row['source'])} |"
        for row in rows
    ]
    return "\n".join(["## Recipe", "", "| setting | value | where it comes from |", "|---|---|---|", *lines])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(clean_line(item) for item in value)
    return "none" if value is None or value == {} else clean_line(value)


def _versions(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    return f"Run {inline_code(content['run_id'])}, {content['state']}. {escape_markdown(versions)}".rstrip()
