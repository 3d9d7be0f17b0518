"""The ranked table: the best setting of each method and of each way to share the work, and why it was not taken."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from engine.catalog import matrix
from engine.catalog.methods import AUTOMATIC, METHOD_SETTINGS, METHODS, MethodName, find_method
from engine.catalog.optimizers import find_optimizer
from engine.planning.capabilities import STRATEGY_TITLES, Capability, quantization_of, reason_against
from engine.planning.case import Case
from engine.planning.memory import Optimizer, Setup, Strategy, trainable_params
from engine.planning.method_limits import reason_against_method
from engine.planning.plan import MemoryEstimate, PlanOption
from engine.planning.search import SMALL_PARAMS, Choice, Space, find_setup, shared_gpus
from engine.planning.sharing import EACH_GPU, divides, share_work
from engine.text import human_bytes, human_count, human_duration

_VERDICT_ORDER = ("chosen", "fits", "tight", "too_large", "impossible")
EIGHT_BIT: dict[str, Optimizer] = {"cpu": "adamw_8bit", "cuda": "paged_adamw_8bit"}
_HARDLY = 0.05
"""Differences below a twentieth are no reason."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row before it was planned.

    Attributes:
        changes: `{recipe path: value}` that takes it.
        impossible: Why it cannot run at all; empty when it can.
        quality: What is gained or lost beside what the method says.
        fixed_gpus: The number of GPUs is what the row is about; others take as many as the plan would.
        folded: Shown when somebody asks for more methods.
    """

    title: str
    space: Space
    changes: dict[str, Any] = field(default_factory=dict)
    impossible: str = ""
    quality: str = ""
    fixed_gpus: bool = False
    folded: bool = False


def make_options(case: Case) -> list[PlanOption]:
    """Return the ranked table of a plan: what it took first, then what fits, then the rest.

    Of what fits, a method as it is comes before a method with something changed, and methods come in the order in which
    the plan would take them by itself.
    """
    taken = _taken(case)
    rows = [taken, *(_option(case, row, taken) for row in _rows(case, taken))]
    small = case.plan.model.num_params <= SMALL_PARAMS
    first = AUTOMATIC if small else sorted(AUTOMATIC, key=lambda name: find_method(name).trains_base)
    preferred = [*first, *(method.name for method in METHODS if method.name not in AUTOMATIC)]

    def rank(row: PlanOption) -> tuple[bool, int, bool, bool, int, float]:
        changed = any(not path.startswith("method.") for path in row.changes)
        # Of what cannot run here, what no recipe can ask for comes last.
        hopeless = row.verdict == "impossible" and not row.changes
        order = _VERDICT_ORDER.index(row.verdict)
        return row.folded, order, hopeless, changed, preferred.index(row.method), row.time_s or 0.0

    return sorted(rows, key=rank)


def method_changes(case: Case, method: MethodName) -> dict[str, Any]:
    """Return the answers that take a method; settings of the person's own that it does not read give way."""
    changes: dict[str, Any] = {"method.name": method}
    unread = [path for path in METHOD_SETTINGS if path not in find_method(method).settings]
    yours = case.plan.sources
    changes |= {
        path: None for path in unread if path.startswith("method.") and path in case.given and yours[path].kind == "you"
    }
    return changes


def method_space(case: Case, method: MethodName) -> Space:
    """Return the space of a method, everything else as it is; rows behind virtual tokens are not packed."""
    given = "training.packing" in case.given
    packed = case.space.packed if given else case.space.work.text and not find_method(method).adds_tokens
    return case.space.changed(methods=(method,), packed=packed, demand_comfort=False)


def _rows(case: Case, taken: PlanOption) -> Iterator[_Row]:
    for method in AUTOMATIC:
        if method != taken.method:
            yield _Row(find_method(method).short, method_space(case, method), method_changes(case, method))
    yield from _eight_bit(case, taken)
    yield from _packed(case, taken)
    yield from _other_kernels(case, taken)
    yield from _shared(case, taken)
    for facts in METHODS:
        if facts.name != taken.method and not facts.automatic:
            changes = method_changes(case, facts.name)
            yield _Row(facts.short, method_space(case, facts.name), changes, folded=True)


def _eight_bit(case: Case, taken: PlanOption) -> Iterator[_Row]:
    """Yield full fine-tuning with 8-bit states, where a row of its own says something new."""
    optimizer = EIGHT_BIT[case.space.device]
    if "training.optimizer" in case.given or case.plan.machine.num_gpus > 1:
        return
    space = method_space(case, "full").changed(optimizers=(optimizer,))
    already = (
        taken.optimizer
        if find_method(taken.method).trains_whole
        else find_setup(method_space(case, "full")).setup.optimizer
    )
    if already != optimizer:
        changes = {**method_changes(case, "full"), "training.optimizer": optimizer}
        yield _Row("Full, 8-bit optimizer", space, changes, quality="States rounded to 8 bits; rarely noticed.")


def _packed(case: Case, taken: PlanOption) -> Iterator[_Row]:
    """Yield packing for conversations; plain text is packed as it is."""
    reads = "training.packing" in case.plan.recipe.goal.settings_of(case.plan.model.kind)
    if case.space.work.text or case.plan.data.lengths is None or not reads:
        return
    space = case.space.changed(methods=(taken.method,), packed=not taken.packing, demand_comfort=False)
    work, batch = space.work, space.work.effective_batch
    rows = work.tokens_per_step(space.max_length, packing=True) / max(
        1.0, work.tokens_per_step(space.max_length, packing=False)
    )
    note = f"About {rows:.1f} rows share a sequence: a step learns from about {rows * batch:.0f} rows."
    packed = space.packed
    yield _Row(
        f"{find_method(taken.method).brief}, {'packed' if packed else 'not packed'}",
        space,
        {"method.name": taken.method, "training.packing": packed},
        quality=note if packed else f"A step learns from {batch} rows, each in a sequence of its own.",
    )


def _other_kernels(case: Case, taken: PlanOption) -> Iterator[_Row]:
    method = taken.method
    short = find_method(method).brief
    space = method_space(case, method)
    if taken.attention != "flash_attention_2":
        yield _Row(
            f"{short}, FlashAttention",
            space.changed(attention="flash_attention_2"),
            {"method.name": method, "training.attention": "flash_attention_2"},
            reason_against("flash_attention_2", case.surroundings),
            "The same numbers to rounding.",
        )
    yield _Row(f"{short}, compiled", space, {}, reason_against("compile", case.surroundings), "The same numbers.")


def _shared(case: Case, taken: PlanOption) -> Iterator[_Row]:
    """Yield the ways to share the work between the GPUs of the machine."""
    machine, batch = case.plan.machine, case.space.work.effective_batch
    if machine.num_gpus < 2:
        return
    if taken.num_gpus > 1:
        alone = case.alone.changed(methods=(taken.method,), demand_comfort=False)
        changes = {"method.name": taken.method, "training.num_gpus": 1}
        title = f"{find_method(taken.method).brief}, one GPU"
        yield _Row(title, alone, changes, quality="The same numbers to rounding.", fixed_gpus=True)
    num_gpus = shared_gpus(len(machine.alike_free_bytes), batch)
    ways: tuple[tuple[Strategy, MethodName], ...] = (
        ("ddp", taken.method),
        ("fsdp", "full"),
        ("zero3", "full"),
    )
    for strategy, method in ways[1 if taken.num_gpus > 1 else 0 :]:
        space = method_space(case, method).changed(
            strategy=strategy,
            num_gpus=num_gpus,
            micro_batch=case.space.micro_batch if strategy == "ddp" else None,
            available_bytes=min(machine.alike_free_bytes[:num_gpus], default=None),
            where=EACH_GPU,
        )
        title = f"{find_method(method).brief}, {num_gpus} GPUs ({STRATEGY_TITLES[strategy]})"
        reason = reason_against(strategy, case.surroundings)
        if len(machine.alike_free_bytes) < 2:
            reason = "the GPUs are of different kinds, or parts of one"
        elif num_gpus < 2 or not divides(space, num_gpus):
            reason = f"the effective batch of {batch} cannot be shared evenly between the GPUs"
        changes = {"method.name": method, "training.num_gpus": num_gpus} if strategy == "ddp" and not reason else {}
        yield _Row(title, space, changes, reason, "The same numbers to rounding.", fixed_gpus=True)


def _taken(case: Case) -> PlanOption:
    """Return the row of the plan itself."""
    plan, setup = case.plan, case.setup
    step_s = case.space.step_seconds(setup)
    row = _Row(_taken_title(case), case.space)
    memory = plan.memory
    fits = memory.available_bytes is None or memory.high_bytes <= memory.available_bytes
    why = "" if fits else _too_much(memory)
    return _planned(case, row, Choice(setup, memory, fits, step_s)).model_copy(
        update={"verdict": "chosen", "why_not": why}
    )


def _taken_title(case: Case) -> str:
    setup = case.setup
    title = setup.facts.short
    if setup.num_gpus > 1:
        return f"{title}, {setup.num_gpus} GPUs"
    eight_bit = setup.facts.trains_whole and find_optimizer(setup.optimizer).eight_bit
    return f"{title}, 8-bit optimizer" if eight_bit else title


def _option(case: Case, row: _Row, taken: PlanOption) -> PlanOption:
    choice = find_setup(row.space)
    if not row.fixed_gpus and len(case.plan.machine.alike_free_bytes) > 1:
        row, choice = _with_gpus(case, row)
    option = _planned(case, row, choice)
    reason = row.impossible or _against_setup(case, choice.setup)
    reason = reason or reason_against_method(choice.setup.facts, case.plan.recipe, case.plan.model, case.given)
    if reason:
        return option.model_copy(update={"verdict": "impossible", "why_not": f"{reason[0].upper()}{reason[1:]}."})
    if choice.fits:
        return option.model_copy(update={"why_not": _why_not(case, option, taken)})
    return option.model_copy(update={"why_not": _too_much(choice.memory)})


def _with_gpus(case: Case, row: _Row) -> tuple[_Row, Choice]:
    """Return a row with the number of GPUs that a plan of it would take."""
    alone, training = case.alone, case.plan.recipe.training
    space = row.space.changed(
        strategy=alone.strategy, num_gpus=alone.num_gpus, available_bytes=alone.available_bytes, where=alone.where
    )
    wanted = training.num_gpus if "training.num_gpus" in case.given else None
    free = case.plan.machine.alike_free_bytes
    space, choice = share_work(space, find_setup(space), free, wanted=wanted)
    return replace(row, space=space), choice


def _against_setup(case: Case, setup: Setup) -> str:
    """Return why a setup cannot run on this machine or with this objective, whatever its size."""
    if reason := matrix.reason_against(case.plan.recipe.objective, setup.method, case.plan.model.kind):
        return reason
    wanted: list[Capability] = [cast(Capability, setup.precision), setup.optimizer]
    if quantizing := quantization_of(setup.facts):
        wanted.insert(0, quantizing)
    return next((reason for one in wanted if (reason := reason_against(one, case.surroundings))), "")


def _planned(case: Case, row: _Row, choice: Choice) -> PlanOption:
    setup, space = choice.setup, row.space
    tokens = space.work.tokens_per_step(setup.max_length, packing=setup.packed)
    total_s = case.training_seconds(space, choice.step_s)
    quality = " ".join(part for part in (_quality(case, setup), row.quality) if part)
    return PlanOption(
        title=row.title,
        method=setup.method,
        changes=row.changes,
        micro_batch=setup.micro_batch,
        accumulation=-(-space.work.effective_batch // (setup.micro_batch * space.num_gpus)),
        max_length=setup.max_length,
        activation_checkpointing=setup.activation_checkpointing,
        optimizer=setup.optimizer,
        precision=setup.precision,
        attention=space.attention,
        packing=setup.packed,
        num_gpus=space.num_gpus,
        strategy=space.strategy,
        memory=choice.memory,
        tokens_per_s=tokens / choice.step_s,
        time_s=total_s or None,
        time_basis=space.rate.basis,
        disk_bytes=case.disk_bytes(setup),
        quality=quality,
        folded=row.folded,
        verdict=_verdict(choice),
    )


def _verdict(choice: Choice) -> Any:
    if choice.fits:
        return "fits"
    available = choice.memory.available_bytes or 0
    return "tight" if choice.memory.low_bytes <= available else "too_large"


def _too_much(memory: MemoryEstimate) -> str:
    span = f"{human_bytes(memory.low_bytes)} to {human_bytes(memory.high_bytes)}"
    free = human_bytes(memory.available_bytes)
    if memory.low_bytes > (memory.available_bytes or 0):
        return f"Needs {span}; {free} are free."
    return f"Needs {span}, and {free} are free: {_decider(memory)}."


def _decider(memory: MemoryEstimate) -> str:
    return "a rehearsal decides" if memory.depth == "formula" else "too close to be sure"


def _why_not(case: Case, option: PlanOption, taken: PlanOption) -> str:
    """Return one sentence, with numbers, why a row that fits was not taken."""
    beside = [part for part in (_slower(option, taken), _larger(option, taken)) if part]
    numbers = " and ".join(beside) or "about the same time and memory"
    return f"{_reason(case, option, taken)}: {numbers}."


def _reason(case: Case, option: PlanOption, taken: PlanOption) -> str:
    """Return what spoke against a row that fits, as the beginning of a sentence."""
    you = case.plan.sources.get("method.name")
    if option.method != taken.method and you is not None and you.kind in ("you", "preset"):
        return f"{taken.title} was asked for"
    row, own = find_method(option.method), find_method(taken.method)
    if option.folded:
        return "Taken only when it is asked for"
    if row.bits is not None and own.bits is None:
        return f"{taken.title} fits, so nothing has to be lost by rounding to {row.bits} bits"
    if row.trains_whole and own.makes_adapter:
        share = trainable_params(case.plan.model, case.setup) / max(1, case.plan.model.num_params)
        return f"{taken.title} forgets less and trains {share:.1%} as many weights"
    if row.makes_adapter and own.trains_whole:
        return "So small a model learns more when all its weights do, and that fits with room to spare"
    if option.num_gpus > taken.num_gpus:
        given = "training.num_gpus" in case.given
        return "One GPU was asked for" if given else "It would save less than it takes to start"
    if option.num_gpus < taken.num_gpus:
        return f"{taken.num_gpus} GPUs are there"
    if option.packing != taken.packing:
        return "It changes how many rows a step learns from"
    return f"{taken.title} needs nothing besides torch" if option.attention != taken.attention else "Not asked for"


def _slower(option: PlanOption, taken: PlanOption) -> str:
    if not option.time_s or not taken.time_s or abs(option.time_s / taken.time_s - 1) < _HARDLY:
        return ""
    times = f"({human_duration(option.time_s)} instead of {human_duration(taken.time_s)})"
    if option.time_s > taken.time_s:
        return f"{option.time_s / taken.time_s:.1f} x slower {times}"
    return f"{taken.time_s / option.time_s:.1f} x faster {times}"


def _larger(option: PlanOption, taken: PlanOption) -> str:
    more = option.memory.expected_bytes - taken.memory.expected_bytes
    if abs(more) < _HARDLY * taken.memory.expected_bytes:
        return ""
    return f"{human_bytes(abs(more))} {'more' if more > 0 else 'less'} memory"


def _quality(case: Case, setup: Setup) -> str:
    model = case.plan.model
    if setup.facts.trains_whole:
        size = human_bytes(4 * model.num_params)
        if setup.facts.staged:
            return f"Learns as much and forgets less, as what lies below learns last; a whole model of {size}."
        return f"Learns the most and forgets the most; the result is a whole model of {size}."
    if setup.facts.learns == "scales":
        size = human_bytes(4 * trainable_params(model, setup))
        return f"Changes the least; the result is an adapter of {size} that can be merged."
    if setup.facts.bits is not None:
        return f"As LoRA, less what rounding the base model to {setup.facts.bits} bits loses."
    size = human_bytes(4 * trainable_params(model, setup))
    if setup.part:
        blocks = human_count(trainable_params(model, setup))
        whole = human_bytes(4 * model.num_params)
        return f"{blocks} weights at the top learn, the others stay; the result is a whole model of {whole}."
    if not setup.facts.mergeable:
        return f"The base model stays as it is; the result is an adapter of {size} that cannot be merged."
    return f"Close to full fine-tuning for most tasks; the result is an adapter of {size}."
