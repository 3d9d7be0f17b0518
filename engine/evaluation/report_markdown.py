"""The report in Markdown, for a terminal, a merge request or a mail."""

from typing import Any

from engine.evaluation.markup import code_block, escape_markdown, inline_code
from engine.evaluation.report_memory import memory_words
from engine.text import clean_line, human_count, human_duration

MAX_SAMPLE_CHARS = 2000


def markdown_report(content: dict[str, Any]) -> str:
    """Return the report; `content` is that of `report.json`."""
    sections = (
        f"# {escape_markdown(content['name'])}",
        escape_markdown(content["headline"]["text"]),
        _metrics(content),
        _samples(content["samples"]),
        _training(content),
        _worth_knowing(content),
        _recipe(content["recipe"]),
        _versions(content),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _metrics(content: dict[str, Any]) -> str:
    if not content["metrics"]:
        return ""
    rows = [
        f"| {row['title']} ({row['better']} is better) "
        f"| {row['before_text']} | {row['after_text']} | {row['verdict']} |"
        for row in content["metrics"]
    ]
    note = f"{content['evaluated']['num_rows']:,} held-out rows."
    return "\n".join(["## Before and after", "", note, "", "| | before | after | |", "|---|---:|---:|---|", *rows])


def _samples(samples: list[dict[str, str]]) -> str:
    parts = ["## Samples"] if samples else []
    for sample in samples:
        for name in ("prompt", "before", "after", "expected"):
            if sample[name] or name != "expected":
                text = code_block(sample[name] or "(nothing)", max_chars=MAX_SAMPLE_CHARS)
                parts.append(f"{name.capitalize()}:\n\n{text}")
    return "\n\n".join(parts)


def _training(content: dict[str, Any]) -> str:
    training, model, memory, data = (content[name] for name in ("training", "model", "memory", "data"))
    elapsed = training["elapsed_s"] if isinstance(training["elapsed_s"], int | float) else None
    lines = [
        f"- Base model: {inline_code(model['base'])}, {human_count(model['num_params'])} weights, "
        f"{human_count(model['trainable_params'])} of them trained ({escape_markdown(content['method'])})",
        f"- Data: {data['num_train']:,} training rows, {data['num_held_out']:,} held out; "
        f"sha256 {inline_code(data['sha256'] or 'unknown')}",
        f"- Steps: {training['steps']:,} of {training['total_steps']:,}, {training['effective_batch']} rows each, "
        f"{human_duration(elapsed)} on {escape_markdown(training['device'])}",
        f"- Memory: {escape_markdown(memory_words(memory))}",
    ]
    for kind in ("merged", "adapter"):
        if model[kind]:
            lines.append(f"- {kind.capitalize()} model: {inline_code(model[kind])}")
    return "## Training\n\n" + "\n".join(lines)


def _worth_knowing(content: dict[str, Any]) -> str:
    worth = [str(notice["message"]) for notice in content["notices"] if notice["severity"] in ("warning", "error")]
    texts = list(dict.fromkeys([*content["remarks"], *worth]))
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
