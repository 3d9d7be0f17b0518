"""The review as text: the plan, the recipe with the source of each value, the headless command."""

import shlex
from typing import TYPE_CHECKING, Any

from textual.content import Content

from engine.recipe.problems import Problem
from engine.recipe.sources import flatten
from engine.text import clean, clean_line, human_bytes, human_count
from tui.widgets.labels import fit, hanging, problem_label, tail
from tui.widgets.memory_bar import UP_TO, component_table, free_mark, memory_stack
from tui.wizard.option_words import about, peak_words
from tui.wizard.settings_rows import value_text

if TYPE_CHECKING:
    from engine.planning.plan import Plan

LABEL_WIDTH = 9
KEY_WIDTH = 22
VALUE_WIDTH = 24
_XRAY_KEY = "x\N{NO-BREAK SPACE}looks"
"""Never wrapped between the key and what it does."""


def _line(label: str, *parts: Content | str | tuple[str, str]) -> Content:
    return Content.assemble((f"{label:<{LABEL_WIDTH}}", "$accent"), *parts)


def plan_content(plan: "Plan", problems: list[Problem], width: int, *, xray: str = "", roomy: bool = True) -> Content:
    """Return the plan in words: what speaks against it, what will run, what it needs, and notes at the end.

    Args:
        plan: The plan.
        problems: Findings, errors first. A note speaks against nothing.
        width: Cells of a line.
        xray: What the X-ray found, in a few words; empty while it is not known.
        roomy: Whether there are lines to spare between the parts.
    """
    gap = [Content("")] if roomy else []
    notes = [problem_label(problem) for problem in problems if problem.severity == "note"]
    lines = [problem_label(problem) for problem in problems if problem.severity != "note"]
    if not lines:
        lines.append(Content.styled("✓ Ready. Nothing speaks against this run.", "$success"))
    words = hanging(f"{xray}  {_XRAY_KEY}", LABEL_WIDTH, width - 1).lstrip()
    seen = [_line("X-ray", words.removesuffix(_XRAY_KEY), (_XRAY_KEY, "$text-muted"))] if xray else []
    lines += [*gap, *_what_lines(plan), *seen, *_effort_lines(plan, width), *gap, *_memory_lines(plan, width)]
    return Content("\n").join([*lines, *gap, *notes] if notes else lines)


def _what_lines(plan: "Plan") -> list[Content]:
    recipe, data = plan.recipe, plan.data
    rank = f", rank {recipe.method.rank}" if recipe.method.rank and recipe.method.facts.learns == "low-rank" else ""
    base = tail(_base(plan), 53)
    return [
        _line("Model", (base, "bold"), f"  {human_count(plan.model.num_params)} weights"),
        _line("Method", (clean_line(recipe.method.name or ""), "bold"), f"{rank} on {clean_line(plan.device.name)}"),
        _line("Data", (f"{data.num_train:,}", "bold"), f" rows to learn from, {data.num_held_out:,} held out"),
    ]


def _base(plan: "Plan") -> str:
    """Return the base model as a person says it; the plan has the folder of a model that a run has left."""
    return plan.model.base if plan.model.from_run else plan.recipe.model.base


def _effort_lines(plan: "Plan", width: int) -> list[Content]:
    steps, disk = plan.steps, plan.disk
    gpus = f" × {steps.num_gpus} GPUs" if steps.num_gpus > 1 else ""
    rows = steps.micro_batch * steps.accumulation * steps.num_gpus
    # What a step learns from is written by the model itself.
    unit = "answers" if plan.recipe.goal.signal == "prompts" else "rows"
    batch = f"{rows} {unit} ({steps.micro_batch} × {steps.accumulation}{gpus})"
    every = f"evaluates every {steps.evaluate_every}, saves every {steps.checkpoint_every}"
    duration: Content | str = "not known before the first steps"
    if plan.time is not None:
        span = f"{about(plan.time.low_s)} to {about(plan.time.high_s)}"
        words = hanging(f"about {span}  {clean_line(plan.time.basis)}", LABEL_WIDTH, width - 1).lstrip()
        at = len(f"about {span}")
        duration = Content.assemble((words[:at], "bold"), (words[at:], "$text-muted"))
    free = f" of {human_bytes(disk.free_bytes)} free" if disk.free_bytes is not None else ""
    fetched = f"  {human_bytes(disk.download_bytes)} to download" if disk.download_bytes else ""
    return [
        _line("Steps", (f"{steps.total_steps:,}", "bold"), f" of {batch}", (f"  {every}", "$text-muted")),
        _line("Time", duration),
        _line("Disk", (human_bytes(disk.total_bytes), "bold"), free, (fetched, "$text-muted")),
    ]


def _memory_lines(plan: "Plan", width: int) -> list[Content]:
    """Return the range and how it was found, the stack of components, every part with its number, and the phases."""
    memory = plan.memory
    span = f"{human_bytes(memory.low_bytes)} to {human_bytes(memory.high_bytes)}"
    limit = memory.available_bytes
    free = f" of {human_bytes(limit)} free ({free_mark(memory)})" if limit is not None else ""
    found = memory.depth + (", low confidence" if memory.confidence == "low" else "")
    style = {"formula": "$text-muted", "simulated": "$success", "measured": "$success"}[memory.depth]
    head = _line("Memory", (span, "bold"), f" ({UP_TO}){free} on {clean_line(memory.where)}", (f"  {found}", style))
    lines = [head, memory_stack(memory, max(20, width - 1)), *component_table(memory, max(20, width - 1))]
    if peaks := peak_words(memory):
        lines.append(Content(hanging(f"Peaks    {peaks}", 0, width - 1)))
    lines += [Content.styled(hanging(f"i {note}", 0, width - 1), "$text-muted") for note in memory.notes]
    return lines


def recipe_content(plan: "Plan", width: int) -> Content:
    """Return every value of the resolved recipe with its source."""
    lines: list[Content] = []
    section = ""
    for path, value in flatten(plan.recipe.model_dump()).items():
        head = path.rpartition(".")[0]
        if head != section:
            section = head
            lines.append(Content.styled(("\n" if lines else "") + head, "bold $accent"))
        lines.append(_recipe_line(path, _base(plan) if path == "model.base" else value, plan, width))
    return Content("\n").join(lines)


def _recipe_line(path: str, value: Any, plan: "Plan", width: int) -> Content:
    source = plan.sources.get(path)
    kind = source.kind if source is not None else "default"
    origin = ""
    if source is not None:
        origin = f"{kind}: {source.detail}" if kind == "derived" else f"{kind} {source.detail}".strip()
    text = value_text(value, planned=True)
    key = path.rpartition(".")[2]
    indent = 2 + KEY_WIDTH + VALUE_WIDTH + 2
    where = hanging(origin, indent, width).lstrip()
    # A long value keeps its whole text and pushes its source to the next line.
    gap = " " * (VALUE_WIDTH + 2 - len(text)) if len(text) <= VALUE_WIDTH else "\n" + " " * indent
    return Content.assemble(
        (f"  {fit(key, KEY_WIDTH)}", ""),
        (text + gap, "bold" if kind == "you" else ""),
        (where, "$accent" if kind in ("you", "preset") else "$text-muted"),
    )


def command_content(plan: "Plan", recipe_text: str) -> Content:
    """Return the headless command and the recipe file that it reads."""
    command = clean(shlex.join(plan.command)) if plan.command else ""
    return Content.assemble(
        ("The same run without a screen:\n\n", "$text-muted"),
        (f"  {command}\n\n", "bold $success"),
        ("The recipe, as ", "$text-muted"),
        ("s", "bold $footer-key-foreground"),
        (" saves it:\n\n", "$text-muted"),
        (clean(recipe_text), ""),
    )
