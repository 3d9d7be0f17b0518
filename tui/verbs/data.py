"""`ftwizard data inspect`: what the wizard's data step shows, as text, JSON or a report."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line
from tui.verbs.data_recipe import DataHelper, DataWish, data_helper, recipe_of
from tui.verbs.data_text import profile_lines
from tui.verbs.output import EXIT_WRONG_USE, print_json, print_problems

if TYPE_CHECKING:
    from engine.planning.profiles import DataProfile

NOT_THE_RUN = frozenset({"data.few_rows"})


def inspect(wish: DataWish, *, as_json: bool, report: Path | None = None) -> int:
    """Print what was found in data; exit code 2 where a run on it would be refused.

    Args:
        wish: What to read and how.
        as_json: Print the profile as JSON.
        report: Folder for `data-report.md` and `data-report.html`.
    """
    with data_helper(show=not as_json) as helper:
        tree = helper.with_objective(recipe_of(wish))
        profile, files = read_profile(helper, tree, wish.model)
        written = _report(helper, tree, profile, files, wish, report) if report is not None else []
    if as_json:
        document = {"objective": tree["objective"], "files": files, **profile.model_dump(mode="json")}
        print_json({**document, "accounting": _sums(profile), "report": written})
    else:
        _print(profile, files, tree["objective"])
        for path in written:
            typer.echo(f"Written: {clean_line(path)}")
    return EXIT_WRONG_USE if is_blocked(profile) else 0


def is_blocked(profile: "DataProfile") -> bool:
    """Return whether a run on this data would be refused."""
    errors = any(finding.severity == "error" for finding in profile.findings)
    return errors or any(check.status == "blocked" for check in profile.preflight)


def read_profile(
    helper: DataHelper, tree: dict[str, Any], model: str | None
) -> "tuple[DataProfile, list[dict[str, Any]]]":
    """Return the profile of a recipe's data, and what its files are.

    Args:
        helper: The process that reads.
        tree: The recipe.
        model: Base model whose tokenizer counts; None to estimate lengths.

    Raises:
        ProblemError: The data or the model cannot be used.
    """
    from engine.planning.profiles import DataProfile

    folder = None if model is None else model_folder(helper, tree)
    files = helper.ask("describe_files", data=tree["data"])
    return DataProfile.model_validate(helper.ask("profile_data", recipe=tree, folder=folder)), files


def model_folder(helper: DataHelper, tree: dict[str, Any]) -> str:
    """Return the folder with the tokenizer of a recipe's model.

    Raises:
        ProblemError: No such model, or nothing of it is on this machine.
    """
    base = tree["model"]["base"]
    folder = helper.model(base).folder
    if folder is None:
        message = f"The tokenizer of {clean_line(base)} is not on this machine."
        raise ProblemError(
            Problem("model.no_tokenizer", message, "Connect to the hub, or name a folder.", "model.base")
        )
    return folder


def _sums(profile: "DataProfile") -> dict[str, Any]:
    from engine.planning.data_words import account

    return asdict(account(profile))


def _report(
    helper: DataHelper,
    tree: dict[str, Any],
    profile: "DataProfile",
    files: list[dict[str, Any]],
    wish: DataWish,
    folder: Path,
) -> list[str]:
    written: list[str] = helper.ask(
        "write_data_report",
        recipe=tree,
        profile=profile.model_dump(mode="json"),
        files=files,
        model=wish.model or "",
        folder=str(folder.expanduser().absolute()),
    )
    return written


def _print(profile: "DataProfile", files: list[dict[str, Any]], objective: str) -> None:
    for line in profile_lines(profile, files, objective=objective):
        typer.echo(line)
    if profile.findings:
        typer.echo()
        print_problems(profile.findings, err=False)
