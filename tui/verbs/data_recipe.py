"""What the data verbs share: the recipe that their options stand for, and questions to the inspection helper."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalog.builtin import BUILTIN_MODEL
from engine.helper import InspectionHelper
from engine.recipe.places import absolute_places
from engine.recipe.problems import Problem, ProblemError
from tui.preparation import model_profile
from tui.verbs.data_fixes import with_options

if TYPE_CHECKING:
    from engine.planning.profiles import ModelProfile

DATA_SETTINGS = ("data.", "model.chat_template", "training.seed", "training.max_length", "training.packing")


@dataclass(frozen=True, slots=True)
class DataWish:
    """What somebody asked for on the command line.

    Attributes:
        paths: What `data.source` may be, one or several.
        changes: `--set` arguments.
        model: Base model whose tokenizer measures; None for none.
        objective: Name of an objective; None to take the one that suits the rows.
        defaults: Recipe under what was asked for.
        own_changes: What options of the verb stand for, as `--set` would say it.
        unread: Beginnings of settings that this verb does not read.
    """

    paths: Sequence[str]
    changes: Sequence[str] = ()
    model: str | None = None
    objective: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own_changes: Sequence[str] = ()
    unread: tuple[str, ...] = ()


def recipe_of(wish: DataWish) -> dict[str, Any]:
    """Return the recipe, without an objective where none was named; paths are absolute, settings checked.

    Raises:
        ProblemError: No data, a path that cannot be one, or a setting that does not parse or that no data verb reads.
    """
    from engine.recipe.read import set_value
    from engine.recipe.sources import lay

    tree: dict[str, Any] = {}
    for change in wish.changes:
        _refuse_unread(change, wish.unread)
    for change in (*wish.changes, *wish.own_changes):
        tree = set_value(tree, change)
    if not wish.paths:
        problem = Problem(
            "data.no_source", "No data was named.", "Name a file, folder, pattern, hub: or builtin: data."
        )
        raise ProblemError(problem)
    source: Any = wish.paths[0] if len(wish.paths) == 1 else list(wish.paths)
    own: dict[str, Any] = {"model": {"base": wish.model or BUILTIN_MODEL}, "data": {"source": source}}
    if wish.objective is not None:
        own["objective"] = wish.objective
    laid = lay(_over(tree, own), preset=wish.defaults).tree
    return absolute_places(laid, (Path.cwd(),))


def _over(tree: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `--set` said under what the arguments of the verb say."""
    merged = {**tree}
    for key, value in own.items():
        merged[key] = {**tree.get(key, {}), **value} if isinstance(value, Mapping) else value
    return merged


def _refuse_unread(change: str, unread: tuple[str, ...]) -> None:
    path = change.partition("=")[0].strip()
    known = path.startswith(DATA_SETTINGS) and path != "data.source"
    if known and not path.startswith(unread):
        return
    fix = "Set what is read and how it is cleaned, such as --set data.cleaning.secrets=mask."
    if path == "data.source":
        fix = "Name the data behind the verb instead."
    raise ProblemError(Problem("data.setting_unread", f"--set {path} changes nothing that this verb reads.", fix, path))


class DataHelper:
    """The inspection helper, with progress on a terminal.

    Args:
        show: Draw progress on stderr; nothing is drawn where stderr is no terminal.
    """

    def __init__(self, *, show: bool = True) -> None:
        self.helper = InspectionHelper()
        self._show = show and sys.stderr.isatty()

    def ask(self, name: str, **arguments: Any) -> Any:
        """Return the answer of a function of `engine.inspection`; ctrl+c ends the helper and goes on as itself.

        Raises:
            ProblemError: What the function raised.
        """
        from tui.verbs.data_progress import progress_bar

        try:
            with progress_bar(shown=self._show) as tell:
                return self.helper.call_blocking(name, on_progress=tell, **arguments)
        except ProblemError as error:
            raise with_options(error) from error

    def with_objective(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return a recipe with the objective that suits its rows, where it names none."""
        if "objective" in tree:
            return tree
        return {"objective": self.ask("suited_objective", data=tree["data"]), **tree}

    def model(self, base: str) -> "ModelProfile":
        """Return the facts of a base model; the hub is asked for the small files of one that is not here."""
        return model_profile(base, None, self.helper)


@contextmanager
def data_helper(*, show: bool = True) -> Iterator[DataHelper]:
    """Give a helper process that ends with the block, however it ends."""
    helper = DataHelper(show=show)
    try:
        yield helper
    finally:
        helper.helper.close()
