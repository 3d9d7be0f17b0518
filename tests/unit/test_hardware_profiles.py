"""Machines of every kind through the real pynvml: one card, eight with NVLink, MIG, vGPU, WSL, unified memory."""

from pathlib import Path
from typing import Any

import pytest

from engine.hardware.devices import Gpu, GpuPair, NvLink
from engine.hardware.nvml_topology import links_between, matrix
from engine.hardware.readings import Unavailable
from tests.unit.fake_driver import build_driver, run, unavailable
from tests.unit.test_hardware_nvml import IN_TURN, READ

GIB = 2**30
MIB = 2**20


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a `libnvidia-ml.so.1` of our own."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def test_one_card_with_24_gb(driver: Path) -> None:
    hardware = run(READ, driver, FAKE_NVML_PROFILE="24gb")
    (gpu,) = hardware["gpus"]
    assert (gpu["name"], gpu["brand"], gpu["total_bytes"]) == ("NVIDIA GeForce RTX 4090", "GeForce", 24564 * MIB)
    assert (gpu["nvlinks"], gpu["mig"], gpu["persistence"], gpu["ecc"]) == ([], False, False, False)
    assert hardware["pairs"] == []


def test_eight_cards_over_switches_reach_each_other_with_every_link(driver: Path) -> None:
    hardware = run(READ, driver, FAKE_NVML_PROFILE="8x80")
    assert len(hardware["gpus"]) == 8
    assert all(len(gpu["nvlinks"]) == 18 for gpu in hardware["gpus"])
    assert len(hardware["pairs"]) == 28
    assert {pair["nvlinks"] for pair in hardware["pairs"]} == {18}
    assert {pair["path"] for pair in hardware["pairs"]} == {"one NUMA node", "across NUMA nodes"}
    assert {pair["peer_access"] for pair in hardware["pairs"]} == {"yes"}


def test_a_bridge_joins_two_cards_directly(driver: Path) -> None:
    (pair,) = run(READ, driver, FAKE_NVML_PROFILE="bridge")["pairs"]
    assert (pair["first"], pair["second"], pair["nvlinks"]) == (0, 1, 4)


def test_cards_without_nvlink_have_a_path_and_no_links(driver: Path) -> None:
    (pair,) = run(READ, driver, FAKE_NVML_GPUS="2")["pairs"]
    assert (pair["path"], pair["nvlinks"]) == ("one NUMA node", 0)


def test_each_mig_instance_is_a_device_with_its_own_memory(driver: Path) -> None:
    script = """
    import json
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import read_hardware
    hardware = read_hardware((), patient=True)
    usable = hardware.usable_gpus()
    print(json.dumps([hardware_json(hardware), [(gpu.label, gpu.uuid, gpu.free_bytes) for gpu in usable]]))
    """
    hardware, usable = run(script, driver, FAKE_NVML_PROFILE="mig")
    (gpu,) = hardware["gpus"]
    assert gpu["mig"] is True
    assert [item["instance"] for item in gpu["instances"]] == [0, 2], "an empty slot is no end of the list"
    for item in gpu["instances"]:
        assert item["total_bytes"] == 40192 * MIB
        assert item["compute_capability"] == [8, 0], "taken from the whole GPU where the instance does not tell"
        assert "whole" in item["temperature_c"]["unavailable"]
        assert len(item["processes"]) == 2
    free = 40155 * MIB
    assert usable == [["0:0", "MIG-00000000-bbbb", free], ["0:2", "MIG-00000002-bbbb", free]]


def test_a_split_gpu_is_known_as_such_before_a_driver_hangs(driver: Path) -> None:
    orders = {"FAKE_NVML_PROFILE": "mig", "FAKE_NVML": "nvmlDeviceGetPowerUsage=hang"}
    hardware = run(READ, driver, **orders)
    assert hardware["stale"]
    (gpu,) = hardware["gpus"]
    assert gpu["mig"] is True
    assert [item["total_bytes"] for item in gpu["instances"]] == [40192 * MIB] * 2


def test_a_plan_names_the_instance_whose_memory_it_takes(driver: Path) -> None:
    script = """
    import json
    from dataclasses import replace
    from engine.hardware.probe import read_hardware
    hardware = replace(read_hardware((), patient=True), torch_cuda="13.0", visible_devices="MIG-00000002")
    print(json.dumps(hardware.training_memory()))
    """
    assert run(script, driver, FAKE_NVML_PROFILE="mig") == [40155 * MIB, "GPU 0:2"]


def test_the_live_panel_gets_the_memory_of_each_instance(driver: Path) -> None:
    script = """
    import json
    from engine.hardware.devices import hardware_json
    from engine.hardware.probe import GpuSampler
    sampler = GpuSampler(limit_s=30)
    sampler.sample()
    print(json.dumps(hardware_json(sampler.sample())))
    """
    (gpu,) = run(script, driver, FAKE_NVML_PROFILE="mig")
    assert [item["used_bytes"] for item in gpu["instances"]] == [37 * MIB] * 2


def test_cuda_sees_instances_and_not_the_split_gpu(driver: Path) -> None:
    chosen = {"0": ["0:0"], "MIG-00000002-bbbb": ["0:2"], "GPU-00000000-aaaa": [], "1": []}
    script = f"""
    import json, os
    from engine.hardware.probe import read_hardware
    answers = []
    for visible in {list(chosen)}:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
        answers.append([gpu.label for gpu in read_hardware((), patient=True).usable_gpus()])
    print(json.dumps(answers))
    """
    assert run(script, driver, FAKE_NVML_PROFILE="mig") == list(chosen.values())


def test_mig_without_instances_leaves_nothing_to_compute_on(driver: Path) -> None:
    script = """
    import json
    from engine.hardware.probe import read_hardware
    hardware = read_hardware((), patient=True)
    print(json.dumps([len(hardware.gpus), hardware.usable_gpus()]))
    """
    assert run(script, driver, FAKE_NVML_PROFILE="mig_empty") == [1, []]


def test_a_mig_instance_that_does_not_answer_is_listed_with_the_reason(driver: Path) -> None:
    orders = [{"FAKE_NVML": f"nvmlDeviceGetMigDeviceHandleByIndex={code}"} for code in (4, 15, 999)]
    for hardware in run(IN_TURN.format(orders=orders), driver, FAKE_NVML_PROFILE="mig"):
        instances = hardware["gpus"][0]["instances"]
        assert len(instances) == 3
        assert all({"name", "total_bytes"} <= unavailable(item) for item in instances)


def test_a_vgpu_hides_what_belongs_to_its_host(driver: Path) -> None:
    (gpu,) = run(READ, driver, FAKE_NVML_PROFILE="vgpu")["gpus"]
    assert gpu["virtualization"] == "vGPU"
    assert gpu["total_bytes"] == 20 * GIB
    assert {"power_w", "temperature_c", "ecc", "power_limit_w"} <= unavailable(gpu)
    assert not gpu["unified_memory"]


def test_wsl_hides_the_memory_of_processes(driver: Path) -> None:
    (gpu,) = run(READ, driver, FAKE_NVML_PROFILE="wsl")["gpus"]
    assert all("used_bytes" in unavailable(process) for process in gpu["processes"])
    assert gpu["total_bytes"] == 24 * GIB
    assert "utilization_percent" in unavailable(gpu)


@pytest.mark.parametrize("profile", ["unified", "carved"])
def test_unified_memory_has_no_figures_of_its_own(driver: Path, profile: str) -> None:
    (gpu,) = run(READ, driver, FAKE_NVML_PROFILE=profile)["gpus"]
    assert gpu["unified_memory"] is True
    assert gpu["name"] == "NVIDIA GB10"
    assert {"total_bytes", "free_bytes", "used_bytes"} <= unavailable(gpu)


def test_a_desktop_is_listed_after_those_who_compute(driver: Path) -> None:
    (gpu,) = run(READ, driver, FAKE_NVML_PROFILE="desktop")["gpus"]
    assert [process["kind"] for process in gpu["processes"]] == ["compute", "compute", "graphics"]
    assert gpu["display_active"] is True


def gpu_with(bus: str, *peers: str) -> Gpu:
    silent: Any = [Unavailable("not asked")] * 10
    links = tuple(NvLink(index, True, peer) for index, peer in enumerate(peers))
    return Gpu(0, *silent, bus_id=bus, nvlinks=links)


@pytest.mark.parametrize(
    ("joined", "ours", "theirs", "links"),
    [
        (None, ("b", "b", "c"), ("a", "a"), 2),
        (None, ("s", "s"), ("s", "s", "s"), 2),
        (True, ("x", "y"), ("z", "z", "z"), 2),
        (False, ("s", "s"), ("s", "s"), 0),
        (None, ("c",), ("d",), 0),
        (None, (), (), 0),
    ],
)
def test_links_are_counted_directly_or_through_switches(
    joined: bool | None, ours: tuple[str, ...], theirs: tuple[str, ...], links: int
) -> None:
    assert links_between(gpu_with("a", *ours), gpu_with("b", *theirs), joined) == links


def test_the_matrix_is_the_one_of_nvidia_smi() -> None:
    gpus = [Gpu(index, *[Unavailable("not asked")] * 10) for index in range(3)]  # type: ignore[arg-type]
    pairs = [GpuPair(0, 1, "one PCIe switch", 4, "yes"), GpuPair(0, 2, "across NUMA nodes", 0, "yes")]
    assert matrix(gpus, pairs) == [["X", "NV4", "SYS"], ["NV4", "X", "?"], ["SYS", "?", "X"]]
