"""The memory benchmark's own arithmetic: nothing left out, nothing counted twice, resumable."""

import json

import pytest

from benchmarks.memory_cases import BOUNDARY_FACTORS, CPU_CASES, DATA, GPU_CASES, Workshop, full_rows, plan_for
from benchmarks.memory_docs import PAGE, filled
from benchmarks.memory_predict import Predictor, Results, formula_tensors, share_off
from benchmarks.memory_published import CALIBRATION_ROW, Comparison, compare_published, read_published
from benchmarks.memory_run import _peak
from benchmarks.memory_table import boundary_summary, summary
from engine.hardware.hypothetical import parse_machine
from engine.planning.model_profile import profile_folder


@pytest.fixture
def shop(tmp_path):
    return Workshop(tmp_path)


def test_every_published_row_is_kept_with_a_configuration_or_a_reason():
    rows = read_published()
    assert len(rows) == 81
    assert len({row.name for row in rows}) == 81
    assert all(row.num_bytes > 2**27 and row.differs for row in rows)
    assert sum(row.case is not None for row in rows) == 35


def test_units_of_published_figures_are_read():
    sizes = {row.name: (row.num_bytes, row.metric) for row in read_published()}
    assert sizes[CALIBRATION_ROW] == (22_292_725_760, "reserved")
    assert sizes["litgpt-rt/Llama-2-7b-bf16-true-b1"] == (21_300_000_000, "allocated")
    assert sizes["hf-docs/bert-large-vanilla"] == (14_949 * 2**20, "device")
    assert sizes["unsloth/unsloth-24"] == (24 * 2**30, "card")


def test_the_results_hold_every_published_row_and_every_case():
    published = json.loads((DATA / "memory-published.json").read_text())["rows"]
    assert set(published) == {row.name for row in read_published()}
    measured = json.loads((DATA / "memory-cpu.json").read_text())["rows"]
    assert set(measured) == {case.name for case in CPU_CASES}


def test_the_grid_for_a_gpu_is_forty_configurations_and_two_hundred_runs_at_the_edge():
    assert len(GPU_CASES) == 40
    assert len(GPU_CASES) * len(BOUNDARY_FACTORS) == 200
    assert {case.method for case in GPU_CASES} == {"full", "lora", "qlora"}
    assert max(case.length for case in GPU_CASES) == 8192


@pytest.mark.parametrize(
    ("model", "billions"),
    [("Llama-3.2-3B", 3.21), ("Llama-2-7b", 6.74), ("Llama-2-13b", 13.02), ("Mistral-7B", 7.24), ("phi-1.5", 1.42),
     ("phi-2", 2.78), ("Phi-3-mini", 3.82), ("gemma-2b", 2.51), ("gemma-7b", 8.54), ("TinyLlama", 1.10),
     ("Llama-3-8B", 8.03), ("stablelm-base-alpha-3b", 3.64), ("Qwen2.5-0.5B", 0.49), ("Qwen2.5-7B", 7.62),
     ("Qwen3-1.7B", 1.72), ("Qwen3-4B", 4.02), ("Qwen3-8B", 8.19), ("Llama-3.2-1B", 1.24)],
)  # fmt: skip
def test_configurations_have_the_published_number_of_weights(shop, model, billions):
    profile = profile_folder(shop.config_folder(model), base=model)
    assert profile.num_params / 1e9 == pytest.approx(billions, abs=0.01)


def test_every_case_has_a_plan_and_a_plan_takes_the_case_as_it_is(shop):
    machine = parse_machine("A100 80GB")
    for case in [*CPU_CASES, *GPU_CASES]:
        plan = plan_for(
            case, shop.config_folder(case.model), machine, full_rows(case), shop.folder / "x.jsonl", shop.home
        )
        training = plan.recipe.training
        assert (plan.recipe.method.name, training.micro_batch, training.max_length) == (
            case.method,
            case.micro_batch,
            case.length,
        )
        assert (plan.steps.micro_batch, plan.steps.accumulation) == (case.micro_batch, case.accumulation)
        assert formula_tensors(plan.memory) > 0


def test_the_fitted_length_makes_the_calibration_row_agree(shop):
    comparison = Comparison(shop, Predictor(), {})
    row = next(row for row in read_published() if row.name == CALIBRATION_ROW)
    # A prediction that is known: 10 GiB and 8 MiB for each token.
    length = comparison.fit(row, lambda case, metric: 10 * 2**30 + case.length * 2**23)
    assert length == round((row.num_bytes - 10 * 2**30) / 2**23)


def test_a_comparison_without_rehearsals_gives_every_row_an_error_or_a_reason(shop, tmp_path):
    results = Results.open(tmp_path / "published.json", fresh=False)
    compare_published(shop, Predictor(), results)
    assert len(results.rows) == 81
    for record in results.rows.values():
        assert record.get("not_expressed") or record["errors"]["formula"] is not None
    again = Results.open(tmp_path / "published.json", fresh=False)
    assert again.rows == results.rows


def test_the_peak_of_a_phase_counts_what_was_alive_before_it():
    events = [(1, 100), (2, 50), (3, -50), (10, 30), (11, -30), (12, 5), (20, 999)]
    assert _peak(events, 5, 15) == 130
    assert _peak(events, 4, 9) == 100
    assert _peak(events, 0, 30) == 1104


def test_errors_are_shares_of_what_was_measured():
    assert share_off(110, 100) == 0.1
    assert share_off(None, 100) is None
    assert share_off(100, None) is None
    assert summary([0.01, -0.03, 0.02]) == "3 rows, median 2.00 %, largest 3.00 %"


def test_verdicts_at_the_edge_are_counted_against_what_happened():
    def verdict(limit, says_fits, ran_out_in):
        return {"limit_bytes": limit, "says_fits": says_fits, "ran_out_in": ran_out_in}

    row = {
        "measured": {"reserved": {"training": 100}},
        "boundary": [
            verdict(90, False, "training"),  # right
            verdict(105, False, None),  # no room to speak of
            verdict(120, False, None),  # a false no
            verdict(130, True, None),  # right
            verdict(140, True, "training"),  # a false "fits"
            {"limit_bytes": 150, "says_fits": True},  # a processor: nothing was run
        ],
    }
    assert boundary_summary([row]) == "boundary: 5 runs, 1 false fits; 1 false noes of 2 with a tenth free"


def test_the_page_shows_the_tables_of_the_committed_results():
    page = PAGE.read_text(encoding="utf-8")
    published, cpu = (Results.read(DATA / f"memory-{part}.json") for part in ("published", "cpu"))
    assert filled(page, published, cpu) == page
