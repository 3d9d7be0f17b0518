"""From a recipe to a plan: when a rehearsal is worth its seconds, and what becomes of one that fails."""

from contextlib import closing
from pathlib import Path

import pytest

from engine.helper import InspectionHelper
from engine.planning.assumed import assumed_data, catalogue_profile
from engine.planning.plan import Plan
from engine.planning.planner import with_memory
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import Problem, ProblemError
from tests.unit.made_plans import GIB, HOME, codes, finding, gpu, hub_model, plan, with_gpus
from tui import preparation
from tui.preparation import deepened, not_rehearsed, prepare, read_reference, rehearse, worth_rehearsing
from tui.verbs.recipes import _rehearsed


def needing(high_gib: float, **changes: object) -> Plan:
    """Return a plan for 20 GiB whose range ends at so much."""
    made = plan({"method": {"name": "lora"}}, hardware=with_gpus(gpu(20)), model=hub_model("Qwen/Qwen3-1.7B"))
    sizes = {"low_bytes": GIB, "expected_bytes": 2 * GIB, "high_bytes": int(high_gib * GIB)}
    return with_memory(made, made.memory.model_copy(update={**sizes, **changes}))


def test_what_clearly_fits_needs_no_rehearsal_and_what_does_not_is_not_taken_at_its_word() -> None:
    assert not worth_rehearsing(needing(11.9))
    assert worth_rehearsing(needing(12.1))
    assert worth_rehearsing(needing(30))


def test_a_plan_that_is_measured_or_blocked_for_another_reason_is_not_rehearsed() -> None:
    assert not worth_rehearsing(needing(30, depth="simulated"))
    assert not worth_rehearsing(needing(30, available_bytes=None))
    broken = plan({"training": {"micro_batch": 5}}, hardware=with_gpus(gpu(4)), model=hub_model())
    assert broken.blocked
    assert not worth_rehearsing(broken)


def test_a_rehearsal_that_fails_leaves_the_formula_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Plan) -> Plan:
        raise ProblemError(Problem("rehearsal.failed", "This model has code of its own."))

    monkeypatch.setattr(preparation, "rehearse", fail)
    said: list[str] = []
    made = needing(15)
    after = deepened(made, said.append)
    assert after.memory == made.memory
    assert finding(after, "plan.not_rehearsed").severity == "note"
    assert "code of its own" in finding(after, "plan.not_rehearsed").message
    assert len(said) == 1


def test_ctrl_c_keeps_the_plan_of_plan_and_leaves_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Plan) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "rehearse", interrupted)
    made = needing(15)
    assert _rehearsed(made) == not_rehearsed(made, "you stopped the rehearsal")
    with pytest.raises(KeyboardInterrupt):
        deepened(made, lambda _: None)


def test_an_empty_machine_is_a_mistake_and_not_this_one() -> None:
    with closing(InspectionHelper()) as helper, pytest.raises(ProblemError) as caught:
        prepare(read_reference("quickstart"), helper, reference="quickstart", gpu="")
    assert caught.value.problems[0].code == "hardware.unknown_machine"


def test_what_is_assumed_is_said() -> None:
    for objective in ("chat", "domain-adaptation"):
        data = assumed_data(objective)
        made = plan(data=data, objective=objective, hardware=with_gpus(gpu(24)), model=hub_model())
        assert "plan.data_assumed" in codes(made, "note")
        assert not any(code.startswith("advice.") for code in codes(made))
    model = catalogue_profile(hub_model(), HOME.cache, "nothing was asked")
    assert model.download_bytes == 2 * model.num_params
    assert "nothing was asked" in model.findings[-1].message


class TooLargeAtFirst:
    """Rehearsals that find the first cut too large for the card, and whatever comes next to need half of it."""

    def __init__(self, cache: Path) -> None:
        self.asked: list[int] = []
        MADE.append(self)

    async def of(self, found: Plan) -> RehearsalResult:
        self.asked.append(found.steps.micro_batch)
        free = found.memory.available_bytes or 0
        size = free if len(self.asked) == 1 else free // 2
        return RehearsalResult(
            key="k",
            device_kind="cuda",
            peaks={"training": size},
            peak_phase="training",
            components={"activations": size},
            smallest_card_bytes=size,
            num_layers=1,
            cpu_s=0.1,
        )

    def close(self) -> None:
        """Nothing was started."""


MADE: list[TooLargeAtFirst] = []


def test_a_plan_that_the_rehearsal_finds_too_large_is_cut_and_rehearsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    monkeypatch.setattr("engine.planning.rehearse.Rehearsals", TooLargeAtFirst)
    card = with_gpus(gpu(6))
    before = plan({"method": {"name": "lora"}}, hardware=card, model=hub_model("Qwen/Qwen3-0.6B"))
    after = rehearse(before)
    first, second = MADE[0].asked
    assert second < first
    assert after.steps.micro_batch == second
    assert after.steps.micro_batch * after.steps.accumulation == before.recipe.training.effective_batch
    assert after.memory.depth == "simulated"
    assert not after.blocked


def test_a_plan_that_somebody_fixed_is_rehearsed_once_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    monkeypatch.setattr("engine.planning.rehearse.Rehearsals", TooLargeAtFirst)
    fixed = {"micro_batch": 1, "activation_checkpointing": True, "optimizer": "adamw"}
    you = {"method": {"name": "lora"}, "training": fixed}
    after = rehearse(plan(you, hardware=with_gpus(gpu(6)), model=hub_model("Qwen/Qwen3-0.6B")))
    assert MADE[0].asked == [1]
    assert "memory.does_not_fit" in [finding.code for finding in after.findings]


def test_a_model_that_cannot_be_built_is_more_than_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Plan) -> Plan:
        raise ProblemError(Problem(preparation.UNBUILDABLE, "The model m cannot be built from its configuration: x."))

    monkeypatch.setattr(preparation, "rehearse", fail)
    found = finding(deepened(needing(15), lambda _: None), "plan.not_rehearsed")
    assert found.severity == "warning"
    assert "config.json" in found.fix
