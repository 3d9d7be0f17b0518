"""What on this machine would spoil a run, and how to mend it. Looks only; changes nothing."""

import os
from collections.abc import Mapping

from engine.hardware.checks import GROUPS, Check
from engine.hardware.checks_gpu import gpu_checks
from engine.hardware.checks_machine import folder_checks, machine_checks
from engine.hardware.checks_session import session_checks
from engine.hardware.checks_software import software_checks
from engine.hardware.devices import Hardware
from engine.hardware.evidence import Evidence, read_evidence
from engine.hardware.readings import Unavailable
from engine.hardware.torch_process import TorchReport
from engine.runs.home import HomeFolders, home_folders


def examine(
    hardware: Hardware,
    home: HomeFolders | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    torch: TorchReport | Unavailable | None = None,
    evidence: Evidence | None = None,
) -> list[Check]:
    """Return every check, in the order they are shown.

    Args:
        hardware: What the machine has.
        home: Folders of runs and caches; the usual ones when None.
        environment: Variables of the terminal.
        torch: What torch says of the GPUs, from `torch_process.ask_torch`; None when it was not asked.
        evidence: What tells of GPUs besides the driver; read from this machine when None.
    """
    home = home or home_folders(environment)
    found = [
        *software_checks(hardware, torch),
        *gpu_checks(hardware, read_evidence() if evidence is None else evidence),
        *machine_checks(hardware),
        *folder_checks(home, hardware),
        *session_checks(environment),
    ]
    return sorted(found, key=lambda check: GROUPS.index(check.group))


def wants_torch(hardware: Hardware) -> bool:
    """Return whether asking torch can tell something: there is a GPU, and torch is built for one."""
    return bool(hardware.usable_gpus()) and isinstance(hardware.torch_cuda, str)
