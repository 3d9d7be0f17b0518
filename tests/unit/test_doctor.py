"""The doctor: each fault is named, with a way to mend it."""

import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from engine.hardware import doctor
from engine.hardware.devices import Gpu, Hardware, Host
from engine.hardware.doctor import Check, examine
from engine.hardware.readings import Unavailable
from engine.runs.home import HomeFolders

GIB = 2**30
NO_DRIVER = Unavailable("no NVIDIA driver on this machine")
GPU = Gpu(0, "Card", "GPU-1", (8, 9), 24 * GIB, 23 * GIB, GIB, 3, 40, 60.0, [])
GOOD_TERMINAL = {"LANG": "de_DE.UTF-8", "TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.fixture
def machine() -> Hardware:
    return Hardware(
        gpus=[GPU],
        host=Host(32 * GIB, 30 * GIB, GIB, 8, "CPU", frozenset({"avx2"})),
        disks=[],
        driver="590.1",
        cuda="13.1",
        torch_cuda="13.0",
        libraries={"torch": "2.13.0", "bitsandbytes": "0.50.2"},
    )


@pytest.fixture
def home(tmp_path: Path) -> HomeFolders:
    return HomeFolders(tmp_path / "runs", tmp_path / "cache", tmp_path / "drafts")


def checks(machine: Hardware, home: HomeFolders, environment: Mapping[str, str] = GOOD_TERMINAL) -> dict[str, Check]:
    found = examine(machine, home, environment)
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
    if not doctor.required_ranges():
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
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
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


@pytest.mark.parametrize(
    ("script", "group", "status"),
    [
        ("echo b true", "0::/user.slice/user-1.slice/session-3.scope", "warning"),
        ("echo b true", "0::/user.slice/user-1.slice/user@1.service/app.slice/x.scope", "ok"),
        ("echo b false", "0::/user.slice/user-1.slice/session-3.scope", "ok"),
        ("echo no bus >&2; exit 1", "0::/", "ok"),
    ],
)
def test_a_login_manager_that_kills_is_noticed(
    machine: Hardware,
    home: HomeFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    group: str,
    status: str,
) -> None:
    busctl = tmp_path / "busctl"
    busctl.write_text(f"#!/bin/sh\n{script}\n")
    busctl.chmod(busctl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cgroup = tmp_path / "cgroup"
    cgroup.write_text(group + "\n")
    inside = doctor._outside_session
    monkeypatch.setattr(doctor, "_outside_session", lambda: inside(cgroup))
    check = checks(machine, home)["logout"]
    assert check.status == status
    assert ("systemd-run" in check.fix) == (status == "warning")


def test_a_login_manager_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busctl = tmp_path / "busctl"
    busctl.write_text("#!/bin/sh\nexec sleep 30\n")
    busctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "LOGIN_LIMIT_S", 0.05)
    assert doctor._logout().status == "ok"
