"""The `ftwizard` command: the wizard by default, and every verb without a screen.

This module imports typer and nothing else of weight, so that `ftwizard --help` answers at once; each verb imports what
it needs when it is called.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tui.verbs.data_cli import data_app
from tui.verbs.output import EXIT_WRONG_USE, run_verb

EPILOG = (
    "Exit codes: 0 done; 1 failed; 2 wrong use, or a plan that must not be started; "
    "75 interrupted, resumable; 130 left with ctrl+c."
)

app = typer.Typer(
    name="ftwizard",
    help="Fine-tune models on your own machine, and see them learn. Without a verb the wizard starts.",
    epilog=EPILOG,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app)

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the recipe; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of screens.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Start the run and come back at once.")]
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="[RECIPE_OR_PRESET]",
        help="A recipe file, or the name of a preset; may be left out where --set says all.",
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, the beginning of one, its folder, or `latest`.")
]

ObjectiveName = Annotated[
    str | None, typer.Option("--objective", metavar="NAME", help="What the rows ask for; found out if left out.")
]
MetricNames = Annotated[str, typer.Option("--metrics", metavar="A,B", help="Only these; all that fit if left out.")]
MaxRows = Annotated[
    int | None,
    typer.Option("--max-rows", min=1, metavar="N", help="Most rows; else 500 are read and 100 of them answered."),
]
DataChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="data.X=Y", help="How the data is read, such as data.mapping.prompt=question."),
]
Again = Annotated[bool, typer.Option("--again", help="Measure anew what was measured before.")]


@app.callback(invoke_without_command=True)
def wizard(
    context: typer.Context,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Open the wizard at its review, filled from a preset."),
    ] = None,
    plain: Plain = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Start the wizard."""
    if version:
        from importlib import metadata

        typer.echo(f"ftwizard {metadata.version('ftwizard')}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        run_verb(lambda: _open_wizard(preset, plain))
    elif preset is not None or plain:
        typer.echo("--preset and --plain before a verb have no effect; put --plain after it.", err=True)
        raise typer.Exit(EXIT_WRONG_USE)


def _open_wizard(preset: str | None, plain: bool) -> int:
    from tui.verbs.wizard import open_wizard

    return open_wizard(preset, plain=plain)


@app.command()
def run(
    recipe: Recipe = "",
    changes: Changes = None,
    detach: Detach = False,
    plain: Plain = False,
    as_json: Json = False,
) -> None:
    """Start a run and watch it; ctrl+c leaves the run alone."""
    from tui.verbs.run import run as start

    run_verb(lambda: start(recipe, changes or [], detach=detach, plain=plain, as_json=as_json), as_json=as_json)


@app.command()
def plan(
    recipe: Recipe = "",
    changes: Changes = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="MACHINE", help="Plan for another machine: 24GiB, 2x24GiB, RTX 4090, cpu 32GiB."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Formula only: no rehearsal of the memory.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine, or another one, would do with a recipe.

    Memory by component, every way to carry it out and why not, time, disk, each value with its source, and the problems
    found. The memory is rehearsed without weights; ctrl+c keeps the formula's answer.
    """
    from tui.verbs.recipes import plan as show_plan

    run_verb(lambda: show_plan(recipe, changes or [], as_json=as_json, gpu=gpu, fast=fast), as_json=as_json)


@app.command(name="find-rate")
def find_rate(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE_OR_PRESET", help="A recipe file, or the name of a preset.")],
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Look for a learning rate with a short sweep.

    Takes one step at each of 80 rates, on the recipe's own model and rows and in a process of its own, and shows where
    the loss falls and where training breaks. Nothing is changed or kept; ctrl+c ends it.
    """
    from tui.verbs.find_rate import find_rate as look

    run_verb(lambda: look(recipe, changes or [], as_json=as_json), as_json=as_json)


@app.command()
def attach(
    run_name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; the newest live one if left out.")
    ] = None,
    plain: Plain = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as one JSON line until the end.")] = False,
) -> None:
    """Watch a run that goes on elsewhere."""
    from tui.verbs.run import attach as watch

    run_verb(lambda: watch(run_name, plain=plain, as_json=as_json), as_json=as_json)


@app.command()
def runs(as_json: Json = False) -> None:
    """List the runs, newest first."""
    from tui.verbs.runs import runs as list_all

    run_verb(lambda: list_all(as_json=as_json), as_json=as_json)


@app.command()
def show(run_name: RunName = "latest", as_json: Json = False) -> None:
    """Show what a run wanted, did and brought."""
    from tui.verbs.runs import show as show_run

    run_verb(lambda: show_run(run_name, as_json=as_json), as_json=as_json)


@app.command()
def report(
    run_name: RunName = "latest",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Show the report of a run, and where its page lies.

    It is written anew where the run has done more since; a stopped or failed run has one too.
    """
    from tui.verbs.report import report as show_report

    run_verb(lambda: show_report(run_name, open_page=open_page, as_json=as_json), as_json=as_json)


@app.command(name="eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_RUN", help="A run, a model folder, builtin:starter or a hub id.")
    ],
    data: Annotated[
        str, typer.Option("--data", metavar="F", help="File, folder, hub: or builtin: data to measure on.")
    ],
    metrics: MetricNames = "",
    objective: ObjectiveName = None,
    max_rows: MaxRows = None,
    changes: DataChanges = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Also write all of it, row by row, to a new file.")
    ] = None,
    again: Again = False,
    as_json: Json = False,
) -> None:
    """Measure a model, or that of a run, on a file.

    By the numbers that runs are judged by, each with its 95 % interval. What was measured is kept: the same model on
    the same rows is not measured twice.
    """
    from tui.verbs.eval import EvalWish
    from tui.verbs.eval import evaluate as measure

    wish = EvalWish(data, metrics, objective, max_rows, changes or (), again)
    run_verb(lambda: measure(model, wish, out=out, as_json=as_json), as_json=as_json)


@app.command()
def compare(
    sides: Annotated[
        list[str], typer.Argument(metavar="A B [...]", help="Runs or models; all are compared with the first.")
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="F", help="Measure all of them on this data first.")
    ] = None,
    metrics: MetricNames = "",
    objective: ObjectiveName = None,
    max_rows: MaxRows = None,
    changes: DataChanges = None,
    again: Again = False,
    as_json: Json = False,
) -> None:
    """Hold runs or models against each other.

    Numbers with their intervals, better or worse only where luck does not explain it, what differs in the settings,
    time and memory, and which run started from which. Numbers of different rows are shown and not compared.
    """
    from tui.verbs.compare import compare as hold
    from tui.verbs.eval import EvalWish

    if data is None and (metrics or objective or max_rows or changes or again):
        typer.echo("--metrics, --objective, --max-rows, --set and --again say how --data is measured.", err=True)
        raise typer.Exit(EXIT_WRONG_USE)
    wish = None if data is None else EvalWish(data, metrics, objective, max_rows, changes or (), again)
    run_verb(lambda: hold(sides, wish, as_json=as_json), as_json=as_json)


@app.command()
def stop(
    run_name: RunName = "latest",
    kill: Annotated[bool, typer.Option("--kill", help="End it now, without saving first.")] = False,
    as_json: Json = False,
) -> None:
    """Save and stop a run; it can be resumed."""
    from tui.verbs.runs import stop as stop_run

    run_verb(lambda: stop_run(run_name, kill=kill, as_json=as_json), as_json=as_json)


@app.command()
def resume(run_name: RunName = "latest", detach: Detach = False, plain: Plain = False, as_json: Json = False) -> None:
    """Continue a stopped or crashed run from its last whole checkpoint."""
    from tui.verbs.run import resume as continue_run

    run_verb(lambda: continue_run(run_name, detach=detach, plain=plain, as_json=as_json), as_json=as_json)


@app.command()
def chat(
    run_name: RunName = "latest",
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="Ask once and leave.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Talk to the base model instead, for comparison.")] = False,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System message.")] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, max=2, help="0 always takes the likeliest token.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    as_json: Json = False,
) -> None:
    """Talk to the model that a run made."""
    from tui.verbs.chat import ChatSettings
    from tui.verbs.chat import chat as talk

    settings = ChatSettings(base=base, system=system, temperature=temperature, max_new_tokens=max_new_tokens)
    run_verb(lambda: talk(run_name, prompt, settings, as_json=as_json), as_json=as_json)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this preset as a recipe.")] = None,
    as_json: Json = False,
) -> None:
    """List the presets, or print one as a recipe to start from."""
    from tui.verbs.recipes import presets as list_presets

    run_verb(lambda: list_presets(name, as_json=as_json), as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check GPUs, driver, libraries and disk.

    Says how to mend what is wrong; exit code 1 when something is.
    """
    from tui.verbs.doctor import doctor as examine

    run_verb(lambda: examine(as_json=as_json), as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the recipe."""
    from tui.verbs.recipes import schema as print_schema

    run_verb(print_schema)


def main() -> None:
    """Run the command; refuse to run with another distribution's `engine` package."""
    import engine

    if Path(engine.__file__ or "").parent.parent != Path(__file__).parent.parent:
        sys.stderr.write(
            f"ftwizard: the package `engine` at {engine.__file__} is not ours. "
            "Install ftwizard into a virtual environment of its own.\n"
        )
        sys.exit(1)
    app()


if __name__ == "__main__":
    main()
