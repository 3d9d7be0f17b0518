"""The doctor: each fault is named, with a way to mend it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.hardware import checks_machine, checks_session, checks_software, torch_process
from engine.hardware.checks import GROUPS, Check
from engine.hardware.devices import Disk, Gpu, GpuPair, GpuProcess, Hardware, Host, NvLink, Xid
from engine.hardware.doctor import examine, wants_torch
from engine.hardware.evidence import Evidence, read_evidence
from engine.hardware.nvml_processes import user_name
from engine.hardware.readings import Unavailable
from engine.hardware.torch_process import TorchReport, read_answer, runs_on
from engine.recipe.problems import Problem
from engine.runs import logind
from engine.runs.home import HomeFolders
from tests.unit.fake_driver import build_driver, environment_of
from tui.verbs.doctor import report_lines

GIB = 2**30
NO_DRIVER = Unavailable("no NVIDIA driver on this machine")
GPU = Gpu(0, "Card", "GPU-1", (8, 9), 24 * GIB, 23 * GIB, GIB // 2, 3, 40, 60.0, [])
GOOD_TERMINAL = {"LANG": "de_DE.UTF-8", "TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.fixture
def machine() -> Hardware:
    return Hardware(
        gpus=[GPU],
        host=Host(
            32 * GIB,
            30 * GIB,
            GIB,
            8,
            "CPU",
            frozenset({"avx2"}),
            swap_total_bytes=GIB,
            shared_total_bytes=16 * GIB,
            shared_free_bytes=16 * GIB,
        ),
        disks=[],
        driver="590.1",
        cuda="13.1",
        torch_cuda="13.0",
        libraries={"torch": "2.13.0", "bitsandbytes": "0.50.2"},
    )


@pytest.fixture
def home(tmp_path: Path) -> HomeFolders:
    return HomeFolders(tmp_path / "runs", tmp_path / "cache", tmp_path / "drafts")


def checks(
    machine: Hardware, home: HomeFolders, environment: Mapping[str, str] = GOOD_TERMINAL, **more: Any
) -> dict[str, Check]:
    more.setdefault("evidence", Evidence())
    found = examine(machine, home, environment, **more)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_every_check_that_is_not_ok_tells_what_to_do_and_all_are_json(machine: Hardware, home: HomeFolders) -> None:
    found = examine(replace(machine, gpus=[], driver=NO_DRIVER), home, {})
    assert json.loads(json.dumps([check.to_json() for check in found]))[0]["name"] == "python"
    assert [check.name for check in found if check.status != "ok" and not check.fix] == []


def test_a_sound_machine_is_sound(machine: Hardware, home: HomeFolders) -> None:
    found = checks(machine, home)
    assert found["gpu 0"].value == "Card, 23.0 GiB free of 24.0 GiB"
    assert {name for name, check in found.items() if check.status == "error"} == set()
    assert found["torch build"].status == found["bfloat16"].status == found["terminal"].status == "ok"


def test_no_gpu_is_no_fault_but_a_driver_that_is_not_loaded_is(machine: Hardware, home: HomeFolders) -> None:
    assert checks(replace(machine, gpus=[], driver=NO_DRIVER), home)["gpu"].status == "ok"
    unloaded = replace(machine, gpus=[], driver=Unavailable("the NVIDIA driver is not loaded"))
    assert checks(unloaded, home)["gpu"].status == "warning"


def test_a_silent_driver_is_an_error(machine: Hardware, home: HomeFolders) -> None:
    silent = replace(machine, gpus=[], gpus_known=False, driver=Unavailable("the NVIDIA driver did not answer"))
    assert checks(silent, home)["gpu"].status == "error"


def test_a_lost_gpu_is_an_error(machine: Hardware, home: HomeFolders) -> None:
    gone = Unavailable("the GPU has fallen off the bus; restart the machine")
    lost = Gpu(0, gone, gone, gone, gone, gone, gone, gone, gone, gone, gone)
    assert checks(replace(machine, gpus=[lost]), home)["gpu 0"].status == "error"


def test_unknown_gpu_memory_is_shown_as_unknown(machine: Hardware, home: HomeFolders) -> None:
    hidden = replace(GPU, free_bytes=Unavailable("not supported"), total_bytes=Unavailable("not supported"))
    check = checks(replace(machine, gpus=[hidden]), home)["gpu 0"]
    assert check.status == "warning"
    assert "n/a (not supported) free" in check.value


@pytest.mark.parametrize(
    ("torch_cuda", "cuda", "status", "words"),
    [
        (Unavailable("built for the CPU only"), "13.1", "warning", "there is a GPU"),
        ("13.0", "12.4", "warning", "the driver runs CUDA 12.4"),
        ("12.8", "13.1", "ok", "CUDA 12.8"),
    ],
)
def test_torch_and_driver_must_match(
    machine: Hardware, home: HomeFolders, torch_cuda: str | Unavailable, cuda: str, status: str, words: str
) -> None:
    check = checks(replace(machine, torch_cuda=torch_cuda, cuda=cuda), home)["torch build"]
    assert check.status == status
    assert words in check.value


def test_a_library_outside_its_range_is_named_with_the_command(machine: Hardware, home: HomeFolders) -> None:
    if not checks_software.required_ranges():
        pytest.skip("ftwizard is not installed as a package")
    old = replace(machine, libraries={**machine.libraries, "trl": "0.9.1"})
    check = checks(old, home)["trl"]
    assert check.status == "warning"
    assert "0.9.1" in check.value
    assert "pip install" in check.fix


def test_missing_torch_and_bitsandbytes(machine: Hardware, home: HomeFolders) -> None:
    found = checks(replace(machine, libraries={}), home)
    assert found["quantisation"].status == "warning"
    assert found["torch build"].status == "error"


def test_a_home_that_cannot_be_written_is_an_error(
    machine: Hardware, home: HomeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_machine.os, "access", lambda path, mode: False)
    check = checks(machine, home)["runs folder"]
    assert check.status == "error"
    assert "FTWIZARD_HOME" in check.fix


def test_a_home_below_a_file_is_an_error(machine: Hardware, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = HomeFolders(tmp_path / "file/runs", tmp_path / "cache", tmp_path / "drafts")
    assert checks(machine, home)["runs folder"].status == "error"


@pytest.mark.parametrize(
    ("environment", "name", "status", "words"),
    [
        ({"LANG": "C", "TERM": "xterm"}, "locale", "warning", "not UTF-8"),
        ({"LC_ALL": "C.utf8", "LANG": "C", "TERM": "xterm"}, "locale", "ok", "C.utf8"),
        ({"LANG": "C.UTF-8"}, "terminal", "warning", "TERM is not set"),
        ({"LANG": "C.UTF-8", "TERM": "dumb"}, "terminal", "warning", "TERM is dumb"),
        ({"LANG": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1"}, "terminal", "ok", "without colours"),
        ({"TERM": "xterm\x1b[2J", "LANG": "C.UTF-8"}, "terminal", "ok", "16 colours"),
    ],
)
def test_terminals(
    machine: Hardware, home: HomeFolders, environment: dict[str, str], name: str, status: str, words: str
) -> None:
    check = checks(machine, home, environment)[name]
    assert check.status == status
    assert words in check.value
    assert "\x1b" not in check.value


def test_over_ssh_the_way_back_is_told(machine: Hardware, home: HomeFolders) -> None:
    over_ssh = {**GOOD_TERMINAL, "SSH_CONNECTION": "1 2 3 4"}
    assert "ftwizard attach" in checks(machine, home, over_ssh)["session"].fix
    assert "session" not in checks(machine, home, {**over_ssh, "TMUX": "/tmp/x"})


def test_the_doctor_says_of_a_logout_what_a_plan_says(
    machine: Hardware, home: HomeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_session, "logout_problem", lambda: None)
    assert checks(machine, home)["logout"].status == "ok"
    problem = Problem("launch.ends_at_logout", "It ends your processes.", "Stay logged in.", severity="warning")
    monkeypatch.setattr(checks_session, "logout_problem", lambda: problem)
    check = checks(machine, home)["logout"]
    assert (check.status, check.value, check.fix) == ("warning", problem.message, problem.fix)


def test_a_login_manager_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busctl = tmp_path / "busctl"
    busctl.write_text("#!/bin/sh\nexec sleep 30\n")
    busctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_SESSION_ID", "3")
    monkeypatch.setattr(logind, "_ASK_DEADLINE_S", 0.05)
    for cached in (logind.kills_user_processes, logind.scope_prefix):
        cached.cache_clear()
    try:
        assert logind.logout_problem() is None
    finally:
        for cached in (logind.kills_user_processes, logind.scope_prefix):
            cached.cache_clear()


# What tells of a GPU where the driver does not.


@pytest.mark.parametrize(
    ("evidence", "reason", "status", "fix"),
    [
        (Evidence(), NO_DRIVER.reason, "ok", ""),
        (Evidence(pci_cards=("0000:01:00.0",)), NO_DRIVER.reason, "warning", "Install the NVIDIA driver"),
        (Evidence(("nvidiactl", "nvidia-uvm"), memory_file=True), NO_DRIVER.reason, "warning", "--gpus all"),
        (Evidence(), "the NVIDIA driver is not loaded", "warning", "modprobe nvidia"),
        (Evidence(), "no permission, as in some containers and MIG instances", "warning", "--gpus all"),
        (Evidence(), "the NVIDIA driver was updated and its old version still runs; restart", "warning", "Restart"),
        (Evidence(), "the driver reports an unknown error", "warning", "Install or reload"),
    ],
)
def test_why_there_is_no_gpu_and_what_to_do(
    machine: Hardware, home: HomeFolders, evidence: Evidence, reason: str, status: str, fix: str
) -> None:
    check = checks(replace(machine, gpus=[], driver=Unavailable(reason)), home, evidence=evidence)["gpu"]
    assert check.status == status
    assert fix in check.fix


def test_under_windows_the_driver_belongs_to_windows(machine: Hardware, home: HomeFolders) -> None:
    inside = replace(machine, gpus=[], driver=NO_DRIVER, host=replace(machine.host, wsl=True))
    check = checks(inside, home, evidence=Evidence(windows_gpu=True))["gpu"]
    assert check.status == "warning"
    assert "in Windows" in check.fix


def test_device_files_without_permission_name_the_group(machine: Hardware, home: HomeFolders) -> None:
    evidence = Evidence(("nvidiactl", "nvidia-uvm"), ("nvidiactl",), ("video",), memory_file=True)
    check = checks(machine, home, evidence=evidence)["device files"]
    assert check.status == "error"
    assert "/dev/nvidiactl" in check.value
    assert "usermod -aG video" in check.fix
    assert "device files" not in checks(machine, home, evidence=Evidence(("nvidiactl",), memory_file=True))


def test_a_missing_memory_device_is_an_error(machine: Hardware, home: HomeFolders) -> None:
    assert "modprobe nvidia-uvm" in checks(machine, home, evidence=Evidence(("nvidiactl",)))["device files"].fix


def test_embedded_boards_have_other_device_files(machine: Hardware, home: HomeFolders) -> None:
    board = replace(machine, host=replace(machine.host, board="NVIDIA Jetson AGX Orin"))
    assert "device files" not in checks(board, home, evidence=Evidence(("nvidiactl",)))


def test_evidence_is_read_from_devices_and_the_pci_bus(tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia-modeset"):
        (dev / name).touch()
    for address, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),
        ("0000:02:00.0", "0x8086", "0x030000"),
    ):
        device = tmp_path / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    evidence = read_evidence(tmp_path)
    assert evidence.device_files == ("nvidiactl", "nvidia-uvm", "nvidia0")
    assert evidence.pci_cards == ("0000:01:00.0",)
    assert evidence.memory_file
    assert not evidence.closed_files
    assert read_evidence(tmp_path / "none") == Evidence()


# What is wrong with a GPU that is there.


@pytest.mark.parametrize(
    ("changes", "name", "status", "words"),
    [
        ({"remap_failed": True}, "gpu 0 memory", "error", "could not be replaced"),
        ({"remap_pending": True}, "gpu 0 memory", "warning", "waits to be replaced"),
        ({"ecc_uncorrected": 3}, "gpu 0 memory", "warning", "3 memory errors"),
        ({"throttling": ("power limit", "heat (hardware)")}, "gpu 0 clocks", "warning", "heat (hardware)"),
        ({"pcie_width": 4, "pcie_width_max": 16}, "gpu 0 PCIe", "warning", "4 of 16 lanes"),
        (
            {"pcie_generation": 1, "pcie_generation_max": 4, "utilization_percent": 99},
            "gpu 0 PCIe speed", "warning", "1 of 4",
        ),
        ({"mig": True}, "gpu 0 MIG", "error", "no instance"),
        (
            {"nvlinks": (NvLink(0, True, "a"), NvLink(1, False, Unavailable("down")))},
            "gpu 0 NVLink", "warning", "1 of 2 links are down: 1",
        ),
        (
            {"processes": [GpuProcess(77, "alice", "python", 3 * GIB)]},
            "gpu 0 others", "warning", "alice (pid 77) 3.0 GiB",
        ),
        (
            {"processes": [GpuProcess(77, Unavailable("gone"), Unavailable("gone"), 3 * GIB)]},
            "gpu 0 others", "warning", "somebody outside (pid 77)",
        ),
        ({"used_bytes": 9 * GIB}, "gpu 0 others", "warning", "9.0 GiB are used by processes that cannot be seen"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_gpu(
    machine: Hardware, home: HomeFolders, changes: dict[str, Any], name: str, status: str, words: str
) -> None:
    check = checks(replace(machine, gpus=[replace(GPU, **changes)]), home)[name]
    assert check.status == status
    assert words in check.value
    assert check.fix


@pytest.mark.parametrize(
    "changes",
    [
        {"throttling": ("power limit",)},
        {"ecc_corrected": 500},
        {"pcie_generation": 1, "pcie_generation_max": 4, "utilization_percent": 0},
        {"processes": [GpuProcess(1, user_name(os.getuid()), "python", 9 * GIB)], "used_bytes": 9 * GIB},
        {"processes": [GpuProcess(1, "alice", "Xorg", 9 * GIB, "graphics")]},
        {"processes": [GpuProcess(1, "alice", "python", Unavailable("hidden by the driver"))]},
        {"nvlinks": (NvLink(0, False, Unavailable("down")),)},
    ],
)
def test_what_is_usual_is_no_fault(machine: Hardware, home: HomeFolders, changes: dict[str, Any]) -> None:
    found = checks(replace(machine, gpus=[replace(GPU, **changes)]), home)
    assert [name for name, check in found.items() if name.startswith("gpu") and check.status != "ok"] == []


def test_facts_that_are_missing_are_told_once_for_each_reason(machine: Hardware, home: HomeFolders) -> None:
    refused = Unavailable("not supported by this GPU or driver")
    gpu = replace(GPU, temperature_c=refused, power_w=refused, ecc=refused)
    details = checks(replace(machine, gpus=[gpu]), home)["gpu 0"].details
    assert "temperature, power, ECC: n/a (not supported by this GPU or driver)" in details
    assert not any("0 °C" in line or "0 W" in line for line in details)


def test_limits_stand_beside_what_they_limit(machine: Hardware, home: HomeFolders) -> None:
    gpu = replace(GPU, power_limit_w=450.0, sm_clock_mhz=300, sm_clock_max_mhz=3105, pcie_width=4, pcie_width_max=4)
    details = checks(replace(machine, gpus=[gpu]), home)["gpu 0"].details
    assert "3 % busy, 40 °C, 60 of 450 W" in details
    assert "SM clock 300 of 3105 MHz" in details
    assert "x4 of x4" in details


def test_unified_memory_is_no_fault(machine: Hardware, home: HomeFolders) -> None:
    nothing = Unavailable("not supported by this GPU or driver")
    gpu = replace(GPU, total_bytes=nothing, free_bytes=nothing, used_bytes=nothing, unified_memory=True)
    check = checks(replace(machine, gpus=[gpu]), home)["gpu 0"]
    assert check.status == "ok"
    assert "memory of the host" in check.value


def test_each_mig_instance_has_a_line_of_its_own(machine: Hardware, home: HomeFolders) -> None:
    part = replace(GPU, name="Card MIG 3g.12gb", instance=1, total_bytes=12 * GIB, free_bytes=11 * GIB)
    found = checks(replace(machine, gpus=[replace(GPU, mig=True, instances=(part,))]), home)
    assert found["gpu 0"].value == "Card, split into 1 MIG instance"
    assert found["gpu 0:1"].value == "Card MIG 3g.12gb, 11.0 GiB free of 12.0 GiB"


def test_how_gpus_are_joined_is_shown_as_a_table(machine: Hardware, home: HomeFolders) -> None:
    gpus = [replace(GPU, index=index) for index in range(2)]
    pair = GpuPair(0, 1, "across NUMA nodes", 4, "yes")
    check = checks(replace(machine, gpus=gpus, pairs=[pair]), home)["gpu links"]
    assert check.value == "NVLink joins 1 of 1 pairs"
    assert [line.split() for line in check.details[:3]] == [["0", "1"], ["0", "X", "NV4"], ["1", "NV4", "X"]]
    apart = replace(pair, nvlinks=0, peer_access="no: disabled in the driver")
    check = checks(replace(machine, gpus=gpus, pairs=[apart]), home)["gpu links"]
    assert check.value == "over PCIe, no NVLink"
    assert "disabled in the driver" in check.details[-1]
    many = [replace(GPU, index=index) for index in range(16)]
    joined = [replace(pair, first=a, second=b) for a in range(16) for b in range(a + 1, 16)]
    lines = report_lines(list(checks(replace(machine, gpus=many, pairs=joined), home).values()), 80)
    assert any(line.endswith("pairs: 120 x NV4\x1b[0m") for line in lines)


@pytest.mark.parametrize(
    ("xids", "status", "words"),
    [
        ([], "ok", "no errors"),
        ([Xid("0000:11:00.0", 31, "a program", 60.0)], "ok", "none of the GPU itself"),
        ([Xid("0000:11:00.0", 79, "off the bus", None)], "warning", "1 error of the GPU"),
        ([Xid("0000:11:00.0", 79, "off the bus", 5.0)] * 2, "warning", "2 errors of the GPU"),
        (Unavailable("no permission to read the kernel log"), "ok", "n/a (no permission"),
    ],
)
def test_errors_in_the_kernel_log(
    machine: Hardware, home: HomeFolders, xids: list[Xid] | Unavailable, status: str, words: str
) -> None:
    check = checks(replace(machine, xids=xids), home)["driver log"]
    assert check.status == status
    assert words in check.value


def test_a_slow_driver_is_told(machine: Hardware, home: HomeFolders) -> None:
    check = checks(replace(machine, stale=True, age_s=90.0), home)["driver"]
    assert check.status == "warning"
    assert "1 min 30 s ago" in check.value


# torch, asked in a process of its own.


@pytest.mark.parametrize(
    ("architectures", "capability", "fits"),
    [
        (("sm_80", "sm_90"), (9, 0), True),
        (("sm_80",), (8, 9), True),
        (("sm_86",), (8, 0), False),
        (("sm_80", "sm_90"), (7, 5), False),
        (("sm_80", "sm_90"), (12, 0), False),
        (("sm_80", "compute_90"), (12, 0), True),
        (("sm_90a",), (9, 0), True),
        (("sm_100a",), (10, 3), False),
        (("sm_120",), (12, 1), True),
        (("compute_120",), (9, 0), False),
        ((), (9, 0), False),
        (("nonsense", "sm_", "sm_x"), (9, 0), False),
    ],
)
def test_kernels_run_where_cuda_says(architectures: tuple[str, ...], capability: tuple[int, int], fits: bool) -> None:
    assert runs_on(architectures, capability) is fits


def test_a_gpu_without_kernels_is_an_error(machine: Hardware, home: HomeFolders) -> None:
    report = TorchReport(available=True, count=1, architectures=("sm_90", "sm_100"))
    check = checks(machine, home, torch=report)["torch kernels"]
    assert check.status == "error"
    assert "GPU 0 (8.9)" in check.value
    assert checks(machine, home, torch=replace(report, architectures=("sm_86",)))["torch kernels"].status == "ok"


def test_a_torch_that_reaches_no_gpu_says_why(machine: Hardware, home: HomeFolders) -> None:
    report = TorchReport(available=False, count=0, architectures=(), problem="CUDA unknown error\x1b[2J")
    check = checks(machine, home, torch=report)["torch kernels"]
    assert check.status == "error"
    assert "CUDA unknown error" in check.value


def test_answers_of_the_torch_process(monkeypatch: pytest.MonkeyPatch) -> None:
    good = 'a warning\n{"available": true, "count": 1, "architectures": ["sm_90"], "problem": ""}\n'
    assert read_answer(good, "") == TorchReport(True, 1, ("sm_90",))
    broken = read_answer("", "Traceback\nImportError: libcudart.so.13: cannot open")
    assert isinstance(broken, Unavailable)
    assert "libcudart" in broken.reason
    assert isinstance(read_answer("[]", ""), Unavailable)
    monkeypatch.setattr(torch_process, "_SCRIPT", "import time; time.sleep(60)")
    late = torch_process.ask_torch(limit_s=0.05)
    assert isinstance(late, Unavailable)
    assert "did not start" in late.reason


def test_torch_is_asked_only_where_it_can_tell(machine: Hardware) -> None:
    assert wants_torch(machine)
    assert not wants_torch(replace(machine, gpus=[]))
    assert not wants_torch(replace(machine, torch_cuda=Unavailable("built for the CPU only")))


@pytest.mark.parametrize(
    ("backends", "status"), [(("12.8", "13.0"), "ok"), (("13.2",), "ok"), (("12.8",), "warning"), ((), "warning")]
)
def test_quantisation_needs_a_library_for_the_cuda_of_torch(
    machine: Hardware, home: HomeFolders, backends: tuple[str, ...], status: str
) -> None:
    assert checks(replace(machine, quantisation_cuda=backends), home)["quantisation"].status == status


def test_old_cards_have_no_flash_attention_and_the_oldest_no_quantisation(machine: Hardware, home: HomeFolders) -> None:
    turing = checks(replace(machine, gpus=[replace(GPU, compute_capability=(7, 5))]), home)
    assert "memory-efficient" in turing["attention"].value
    assert turing["quantisation"].status == "ok"
    maxwell = checks(replace(machine, gpus=[replace(GPU, compute_capability=(5, 2))]), home)
    assert maxwell["quantisation"].status == "warning"


# Memory and disks.


@pytest.mark.parametrize(
    ("container", "mebibytes", "status"),
    [("docker", 64, "warning"), ("docker", 2048, "ok"), ("", 64, "ok"), ("", 8, "warning")],
)
def test_small_shared_memory_is_told(
    machine: Hardware, home: HomeFolders, container: str, mebibytes: int, status: str
) -> None:
    host = replace(machine.host, container=container, shared_total_bytes=mebibytes * 2**20)
    check = checks(replace(machine, host=host), home)["shared memory"]
    assert check.status == status
    assert ("--shm-size" in check.fix) == (status == "warning" and bool(container))


@pytest.mark.parametrize(("free", "status"), [(GIB // 2, "error"), (5 * GIB, "warning"), (50 * GIB, "ok")])
def test_nearly_full_disks_are_told(machine: Hardware, home: HomeFolders, free: int, status: str) -> None:
    disks = [Disk(path, 500 * GIB, free) for path in (home.runs, home.cache, home.cache.parent / "hub")]
    found = checks(replace(machine, disks=disks), home)
    assert {found[name].status for name in ("runs folder", "cache folder", "downloads")} == {status}
    assert ("HF_HOME" in found["downloads"].fix) == (status != "ok")


# As it is printed.


def test_the_report_fits_the_terminal_and_keeps_groups_together(machine: Hardware, home: HomeFolders) -> None:
    gpu = replace(GPU, remap_failed=True, uuid="GPU-" + "f" * 36, processes=[GpuProcess(1, "a" * 32, "b" * 32, GIB)])
    found = examine(replace(machine, gpus=[gpu]), home, {}, evidence=Evidence())
    assert [check.group for check in found] == sorted((check.group for check in found), key=GROUPS.index)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in report_lines(found, 80)]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    assert any(line.startswith("1 wrong: gpu 0 memory") for line in lines)


def test_a_report_without_problems_says_so() -> None:
    assert report_lines([Check("python", "ok", "3.12")], 80)[-1] == "Nothing is wrong."


def test_the_verb_prints_hardware_as_json_and_never_imports_torch(tmp_path: Path) -> None:
    script = """
    import sys
    from tui.verbs.doctor import doctor
    doctor(as_json=True)
    assert not {"torch", "transformers", "bitsandbytes", "numpy"} & set(sys.modules)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment_of(build_driver(tmp_path), FAKE_NVML_PROFILE="24gb", FTWIZARD_HOME=str(tmp_path / "home")),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["hardware"]["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090"
    assert {"name", "status", "value", "fix", "group", "details"} == set(document["checks"][0])
