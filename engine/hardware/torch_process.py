"""What torch itself says of the GPUs, asked in a process of its own: nothing heavy is imported here."""

import json
import subprocess
import sys
from dataclasses import dataclass

from engine.hardware.readings import Unavailable
from engine.text import clean_line

LIMIT_S = 60.0
_SCRIPT = """
import json, torch
problem = ""
try:
    torch.cuda.init()
except Exception as error:
    problem = str(error)
print(json.dumps({
    "available": torch.cuda.is_available(),
    "count": torch.cuda.device_count(),
    "architectures": torch.cuda.get_arch_list(),
    "problem": problem,
}))
"""


@dataclass(frozen=True, slots=True)
class TorchReport:
    """What torch can do here.

    Attributes:
        available: Whether torch reaches a GPU.
        count: GPUs that torch sees.
        architectures: What its kernels are built for: `sm_90`, `compute_90`.
        problem: Why it reaches none, in its own words.
    """

    available: bool
    count: int
    architectures: tuple[str, ...]
    problem: str = ""


def ask_torch(limit_s: float = LIMIT_S) -> TorchReport | Unavailable:
    """Return what torch says in a fresh process, which takes seconds, or why it does not."""
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _SCRIPT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Unavailable(f"torch did not start within {limit_s:g} s")
    except OSError as error:
        return Unavailable(f"no process for torch: {clean_line(error.strerror or error, max_chars=80)}")
    return read_answer(answer.stdout, answer.stderr)


def read_answer(stdout: str, stderr: str) -> TorchReport | Unavailable:
    """Return the report that the process printed, or the last thing it said before it failed."""
    lines = stdout.strip().splitlines()
    try:
        report = json.loads(lines[-1] if lines else "")
        return TorchReport(
            available=bool(report["available"]),
            count=int(report["count"]),
            architectures=tuple(map(str, report["architectures"])),
            problem=clean_line(report["problem"], max_chars=200),
        )
    except (ValueError, KeyError, TypeError):
        said = (stderr.strip().splitlines() or ["no answer"])[-1]
        return Unavailable(f"torch cannot be imported: {clean_line(said, max_chars=160)}")


def runs_on(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Return whether kernels built for these architectures run on a GPU.

    Binary code runs on the same major version and the same or a later minor one; a trailing letter ties it to one
    version or family. Intermediate code (`compute_`) is translated for anything later. See the CUDA C++ Programming
    Guide, "Binary compatibility" and "PTX compatibility".
    """
    major, minor = capability
    for name in architectures:
        kind, _, version = name.partition("_")
        digits = version.rstrip("af")
        if not digits.isdecimal() or len(digits) < 2:
            continue
        built = int(digits[:-1]), int(digits[-1])
        if version.endswith("a"):
            fits = built == capability
        elif kind == "sm":
            fits = built[0] == major and built[1] <= minor
        else:
            fits = built <= capability
        if fits:
            return True
    return False
