"""What on this machine would spoil a run, and how to mend it. Looks only; changes nothing."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement

from engine.hardware.devices import Gpu, Hardware
from engine.hardware.host import existing_parent, read_disk
from engine.hardware.readings import Unavailable, known, shown
from engine.runs.home import HomeFolders, home_folders
from engine.text import clean_line, human_bytes

Status = Literal["ok", "warning", "error"]

GIB = 2**30
MIN_PYTHON = (3, 11)
LITTLE_DISK_BYTES = 10 * GIB
NO_DISK_BYTES = GIB
LITTLE_SHARED_BYTES = 64 * 2**20
LOGIN_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        name: Stable short name.
        status: `error` stops every run, `warning` some of them or costs speed.
        value: What was found.
        fix: The next action; empty when there is none to take.
    """

    name: str
    status: Status
    value: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON-ready dictionary."""
        return asdict(self)


def examine(
    hardware: Hardware, home: HomeFolders | None = None, environment: Mapping[str, str] = os.environ
) -> list[Check]:
    """Return every check, in the order they are shown.

    Args:
        hardware: What the machine has.
        home: Folders of runs and caches; the usual ones when None.
        environment: Variables of the terminal.
    """
    home = home or home_folders(environment)
    return [
        _python(),
        *_libraries(hardware),
        *_gpus(hardware),
        _torch(hardware),
        _formats(hardware),
        _quantisation(hardware),
        _host(hardware),
        *_folders(home),
        _shared_memory(),
        _logout(),
        *_terminal(environment),
    ]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        return Check("python", "ok", version)
    return Check("python", "error", version, "Install Python 3.11 or newer and set ftwizard up again.")


def required_ranges() -> list[Requirement]:
    """Return the libraries that ftwizard declares, with their version ranges; empty when it is not installed."""
    try:
        declared = importlib.metadata.requires("ftwizard") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    requirements: list[Requirement] = []
    for line in declared:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirements.append(requirement)
    return requirements


def _libraries(hardware: Hardware) -> Iterator[Check]:
    requirements = required_ranges()
    wrong = [check for requirement in requirements if (check := _library(requirement, hardware.libraries))]
    if not requirements:
        yield Check("libraries", "warning", "ftwizard is not installed as a package, so no ranges are known")
    elif not wrong:
        yield Check("libraries", "ok", f"{len(requirements)} libraries, all in the supported ranges")
    yield from wrong


def _library(requirement: Requirement, installed: Mapping[str, str]) -> Check | None:
    name = requirement.name
    version = installed.get(name)
    if version is None:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return Check(name, "error", "not installed", f'Run: pip install "{requirement}"')
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return Check(
        name,
        "warning",
        f"{clean_line(version, max_chars=40)}, outside the supported range {requirement.specifier}",
        f'Run: pip install "{requirement}"',
    )


def _gpus(hardware: Hardware) -> Iterator[Check]:
    if not hardware.gpus:
        yield _no_gpu(hardware)
        return
    yield Check("driver", "ok", f"NVIDIA {shown(hardware.driver)}, up to CUDA {shown(hardware.cuda)}")
    yield from map(_gpu, hardware.gpus)
    if hardware.visible_devices is not None:
        usable = ", ".join(str(gpu.index) for gpu in hardware.usable_gpus()) or "none"
        value = f"CUDA_VISIBLE_DEVICES={clean_line(hardware.visible_devices, max_chars=60)}: GPU {usable}"
        status: Status = "ok" if hardware.usable_gpus() else "warning"
        yield Check("visible GPUs", status, value, "" if status == "ok" else "Unset it to use a GPU.")


def _no_gpu(hardware: Hardware) -> Check:
    driver = hardware.driver
    if not hardware.gpus_known:
        fix = "Look again; if it stays silent, look at the kernel log and restart the machine."
        return Check("gpu", "error", f"not known: {shown(driver)}", fix)
    if isinstance(driver, str):
        return Check("gpu", "warning", f"driver {driver}, but no GPU", "Check the power and the seat of the card.")
    if "no NVIDIA driver" in driver.reason or "not installed" in driver.reason:
        return Check("gpu", "ok", f"none: {driver.reason}; runs compute on the processor")
    return Check("gpu", "warning", f"none: {driver.reason}", "Install or reload the NVIDIA driver, then look again.")


def _gpu(gpu: Gpu) -> Check:
    name = f"gpu {gpu.index}"
    if isinstance(gpu.name, Unavailable) and isinstance(gpu.total_bytes, Unavailable):
        return Check(name, "error", gpu.name.reason, "Restart the machine; if it comes again, look at the kernel log.")
    memory = f"{shown(gpu.free_bytes, human_bytes)} free of {shown(gpu.total_bytes, human_bytes)}"
    value = f"{shown(gpu.name)}, {memory}"
    if isinstance(gpu.free_bytes, Unavailable):
        return Check(name, "warning", value, "Plans cannot check the GPU memory; watch the first steps of a run.")
    return Check(name, "ok", value)


def _torch(hardware: Hardware) -> Check:
    version = hardware.libraries.get("torch")
    if version is None:
        return Check("torch build", "error", "not installed", "Set ftwizard up again: make setup")
    built = hardware.torch_cuda
    if isinstance(built, Unavailable):
        if hardware.gpus:
            fix = "Install a CUDA build of torch; see https://pytorch.org/get-started/locally."
            return Check("torch build", "warning", f"{version}: {built.reason}, and there is a GPU", fix)
        return Check("torch build", "ok", f"{version}, for the processor")
    newest = known(hardware.cuda)
    if newest is not None and _major(built) > _major(newest):
        value = f"{version} is built for CUDA {built}, and the driver runs CUDA {newest}"
        return Check("torch build", "warning", value, "Update the NVIDIA driver, or install a torch for an older CUDA.")
    return Check("torch build", "ok", f"{version}, built for CUDA {built}")


def _major(version: str) -> int:
    head = version.split(".", 1)[0]
    return int(head) if head.isdecimal() else 0


def _formats(hardware: Hardware) -> Check:
    capabilities = [found for gpu in hardware.usable_gpus() if (found := known(gpu.compute_capability)) is not None]
    if capabilities:
        if max(capabilities) >= (8, 0):
            return Check("bfloat16", "ok", "computed natively by the GPU")
        return Check("bfloat16", "ok", "not native to this GPU; float16 or float32 is used")
    flags = hardware.host.cpu_flags & {"avx512_bf16", "amx_bf16", "bf16"}
    if flags:
        return Check("bfloat16", "ok", f"computed natively by the processor ({', '.join(sorted(flags))})")
    return Check("bfloat16", "ok", "not native to this processor; float32 is used")


def _quantisation(hardware: Hardware) -> Check:
    version = hardware.libraries.get("bitsandbytes")
    if version is None:
        return Check(
            "quantisation", "warning", "bitsandbytes is not installed; no QLoRA", "Run: pip install bitsandbytes"
        )
    return Check("quantisation", "ok", f"bitsandbytes {version}: QLoRA and 8-bit optimizers work")


def _host(hardware: Hardware) -> Check:
    host = hardware.host
    value = (
        f"{shown(host.ram_available_bytes, human_bytes)} free of {shown(host.ram_total_bytes, human_bytes)}, "
        f"{host.cores} core{'s' if host.cores > 1 else ''}"
    )
    if host.ram_limited_by != "machine":
        value += f", limited by the {host.ram_limited_by}"
    available = known(host.ram_available_bytes)
    if available is not None and available < 2 * GIB:
        return Check("memory", "warning", value, "Close other programs; a worker alone takes more than half a GiB.")
    return Check("memory", "ok", value)


def _folders(home: HomeFolders) -> Iterator[Check]:
    for name, folder in (("runs folder", home.runs), ("cache folder", home.cache)):
        shown_folder = clean_line(folder, max_chars=120)
        if not _writable(folder):
            fix = "Set FTWIZARD_HOME to a folder that you can write to."
            yield Check(name, "error", f"{shown_folder} cannot be written", fix)
            continue
        free = known(read_disk(folder).free_bytes)
        value = f"{shown_folder}, {human_bytes(free)} free"
        if free is not None and free < LITTLE_DISK_BYTES:
            status: Status = "error" if free < NO_DISK_BYTES else "warning"
            yield Check(name, status, value, "Free some space, or set FTWIZARD_HOME to a larger disk.")
        else:
            yield Check(name, "ok", value)


def _writable(folder: Path) -> bool:
    parent = existing_parent(folder)
    return parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)


def _shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    total = known(read_disk(folder).total_bytes) if folder.is_dir() else None
    if total is None:
        return Check("shared memory", "warning", f"{folder} is missing", "Mount a tmpfs there.")
    value = f"{human_bytes(total)} in {folder}"
    if total < LITTLE_SHARED_BYTES:
        return Check("shared memory", "warning", value, "In a container: start it with --shm-size=1g.")
    return Check("shared memory", "ok", value)


def _logout() -> Check:
    """Return whether the login manager kills what is left when the person logs out."""
    answer = _ask_login_manager("KillUserProcesses")
    if answer is None:
        return Check("logout", "ok", "no login manager that ends processes was found")
    if answer != "true":
        return Check("logout", "ok", "runs go on after a logout")
    if _outside_session():
        return Check("logout", "ok", "the login manager ends sessions, but this one is outside of them")
    return Check(
        "logout",
        "warning",
        "the login manager ends every process of a session at logout (KillUserProcesses=yes)",
        "Run once: loginctl enable-linger. Then start with: systemd-run --user --scope ftwizard",
    )


def _ask_login_manager(name: str) -> str | None:
    busctl = shutil.which("busctl")
    if busctl is None:
        return None
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    try:
        answer = subprocess.run(
            [busctl, "--system", "get-property", *manager, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LOGIN_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = answer.stdout.split()
    return words[-1] if answer.returncode == 0 and words else None


def _outside_session(cgroup: Path = Path("/proc/self/cgroup")) -> bool:
    try:
        text = cgroup.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # Units of the user's own manager live in user@UID.service; logins live in session-N.scope.
    return any(part.startswith("user@") and part.endswith(".service") for part in text.replace("\n", "/").split("/"))


def _terminal(environment: Mapping[str, str]) -> Iterator[Check]:
    chosen = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environment.get(name))), "")
    if "utf-8" in chosen.lower() or "utf8" in chosen.lower():
        yield Check("locale", "ok", clean_line(chosen, max_chars=40))
    else:
        value = f"{clean_line(chosen, max_chars=40) or 'not set'}, not UTF-8: plain characters are drawn"
        yield Check("locale", "warning", value, "Run: export LANG=C.UTF-8")
    yield _colours(environment)
    if environment.get("SSH_CONNECTION") and not (environment.get("TMUX") or environment.get("STY")):
        value = "over SSH without tmux: a dropped line closes the screens, runs go on"
        yield Check("session", "ok", value, "Come back with: ftwizard attach")


def _colours(environment: Mapping[str, str]) -> Check:
    term = environment.get("TERM", "")
    if term in ("", "dumb"):
        value = f"TERM is {term or 'not set'}: line prompts instead of screens"
        return Check("terminal", "warning", value, "Use a terminal such as xterm-256color for the wizard's screens.")
    shown_term = clean_line(term, max_chars=40)
    if environment.get("NO_COLOR"):
        return Check("terminal", "ok", f"{shown_term}, without colours (NO_COLOR)")
    if environment.get("COLORTERM") in ("truecolor", "24bit"):
        return Check("terminal", "ok", f"{shown_term}, all colours")
    return Check("terminal", "ok", f"{shown_term}, {256 if '256' in term else 16} colours")
