"""From a recipe file or a preset to a plan: the road that every headless verb and the wizard's review share."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.recipe.places import absolute_places
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import Layered, lay
from engine.text import clean_line

if TYPE_CHECKING:
    from engine.hardware.devices import Hardware
    from engine.helper import InspectionHelper
    from engine.planning.calibration import Calibration
    from engine.planning.plan import Plan
    from engine.planning.profiles import DataProfile, ModelProfile

RECIPE_ENDINGS = (".yaml", ".yml")
CLEARLY_FITS = 0.6
"""Share of the free memory up to which the formula's word is enough."""
UNREACHABLE = frozenset({"model.offline", "model.download_failed"})
"""The hub did not answer; everything else that it says of a model is an answer."""
UNBUILDABLE = "rehearsal.model_unknown"


def read_reference(reference: str, changes: Sequence[str] = ()) -> Layered:
    """Read a recipe file or a preset and lay `path=value` changes over it.

    Args:
        reference: Path of a recipe file, or the name of a preset; empty where the changes are the whole recipe.
        changes: `--set` arguments such as `training.epochs=2`.

    Raises:
        ProblemError: No such file or preset, or a line that does not parse.
    """
    from engine.recipe.read import set_value

    preset_name, base, you = "", dict[str, Any](), dict[str, Any]()
    if not reference:
        _refuse_nothing(changes)
    elif _is_file(reference):
        you = _read_file(Path(reference))
    else:
        preset_name, base = reference, _read_preset(reference)
    for change in changes:
        you = set_value(you, change)
    return lay(you, preset=base, preset_name=preset_name)


def _refuse_nothing(changes: Sequence[str]) -> None:
    if not changes:
        fix = "Name one, or say objective, model.base and data.source with --set; `ftwizard presets` lists the presets."
        raise ProblemError(Problem("recipe.none", "There is neither a recipe nor a preset.", fix))


def _is_file(reference: str) -> bool:
    return reference.endswith(RECIPE_ENDINGS) or "/" in reference or os.path.isfile(reference)


def _read_file(path: Path) -> dict[str, Any]:
    from engine.recipe.read import read_recipe

    if os.path.isdir(path):
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe with its plan, ready to be launched."""

    layered: Layered
    plan: "Plan"


def prepare(
    layered: Layered, helper: "InspectionHelper", *, reference: str, gpu: str | None = None, assume: bool = False
) -> Prepared:
    """Check a recipe, look at model, data and machine, and make the plan.

    Args:
        layered: The recipe with its sources.
        helper: Process that reads the data and counts tokens; started when it is needed.
        reference: The recipe file or preset, for error messages; relative paths are also looked up beside the file.
        gpu: A machine to plan for instead of this one, such as `24GiB`; None for this one.
        assume: Plan without data that nobody named and without a hub that does not answer; the plan says what it
            assumed. For looking ahead, never for starting a run.

    Raises:
        ProblemError: The recipe is not valid, or model or data cannot be read.
    """
    from engine.hardware.hypothetical import parse_machine
    from engine.hardware.probe import read_hardware
    from engine.planning.model_profile import hub_cache
    from engine.planning.planner import make_plan
    from engine.recipe.read import check_recipe
    from engine.runs.home import home_folders

    home = home_folders()
    folders = (home.runs, home.cache, hub_cache())
    # A wrong machine is said before anything is read.
    asked = None if gpu is None else parse_machine(gpu, folders)
    layered = Layered(absolute_places(layered.tree, (Path.cwd(), Path(reference).parent)), layered.sources)
    without_data = assume and not (layered.tree.get("data") or {}).get("source")
    tree = _with_assumed_source(layered.tree) if without_data else layered.tree
    recipe = check_recipe(tree, name=reference)
    base, revision = recipe.model.base, recipe.model.revision
    model = (
        _profile_or_catalogue(base, revision, helper, ask=gpu is None)
        if assume
        else model_profile(base, revision, helper)
    )
    data = _data_profile(tree, model, helper, recipe.objective, assumed=without_data)
    hardware = asked or read_hardware(folders, patient=True)
    calibration = machine_calibration(hardware, home.cache)
    made = make_plan(Layered(tree, layered.sources), hardware, model, data, home=home, calibration=calibration)
    return Prepared(layered, made)


def _with_assumed_source(tree: Mapping[str, Any]) -> dict[str, Any]:
    from engine.planning.assumed import ASSUMED_SOURCE

    return {**tree, "data": {**(tree.get("data") or {}), "source": ASSUMED_SOURCE}}


def _data_profile(
    tree: Mapping[str, Any], model: "ModelProfile", helper: "InspectionHelper", objective: str, *, assumed: bool
) -> "DataProfile":
    from engine.planning.assumed import assumed_data
    from engine.planning.profiles import DataProfile

    if assumed:
        return assumed_data(objective)
    helper.start()
    return DataProfile.model_validate(helper.call_blocking("profile_data", recipe=tree, folder=model.folder))


def machine_calibration(hardware: "Hardware", cache: Path) -> "Calibration | None":
    """Return what was measured on this machine; None for a machine that is not here."""
    from engine.planning import calibration_store
    from engine.planning.calibration import machine_key
    from engine.planning.derive import choose_device

    if hardware.hypothetical:
        return None
    return calibration_store.read(cache, machine_key(hardware, choose_device(hardware)[0]))


def model_profile(base: str, revision: str | None, helper: "InspectionHelper") -> "ModelProfile":
    """Return the profile of a base model; the helper asks the hub for one whose files are not all on this machine.

    Raises:
        ProblemError: No such folder or model, no access, no connection.
    """
    from engine.planning.model_profile import is_hub_id, read_model_profile, whole_snapshot
    from engine.planning.profiles import ModelProfile

    if not is_hub_id(base) or whole_snapshot(base, revision) is not None:
        return read_model_profile(base, revision)
    helper.start()
    return ModelProfile.model_validate(helper.call_blocking("profile_model", base=base, revision=revision))


def _profile_or_catalogue(base: str, revision: str | None, helper: "InspectionHelper", *, ask: bool) -> "ModelProfile":
    """Return the profile of a base model, from the catalogue where the hub is not asked or does not answer."""
    from engine.catalog.base_models import find_base_model
    from engine.planning.assumed import catalogue_profile
    from engine.planning.model_profile import hub_cache, is_hub_id, whole_snapshot

    card = find_base_model(base)
    here = not is_hub_id(base) or whole_snapshot(base, revision) is not None
    if here or card is None:
        return model_profile(base, revision, helper)
    if not ask:
        return catalogue_profile(
            card.profile, hub_cache(), "nothing was asked of the hub for a machine that is not here"
        )
    try:
        return model_profile(base, revision, helper)
    except ProblemError as error:
        if error.problems[0].code not in UNREACHABLE:
            raise
        why = error.problems[0].message.rstrip(".")
        return catalogue_profile(card.profile, hub_cache(), why)


def rehearse(plan: "Plan") -> "Plan":
    """Return a plan with its memory rehearsed in a process of its own; cut smaller where it chose too much at once.

    Raises:
        ProblemError: The rehearsal cannot be carried out.
    """
    import asyncio

    from engine.planning.deepen import rehearsed_plan
    from engine.planning.rehearse import Rehearsals
    from engine.runs.home import home_folders

    rehearsals = Rehearsals(home_folders().cache)
    try:
        return asyncio.run(rehearsed_plan(plan, rehearsals))
    finally:
        rehearsals.close()


def worth_rehearsing(plan: "Plan") -> bool:
    """Return whether the formula leaves open if a plan fits, and nothing else forbids the run."""
    from engine.planning.findings import MEMORY_CODES

    memory = plan.memory
    if memory.available_bytes is None or memory.depth != "formula":
        return False
    if any(finding.severity == "error" and finding.code not in MEMORY_CODES for finding in plan.findings):
        return False
    return memory.high_bytes > CLEARLY_FITS * memory.available_bytes


def deepened(plan: "Plan", say: Callable[[str], None]) -> "Plan":
    """Return a plan rehearsed, or as it was with a note why not.

    Args:
        plan: A plan of the formula.
        say: Shows a line while the rehearsal goes on.
    """
    say("Rehearsing the run without weights ...")
    try:
        return rehearse(plan)
    except ProblemError as error:
        first = error.problems[0]
        return not_rehearsed(plan, first.message.rstrip("."), unbuildable=first.code == UNBUILDABLE)


def not_rehearsed(plan: "Plan", why: str, *, unbuildable: bool = False) -> "Plan":
    """Return a plan with a note why its memory is the formula's.

    Args:
        plan: A plan of the formula.
        why: What kept it from being rehearsed, as a clause.
        unbuildable: The model could not be made from its configuration, which the run will try too.
    """
    from engine.planning.profiles import Finding

    message = f"The memory is the formula's, not rehearsed: {clean_line(why, max_chars=300)}."
    fix = (
        "The run makes the model the same way: correct its config.json, or choose another model." if unbuildable else ""
    )
    severity: Literal["warning", "note"] = "warning" if unbuildable else "note"
    note = Finding(code="plan.not_rehearsed", message=message, fix=fix, severity=severity)
    return plan.model_copy(update={"findings": [*plan.findings, note]})
