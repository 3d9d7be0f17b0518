"""Memory, cores and disks under control groups, from made-up `/proc` and `/sys/fs/cgroup` trees."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.hardware import host as host_module
from engine.hardware.bounded import BoundedCaller
from engine.hardware.devices import Gpu, Hardware, hardware_json
from engine.hardware.host import read_disk, read_host
from engine.hardware.libraries import quantisation_cuda_of, torch_cuda_of
from engine.hardware.probe import process_memory, read_hardware
from engine.hardware.readings import Unavailable, known, shown

GIB = 2**30
MEMINFO = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   12582912 kB\nSwapFree:        1048576 kB\n"
CPUINFO = "processor : 0\nmodel name : Some CPU\nflags : fpu avx2 avx512_bf16\n\nprocessor : 1\nflags : amx_bf16\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    write(proc, {"meminfo": MEMINFO, "cpuinfo": CPUINFO, "self/cgroup": "0::/\n"})
    cgroup.mkdir()
    return proc, cgroup


def test_without_limits_the_machine_counts(trees: tuple[Path, Path]) -> None:
    host = read_host(*trees)
    assert host.ram_total_bytes == 16 * GIB
    assert host.ram_available_bytes == 12 * GIB
    assert host.swap_free_bytes == GIB
    assert host.ram_limited_by == "machine"
    assert host.cpu_name == "Some CPU"
    assert host.cpu_flags == {"avx2", "avx512_bf16"}
    assert host.cores == len(os.sched_getaffinity(0))


def test_the_tightest_control_group_of_the_chain_counts(trees: tuple[Path, Path]) -> None:
    proc, cgroup = trees
    write(proc, {"self/cgroup": "0::/box/job\n"})
    write(
        cgroup,
        {
            "box/memory.max": str(8 * GIB),
            "box/memory.current": str(5 * GIB),
            "box/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
            "box/job/memory.max": "max\n",
            "box/cpu.max": "150000 100000\n",
        },
    )
    host = read_host(proc, cgroup)
    assert host.ram_total_bytes == 8 * GIB
    assert host.ram_available_bytes == 5 * GIB, "page cache that can go does not count as used"
    assert host.ram_limited_by == "control group"
    assert host.cores == 1


def test_a_container_that_sees_its_group_as_root_is_limited(trees: tuple[Path, Path]) -> None:
    proc, cgroup = trees
    write(proc, {"self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"})
    write(
        cgroup,
        {
            "memory/memory.limit_in_bytes": str(4 * GIB),
            "memory/memory.usage_in_bytes": str(GIB),
            "memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
            "cpu/cpu.cfs_quota_us": "100000",
            "cpu/cpu.cfs_period_us": "100000",
        },
    )
    host = read_host(proc, cgroup)
    assert host.ram_total_bytes == 4 * GIB
    assert host.ram_available_bytes == 3 * GIB + GIB // 2
    assert host.cores == 1


def test_the_v1_word_for_no_limit_is_no_limit(trees: tuple[Path, Path]) -> None:
    proc, cgroup = trees
    write(proc, {"self/cgroup": "5:memory:/\n"})
    write(cgroup, {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"})
    assert read_host(proc, cgroup).ram_limited_by == "machine"


def test_a_limit_of_either_hierarchy_counts_where_both_are_mounted(trees: tuple[Path, Path]) -> None:
    proc, cgroup = trees
    write(proc, {"self/cgroup": "5:memory:/pod/box\n0::/user\n"})
    write(
        cgroup,
        {
            "memory/pod/memory.limit_in_bytes": str(3 * GIB),
            "memory/pod/memory.usage_in_bytes": str(GIB),
            "memory/pod/box/memory.limit_in_bytes": str(6 * GIB),
            "user/memory.max": str(8 * GIB),
        },
    )
    host = read_host(proc, cgroup)
    assert host.ram_total_bytes == 3 * GIB, "the limit of a group above counts too"
    assert host.ram_available_bytes == 2 * GIB


@pytest.mark.parametrize(
    ("files", "folders", "kind"),
    [
        ({".dockerenv": ""}, [], "docker"),
        ({"run/.containerenv": ""}, [], "podman"),
        ({}, ["var/run/secrets/kubernetes.io"], "kubernetes"),
        ({"run/systemd/container": "lxc\n"}, [], "lxc"),
        ({"run/systemd/container": "\x1b[2Jx\n"}, [], "\N{REPLACEMENT CHARACTER}[2Jx"),
        ({}, [], ""),
    ],
)
def test_containers_are_told_apart(
    trees: tuple[Path, Path], tmp_path: Path, files: dict[str, str], folders: list[str], kind: str
) -> None:
    root = tmp_path / "root"
    write(root, files)
    for folder in folders:
        (root / folder).mkdir(parents=True)
    assert read_host(*trees, root).container == kind


def test_a_container_that_only_its_control_group_betrays(trees: tuple[Path, Path], tmp_path: Path) -> None:
    write(trees[0], {"self/cgroup": "0::/kubepods/burstable/pod1/abc\n"})
    assert read_host(*trees, tmp_path / "root").container == "kubepods"


def test_windows_boards_swap_and_memory_nodes(trees: tuple[Path, Path], tmp_path: Path) -> None:
    proc, cgroup = trees
    plain = read_host(proc, cgroup, tmp_path / "root")
    assert (plain.wsl, plain.board, plain.numa_nodes) == (False, "", None)
    assert isinstance(plain.shared_total_bytes, Unavailable)
    write(proc, {
        "sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2\n",
        "device-tree/model": "NVIDIA Jetson AGX Orin\0",
        "meminfo": MEMINFO + "SwapTotal: 2097152 kB\n",
    })  # fmt: skip
    write(tmp_path / "root", {"sys/devices/system/node/online": "0-1,4\n", "dev/shm/x": ""})
    host = read_host(proc, cgroup, tmp_path / "root")
    assert (host.wsl, host.board, host.numa_nodes) == (True, "NVIDIA Jetson AGX Orin", 3)
    assert (host.swap_total_bytes, host.swap_free_bytes) == (2 * GIB, GIB)
    assert isinstance(host.shared_total_bytes, int)


def test_unreadable_memory_is_unavailable_and_never_zero(tmp_path: Path) -> None:
    host = read_host(tmp_path / "none", tmp_path / "none")
    assert isinstance(host.ram_available_bytes, Unavailable)
    assert shown(host.ram_total_bytes).startswith("n/a (")
    assert host.cores >= 1


def test_a_folder_that_is_not_there_yet_has_the_disk_of_its_parent(tmp_path: Path) -> None:
    disk = read_disk(tmp_path / "runs" / "new")
    assert isinstance(disk.free_bytes, int)
    assert disk.free_bytes > 0


def test_a_disk_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(host_module.shutil, "disk_usage", stale)
    assert read_disk(tmp_path).free_bytes == Unavailable(os.strerror(errno.ESTALE))


def test_a_disk_that_hangs_says_nothing_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    usage = host_module.shutil.disk_usage

    def measure(folder: Path) -> Any:
        if folder.name == "network":
            release.wait(30)
        return usage(folder)

    (tmp_path / "network").mkdir()
    monkeypatch.setattr(host_module.shutil, "disk_usage", measure)
    try:
        assert isinstance(read_disk(tmp_path / "network", limit_s=0.01).free_bytes, Unavailable)
        assert isinstance(read_disk(tmp_path, limit_s=30).free_bytes, int)
    finally:
        release.set()


def test_a_call_that_hangs_is_left_alone_and_not_repeated() -> None:
    release = threading.Event()
    started: list[int] = []

    def hang() -> str:
        started.append(1)
        release.wait(30)
        return "late"

    caller: BoundedCaller[str] = BoundedCaller("the device")
    assert isinstance(caller.call(hang, limit_s=0.01), Unavailable)
    assert isinstance(caller.call(hang, limit_s=0.01), Unavailable)
    assert len(started) == 1
    release.set()
    assert caller.call(lambda: "back", limit_s=30) == "back"


def test_a_call_waits_for_the_earlier_one_as_long_as_that_may_take() -> None:
    release = threading.Event()
    caller: BoundedCaller[str] = BoundedCaller("the device")

    def slow() -> str:
        release.wait(30)
        return "slow"

    assert isinstance(caller.call(slow, limit_s=0.01), Unavailable)
    threading.Timer(0.05, release.set).start()
    assert caller.call(lambda: "next", limit_s=30) == "next"


def test_a_failing_call_raises_here() -> None:
    caller: BoundedCaller[str] = BoundedCaller("the device")
    with pytest.raises(OSError, match="broken"):
        caller.call(lambda: (_ for _ in ()).throw(OSError("broken")), limit_s=30)


def test_memory_of_a_process() -> None:
    own = process_memory(os.getpid())
    rss, peak = known(own.rss_bytes), known(own.peak_bytes)
    assert rss is not None
    assert peak is not None
    assert 0 < rss <= peak
    assert isinstance(process_memory(4_194_303).rss_bytes, Unavailable)


@pytest.mark.parametrize(
    ("line", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'", "13.0"),
        ('cuda = "12.8"', "12.8"),
        ("cuda: Optional[str] = None", None),
        ("something = 1", None),
    ],
)
def test_the_cuda_of_torch_is_read_without_importing_it(tmp_path: Path, line: str, cuda: str | None) -> None:
    file = tmp_path / "version.py"
    file.write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\nhip: Optional[str] = None\n")
    assert known(torch_cuda_of(file)) == cuda


def test_the_gpu_libraries_of_bitsandbytes_are_found_by_name(tmp_path: Path) -> None:
    for name in ("cuda118", "cuda130", "cuda128", "cpu", "rocm64", "cudaXY"):
        (tmp_path / f"libbitsandbytes_{name}.so").touch()
    assert quantisation_cuda_of(tmp_path) == ("11.8", "12.8", "13.0")
    assert quantisation_cuda_of(tmp_path / "none") == ()


def test_this_machine_can_be_read_and_shown_as_json(tmp_path: Path) -> None:
    import json

    hardware = read_hardware((tmp_path,))
    assert json.loads(json.dumps(hardware_json(hardware)))["host"]["cores"] >= 1
    assert hardware.disk_for(tmp_path) is not None
    assert hardware.disk_for(tmp_path / "other") is None
    assert "torch" in hardware.libraries


def test_text_of_the_driver_cannot_act_on_the_terminal() -> None:
    assert "\x1b" not in str(Unavailable("\x1b[2Jgone"))


def test_two_gpus_with_one_uuid_prefix_are_not_guessed() -> None:
    nothing = Unavailable("not asked")
    gpus = [Gpu(n, f"G{n}", f"GPU-a{n}", *[nothing] * 8) for n in range(2)]  # type: ignore[arg-type]
    hardware = Hardware(gpus, read_host(), [], nothing, nothing, nothing, visible_devices="GPU-a")
    assert hardware.usable_gpus() == []
