"""Write docs/objectives.md from the catalogue and the matrix; with --check only tell whether it is true.

python scripts/write_objective_docs.py [--check]
"""

import argparse
import sys
from pathlib import Path

from engine.catalog.matrix import models_of, reason_against
from engine.catalog.methods import METHODS
from engine.catalog.metrics import METRICS
from engine.catalog.objectives import OBJECTIVES, ModelKind, Objective
from engine.recipe.fields import fields_by_path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "objectives.md"
INTRODUCTION = """\
# Choose an objective

<!-- Written by scripts/write_objective_docs.py from the catalogue; do not edit by hand. -->

What should the model learn? The rows that you have decide most of it: `ftwizard data inspect PATH` says which
objective they suit. All of them are planned, measured before and after, stopped, resumed and exported in the same way.
"""
SHORT_KINDS: dict[ModelKind, str] = {
    "decoder": "decoder",
    "encoder": "encoder",
    "encoder-decoder": "encoder-decoder",
    "vision": "images",
    "audio": "sound",
}


def overview() -> str:
    """Return one line for each objective."""
    lines = ["| objective | learns | rows |", "|---|---|---|"]
    for entry in OBJECTIVES:
        rows = ", ".join(f"`{shape}`" for shape in entry.formats)
        lines.append(f"| [`{entry.name}`](#{entry.name}) | {entry.summary} | {rows} |")
    return "\n".join(lines)


def page_of(entry: Objective) -> str:
    """Return a link to the page of an objective where there is one."""
    page = DOCS / "objectives" / f"{entry.name}.md"
    return f"\n\nMore: [{entry.title.lower()}](objectives/{entry.name}.md)." if page.is_file() else ""


def section(entry: Objective) -> str:
    """Return the section of an objective."""
    metrics = ", ".join(dict.fromkeys(metric.title for metric in METRICS if metric.choice in entry.metrics))
    lines = [
        f"## {entry.title}",
        f'<a id="{entry.name}"></a>`objective: {entry.name}`. {entry.summary}',
        f"- **When**: {entry.when}",
        f"- **Not when**: {entry.when_not}",
        f"- **Data**: {entry.needs}",
        f"- **Models**: {models_of(entry)}",
        f"- **Measured**: {metrics}.",
    ]
    own = [path for path in entry.settings if path.split(".")[0] not in ("training", "evaluation", "model", "data")]
    text = "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])
    if own:
        text += "\n\nSettings of its own:\n\n" + "\n".join(
            f"- `{path}`: {fields_by_path()[path].description}" for path in own
        )
    return text + page_of(entry)


def matrix() -> str:
    """Return which method suits which objective, by kind of model, with the reasons for what does not."""
    columns = [(entry, kind) for entry in OBJECTIVES for kind in entry.kinds]
    head = "| | " + " | ".join(f"{entry.name}, {SHORT_KINDS[kind]}" for entry, kind in columns) + " |"
    reasons: list[str] = []
    rows = []
    for method in METHODS:
        cells = []
        for entry, kind in columns:
            reason = reason_against(entry.name, method.name, kind)
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"no [{reasons.index(reason) + 1}]" if reason else "yes")
        rows.append(f"| `{method.name}` | " + " | ".join(cells) + " |")
    told = "\n".join(f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1))
    table = "\n".join([head, "|---" * (len(columns) + 1) + "|", *rows])
    return f"## Which method suits which objective\n\n{table}\n\n{told}".rstrip()


def page() -> str:
    """Return the whole page."""
    return "\n\n".join([INTRODUCTION.rstrip(), overview(), *map(section, OBJECTIVES), matrix()]) + "\n"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        print(f"wrote {PAGE.name}")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/objectives.md is out of date; run scripts/write_objective_docs.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
