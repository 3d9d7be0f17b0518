"""The inspection helper process: `python -P -m engine.inspection` answers questions about data, models and tokens.

`engine.answering` has the protocol. Standard output is kept for answers alone: whatever a library prints goes to
stderr, a log file. End of file on stdin, that is the end of the front end, stops the work and ends the process.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.answering import serve

if TYPE_CHECKING:
    from engine.data.cleaned_file import FileKind
    from engine.data.progress import WorkWatch
    from engine.data.xray import Order
    from engine.recipe.schema import Recipe
    from engine.recipe.schema_data import DataSection


def profile_data(recipe: dict[str, Any], folder: str | None = None, *, watch: "WorkWatch") -> dict[str, Any]:
    """Return the `DataProfile` of a recipe's data; token lengths are exact when `folder` holds a tokenizer."""
    from engine.data.profile import profile_data as profile
    from engine.recipe.read import check_recipe
    from engine.runs.home import home_folders

    checked = check_recipe(recipe, name="recipe")
    return profile(checked, folder=folder, cache=home_folders().cache, watch=watch).model_dump(mode="json")


def profile_model(base: str, revision: str | None = None) -> dict[str, Any]:
    """Return the `ModelProfile` of a base model; of a hub model that is not here, its small files are fetched."""
    from engine.models.hub import profile_model as profile

    return profile(base, revision).model_dump(mode="json")


def search_hub(words: str, objective: str) -> dict[str, Any]:
    """Return the models of the hub that fit words and an objective; asked by a person, never by itself."""
    from engine.models.hub_search import search_hub as search

    return search(words, objective)


def xray(
    recipe: dict[str, Any], folder: str, start: int, count: int, order: "Order", watch: "WorkWatch"
) -> dict[str, Any]:
    """Return the `XrayPage` of some sequences as the trainer will get them."""
    from engine.data.xray import xray_page
    from engine.recipe.read import check_recipe
    from engine.runs.home import home_folders

    checked = check_recipe(recipe, name="recipe")
    return xray_page(checked, folder, start=start, count=count, order=order, cache=home_folders().cache, watch=watch)


def suited_objective(data: dict[str, Any]) -> str:
    """Return the objective whose rows a data section names."""
    from engine.data.source_facts import suited_objective as suited

    return suited(_data_section(data))


def describe_files(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return name, kind, encoding and size of the files of a data section."""
    from engine.data.source_facts import describe_files as describe

    return describe(_data_section(data))


def source_files(data: dict[str, Any]) -> list[str]:
    """Return the paths of the files of a data section."""
    from engine.data.source_facts import source_files as files

    return [str(file.path) for file in files(_data_section(data))]


def _data_section(data: dict[str, Any]) -> "DataSection":
    from engine.recipe.read import check_recipe

    tree = {"objective": "chat", "model": {"base": "builtin:starter"}, "data": data}
    return check_recipe(tree, name="recipe").data


def clean_data(
    recipe: dict[str, Any], out: str, kind: "FileKind", dropped: str | None = None, *, watch: "WorkWatch"
) -> dict[str, Any]:
    """Write the cleaned rows of a recipe's data to `out`, and those left out to `dropped`."""
    from engine.data.cleaned_file import clean_rows

    checked = _of_any_shape(recipe)
    return clean_rows(checked, Path(out), kind=kind, dropped_out=Path(dropped) if dropped else None, watch=watch)


def split_data(recipe: dict[str, Any], folder: str, *, watch: "WorkWatch") -> dict[str, Any]:
    """Write the sides of a split of a recipe's data into a folder, with the record of it."""
    from engine.data.cleaned_file import split_files
    from engine.runs.home import home_folders

    return split_files(_of_any_shape(recipe), Path(folder), cache=home_folders().cache, watch=watch)


def _of_any_shape(recipe: dict[str, Any]) -> "Recipe":
    """Return a recipe; one without an objective takes rows of any shape."""
    from engine.data.cleaned_file import of_any_shape
    from engine.recipe.read import check_recipe

    if "objective" in recipe:
        return check_recipe(recipe, name="recipe")
    return of_any_shape(check_recipe({"objective": "chat", **recipe}, name="recipe"))


def write_data_report(
    recipe: dict[str, Any], profile: dict[str, Any], files: list[dict[str, Any]], model: str, folder: str
) -> list[str]:
    """Write the report of a profile into a folder and return its files."""
    from engine.data.report import subject_of, write_report_files
    from engine.planning.profiles import DataProfile
    from engine.recipe.read import check_recipe

    subject = replace(subject_of(check_recipe(recipe, name="recipe"), model=model), files=files)
    return [str(path) for path in write_report_files(Path(folder), subject, DataProfile.model_validate(profile))]


def shape_offers(recipe: dict[str, Any], watch: "WorkWatch") -> dict[str, Any]:
    """Return the ways to read the first rows of a recipe's data, the surest first, and its columns."""
    from engine.data.shape_offers import shape_offers as offers
    from engine.recipe.read import check_recipe

    return offers(check_recipe(recipe, name="recipe"), watch)


def write_run_report(folder: str, state: str) -> str:
    """Write the report of a run from its files, and return its page."""
    from engine.evaluation.report import write_report
    from engine.runs.directory import RunDirectory

    return str(write_report(RunDirectory(Path(folder)), state=state))


def measure_model(
    model: str,
    data: dict[str, Any],
    objective: str | None,
    metrics: list[str],
    max_rows: int | None,
    again: bool,
    *,
    watch: "WorkWatch",
) -> dict[str, Any]:
    """Return the measurement of a model on the rows of a file; see `engine.evaluation.apart.measuring`."""
    from engine.evaluation.apart.measuring import measure_apart
    from engine.evaluation.apart.wish import Wish
    from engine.worker import set_environment

    set_environment()
    return measure_apart(Wish(model, data, objective, tuple(metrics), max_rows, again), watch)


def compare_models(references: list[str], files: list[str], remarks: list[list[str]]) -> dict[str, Any]:
    """Return a comparison of runs and models; see `engine.evaluation.apart.comparing`."""
    from engine.evaluation.apart.comparing import compare_apart

    return compare_apart(references, files, remarks)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "profile_data": profile_data,
    "profile_model": profile_model,
    "search_hub": search_hub,
    "xray": xray,
    "shape_offers": shape_offers,
    "suited_objective": suited_objective,
    "describe_files": describe_files,
    "source_files": source_files,
    "clean_data": clean_data,
    "split_data": split_data,
    "write_data_report": write_data_report,
    "write_run_report": write_run_report,
    "measure_model": measure_model,
    "compare_models": compare_models,
}


def _import_readers() -> None:
    import engine.data.shape_offers  # noqa: F401


def _import_torch() -> None:
    import torch  # noqa: F401


def _import_tokenizers() -> None:
    import engine.models.tokenizers  # noqa: F401


def _import_checks() -> None:
    import engine.data.profile
    import engine.data.xray  # noqa: F401


def _load_a_tokenizer() -> None:
    """Load the tokenizer that ships with ftwizard: transformers imports as much again when it loads its first one."""
    from engine.catalog.builtin import BUILTIN_MODEL, builtin_path
    from engine.models.tokenizers import load_tokenizer
    from engine.recipe.read import check_recipe

    tree = {"objective": "chat", "model": {"base": BUILTIN_MODEL}, "data": {"source": "builtin:commands"}}
    load_tokenizer(builtin_path(BUILTIN_MODEL), check_recipe(tree, name="recipe"))


WARMING: tuple[Callable[[], object], ...] = (
    _import_readers,
    _import_torch,
    _import_tokenizers,
    _import_checks,
    _load_a_tokenizer,
)
"""What the first profile and X-ray need, in their order; in parts, so that a question waits for one of them."""


def main() -> int:
    """Keep the real stdout for answers, send every other print to stderr, and serve."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    serve(sys.stdin, answers, FUNCTIONS, WARMING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
