"""Write docs/recipe.md from the schema, the catalogue and the presets; with --check only tell whether it is true.

python scripts/write_recipe_docs.py [--check]
"""

import argparse
import sys
from pathlib import Path

from engine.catalog.methods import METHODS, Method
from engine.catalog.metrics import METRICS, Metric
from engine.catalog.objectives import OBJECTIVES, Objective
from engine.recipe.fields import RecipeField, recipe_fields, section_titles
from engine.recipe.presets import find_preset, list_presets
from engine.recipe.read import dump_recipe, set_value

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipe.md"
EXAMPLE = "chat-lora"
NO_OWN_PRESETS = Path(__file__).resolve().parent / "no-such-folder"

INTRODUCTION = """\
# The recipe

<!-- Written by scripts/write_recipe_docs.py from the schema; do not edit by hand. -->

A recipe says what you want: objective, base model, method, data, training, evaluation and delivery. Only `objective`,
`model.base` and `data.source` must be set; the plan derives the rest from the model, the data and the machine, and
says from what. `ftwizard plan RECIPE` shows every value with its source, `ftwizard schema` prints the JSON Schema for
editors.
"""

READING = """\
## How a recipe file is read

YAML 1.2, strictly. `1e-4` is a number; `no`, `on`, `12:30` and dates are text; `010` is ten. A number where text is
wanted stays as it is written, so that `revision: 1.10` is `1.10`. Anchors, aliases, tags, duplicate keys, tabs in the
indentation and a second document are refused, each with file, line and column. A recipe has at most 256 KiB and 20
levels. Nothing is filled in: `${HOME}` is text. Unknown keys are refused with the nearest valid one, and so are
settings that the chosen path does not read, such as `method.rank` with `method.name: full`.

`--set PATH=VALUE` takes the same values: `--set training.epochs=2`, `--set data.mapping.prompt=question`,
`--set evaluation.metrics=perplexity,rouge`. Text is taken as it stands; nothing after the `=`, or `null`, empties a
value. What you set wins over a preset, and a preset over the defaults.

A relative path is looked up where you stand, then beside the recipe file, and written into the run as an absolute one;
a folder that is to be written (`delivery.output`) belongs where you stand. `~` is your home folder.
"""


def cell(text: str) -> str:
    """Return text that stays in one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def default_text(field: RecipeField) -> str:
    """Return the default as a recipe would spell it."""
    if field.required:
        return "**must be set**"
    if field.default is None:
        return "derived"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return (
        "none"
        if field.default == {}
        else f"`{field.default:g}`"
        if isinstance(field.default, float)
        else f"`{field.default}`"
    )


def field_row(field: RecipeField) -> str:
    """Return the table row of one field."""
    takes = field.expected().removesuffix(", or null")
    text = f"{field.description} {field.why}".strip()
    return f"| `{field.key}` | {cell(takes)} | {default_text(field)} | {cell(text)} |"


def field_table(fields: list[RecipeField]) -> str:
    """Return the table of the fields of one section."""
    head = ["| key | takes | default | what it does, and why the default is what it is |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *map(field_row, fields)])


def sections() -> str:
    """Return a table of the fields at the top and one for each section."""
    fields = recipe_fields()
    parts = ["## Keys at the top", field_table([field for field in fields if not field.section])]
    for name, (_, description) in section_titles().items():
        parts += [f"## `{name}`", description, field_table([field for field in fields if field.section == name])]
    return "\n\n".join(parts)


def choices() -> str:
    """Return what the names of objectives, methods and metrics mean."""
    lines = ["## Objectives, methods, metrics", "| name | what | when | when not |\n| --- | --- | --- | --- |"]
    entries: list[Objective | Method | Metric] = [*OBJECTIVES, *METHODS, *METRICS]
    rows = [
        f"| `{entry.name}` | {cell(entry.summary)} | {cell(entry.when)} | {cell(entry.when_not)} |" for entry in entries
    ]
    return "\n".join(["\n\n".join(lines), *rows])


def presets() -> str:
    """Return the shipped presets as a table, and one of them as an example of a recipe."""
    shipped = list_presets(NO_OWN_PRESETS)
    rows = [
        f"| `{preset.name}` | {cell(preset.summary)} | {cell(preset.needs)} "
        f"| {', '.join(f'`{hole}`' for hole in preset.holes) or 'nothing'} |"
        for preset in shipped
    ]
    table = "\n".join(["| preset | what it does | needs | you fill in |", "| --- | --- | --- | --- |", *rows])
    own = (
        "Your own lie in `$FTWIZARD_HOME/presets`, or `~/.config/ftwizard/presets`: a recipe in `NAME.yaml` with a "
        "section\n`preset` that holds `title`, `summary`, `needs` and `holes`. `ftwizard run NAME` starts one."
    )
    example = find_preset(EXAMPLE, NO_OWN_PRESETS)
    tree = set_value(example.tree, "data.source=answers.jsonl")
    text = f"`{example.name}` with its hole filled:\n\n```yaml\n{dump_recipe(tree)}```"
    return "\n\n".join(["## Presets", table, own, text])


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, READING, sections(), "", choices(), "", presets(), ""])


def main() -> int:
    """Write the page, or with `--check` compare it; 1 when it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    text = page()
    if parser.parse_args().check:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is {'up to date' if current else 'out of date; run scripts/write_recipe_docs.py'}")
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
