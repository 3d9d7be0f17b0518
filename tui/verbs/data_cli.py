"""`ftwizard data ...`: the options of the data verbs; each verb imports what it needs when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from engine.catalog.objectives import OBJECTIVES
from tui.verbs.output import run_verb

data_app = typer.Typer(
    name="data",
    help="Look at data before a run, see it as the trainer will, clean it, split it.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, folders, patterns, hub:OWNER/NAME or builtin:commands."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one setting of data, such as data.max_rows=1000."),
]
_OBJECTIVES = ", ".join(objective.name for objective in OBJECTIVES)
Objective = Annotated[
    str | None,
    typer.Option("--objective", metavar="NAME", help=f"{_OBJECTIVES}; found from the rows if left out."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@data_app.command()
def inspect(
    paths: Paths,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Count tokens with its tokenizer, and check them.")
    ] = None,
    objective: Objective = None,
    changes: Changes = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FOLDER", help="Write data-report.md and data-report.html there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what data is, what is wrong with it, and what a run would make of each row."""
    from tui.verbs.data import inspect as look
    from tui.verbs.data_recipe import DataWish

    wish = DataWish(paths, changes or [], model, objective)
    run_verb(lambda: look(wish, as_json=as_json, report=report), as_json=as_json)


@data_app.command()
def xray(
    paths: Paths,
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="Whose tokenizer and chat template.")],
    sequence: Annotated[int | None, typer.Option("--sequence", metavar="N", min=1, help="Start at sequence N.")] = None,
    longest: Annotated[bool, typer.Option("--longest", help="The longest first.")] = False,
    cut: Annotated[bool, typer.Option("--cut", help="Those that are cut.")] = False,
    odd: Annotated[bool, typer.Option("--odd", help="Those that stand out, with the reason.")] = False,
    page: Annotated[int | None, typer.Option("--page", metavar="N", min=1, help="Page of --count sequences.")] = None,
    count: Annotated[int, typer.Option("--count", metavar="K", min=1, max=100, help="Sequences to show.")] = 3,
    max_length: Annotated[
        int | None, typer.Option("--max-length", metavar="L", min=1, help="Sequence length; as a plan would take it.")
    ] = None,
    objective: Objective = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Show sequences token by token as the trainer gets them: what is trained, and what is only context."""
    from tui.verbs.data_recipe import DataWish
    from tui.verbs.data_xray import wish_of
    from tui.verbs.data_xray import xray as show

    wish = DataWish(paths, changes or [], model, objective)

    def act() -> int:
        shown = wish_of(
            sequence=sequence, page=page, longest=longest, cut=cut, odd=odd, count=count, max_length=max_length
        )
        return show(wish, shown, as_json=as_json)

    run_verb(act, as_json=as_json)


@data_app.command()
def clean(
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: .jsonl or .parquet.")],
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Remove hidden characters, repair double encoding, mask secrets; rows stay."),
    ] = False,
    dropped: Annotated[
        Path | None, typer.Option("--dropped", metavar="FILE", help="Write the rows left out, each with its reason.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    objective: Objective = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Write the rows that a run would use, in one form, cleaned as the settings say.

    Without --fix and --set the text stays as it is and only rows that cannot be used, and equal ones, are left out.
    """
    from tui.verbs.data_files import CleanWish
    from tui.verbs.data_files import clean as write_cleaned
    from tui.verbs.data_recipe import DataWish

    wish = DataWish(paths, changes or [], None, objective)
    target = CleanWish(out, dropped, fix=fix, force=force)
    run_verb(lambda: write_cleaned(wish, target, as_json=as_json), as_json=as_json)


@data_app.command()
def split(
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder to make.")],
    held_out: Annotated[float, typer.Option("--held-out", metavar="SHARE", help="Share to judge on.")] = 0.1,
    test: Annotated[
        float | None, typer.Option("--test", metavar="SHARE", help="Share to put aside for a last test.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="random, stratified, group or time.")
    ] = "random",
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="Column that the split goes by.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the draw.")] = None,
    objective: Objective = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Divide rows into train.jsonl, held_out.jsonl and test.jsonl, recorded and repeatable.

    Rows keep the columns and values that they have; equal and nearly equal ones stay on one side.
    """
    from tui.verbs.data_files import SplitWish
    from tui.verbs.data_files import split as write_split
    from tui.verbs.data_recipe import DataWish

    wish = DataWish(paths, changes or [], None, objective)
    target = SplitWish(out, held_out, test, method, column, seed)
    run_verb(lambda: write_split(wish, target, as_json=as_json), as_json=as_json)
