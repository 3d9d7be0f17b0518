"""Pictures of screens: an SVG per screen and size is committed, and a changed screen fails with both pictures named.

`FTWIZARD_UPDATE_SNAPSHOTS=1` writes the pictures anew; look at each of them before committing.
"""

import os
import re
from pathlib import Path
from typing import Any

from textual.app import App

FOLDER = Path(__file__).parent / "snapshots"
UPDATE_VARIABLE = "FTWIZARD_UPDATE_SNAPSHOTS"
_UNIQUE_ID = re.compile(r"terminal-\d+")
_FONT_FACE = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)


def normalise(svg: str) -> str:
    """Return the picture without what differs between runs: ids made of hashes and fonts from the web."""
    return _FONT_FACE.sub("", _UNIQUE_ID.sub("terminal", svg)).strip() + "\n"


def check_snapshot(app: App[Any], name: str, actual_folder: Path) -> None:
    """Compare the screen with its committed picture.

    Args:
        app: A running app.
        name: Screen and size, such as `home-80x24`.
        actual_folder: Where the picture goes when it differs.
    """
    picture = normalise(app.export_screenshot(title="ftwizard"))
    committed = FOLDER / f"{name}.svg"
    if os.environ.get(UPDATE_VARIABLE) == "1":
        FOLDER.mkdir(exist_ok=True)
        committed.write_text(picture, encoding="utf-8")
        return
    assert committed.exists(), f"no picture {committed}; run with {UPDATE_VARIABLE}=1 and look at it"
    if committed.read_text(encoding="utf-8") != picture:
        actual = actual_folder / f"{name}.actual.svg"
        actual.write_text(picture, encoding="utf-8")
        raise AssertionError(f"{name} looks different now:\n  was {committed}\n  is  {actual}")
