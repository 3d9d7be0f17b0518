"""The engine behind the screens: answers `tui.backend.Backend` with the light parts and the inspection helper.

Every engine module is imported by the call that needs it, so that the first screen does not wait for pydantic.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import Layered
from engine.runs.home import home_folders
from engine.text import clean_line, human_bytes
from tui.backend import (
    Choice,
    HubAnswer,
    HubModel,
    Machine,
    ModelOffer,
    PresetRow,
    ProgressListener,
    RunRow,
    ShapeLook,
    ShapeOffer,
    Talker,
    WorkProgress,
    XrayOrder,
    XrayPage,
)

if TYPE_CHECKING:
    from engine.chat_client import Which
    from engine.hardware.devices import Gpu, Hardware
    from engine.helper import InspectionHelper
    from engine.planning.plan import Plan
    from engine.planning.profiles import DataProfile, ModelProfile
    from engine.planning.rate_search import RateSearch
    from engine.planning.rehearse import Rehearsals
    from engine.recipe.fields import RecipeField
    from engine.runs.launch import Standby

_MISSING = frozenset({"objective", "model.base", "data.source"})
RECENT_RUNS = 20
RECENT_DATA = 4


class EngineBackend:
    """The real engine."""

    def __init__(self) -> None:
        self._helper: InspectionHelper | None = None
        self._standby: Standby | None = None
        self._rehearsals: Rehearsals | None = None
        self._lock = threading.Lock()

    @property
    def drafts_folder(self) -> Path:
        """Where drafts are kept."""
        return home_folders().drafts

    def _hardware(self, *also: Path) -> "Hardware":
        from engine.hardware.probe import read_hardware

        home = home_folders()
        folders = (home.runs, home.cache, *also)
        hardware = read_hardware(folders)
        # Until the driver has told once what there is, waiting is better than planning for the processor.
        return hardware if hardware.gpus_known else read_hardware(folders, patient=True)

    def machine(self) -> Machine:
        """Read the hardware."""
        return machine_of(self._hardware())

    def runs(self, limit: int) -> list[RunRow]:
        """Return the newest runs first."""
        from engine.runs.listing import list_runs

        return [
            RunRow(
                path=summary.run.path,
                run_id=summary.run_id,
                name=summary.name,
                state=summary.state,
                step=summary.step or None,
                total_steps=summary.total_steps,
                changed_at=summary.created_time or 0.0,
                loss=summary.loss,
                held_out_loss=summary.eval_loss,
                objective=summary.objective,
                method=summary.method,
                base=summary.base,
            )
            for summary in list_runs(home_folders())[:limit]
        ]

    def presets(self) -> list[PresetRow]:
        """Return all presets."""
        from engine.recipe.presets import list_presets

        return [PresetRow(preset.name, preset.title, preset.summary, preset.needs) for preset in list_presets()]

    def preset_tree(self, name: str) -> dict[str, Any]:
        """Return the nested recipe dictionary of a preset."""
        from engine.recipe.presets import find_preset

        return dict(find_preset(name).tree)

    def objectives(self) -> list[Choice]:
        """Return what a model can learn."""
        from engine.catalog.matrix import models_of
        from engine.catalog.objectives import OBJECTIVES

        return [
            Choice(one.name, one.title, one.summary, one.when, one.when_not, one.needs, models_of(one))
            for one in OBJECTIVES
        ]

    def methods(self) -> list[Choice]:
        """Return which weights can learn."""
        from engine.catalog.methods import METHODS

        return [Choice(one.name, one.title, one.summary, one.when, one.when_not, one.needs) for one in METHODS]

    def model_offers(self, machine: Machine | None, objective: str | None = None) -> list[ModelOffer]:
        """Return the base models of the catalogue, judged for `machine` and for `objective`."""
        from tui.model_offers import model_offers

        return model_offers(machine, objective)

    def builtin_data(self) -> list[Choice]:
        """Return the data sets that ship with ftwizard."""
        from engine.catalog.builtin import BUILTIN_DATA

        summary = "Plain requests and the structured commands that answer them; shows learning within minutes."
        return [Choice(BUILTIN_DATA, "Built-in commands", summary)]

    def recent_data(self) -> list[str]:
        """Return what the newest runs learned from, without repeats; runs that cannot be read are passed over."""
        from engine.recipe.read import read_recipe
        from engine.runs.directory import run_folders

        found: dict[str, None] = {}
        for run in run_folders(home_folders())[:RECENT_RUNS]:
            try:
                source = (read_recipe(run.recipe_file).get("data") or {}).get("source")
            except (OSError, ProblemError):
                continue
            if isinstance(source, str) and not source.startswith("builtin:"):
                found[source] = None
        return list(found)[:RECENT_DATA]

    def fields(self) -> "tuple[RecipeField, ...]":
        """Return every field of a recipe in order."""
        from engine.recipe.fields import recipe_fields

        return recipe_fields()

    def parse(self, path: str, text: str) -> Any:
        """Return the value that a person's text means for the field at `path`."""
        from engine.recipe.read import check_values, parse_value
        from engine.recipe.sources import unflatten

        value = parse_value(path, text)
        problems = check_values(unflatten({path: value}), name="")
        if problems:
            raise ProblemError(*problems)
        return value

    def check(self, layered: Layered) -> list[Problem]:
        """Return what is wrong with the answers given so far."""
        from engine.recipe.read import check_recipe
        from engine.recipe.rules import check_rules
        from engine.recipe.sources import flatten

        given = flatten(layered.tree)
        tree = with_stand_ins(layered.tree)
        try:
            recipe = check_recipe(tree, name="draft")
        except ProblemError as error:
            return [problem for problem in error.problems if problem.path not in _MISSING or problem.path in given]
        problems = check_rules(recipe, layered.sources)
        return [problem for problem in problems if problem.path not in _MISSING or problem.path in given]

    async def model_profile(self, base: str, revision: str | None) -> "ModelProfile":
        """Return the facts of a base model; the helper asks the hub when its files are not all on this machine."""
        import asyncio

        from engine.planning.profiles import ModelProfile

        here = await asyncio.to_thread(_local_profile, base, revision)
        if here is not None:
            return here
        return ModelProfile.model_validate(await self._inspection().call("profile_model", base=base, revision=revision))

    async def search_hub(self, words: str, objective: str) -> HubAnswer:
        """Search the model hub in the helper process."""
        return hub_answer(await self._inspection().call("search_hub", words=words, objective=objective))

    async def shape_look(self, tree: Mapping[str, Any], on_progress: ProgressListener) -> ShapeLook:
        """Look at the first rows of a recipe's data in the helper process."""
        call = self._inspection().call
        return shape_look(await call("shape_offers", _telling(on_progress), recipe=_absolute(tree)))

    async def profile_data(
        self, tree: Mapping[str, Any], folder: str | None, on_progress: ProgressListener
    ) -> "DataProfile":
        """Inspect the data of a recipe in the helper process."""
        from engine.planning.profiles import DataProfile

        call = self._inspection().call
        result = await call("profile_data", _telling(on_progress), recipe=_absolute(tree), folder=folder)
        return DataProfile.model_validate(result)

    async def xray(
        self,
        tree: Mapping[str, Any],
        folder: str | None,
        start: int,
        count: int,
        order: XrayOrder,
        on_progress: Callable[[WorkProgress], None] | None = None,
    ) -> XrayPage:
        """Return sequences as the trainer will draw them, made by the helper process."""
        from tui.xray_answers import xray_page

        if folder is None:
            raise ProblemError(no_tokenizer())
        wanted = {"recipe": _absolute(tree), "folder": folder, "start": start, "count": count, "order": order}
        listener = _telling(on_progress) if on_progress is not None else None
        return xray_page(await self._inspection().call("xray", listener, **wanted))

    def plan(self, layered: Layered, model: "ModelProfile", data: "DataProfile") -> "Plan":
        """Plan the run on this machine."""
        from engine.planning.model_profile import hub_cache
        from engine.planning.planner import make_plan
        from tui.preparation import machine_calibration

        resolved = Layered(_absolute(layered.tree), layered.sources)
        home, hardware = home_folders(), self._hardware(hub_cache())
        calibration = machine_calibration(hardware, home.cache)
        return make_plan(resolved, hardware, model, data, home=home, calibration=calibration)

    async def rehearse(self, plan: "Plan") -> "Plan":
        """Rehearse the plan in a process of its own, cut smaller where it took too much at once.

        Results are kept in the cache folder.
        """
        from engine.planning.deepen import rehearsed_plan

        return await rehearsed_plan(plan, self._rehearsing())

    def sweep_rates(self, plan: "Plan") -> "RateSearch":
        """Start a sweep over learning rates in a process of its own."""
        from engine.planning.rate_search import RateSearch

        return RateSearch(plan, home_folders().cache)

    def recipe_text(self, tree: Mapping[str, Any]) -> str:
        """Return the recipe as YAML."""
        from engine.recipe.read import dump_recipe

        return dump_recipe(_absolute(tree))

    def warm_up(self) -> None:
        """Start the helper and a worker that imports while the person answers."""
        from engine.runs.launch import start_standby

        self._inspection().warm_up()
        with self._lock:
            if self._standby is None:
                self._standby = start_standby()

    def cool_down(self) -> None:
        """End the warm worker, if it was not used, the inspection helper and a rehearsal."""
        with self._lock:
            standby, self._standby = self._standby, None
            helper, self._helper = self._helper, None
            rehearsals, self._rehearsals = self._rehearsals, None
        if rehearsals is not None:
            rehearsals.close()
        if standby is not None:
            standby.close()
        if helper is not None:
            helper.close()

    def launch(self, tree: Mapping[str, Any], plan: "Plan") -> Path:
        """Create the run, start its worker and return the run directory."""
        from engine.runs.directory import create_run
        from engine.runs.launch import launch

        run = create_run(home_folders(), self.recipe_text(tree), plan)
        with self._lock:
            standby, self._standby = self._standby, None
        launch(run, standby)
        return run.path

    def talk_to(self, folder: Path, which: "Which", name: str) -> Talker:
        """Start the process of one model of a run."""
        from engine.chat_client import ChatClient

        return ChatClient(folder, which, log_file=home_folders().cache / f"compare-{name}.log")

    def win_rate(self, ids: Sequence[str], wins: Sequence[float]) -> dict[str, Any]:
        """Return the win rate of judged answers with its interval and verdict."""
        from engine.blind_client import win_rate

        return win_rate(ids, wins)

    def _rehearsing(self) -> "Rehearsals":
        from engine.planning.rehearse import Rehearsals

        with self._lock:
            if self._rehearsals is None:
                self._rehearsals = Rehearsals(home_folders().cache)
            return self._rehearsals

    def _inspection(self) -> "InspectionHelper":
        from engine.helper import InspectionHelper

        with self._lock:
            if self._helper is None:
                self._helper = InspectionHelper()
            return self._helper


def _local_profile(base: str, revision: str | None) -> "ModelProfile | None":
    """Return the profile of a folder, of what is built in, or of a hub model that is wholly here; None for others."""
    from engine.planning.model_profile import is_hub_id, read_model_profile, whole_snapshot

    if is_hub_id(base) and whole_snapshot(base, revision) is None:
        return None
    return read_model_profile(base, revision)


def _absolute(tree: Mapping[str, Any]) -> dict[str, Any]:
    from engine.recipe.places import absolute_places

    return absolute_places(tree, (Path.cwd(),))


def with_stand_ins(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with something in every place that must be answered, so that the rest can be checked."""
    return {
        **tree,
        "objective": tree.get("objective") or "chat",
        "model": {"base": "builtin:starter", **(tree.get("model") or {})},
        "data": {"source": "builtin:commands", **(tree.get("data") or {})},
    }


def _telling(on_progress: ProgressListener) -> Callable[[dict[str, Any]], None]:
    return lambda word: on_progress(work_progress(word))


def hub_answer(answer: Mapping[str, Any]) -> HubAnswer:
    """Return the helper's answer to `search_hub`."""
    return HubAnswer(tuple(HubModel(**model) for model in answer["models"]), answer["left_out"])


def work_progress(word: Mapping[str, Any]) -> WorkProgress:
    """Return a word of the helper about its progress."""
    return WorkProgress(word["stage"], word["done"], word["total"], word["unit"], word["found"])


def shape_look(answer: Mapping[str, Any]) -> ShapeLook:
    """Return the helper's answer to `shape_offers`."""
    offers = tuple(ShapeOffer(**offer) for offer in answer["offers"])
    return ShapeLook(offers, answer["columns"], answer["num_rows"])


def no_tokenizer() -> Problem:
    """Return why sequences cannot be shown; the run fetches the model and makes the checks itself."""
    message = "The sequences cannot be shown as tokens: the model's tokenizer is not on this machine."
    fix = "Go on; the run fetches it and makes the checks before its first step."
    return Problem("xray.no_tokenizer", message, fix, "model.base", "warning")


def machine_of(hardware: "Hardware") -> Machine:
    """Return the machine in words, with the memory of the device that a plan would take."""
    from engine.hardware.readings import shown

    host = hardware.host
    ram = f"{shown(host.ram_available_bytes, human_bytes)} of {shown(host.ram_total_bytes, human_bytes)} RAM free"
    cores = f"{host.cores} core{'' if host.cores == 1 else 's'}"
    gpus = hardware.usable_gpus()
    free, where = hardware.training_memory()
    if not gpus:
        hidden = f"{len(hardware.gpus)} GPU hidden by CUDA_VISIBLE_DEVICES" if hardware.gpus else ""
        return Machine(f"CPU only: {cores}, {ram}", (hidden,) if hidden else (), free, where, hardware)
    lines = (*(_gpu_line(gpu) for gpu in gpus), f"{cores}, {ram}")
    return Machine(_gpu_headline(gpus), lines, free, where, hardware)


def _gpu_headline(gpus: "list[Gpu]") -> str:
    from engine.hardware.readings import shown

    names = [clean_line(shown(gpu.name), max_chars=32) for gpu in gpus]
    count = f"{len(gpus)} × " if len(gpus) > 1 else ""
    return f"{count}{names[0]}, {shown(gpus[0].free_bytes, human_bytes)} free"


def _gpu_line(gpu: "Gpu") -> str:
    from engine.hardware.readings import shown

    free, total = shown(gpu.free_bytes, human_bytes), shown(gpu.total_bytes, human_bytes)
    return f"GPU {gpu.index}  {clean_line(shown(gpu.name), max_chars=32)}  {free} of {total} free"
