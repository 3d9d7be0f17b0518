"""A plan as a question that can be asked again: what somebody decided, and what the search may still choose."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from engine.catalog.methods import AUTOMATIC, METHOD_SETTINGS, METHODS, MethodName, find_method
from engine.catalog.metrics import GENERATING_CHOICES
from engine.catalog.objectives import find_objective
from engine.planning.adapter_scale import DEFAULT_RANK
from engine.planning.capabilities import Surroundings, is_allowed, quantization_of
from engine.planning.depth import depth_of
from engine.planning.duration import Work, training_rate
from engine.planning.few_shot import example_tokens
from engine.planning.judges import judge_of
from engine.planning.memory import Setup
from engine.planning.plan import Device, Machine, Plan
from engine.planning.profiles import DataProfile, ModelProfile
from engine.planning.search import SMALL_PARAMS, Space
from engine.planning.sides import Sides, sides_of
from engine.planning.storage import estimate_disk
from engine.planning.virtual_prompt import DEFAULT_TOKENS, num_virtual_tokens
from engine.recipe.sources import flatten
from engine.runs.references import weights_bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is made from, apart from the recipe."""

    device: Device
    machine: Machine
    model: ModelProfile
    data: DataProfile
    available_bytes: int | None
    where: str


def space_of(values: Mapping[str, Any], given: Collection[str], facts: Facts) -> Space:
    """Return what the search may choose from; what somebody set is the only choice there.

    Args:
        values: `{recipe path: value}`; precision, length and packing are filled in.
        given: Paths that a person or a preset set.
        facts: Machine, model and data.
    """

    def decided(path: str) -> Any:
        return values[path] if path in given else None

    method, optimizer = decided("method.name"), decided("training.optimizer")
    checkpointing = decided("training.activation_checkpointing")
    precision: str = values["training.precision"]
    sides = sides_of(values, facts.data)
    return Space(
        model=facts.model,
        device=facts.device.kind,
        where=facts.where,
        precision=precision,
        # The formula takes what is written to be as long as what is read.
        max_length=max(values["training.max_length"], values["text_to_text.max_target_length"] or 0),
        rank=values["method.rank"] or DEFAULT_RANK,
        targets=_targets(values["method.targets"] or "all-linear"),
        methods=(method,) if method else _methods(given, facts),
        work=_work(values, facts, sides),
        rate=training_rate(facts.device, facts.machine, precision),
        micro_batch=decided("training.micro_batch"),
        checkpointing=(False, True) if checkpointing is None else (checkpointing,),
        optimizers=(optimizer,) if optimizer else None,
        available_bytes=facts.available_bytes,
        packed=values["training.packing"],
        demand_comfort=method is None,
        attention=values["training.attention"] or "sdpa",
        dropout=values["method.dropout"] or 0.0,
        smoothed=values["training.label_smoothing"] > 0,
        generate=_generated_tokens(values["evaluation.metrics"], values["evaluation.max_new_tokens"]),
        examples=example_tokens(decided("evaluation.few_shot"), facts.data),
        written=_written(values),
        reference=_keeps_reference(values),
        judge_bytes=_judge_bytes(values),
        merge=values["delivery.merge"] or "delivery.merge" not in given,
        sides=sides,
        depth=depth_of(values, facts.model),
        variant=values["method.variant"] or "plain",
        rank_pattern=tuple(values["method.rank_pattern"].items()),
        virtual_tokens=values["method.virtual_tokens"] or DEFAULT_TOKENS,
        encoder_width=values["method.encoder_width"] or 0,
        new_tokens=len(values["model.new_tokens"]),
        calibration=facts.machine.calibration,
    )


def _work(values: Mapping[str, Any], facts: Facts, sides: Sides) -> Work:
    """Return what the run has to read and to write."""
    return Work(
        data=facts.data,
        effective_batch=values["training.effective_batch"],
        epochs=values["training.epochs"],
        max_steps=values["training.max_steps"],
        text=find_objective(values["objective"]).plain_text,
        written=_written(values),
        repeats=_repeats(values),
        sides=sides,
    )


def _targets(wished: str | list[str]) -> str | tuple[str, ...]:
    return wished if isinstance(wished, str) else tuple(wished)


def _generated_tokens(metrics: Collection[str] | None, max_new_tokens: int | None) -> int:
    """Return the longest answer that an evaluation generates; 0 when no metric needs one."""
    return (max_new_tokens or 0) if GENERATING_CHOICES.intersection(metrics or ()) else 0


def _written(values: Mapping[str, Any]) -> int:
    """Return the tokens of a row that the model writes itself while it learns."""
    answers = find_objective(values["objective"]).signal == "prompts"
    return (values["reinforcement.max_completion"] or 0) if answers else 0


def _repeats(values: Mapping[str, Any]) -> int:
    """Return how many times a step reads each of its rows: once for each answer that is written to it."""
    answers = find_objective(values["objective"]).signal == "prompts"
    repeats: int = values["reinforcement.num_generations"] if answers else 1
    return repeats


def _keeps_reference(values: Mapping[str, Any]) -> bool:
    answers = find_objective(values["objective"]).signal == "prompts"
    return answers and bool(values["reinforcement.beta"])


def _judge_bytes(values: Mapping[str, Any]) -> int:
    _, place = judge_of(values)
    return weights_bytes(place) if place else 0


def _methods(given: Collection[str], facts: Facts) -> tuple[MethodName, ...]:
    """Return the methods that the plan may take by itself: those that read every setting of a method that is given."""
    wanted = {path for path in METHOD_SETTINGS if path.startswith("method.") and path in given}
    where = Surroundings(facts.device, facts.machine, facts.model)
    found: list[MethodName] = []
    for method in map(find_method, AUTOMATIC):
        too_large = method.trains_whole and facts.model.num_params > SMALL_PARAMS
        quantizing = quantization_of(method)
        possible = quantizing is None or is_allowed(quantizing, where)
        if possible and not too_large and wanted <= set(method.settings):
            found.append(method.name)
    readers: list[MethodName] = [method.name for method in METHODS if wanted <= set(method.settings)]
    return tuple(found or readers[:1] or ["lora"])


@dataclass(frozen=True, slots=True)
class Case:
    """A finished plan with the space that it was chosen from.

    Attributes:
        plan: The plan, whose tables may still be empty.
        space: What its recipe left open.
        setup: What was chosen.
        given: Paths that a person or a preset set.
    """

    plan: Plan
    space: Space
    setup: Setup
    given: frozenset[str]

    @property
    def surroundings(self) -> Surroundings:
        """Return where the plan runs."""
        return Surroundings(self.plan.device, self.plan.machine, self.plan.model, self.space.precision)

    @property
    def alone(self) -> Space:
        """Return the space of one GPU, where the plan takes several."""
        free = self.plan.machine.alike_free_bytes
        if self.plan.steps.num_gpus == 1 or not free:
            return self.space
        where = f"GPU {self.plan.device.index}"
        return self.space.changed(strategy="single", num_gpus=1, available_bytes=free[0], where=where)

    def disk_bytes(self, setup: Setup) -> int:
        """Return what the run writes and downloads when it is carried out so."""
        recipe, disk = self.plan.recipe, self.plan.disk
        estimate = estimate_disk(
            self.plan.model,
            setup,
            self.plan.data,
            keep=recipe.training.keep_checkpoints,
            delivery=recipe.delivery,
            free_bytes=disk.free_bytes,
            download_free_bytes=disk.download_free_bytes,
        )
        elsewhere = estimate.download_bytes if estimate.download_free_bytes is not None else 0
        return estimate.total_bytes + elsewhere

    def training_seconds(self, space: Space, step_s: float) -> float:
        """Return the expected time of the whole training."""
        return step_s * space.work.total_steps(space.max_length, packing=space.packed)


def case_of(plan: Plan) -> Case:
    """Return the question that a plan answers; values that it derived are open again."""
    values = flatten(plan.recipe.model_dump(mode="json"))
    given = frozenset(
        path
        for path, source in plan.sources.items()
        if source.kind in ("you", "preset") and values[path] not in (None, {}, [])
    )
    memory = plan.memory
    facts = Facts(plan.device, plan.machine, plan.model, plan.data, memory.available_bytes, memory.where)
    setup = setup_of(plan)
    space = space_of(values, given, facts).changed(strategy=setup.strategy, num_gpus=setup.num_gpus)
    formula = space.memory_of(setup)
    if memory.depth != "formula":
        space = space.changed(
            memory_factor=memory.expected_bytes / formula.expected_bytes,
            high_factor=memory.high_bytes / formula.high_bytes,
        )
    return Case(plan, space, setup, given)


def setup_of(plan: Plan) -> Setup:
    """Return what decides on the memory of a plan."""
    recipe, evaluation = plan.recipe, plan.recipe.evaluation
    training, method = recipe.training, recipe.method
    values = flatten(recipe.model_dump(mode="json"))
    targets = method.targets or "all-linear"
    sides = sides_of(values, plan.data)
    return Setup(
        device=plan.device.kind,
        method=method.facts.name,
        precision=training.precision or "float32",
        micro_batch=plan.steps.micro_batch,
        max_length=max(training.max_length or plan.model.context_length, recipe.text_to_text.max_target_length or 0),
        optimizer=training.optimizer or "adamw",
        activation_checkpointing=bool(training.activation_checkpointing),
        rank=method.rank or DEFAULT_RANK,
        targets=targets if isinstance(targets, str) else tuple(targets),
        packed=bool(training.packing),
        accumulates=training.effective_batch > plan.steps.micro_batch * plan.steps.num_gpus,
        attention=training.attention or "sdpa",
        dropout=method.dropout or 0.0,
        smoothed=training.label_smoothing > 0,
        generate=_generated_tokens(evaluation.metrics, evaluation.max_new_tokens),
        examples=example_tokens(evaluation.few_shot, plan.data),
        written=_written(values),
        reference=_keeps_reference(values),
        judge_bytes=_judge_bytes(values),
        merge=recipe.delivery.merge and method.facts.mergeable,
        sides=sides.count,
        beside=sides.beside,
        depth=depth_of(values, plan.model),
        variant=method.variant or "plain",
        rank_pattern=tuple(method.rank_pattern.items()),
        virtual_tokens=num_virtual_tokens(method),
        encoder_width=method.encoder_width or 0,
        num_gpus=plan.steps.num_gpus,
        strategy="ddp" if plan.steps.num_gpus > 1 else "single",
        new_tokens=len(recipe.model.new_tokens) if method.facts.learns == "low-rank" else 0,
    )
