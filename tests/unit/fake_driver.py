"""A driver library of our own, built from C, so that tests go through the real pynvml in processes of their own."""

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
LIMIT_S = 120


def build_driver(folder: Path, *flags: str) -> Path:
    """Build `libnvidia-ml.so.1` in a folder and return the folder; skip the test where there is no compiler."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", *flags, "-o", str(library), str(SOURCE)], check=True)
    return folder


def environment_of(driver: Path | None, **more: str) -> dict[str, str]:
    """Return the environment of a process that finds this driver, or none."""
    kept = {
        key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES" and not key.startswith("FAKE_")
    }
    return kept | {"LD_LIBRARY_PATH": str(driver) if driver else ""} | more


def run(script: str, driver: Path | None, **environment: str) -> Any:
    """Run a script in a fresh process and return what it printed as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment_of(driver, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def unavailable(values: dict[str, Any]) -> set[str]:
    """Return the names of the values that the driver did not give."""
    return {name for name, value in values.items() if isinstance(value, dict) and "unavailable" in value}
