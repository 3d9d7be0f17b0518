"""What was measured on a machine: kept safely, and reduced to factors and rates that later estimates use."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from engine.hardware.devices import Hardware, Host
from engine.hardware.readings import Unavailable
from engine.planning import calibration_store as store
from engine.planning.architectures import read_architecture
from engine.planning.calibration import Calibration, MachineKey, machine_key, middle_ratio, ratio_band
from engine.planning.duration import STEP_OVERHEAD_S, reached_flops, step_flops, width_share
from engine.planning.memory import Setup
from engine.planning.model_folder import describe
from engine.planning.plan import Device
from engine.recipe.problems import ProblemError
from tests.engine.made_plan import made_plan

KEY = MachineKey(device="NVIDIA L4", driver="570.1", packages={"torch": "2.13.0"})


def known_ratios(*ratios: float) -> Calibration:
    return Calibration(key=KEY, memory_ratios=list(ratios))


def hardware(**changes: object) -> Hardware:
    none = Unavailable("none")
    libraries = {"torch": "2.13.0", "peft": "0.21.2", "numpy": "2.3"}
    host = Host(16 << 30, 12 << 30, 0, 2, "Some CPU", frozenset())
    values = {"gpus": [], "host": host, "disks": [], "driver": none, "cuda": none, "torch_cuda": none}
    return Hardware(**{**values, "libraries": libraries, **changes})


# --- reduction ------------------------------------------------------------------------------------------------------


def test_nothing_measured_leaves_eight_percent_to_both_sides() -> None:
    assert ratio_band(None) == ratio_band(known_ratios()) == pytest.approx((0.92, 1.08))
    assert middle_ratio(None) == 1.0


def test_one_ratio_moves_the_band_but_does_not_narrow_it() -> None:
    assert ratio_band(known_ratios(1.1)) == pytest.approx((1.1 * 0.92, 1.1 * 1.08))


def test_runs_that_needed_less_than_was_rehearsed_do_not_promise_that_the_next_one_does() -> None:
    assert ratio_band(known_ratios(0.8)) == pytest.approx((0.8 * 0.92, 1.08))
    assert ratio_band(known_ratios(*[0.8] * 50)) == pytest.approx((0.8 * 0.97, 1.03))


def test_many_equal_ratios_narrow_the_band_to_three_percent_and_no_further() -> None:
    assert ratio_band(known_ratios(*[1.02] * 9)) == pytest.approx((1.02 * 0.97, 1.02 * 1.03))
    assert ratio_band(known_ratios(*[1.02] * 50)) == pytest.approx((1.02 * 0.97, 1.02 * 1.03))


def test_the_band_holds_everything_measured_until_there_is_enough_to_call_something_an_outlier() -> None:
    low, high = ratio_band(known_ratios(0.95, 1.0, 1.2))
    assert low < 0.95
    assert high > 1.2
    low, high = ratio_band(known_ratios(*[1.0] * 19, 3.0))
    assert high == pytest.approx(1.03)


def test_the_middle_is_the_median() -> None:
    assert middle_ratio(known_ratios(1.0, 1.04, 3.0)) == 1.04


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_gpu_is_its_name_driver_and_libraries() -> None:
    key = machine_key(hardware(driver="570.1"), Device(kind="cuda", name="NVIDIA L4", uuid="GPU-1"))
    assert key == MachineKey(device="NVIDIA L4", driver="570.1", packages={"torch": "2.13.0", "peft": "0.21.2"})


def test_a_processor_is_its_name_whatever_the_plan_calls_it() -> None:
    assert machine_key(hardware(driver="570.1"), Device(kind="cpu", name="CPU, 2 cores")).device == "Some CPU"
    assert machine_key(hardware(driver="570.1"), Device(kind="cpu")).driver == ""


# --- the store ------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    assert store.read(tmp_path, KEY) is None
    store.record(tmp_path, KEY, context_bytes=500, memory_ratio=1.01)
    store.record(tmp_path, KEY, memory_ratio=1.03, flops={"bfloat16": 1e14})
    store.record(tmp_path, KEY, flops={"float32": 2e13})
    assert store.read(tmp_path, KEY) == Calibration(
        key=KEY, context_bytes=500, memory_ratios=[1.01, 1.03], flops={"bfloat16": 1e14, "float32": 2e13}
    )


def test_another_library_version_is_another_machine(tmp_path: Path) -> None:
    store.record(tmp_path, KEY, context_bytes=500)
    assert store.read(tmp_path, KEY.model_copy(update={"packages": {"torch": "2.14.0"}})) is None


def test_the_newest_fifty_ratios_are_kept(tmp_path: Path) -> None:
    for number in range(60):
        store.record(tmp_path, KEY, memory_ratio=1 + number / 100)
    kept = store.read(tmp_path, KEY)
    assert kept is not None
    assert kept.memory_ratios == [1 + number / 100 for number in range(10, 60)]


@pytest.mark.parametrize("ratio", [0.0, -1.0, 50.0, float("nan"), float("inf")])
def test_impossible_measurements_are_not_kept(tmp_path: Path, ratio: float) -> None:
    store.record(tmp_path, KEY, context_bytes=500, memory_ratio=1.0, flops={"float32": 1e12})
    for rate in (float("inf"), float("nan"), -1.0, 1e300, 1e-300):
        store.record(tmp_path, KEY, context_bytes=-3, memory_ratio=ratio, flops={"bfloat16": rate, "float32": rate})
    assert store.read(tmp_path, KEY) == Calibration(
        key=KEY, context_bytes=500, memory_ratios=[1.0], flops={"float32": 1e12}
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"key": 3}',
        b'{"key": {"device": "other"}}',
        b" " * (store._MAX_FILE_BYTES + 1),
        json.dumps({"key": KEY.model_dump(), "memory_ratios": ["x"]}).encode(),
    ],
)
def test_a_damaged_file_is_forgotten_and_begins_anew(tmp_path: Path, content: bytes) -> None:
    store.record(tmp_path, KEY, context_bytes=500)
    (file,) = (tmp_path / store.FOLDER).glob("*.json")
    file.write_bytes(content)
    assert store.read(tmp_path, KEY) is None
    store.record(tmp_path, KEY, memory_ratio=1.0)
    assert store.read(tmp_path, KEY) == known_ratios(1.0)


def test_writers_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 10):
            store.record(tmp_path, KEY, memory_ratio=1 + number / 100)

    threads = [threading.Thread(target=write, args=(10 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.read(tmp_path, KEY)
    assert kept is not None
    assert sorted(kept.memory_ratios) == [1 + number / 100 for number in range(40)]


def test_a_lock_that_is_never_released_is_a_problem_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_LIMIT_S", 0.0)
    store.record(tmp_path, KEY, context_bytes=500)
    (lock,) = (tmp_path / store.FOLDER).glob("*.lock")
    with store._locked(lock), pytest.raises(ProblemError) as caught:
        store.record(tmp_path, KEY, memory_ratio=1.0)
    assert caught.value.problems[0].code == "calibration.busy"


def test_a_folder_that_cannot_be_made_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / store.FOLDER).write_text("in the way")
    with pytest.raises(ProblemError) as caught:
        store.record(tmp_path, KEY, memory_ratio=1.0)
    assert caught.value.problems[0].code == "disk.failed"


def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    store.record(tmp_path, KEY, memory_ratio=1.0)
    folder = tmp_path / store.FOLDER
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


# --- speed ----------------------------------------------------------------------------------------------------------


def test_a_measured_rate_gives_back_the_time_that_it_was_measured_in() -> None:
    model = made_plan().model
    setup = Setup(device="cpu", method="lora", precision="float32", micro_batch=2, max_length=128)
    rate = reached_flops(model, setup, tokens_per_step=512, accumulation=3, step_s=0.5)
    assert rate is not None
    flops = rate * width_share("cpu", model.hidden_size)
    assert step_flops(model, setup, 512) / flops + 3 * STEP_OVERHEAD_S["cpu"] == pytest.approx(0.5)


def test_a_token_costs_the_experts_that_it_passes_and_the_shared_one_once() -> None:
    # Qwen1.5-MoE-A2.7B by its published configuration: 2.7 B weights are active, 0.3 B of them an embedding to look up.
    sizes = {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 151936}
    experts = {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408}
    shared = {"shared_expert_intermediate_size": 5632, "intermediate_size": 5632}
    architecture = read_architecture({"model_type": "qwen2_moe", **sizes, **experts, **shared})
    model = describe(architecture, base="made")
    setup = Setup(device="cuda", method="full", precision="bfloat16", micro_batch=1, max_length=1)
    assert step_flops(model, setup, 1.0) / 6 == pytest.approx(2.38e9, rel=0.02)


def test_a_step_that_only_waits_says_nothing_of_the_rate() -> None:
    model = made_plan().model
    setup = Setup(device="cuda", method="lora", precision="bfloat16", micro_batch=2, max_length=128)
    assert reached_flops(model, setup, tokens_per_step=512, accumulation=3, step_s=0.01) is None
