"""`ftwizard plan`, `presets` and `schema`: what would be done, and what there is to choose from."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from engine.text import clean, clean_line
from tui.plan_text import WIDTH, heading_lines, length_line, option_lines, plan_lines, way_lines
from tui.verbs.output import EXIT_WRONG_USE, print_json, print_problems, print_table

if TYPE_CHECKING:
    from engine.planning.plan import Plan


def plan(reference: str, changes: Sequence[str], *, as_json: bool, gpu: str | None = None, fast: bool = False) -> int:
    """Print the plan of a recipe or preset; exit code 2 when it must not be started.

    Args:
        reference: A recipe file, or the name of a preset.
        changes: `--set` arguments.
        as_json: Print the plan as JSON.
        gpu: A machine to plan for instead of this one, such as `24GiB`.
        fast: Keep to the formula, without a rehearsal.
    """
    from engine.helper import InspectionHelper
    from tui.preparation import prepare, read_reference

    layered = read_reference(reference, changes)
    helper = InspectionHelper()
    try:
        made = prepare(layered, helper, reference=reference, gpu=gpu, assume=True).plan
    finally:
        helper.close()
    if not fast:
        made = _rehearsed(made)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        named = (reference,) if reference else ()
        print_plan(made, command=("ftwizard", "run", *named, *(word for c in changes for word in ("--set", c))))
    return EXIT_WRONG_USE if made.blocked else 0


def _rehearsed(made: "Plan") -> "Plan":
    """Return a plan rehearsed; ctrl+c keeps the formula's answer, as nothing is started here."""
    from tui.preparation import deepened, not_rehearsed

    try:
        return deepened(made, lambda line: typer.echo(f"{line} ctrl+c keeps the formula's answer.", err=True))
    except KeyboardInterrupt:
        return not_rehearsed(made, "you stopped the rehearsal")


def print_plan(made: "Plan", *, command: Sequence[str] = ()) -> None:
    """Print a plan for people: what will run, memory, the ranked table, lengths, ways, settings, findings.

    Args:
        made: The plan.
        command: As for `plan_lines`.
    """
    for line in heading_lines(made):
        typer.echo(typer.style(line, bold=True))
    _print_section("", plan_lines(made, command=command))
    _print_section("Ways to carry it out, the best first", option_lines(made.options))
    if words := length_line(made.lengths, made.recipe.training.max_length):
        _print_section("Sequence length", textwrap.wrap(f"{words}.", WIDTH))
    _print_section("Ways to make it fit", way_lines(made.ways))
    typer.echo()
    _print_settings(made)
    if made.findings:
        typer.echo()
        print_problems(made.findings, err=False)


def _print_section(title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    typer.echo()
    if title:
        typer.echo(typer.style(title, bold=True))
    for line in lines:
        typer.echo(line)


def _print_settings(made: "Plan") -> None:
    """Print every value with its source; on a terminal a row never takes two lines."""
    from engine.recipe.sources import flatten

    values = flatten(made.recipe.model_dump(mode="json"))
    rows = [(path, _shown(value), _source(made, path)) for path, value in values.items() if value not in (None, {}, [])]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - max(len(path) for path, _, _ in rows) - 4
        value_room = min(room // 2, max(len(value) for _, value, _ in rows))
        rows = [
            (path, clean_line(value, max_chars=value_room), clean_line(source, max_chars=max(1, room - value_room)))
            for path, value, source in rows
        ]
    print_table(("Setting", "Value", "Source"), rows)


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
