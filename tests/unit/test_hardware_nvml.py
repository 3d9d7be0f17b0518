"""GPUs through the real pynvml on a driver library of our own that misbehaves on request."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_driver import build_driver, run, unavailable

# What each function of NVML is asked for. No other value may suffer when it refuses.
GETTERS: dict[str, set[str]] = {
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetMemoryInfo": {"total_bytes", "free_bytes", "used_bytes"},
    "nvmlDeviceGetUtilizationRates": {"utilization_percent"},
    "nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetClockInfo": {"sm_clock_mhz", "memory_clock_mhz"},
    "nvmlDeviceGetMaxClockInfo": {"sm_clock_max_mhz", "memory_clock_max_mhz"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttling"},
    "nvmlDeviceGetPersistenceMode": {"persistence"},
    "nvmlDeviceGetEccMode": {"ecc"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_corrected", "ecc_uncorrected", "ecc_uncorrected_ever"},
    "nvmlDeviceGetRemappedRows": {"remap_pending", "remap_failed"},
    "nvmlDeviceGetMigMode": {"mig"},
    "nvmlDeviceGetBrand": {"brand"},
    "nvmlDeviceGetVirtualizationMode": {"virtualization"},
    "nvmlDeviceGetDisplayActive": {"display_active"},
    "nvmlDeviceGetPciInfo": {"bus_id"},
    "nvmlDeviceGetCurrPcieLinkGeneration": {"pcie_generation"},
    "nvmlDeviceGetMaxPcieLinkGeneration": {"pcie_generation_max"},
    "nvmlDeviceGetCurrPcieLinkWidth": {"pcie_width"},
    "nvmlDeviceGetMaxPcieLinkWidth": {"pcie_width_max"},
    "nvmlDeviceGetNvLinkState": {"nvlinks"},
    "nvmlDeviceGetComputeRunningProcesses": {"processes"},
    "nvmlDeviceGetGraphicsRunningProcesses": set(),
}
CODES = (*range(1, 31), 77, 999)
# Refusals that are an answer: a GPU without MIG or NVLink, an older name of the same question.
ANSWERS = {
    ("nvmlDeviceGetMigMode", 3),
    ("nvmlDeviceGetNvLinkState", 2),
    ("nvmlDeviceGetNvLinkState", 3),
    ("nvmlDeviceGetCurrentClocksEventReasons", 13),
}
READ = """
import json
from engine.hardware.devices import hardware_json
from engine.hardware.probe import read_hardware
print(json.dumps(hardware_json(read_hardware((), patient=True))))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a `libnvidia-ml.so.1` of our own."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def test_a_sound_driver_gives_every_value(driver: Path) -> None:
    hardware = run(READ, driver)
    assert hardware["driver"] == "590.12.01"
    assert hardware["gpus_known"]
    assert not hardware["stale"]
    assert hardware["cuda"] == "13.1"
    (gpu,) = hardware["gpus"]
    assert unavailable(gpu) == set()
    assert gpu["compute_capability"] == [9, 0]
    assert (gpu["total_bytes"], gpu["free_bytes"], gpu["used_bytes"]) == (24 << 30, 20 << 30, 4 << 30)
    assert (gpu["utilization_percent"], gpu["temperature_c"], gpu["power_w"]) == (37, 61, 250.5)
    assert (gpu["sm_clock_mhz"], gpu["sm_clock_max_mhz"], gpu["memory_clock_mhz"]) == (1410, 1980, 2619)
    assert gpu["throttling"] == ["power limit"]
    assert (gpu["ecc"], gpu["persistence"], gpu["mig"], gpu["power_limit_w"]) == (True, True, False, 700.0)
    assert (gpu["pcie_generation"], gpu["pcie_width"], gpu["bus_id"]) == (4, 16, "0000:11:00.0")


def test_processes_have_owner_and_memory_or_say_why_not(driver: Path) -> None:
    own, foreign = run(READ, driver)["gpus"][0]["processes"]
    assert own["used_bytes"] == 3 << 30
    assert "python" in own["name"]
    assert own["user"]
    assert foreign["pid"] == 4194303
    assert unavailable(foreign) == {"user", "name", "used_bytes"}


@pytest.fixture(scope="module")
def refusals(driver: Path) -> dict[str, Any]:
    """Return the GPU as it was read for each function with each code, all by one process."""
    script = f"""
    import json, os
    from engine.hardware import driver as driver_module
    from engine.hardware.devices import hardware_json
    driver_module.read_xids = lambda: []  # the kernel log of this machine is not the matter here
    answers = {{}}
    for name in {list(GETTERS)}:
        for code in {CODES}:
            os.environ["FAKE_NVML"] = f"{{name}}={{code}}"
            driver = driver_module.Driver()
            report = driver.wait(driver.begin(), 60)
            assert report.complete
            answers[f"{{name}}={{code}}"] = hardware_json(report.gpus[0])
    print(json.dumps(answers))
    """
    answers: dict[str, Any] = run(script, driver)
    return answers


@pytest.mark.parametrize("code", CODES)
def test_each_refused_getter_hides_its_own_values_only_and_says_why(refusals: dict[str, Any], code: int) -> None:
    for getter, fields in GETTERS.items():
        gpu = refusals[f"{getter}={code}"]
        hidden = set() if (getter, code) in ANSWERS else fields
        assert unavailable(gpu) == hidden, getter
        for name in hidden:
            why = gpu[name]["unavailable"]
            assert why.isprintable()
            assert len(why) > 8
            assert str(code) in why if code == 77 else "error 7" not in why
        assert gpu["unified_memory"] is (getter == "nvmlDeviceGetMemoryInfo" and code == 3)


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "not supported"), (4, "permission"), (13, "too old"), (15, "fallen off the bus"), (999, "unknown error")],
)
def test_reasons_are_words(refusals: dict[str, Any], code: int, words: str) -> None:
    assert words in refusals[f"nvmlDeviceGetTemperature={code}"]["temperature_c"]["unavailable"]


# Each order in turn, all in one process.
IN_TURN = """
import json, os
from engine.hardware import driver as driver_module
from engine.hardware import probe
from engine.hardware.devices import hardware_json
driver_module.read_xids = lambda: []
answers = []
for order in {orders}:
    os.environ.update(order)
    answers.append(hardware_json(probe.read_hardware((), patient=True)))
    assert not answers[-1]["stale"]
print(json.dumps(answers))
"""


def test_a_gpu_without_a_handle_is_listed_with_the_reason(driver: Path) -> None:
    orders = [{"FAKE_NVML": f"nvmlDeviceGetHandleByIndex={code}"} for code in CODES]
    for hardware in run(IN_TURN.format(orders=orders), driver):
        (gpu,) = hardware["gpus"]
        assert unavailable(gpu) == set(gpu) - {"index", "instances", "instance", "unified_memory"}
        assert gpu["unified_memory"] is False


def test_a_lost_gpu_is_listed_and_the_others_stay_whole(driver: Path) -> None:
    hardware = run(READ, driver, FAKE_NVML_GPUS="2", FAKE_NVML="nvmlDeviceGetHandleByIndex=lost:1")
    first, second = hardware["gpus"]
    assert unavailable(first) == set()
    assert "fallen off the bus" in second["name"]["unavailable"]
    assert hardware["pairs"] == []


@pytest.mark.parametrize("kind", ["numbers", "bytes"])
def test_impossible_values_are_not_shown(driver: Path, kind: str) -> None:
    hardware = run(READ, driver, FAKE_NVML_ABSURD=kind, FAKE_NVML_GPUS="2")
    for gpu in hardware["gpus"]:
        shown = {"index", "instances", "instance", "unified_memory"} | (
            {"name", "uuid"} if kind == "numbers" else set()
        )
        assert unavailable(gpu) == set(gpu) - shown
        assert not {"\x1b", "\x07"} & set(str(gpu["name"]))
    assert {"path", "peer_access"} <= unavailable(hardware["pairs"][0])
    assert "unavailable" in hardware["driver"]
    assert "unavailable" in hardware["cuda"]


def test_a_driver_that_does_not_count_its_gpus_says_why(driver: Path) -> None:
    orders = [{"FAKE_NVML_GPUS": "4000000000"}, {"FAKE_NVML": "nvmlDeviceGetCount=4", "FAKE_NVML_GPUS": "1"}]
    many, closed = run(IN_TURN.format(orders=orders), driver)
    assert many["gpus"] == closed["gpus"] == []
    assert "impossible number of GPUs" in many["driver"]["unavailable"]
    assert "permission" in closed["driver"]["unavailable"]


def test_a_driver_that_does_not_start_says_why(driver: Path) -> None:
    reasons = {9: "not loaded", 18: "restart", 12: "no NVIDIA driver", 4: "permission", 77: "error 77"}
    orders = [{"FAKE_NVML": f"nvmlInit={code}"} for code in reasons]
    for hardware, words in zip(run(IN_TURN.format(orders=orders), driver), reasons.values(), strict=True):
        assert hardware["gpus"] == []
        assert words in hardware["driver"]["unavailable"]


def test_no_driver_library_means_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    hardware = run(READ, tmp_path)
    assert hardware["gpus"] == []
    assert "no NVIDIA driver" in hardware["driver"]["unavailable"]


def test_an_old_driver_lacks_functions_and_answers_the_rest(tmp_path: Path) -> None:
    hardware = run(READ, build_driver(tmp_path, "-DOLD_DRIVER"), FAKE_NVML_GPUS="2")
    for gpu in hardware["gpus"]:
        missing = unavailable(gpu)
        assert missing == {"remap_pending", "remap_failed", "mig", "brand", "virtualization", "display_active"}
        assert all("too old" in gpu[name]["unavailable"] for name in missing)
        assert gpu["throttling"] == ["power limit"]
        assert len(gpu["processes"]) == 2
    assert unavailable(hardware["pairs"][0]) == {"path", "peer_access"}


def test_a_hanging_driver_costs_its_limit_once_and_what_was_read_stays(driver: Path) -> None:
    script = """
    import json
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    print(json.dumps([hardware_json(read_hardware((), patient=True)) for _ in range(2)]))
    """
    # Whoever waited for it to the end would have a report that is complete.
    for hardware in run(script, driver, FAKE_NVML="nvmlDeviceGetPowerUsage=hang", FAKE_NVML_GPUS="3"):
        assert hardware["gpus_known"] is False
        assert hardware["stale"] is True
        assert [gpu["total_bytes"] for gpu in hardware["gpus"]] == [24 << 30] * 3
        assert "did not answer" in hardware["gpus"][0]["power_w"]["unavailable"]
        assert hardware["driver"] == "590.12.01"


def test_a_slow_driver_gives_the_last_snapshot_marked_stale_and_the_new_one_later(driver: Path) -> None:
    script = """
    import json, os, time
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    first = read_hardware((), patient=True)
    os.environ["FAKE_NVML"] = "nvmlDeviceGetMemoryInfo=wait:500"
    os.environ["FAKE_NVML_PROFILE"] = "24gb"
    slow = read_hardware(())
    deadline = time.monotonic() + 60
    late = read_hardware(())
    while late.stale and time.monotonic() < deadline:
        late = read_hardware(())
    print(json.dumps([hardware_json(item) for item in (first, slow, late)]))
    """
    first, slow, late = run(script, driver)
    assert slow["stale"]
    assert slow["age_s"] > 0
    assert slow["gpus_known"]
    assert slow["gpus"] == first["gpus"]
    assert not late["stale"]
    assert late["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090"


def test_a_driver_that_starts_slowly_is_not_waited_for_unless_asked(driver: Path) -> None:
    script = """
    import json
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    soon = read_hardware(())
    print(json.dumps([hardware_json(soon), hardware_json(read_hardware((), patient=True))]))
    """
    soon, later = run(script, driver, FAKE_NVML="nvmlInit=wait:1000")
    assert (soon["stale"], soon["gpus_known"], soon["gpus"]) == (True, False, [])
    assert "in time" in soon["driver"]["unavailable"]
    assert (later["stale"], later["gpus_known"], len(later["gpus"])) == (False, True, 1)


def test_the_sampler_follows_the_gauges_and_survives_a_lost_gpu(driver: Path) -> None:
    script = """
    import json, os
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import GpuSampler
    sampler = GpuSampler(limit_s=5)
    samples = [hardware_json(sampler.sample())]
    samples.append(hardware_json(sampler.sample()))
    os.environ["FAKE_NVML"] = "*=15"
    samples.append(hardware_json(sampler.sample()))
    print(json.dumps(samples))
    """
    first, second, lost = run(script, driver)
    assert first == second
    gauges = {"total_bytes", "free_bytes", "used_bytes", "utilization_percent", "temperature_c", "power_w"}
    assert not unavailable(first[0]) & (gauges | {"name", "uuid", "compute_capability", "sm_clock_mhz", "throttling"})
    assert lost[0]["name"] == "Fake H100"
    assert gauges <= unavailable(lost[0])


def test_the_sampler_never_waits_for_a_hanging_driver(driver: Path) -> None:
    script = """
    import json, os
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import GpuSampler
    sampler = GpuSampler(limit_s=0.1)
    while not sampler.sample():
        pass
    os.environ["FAKE_NVML"] = "nvmlDeviceGetMemoryInfo=hang"
    samples = [hardware_json(sampler.sample()) for _ in range(5)]
    print(json.dumps({"samples": samples, "problem": sampler.problem.reason}))
    """
    # Whoever waited for it to the end would have no problem to tell.
    answer = run(script, driver, FAKE_NVML_PROFILE="mig")
    assert "does not answer" in answer["problem"]
    for (gpu,) in answer["samples"]:
        assert gpu["name"] == "NVIDIA A100-SXM4-80GB"
        for device in (gpu, *gpu["instances"]):
            assert device["total_bytes"] in (81920 << 20, 40192 << 20)
            why = device["free_bytes"]["unavailable"]
            assert "did not answer" in why or "does not" in why


def test_visible_devices_choose_as_cuda_does(driver: Path) -> None:
    chosen = {
        "2,0": [2, 0],
        "9" * 5000: [],
        "": [],
        "-1": [],
        "0,9,1": [0],
        "GPU-00000001": [1],
        "1,1": [1],
        "0,x,1": [0],
    }
    script = f"""
    import json, os
    from engine.hardware.probe import read_hardware
    answers = []
    for visible in {list(chosen)}:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
        answers.append([gpu.index for gpu in read_hardware((), patient=True).usable_gpus()])
    print(json.dumps(answers))
    """
    assert run(script, driver, FAKE_NVML_GPUS="3") == list(chosen.values())
