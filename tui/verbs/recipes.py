"""`ftwizard plan`, `presets` and `schema`: what would be done, and what there is to choose from."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from engine.text import clean, clean_line, human_bytes, human_count, human_duration
from tui.verbs.output import EXIT_WRONG_USE, print_json, print_problems, print_table

if TYPE_CHECKING:
    from engine.planning.plan import Plan


def plan(reference: str, changes: Sequence[str], *, as_json: bool) -> int:
    """Print the plan of a recipe or preset; exit code 2 when it must not be started."""
    from engine.helper import InspectionHelper
    from tui.preparation import prepare, read_reference

    helper = InspectionHelper()
    try:
        made = prepare(read_reference(reference, changes), helper, reference=reference).plan
    finally:
        helper.close()
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        print_plan(made, command=("ftwizard", "run", reference, *(word for c in changes for word in ("--set", c))))
    return EXIT_WRONG_USE if made.blocked else 0


def print_plan(made: "Plan", *, command: Sequence[str] = ()) -> None:
    """Print a plan for people: values with their source, memory by component, time, disk, findings.

    Args:
        made: The plan.
        command: As for `plan_lines`.
    """
    from engine.recipe.sources import flatten

    values = flatten(made.recipe.model_dump(mode="json"))
    rows = [
        (path, _shown(value), _source(made, path))
        for path, value in values.items()
        if value is not None and value != {}
    ]
    print_table(("Setting", "Value", "Source"), rows)
    typer.echo()
    for line in plan_lines(made, command=command):
        typer.echo(line)
    if made.findings:
        typer.echo()
        print_problems(made.findings, err=False)


def plan_lines(made: "Plan", *, command: Sequence[str] = ()) -> list[str]:
    """Return the numbers of a plan as short lines: device, steps, memory, time, disk, command.

    Args:
        made: The plan.
        command: What starts the same run from here; the plan's own speaks of a file `recipe.yaml` in this folder.
    """
    memory, steps = made.memory, made.steps
    parts = ", ".join(f"{name} {human_bytes(size)}" for name, size in memory.components.items() if size)
    lines = [
        f"Model    {clean_line(made.model.base)}, {human_count(made.model.num_params)} parameters",
        f"Data     {made.data.num_train} training rows, {made.data.num_held_out} held out",
        f"Device   {clean_line(made.device.name)}",
        f"Steps    {steps.total_steps} ({steps.steps_per_epoch} per epoch), "
        f"micro-batch {steps.micro_batch} x accumulation {steps.accumulation}",
        f"Memory   {human_bytes(memory.expected_bytes)} expected, {human_bytes(memory.low_bytes)} to "
        f"{human_bytes(memory.high_bytes)}, {human_bytes(memory.available_bytes)} free "
        f"({memory.where}, {memory.basis})",
        f"         {parts}",
    ]
    if made.time is not None:
        lines.append(
            f"Time     {human_duration(made.time.low_s)} to {human_duration(made.time.high_s)} ({made.time.basis})"
        )
    lines.append(f"Disk     {disk_words(made)}")
    if words := command or made.command:
        lines.append(f"Command  {clean_line(shlex.join(words))}")
    return lines


def disk_words(made: "Plan") -> str:
    """Return what a run writes and downloads, and what is free for it."""
    disk = made.disk
    words = f"{human_bytes(disk.total_bytes)} written, {human_bytes(disk.free_bytes)} free"
    if not disk.download_bytes:
        return words
    if disk.download_free_bytes is None:
        return f"{words}; {human_bytes(disk.download_bytes)} of it is downloaded"
    free = human_bytes(disk.download_free_bytes)
    return f"{words}; {human_bytes(disk.download_bytes)} downloaded to another disk, {free} free"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _source(made: "Plan", path: str) -> str:
    source = made.sources.get(path)
    if source is None:
        return ""
    return f"{source.kind}: {source.detail}" if source.detail else source.kind


def presets(name: str | None, *, as_json: bool) -> int:
    """List the presets, or print one as the recipe it is."""
    from engine.recipe.presets import broken_presets, find_preset, list_presets

    if name is not None:
        from engine.recipe.read import dump_recipe

        preset = find_preset(name)
        if as_json:
            print_json({"name": preset.name, "title": preset.title, "recipe": preset.tree, "holes": list(preset.holes)})
        else:
            typer.echo(clean(dump_recipe(preset.tree)), nl=False)
        return 0
    found = list_presets()
    if as_json:
        print_json(
            [
                {"name": p.name, "title": p.title, "summary": p.summary, "needs": p.needs, "holes": list(p.holes)}
                for p in found
            ]
        )
    else:
        for preset in found:
            typer.echo(f"{typer.style(clean_line(preset.name), bold=True)}  {clean_line(preset.title)}")
            typer.echo(f"    {clean_line(preset.summary)}")
            typer.echo(f"    Needs: {clean_line(preset.needs)}")
        print_problems(broken_presets())
        typer.echo(
            "\nStart one with `ftwizard run NAME --set data.source=FILE`, or in the wizard with `--preset NAME`."
        )
    return 0


def schema() -> int:
    """Print the JSON Schema of the recipe, for editors."""
    from engine.recipe.schema import Recipe

    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()})
    return 0
