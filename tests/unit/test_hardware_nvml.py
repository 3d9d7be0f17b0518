"""GPUs through the real pynvml on a driver library of our own that misbehaves on request."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
GETTERS = {
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetMemoryInfo": {"total_bytes", "free_bytes", "used_bytes"},
    "nvmlDeviceGetUtilizationRates": {"utilization_percent"},
    "nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetComputeRunningProcesses": {"processes"},
}
READ = """
import json
from engine.hardware.devices import hardware_json
from engine.hardware.probe import read_hardware
print(json.dumps(hardware_json(read_hardware(()))))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a `libnvidia-ml.so.1` of our own."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
    return folder


def run(script: str, driver: Path | None, **environment: str) -> Any:
    """Run a script in a fresh process and return what it printed as JSON."""
    variables = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    variables["LD_LIBRARY_PATH"] = str(driver) if driver else ""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=variables | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def unavailable(gpu: dict[str, Any]) -> set[str]:
    return {name for name, value in gpu.items() if isinstance(value, dict) and "unavailable" in value}


def test_a_sound_driver_gives_every_value(driver: Path) -> None:
    hardware = run(READ, driver)
    assert hardware["driver"] == "590.12.01"
    assert hardware["gpus_known"]
    assert hardware["cuda"] == "13.1"
    (gpu,) = hardware["gpus"]
    assert unavailable(gpu) == set()
    assert gpu["compute_capability"] == [9, 0]
    assert (gpu["total_bytes"], gpu["free_bytes"], gpu["used_bytes"]) == (24 << 30, 20 << 30, 4 << 30)
    assert (gpu["utilization_percent"], gpu["temperature_c"], gpu["power_w"]) == (37, 61, 250.5)


def test_processes_have_owner_and_memory_or_say_why_not(driver: Path) -> None:
    own, foreign = run(READ, driver)["gpus"][0]["processes"]
    assert own["used_bytes"] == 3 << 30
    assert "python" in own["name"]
    assert own["user"]
    assert foreign["pid"] == 4194303
    assert unavailable(foreign) == {"user", "name", "used_bytes"}


@pytest.mark.parametrize(("code", "words"), [(3, "not supported"), (4, "permission"), (13, "too old"), (999, "")])
def test_each_refused_getter_hides_its_own_values_only(driver: Path, code: int, words: str) -> None:
    script = f"""
    import json, os
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    answers = {{}}
    for name in {list(GETTERS)}:
        os.environ["FAKE_NVML"] = f"{{name}}={code}"
        answers[name] = hardware_json(read_hardware(()).gpus[0])
    print(json.dumps(answers))
    """
    for getter, gpu in run(script, driver).items():
        assert unavailable(gpu) == GETTERS[getter]
        assert all(words in gpu[name]["unavailable"] for name in GETTERS[getter])


def test_a_lost_gpu_is_listed_with_the_reason(driver: Path) -> None:
    first, second = run(READ, driver, FAKE_NVML_GPUS="2", FAKE_NVML="*=lost:10")["gpus"]
    assert unavailable(first) == set()
    assert unavailable(second) == set(second) - {"index"}
    assert "fallen off the bus" in second["name"]["unavailable"]


def test_impossible_values_are_not_shown(driver: Path) -> None:
    hardware = run(READ, driver, FAKE_NVML_ABSURD="1")
    (gpu,) = hardware["gpus"]
    assert unavailable(gpu) == set(gpu) - {"index", "name", "uuid"}
    assert "\x1b" not in gpu["name"]
    assert "\x07" not in gpu["name"]
    assert "unavailable" in hardware["driver"]
    assert "unavailable" in hardware["cuda"]


def test_an_impossible_number_of_gpus_is_none(driver: Path) -> None:
    assert run(READ, driver, FAKE_NVML_GPUS="4000000000")["gpus"] == []


@pytest.mark.parametrize(
    ("code", "words"), [(9, "not loaded"), (18, "restart"), (12, "no NVIDIA driver"), (4, "permission")]
)
def test_a_driver_that_does_not_start_says_why(driver: Path, code: int, words: str) -> None:
    hardware = run(READ, driver, FAKE_NVML=f"nvmlInit={code}")
    assert hardware["gpus"] == []
    assert words in hardware["driver"]["unavailable"]


def test_no_driver_library_means_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    hardware = run(READ, tmp_path)
    assert hardware["gpus"] == []
    assert "no NVIDIA driver" in hardware["driver"]["unavailable"]


def test_a_hanging_driver_costs_two_seconds_and_what_was_read_stays(driver: Path) -> None:
    script = """
    import json, time
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    start = time.monotonic()
    hardware = hardware_json(read_hardware(()))
    again = hardware_json(read_hardware(()))
    print(json.dumps({"elapsed_s": time.monotonic() - start, "first": hardware, "again": again}))
    """
    # A driver that answered would have held the process for thirty seconds.
    answer = run(script, driver, FAKE_NVML="nvmlDeviceGetPowerUsage=hang", FAKE_NVML_GPUS="3")
    assert answer["elapsed_s"] < 15
    (gpu,) = answer["first"]["gpus"]
    assert gpu["total_bytes"] == 24 << 30
    assert unavailable(gpu) == {"power_w", "processes"}
    assert answer["again"]["gpus"] == []
    assert answer["first"]["gpus_known"] is answer["again"]["gpus_known"] is False
    assert "still does not answer" in answer["again"]["driver"]["unavailable"]


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
    assert unavailable(first[0]) == {"processes"}
    assert lost[0]["name"] == "Fake H100"
    assert {"total_bytes", "free_bytes", "used_bytes", "power_w"} <= unavailable(lost[0])


def test_the_sampler_never_waits_for_a_hanging_driver(driver: Path) -> None:
    script = """
    import json, os, time
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import GpuSampler
    sampler = GpuSampler(limit_s=0.1)
    while not sampler.sample():
        pass
    os.environ["FAKE_NVML"] = "nvmlDeviceGetMemoryInfo=hang"
    start = time.monotonic()
    samples = [hardware_json(sampler.sample()) for _ in range(5)]
    print(json.dumps({"elapsed_s": time.monotonic() - start, "samples": samples, "problem": sampler.problem.reason}))
    """
    answer = run(script, driver)
    assert answer["elapsed_s"] < 15
    assert "does not answer" in answer["problem"]
    for (gpu,) in answer["samples"]:
        assert gpu["name"] == "Fake H100"
        assert gpu["total_bytes"] == 24 << 30
        assert "did not answer" in gpu["free_bytes"]["unavailable"] or "does not" in gpu["free_bytes"]["unavailable"]


@pytest.mark.parametrize(
    ("visible", "indices"),
    [("2,0", [2, 0]), ("", []), ("-1", []), ("0,9,1", [0]), ("GPU-00000001", [1]), ("1,1", [1]), ("0,x,1", [0])],
)
def test_visible_devices_choose_as_cuda_does(driver: Path, visible: str, indices: list[int]) -> None:
    script = """
    import json
    from engine.hardware.probe import read_hardware
    print(json.dumps([gpu.index for gpu in read_hardware(()).usable_gpus()]))
    """
    assert run(script, driver, FAKE_NVML_GPUS="3", CUDA_VISIBLE_DEVICES=visible) == indices
