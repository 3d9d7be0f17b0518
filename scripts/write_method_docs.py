"""Write docs/methods.md from the catalogue; with --check only tell whether it is true.

python scripts/write_method_docs.py [--check]
"""

import argparse
import sys
from pathlib import Path

from engine.catalog.learning_rates import RATE_FAMILIES
from engine.catalog.methods import AUTOMATIC, METHODS, VARIANTS, Method, find_method
from engine.recipe.fields import fields_by_path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "methods.md"
INTRODUCTION = """\
# Choose a method

<!-- Written by scripts/write_method_docs.py from the catalogue; do not edit by hand. -->

A method says which weights learn: it decides on memory, on time and on how much the model can change. Without
`method.name` the plan takes full fine-tuning for small models, where it fits with room to spare, and else the first of
{others} that fits the machine; the other methods are taken when they are asked for. The method step of the wizard
and `ftwizard plan` show what each needs here, and why one cannot run. Each of them is trained, stopped in the middle
of a step and resumed bit for bit, exported and read back in `tests/engine/test_method_matrix.py`, with every objective
and every kind of model that takes it. Which method suits which objective: see
[the matrix](objectives.md#which-method-suits-which-objective).
"""
WHAT_LEARNS = {
    "whole": "every weight",
    "part": "the top of the model",
    "low-rank": "matrices beside linear layers",
    "scales": "scales of keys, values and inner features",
    "virtual-tokens": "tokens in front of the text",
    "encoded-tokens": "tokens in front of the text, made by a network",
    "virtual-keys": "keys and values in front of the text",
    "bottleneck": "small layers behind those of each block",
}
NEW_TOKENS = """\
## New tokens

`model.new_tokens: [<tool>, <call>]` makes words tokens of their own. Their rows of the embeddings, and of an output
layer that is not tied to them, start as the mean of the others. With LoRA and its kin these rows alone learn, and are
part of the adapter; with full fine-tuning they learn with everything else. They are text like other text, so answers
show them. A word that is a token already is refused, and so is a method with which no row would learn.
"""


def overview() -> str:
    """Return one line for each method."""
    lines = ["| method | what learns | the base model | the result | learning rate |", "|---|---|---|---|---|"]
    for method in METHODS:
        link = f"[`{method.name}`](#{method.name})"
        cells = [link, WHAT_LEARNS[method.learns], base_of(method), result_of(method), rate_of(method)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def base_of(method: Method) -> str:
    """Return how the base model is held while training."""
    if method.bits is not None:
        return f"in {method.bits} bits"
    if method.learns == "part":
        return "what learns in 32 bits, the rest as it is computed in"
    return "in 32 bits, with gradients" if method.trains_base else "in 16 or 32 bits, frozen"


def result_of(method: Method) -> str:
    """Return what a run leaves."""
    if method.trains_base:
        return "a whole model"
    return "an adapter, merged too" if method.mergeable else "an adapter, never merged"


def rate_of(method: Method) -> str:
    """Return the usual learning rates, from large models to tiny ones."""
    rates = [rate for _, rate in RATE_FAMILIES[method.rates].rates]
    return f"{rates[-1]:g} to {rates[0]:g}"


def section(method: Method) -> str:
    """Return the section of a method."""
    lines = [
        f"## {method.title}",
        f'<a id="{method.name}"></a>`method.name: {method.name}`. {method.summary}',
        f"- **When**: {method.when}",
        f"- **Not when**: {method.when_not}",
        f"- **Memory**: {method.needs}",
        *limits(method),
    ]
    text = "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])
    own = [path for path in method.settings if path.startswith("method.")]
    told = [f"- `{path}`: {fields_by_path()[path].description} {fields_by_path()[path].why}" for path in own]
    if method.learns == "low-rank" and method.name != "lora":
        return f"{text}\n\nIts settings are those of [LoRA](#lora)."
    return text + ("\n\n" + "\n".join(told) if told else "")


def limits(method: Method) -> list[str]:
    """Return what cannot be had with a method."""
    found = []
    if method.makes_adapter and not method.mergeable:
        found.append("- **Not merged**: programs must load the base model with the adapter; `delivery.merge` is off.")
    if method.adds_tokens:
        found.append("- **Context**: rows are shorter by the virtual tokens, and are not packed.")
    if not method.recomputes:
        found.append("- **No activation checkpointing**: the keys and values that learn would be lost.")
    if not method.trains_tokens:
        found.append("- **No new tokens**: no row of the embeddings learns.")
    return found


def variants() -> str:
    """Return the variants of LoRA."""
    lines = ["## Variants of LoRA", "| `method.variant` | what is different | when |\n|---|---|---|"]
    rows = [f"| `{one.name}` ({one.title}) | {one.summary} | {one.when} |" for one in VARIANTS]
    return "\n".join(["\n\n".join(lines), *rows])


def page() -> str:
    """Return the whole page."""
    others = " and ".join(f"`{name}`" for name in AUTOMATIC if not find_method(name).trains_base)
    parts = [INTRODUCTION.format(others=others).rstrip(), overview(), *map(section, METHODS), variants()]
    return "\n\n".join([*parts, NEW_TOKENS.rstrip()]) + "\n"


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
    print("docs/methods.md is out of date; run scripts/write_method_docs.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
