"""From a recipe file or a preset to a plan: the road that every headless verb and the wizard's review share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import Layered, lay

if TYPE_CHECKING:
    from engine.helper import InspectionHelper
    from engine.planning.plan import Plan
    from engine.planning.profiles import ModelProfile

RECIPE_ENDINGS = (".yaml", ".yml")


def read_reference(reference: str, changes: Sequence[str] = ()) -> Layered:
    """Read a recipe file or a preset and lay `path=value` changes over it.

    Args:
        reference: Path of a recipe file, or the name of a preset.
        changes: `--set` arguments such as `training.epochs=2`.

    Raises:
        ProblemError: No such file or preset, or a line that does not parse.
    """
    from engine.recipe.read import set_value

    preset_name, base, you = "", dict[str, Any](), dict[str, Any]()
    if _is_file(reference):
        you = _read_file(Path(reference))
    else:
        preset_name, base = reference, _read_preset(reference)
    for change in changes:
        you = set_value(you, change)
    return lay(you, preset=base, preset_name=preset_name)


def _is_file(reference: str) -> bool:
    return reference.endswith(RECIPE_ENDINGS) or "/" in reference or Path(reference).is_file()


def _read_file(path: Path) -> dict[str, Any]:
    from engine.recipe.read import read_recipe

    if path.is_dir():
        run_recipe = path / "recipe.yaml"
        if run_recipe.is_file():
            return read_recipe(run_recipe)
        raise ProblemError(
            Problem("recipe.is_folder", f"{path} is a folder without a recipe.yaml.", "Name a recipe file or a preset.")
        )
    return read_recipe(path)


def _read_preset(name: str) -> dict[str, Any]:
    from engine.recipe.presets import find_preset

    return dict(find_preset(name).tree)


def absolute_sources(tree: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Return the recipe with relative data and model paths made absolute against the first folder that has them.

    A run outlives the folder that it was started from, so what its recipe names must not depend on it.
    """
    changed = {section: dict(value) if isinstance(value, Mapping) else value for section, value in tree.items()}
    data, model, delivery = changed.get("data"), changed.get("model"), changed.get("delivery")
    if isinstance(data, dict):
        if isinstance(data.get("source"), str):
            data["source"] = _absolute(data["source"], folders)
        elif isinstance(data.get("source"), list):
            data["source"] = [_absolute(source, folders) for source in data["source"]]
        if isinstance(data.get("held_out"), str):
            data["held_out"] = _absolute(data["held_out"], folders)
    if isinstance(model, dict) and isinstance(model.get("base"), str):
        model["base"] = _absolute(model["base"], folders)
    if isinstance(model, dict) and model.get("chat_template") not in (None, "chatml"):
        model["chat_template"] = _absolute(str(model["chat_template"]), folders)
    if isinstance(delivery, dict) and isinstance(delivery.get("output"), str):
        # It does not exist yet, so it belongs where the person stands.
        delivery["output"] = str((folders[0] / Path(delivery["output"]).expanduser()).absolute())
    return changed


def _absolute(reference: str, folders: Sequence[Path]) -> str:
    if reference.startswith("builtin:"):
        return reference
    for folder in folders:
        candidate = folder / Path(reference).expanduser()
        if candidate.exists():
            return str(candidate.resolve())
    return reference


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe with its plan, ready to be launched."""

    layered: Layered
    plan: "Plan"


def prepare(layered: Layered, helper: "InspectionHelper", *, reference: str) -> Prepared:
    """Check a recipe, look at model, data and machine, and make the plan.

    Args:
        layered: The recipe with its sources.
        helper: Process that reads the data and counts tokens.
        reference: The recipe file or preset, for error messages; relative paths are also looked up beside the file.

    Raises:
        ProblemError: The recipe is not valid, or model or data cannot be read.
    """
    from engine.hardware.probe import read_hardware
    from engine.planning.model_profile import hub_cache
    from engine.planning.planner import make_plan
    from engine.planning.profiles import DataProfile
    from engine.recipe.read import check_recipe
    from engine.runs.home import home_folders

    layered = Layered(absolute_sources(layered.tree, (Path.cwd(), Path(reference).parent)), layered.sources)
    recipe = check_recipe(layered.tree, name=reference)
    helper.start()
    model = model_profile(recipe.model.base, recipe.model.revision, helper)
    data = DataProfile.model_validate(helper.call_blocking("profile_data", recipe=layered.tree, folder=model.folder))
    home = home_folders()
    hardware = read_hardware((home.runs, home.cache, hub_cache()), patient=True)
    plan = make_plan(layered, hardware, model, data, home=home)
    return Prepared(layered, plan)


def model_profile(base: str, revision: str | None, helper: "InspectionHelper") -> "ModelProfile":
    """Return the profile of a base model; the helper asks the hub for one whose files are not all on this machine.

    Raises:
        ProblemError: No such folder or model, no access, no connection.
    """
    from engine.planning.model_profile import is_hub_id, read_model_profile, whole_snapshot
    from engine.planning.profiles import ModelProfile

    if not is_hub_id(base) or whole_snapshot(base, revision) is not None:
        return read_model_profile(base, revision)
    return ModelProfile.model_validate(helper.call_blocking("profile_model", base=base, revision=revision))
