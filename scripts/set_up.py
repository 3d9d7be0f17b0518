"""Set up the virtual environment of the checkout: `python scripts/set_up.py .venv`. Standard library only."""

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent


def main(folder: str) -> int:
    """Create the environment and install the tested versions and the checkout itself, editable."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        needed = ".".join(map(str, OLDEST))
        print(f"ftwizard needs Python {needed} or newer; this is {found}. Use make PYTHON=python3.12 ...")
        return 2
    if importlib.util.find_spec("ensurepip") is None:
        print("This Python has no ensurepip. On Debian and Ubuntu: sudo apt install python3-venv; then run make again.")
        return 2
    print(f"Setting up {folder} with the tested versions; the first time takes some minutes.", flush=True)
    # Asked for pip and not for python: a set-up that was interrupted in between is made whole.
    if not (Path(folder) / "bin" / "pip").exists():
        venv.create(folder, with_pip=True, clear=(Path(folder) / "pyvenv.cfg").is_file())
    install = [str(Path(folder) / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.call([*install, "-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[dev]"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
