"""Training settings of the plan and the rules: schedules, ranges of rates, the best step, what nothing would read."""

import pytest

from engine.catalog.metrics import METRICS, best_choices
from engine.catalog.objectives import OBJECTIVES
from engine.catalog.optimizers import OPTIMIZER_NAMES, find_optimizer
from engine.planning.memory import optimizer_bytes
from engine.planning.plan import Steps
from engine.planning.schedule import rate_share, warmup_steps
from engine.planning.training_choices import choose_best_by, choose_patience, rate_range
from engine.recipe.fields import fields_by_path
from engine.text import short_number
from tests.unit.made_plans import DATA, codes, finding, gpu, hub_model, plan, tiny, with_gpus
from tests.unit.test_recipe_rules import codes as rule_codes

FIELDS = fields_by_path()


def curve(schedule: str, total: int = 100, warmup: float = 0.1, lowest: float = 0.0) -> list[float]:
    steps = warmup_steps(warmup, total)
    return [
        rate_share(step, schedule=schedule, warmup_steps=steps, total_steps=total, min_share=lowest)  # type: ignore[arg-type]
        for step in range(total)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_every_schedule_rises_to_the_full_rate_and_never_beyond(schedule: str) -> None:
    shares = curve(schedule)
    assert shares[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert shares[10] == pytest.approx(1.0)
    assert max(shares) <= 1.0
    assert min(shares) > 0.0, "a step that learns nothing reads its rows for nothing"
    assert all(later <= earlier + 1e-12 for earlier, later in zip(shares[10:], shares[11:], strict=False))


def test_wsd_holds_the_rate_and_falls_over_the_last_fifth() -> None:
    shares = curve("wsd")
    assert shares[10:80] == [1.0] * 70
    assert shares[81] < 1.0
    assert shares[90] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_lowest_rate_is_where_a_curve_ends(schedule: str) -> None:
    last = curve(schedule, total=10_000, lowest=0.25)[-1]
    assert last == pytest.approx(0.25, abs=1e-3)
    assert min(curve(schedule, lowest=0.25)[10:]) >= 0.25


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_shortest_runs_have_a_schedule(schedule: str, total: int) -> None:
    for warmup in (0.0, 0.5, 0.99):
        assert all(0 < share <= 1 for share in curve(schedule, total, warmup))


def test_the_choices_of_the_best_step_are_the_catalogues() -> None:
    known = {metric.name for metric in METRICS if metric.better != "neither"}
    assert set(FIELDS["training.best_by"].choices) == known | {"last"}
    assert set(FIELDS["training.optimizer"].choices) == set(OPTIMIZER_NAMES)


def test_the_best_step_is_that_of_what_is_learnt() -> None:
    for objective in OBJECTIVES:
        best, reason = choose_best_by(objective.name, held_out=True)
        assert best in best_choices(objective.metrics)
        assert reason
        assert choose_best_by(objective.name, held_out=False)[0] == "last"


@pytest.mark.parametrize(("total", "every", "patience"), [(800, 100, 4), (10, 10, 3), (1000, 10, 50), (0, 1, 3)])
def test_patience_is_half_of_the_evaluations(total: int, every: int, patience: int) -> None:
    steps = Steps(
        micro_batch=1,
        accumulation=1,
        steps_per_epoch=total,
        total_steps=total,
        evaluate_every=every,
        checkpoint_every=1,
    )
    assert choose_patience("loss", steps)[0] == patience
    assert choose_patience("last", steps)[0] == 0


def test_a_plan_stops_early_only_where_rows_are_held_out() -> None:
    usual = plan().recipe.training
    assert (usual.best_by, usual.early_stopping) == ("loss", 4)
    without = plan(data=DATA.model_copy(update={"num_held_out": 0}))
    assert (without.recipe.training.best_by, without.recipe.training.early_stopping) == ("last", 0)
    asked = plan({"training.early_stopping": 2}, data=DATA.model_copy(update={"num_held_out": 0}))
    assert finding(asked, "recipe.no_effect").path == "training.early_stopping"


def test_the_best_checkpoint_counts_on_the_disk() -> None:
    with_best, without = plan(), plan({"training.best_by": "last"})
    assert with_best.disk.checkpoints_bytes == without.disk.checkpoints_bytes * 4 // 3


def test_a_rate_far_outside_the_methods_range_is_told_and_a_usual_one_is_not() -> None:
    low, high = rate_range("lora", 8_000_000_000)
    assert (low, high) == pytest.approx((5e-5, 8e-4))
    for rate, words in ((5e-3, "may diverge"), (1e-6, "next to nothing")):
        told = finding(
            plan({"training.learning_rate": rate, "method.name": "lora"}, model=hub_model()),
            "training.learning_rate_range",
        )
        assert words in told.message
        assert told.severity == "warning"
    for rate in (low, 2e-4, high):
        assert "training.learning_rate_range" not in codes(
            plan({"training.learning_rate": rate, "method.name": "lora"}, model=hub_model())
        )


def test_lion_takes_a_smaller_rate_and_fewer_states() -> None:
    lion, adamw = plan({"training.optimizer": "lion_8bit"}), plan({"training.optimizer": "adamw"})
    assert lion.recipe.training.learning_rate == pytest.approx(adamw.recipe.training.learning_rate / 5)
    assert "lion" in lion.sources["training.learning_rate"].detail
    sizes = [optimizer_bytes(name, 10**6) for name in OPTIMIZER_NAMES]  # type: ignore[arg-type]
    assert sizes[0] == 8 * 10**6
    assert all(size < sizes[0] / 3 for size in sizes[1:])
    assert find_optimizer("lion_8bit").eight_bit


def test_float16_for_a_model_of_bfloat16_is_told() -> None:
    machine = with_gpus(gpu(80))
    model = hub_model().model_copy(update={"weights_dtype": "bfloat16"})
    other = hub_model().model_copy(update={"weights_dtype": "float16"})
    assert "training.float16_overflow" in codes(plan({"training.precision": "float16"}, hardware=machine, model=model))
    for precision, one in (("bfloat16", model), ("float16", other)):
        made = plan({"training.precision": precision}, hardware=machine, model=one)
        assert "training.float16_overflow" not in codes(made)


def test_dropout_is_refused_where_a_family_has_none() -> None:
    mamba = tiny().model_copy(update={"model_type": "mamba"})
    assert "training.dropout_no_place" in codes(plan({"training.dropout": 0.1}, model=mamba))
    assert "training.dropout_no_place" not in codes(plan({"training.dropout": 0.1}, model=hub_model()))
    assert "training.dropout_no_place" not in codes(plan(model=mamba))


@pytest.mark.parametrize(
    ("assignments", "code", "path"),
    [
        (["training.best_by=accuracy"], "training.best_by_objective", "training.best_by"),
        (
            ["training.best_by=exact_match", "evaluation.metrics=perplexity"],
            "training.best_by_not_measured",
            "training.best_by",
        ),
        (["training.best_by=last", "training.early_stopping=3"], "recipe.no_effect", "training.early_stopping"),
        (["training.min_rate=0.1", "training.schedule=constant"], "recipe.no_effect", "training.min_rate"),
    ],
)
def test_what_nothing_would_read_is_an_error(assignments: list[str], code: str, path: str) -> None:
    assert rule_codes(*assignments) == [(code, path)]


@pytest.mark.parametrize(
    "assignments",
    [
        ["training.best_by=loss"],
        ["training.best_by=exact_match"],
        ["training.best_by=exact_match", "evaluation.metrics=perplexity,exact_match"],
        ["training.best_by=perplexity", "training.early_stopping=3"],
        ["training.best_by=last", "training.early_stopping=0"],
        ["training.min_rate=0.1"],
        ["training.min_rate=0", "training.schedule=constant"],
        ["training.label_smoothing=0.1", "training.neftune_alpha=5"],
    ],
)
def test_settings_that_go_together_are_no_finding(assignments: list[str]) -> None:
    assert rule_codes(*assignments) == []


@pytest.mark.parametrize(
    ("number", "text"), [(2e-5, "2e-5"), (0.05, "0.05"), (12.0, "12"), (0.0, "0"), (2.5e-4, "2.5e-4")]
)
def test_numbers_are_written_as_in_a_recipe(number: float, text: str) -> None:
    assert short_number(number) == text
