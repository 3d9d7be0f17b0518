"""Measurements apart from runs, kept in the cache folder: the same model on the same rows is not measured twice."""

import json
import os
from pathlib import Path
from typing import Any

from engine.data.content_cache import content_key, source_key
from engine.evaluation.measurement import write_json

FOLDER = "evaluations"
KEPT_VERSION = 1
MAX_FILES = 500
"""Beyond so many files those unused longest are removed."""
_CODE = ("evaluation", "data/rendering.py", "data/encoding.py", "data/row_encoders.py")


def key_of(*parts: Any) -> str:
    """Return the name of a measurement: of everything that decides its numbers, the code that takes it among that."""
    return content_key(KEPT_VERSION, source_key(*_CODE), *parts)


def file_of(cache: Path, key: str) -> Path:
    """Return where a measurement lies, or would lie."""
    return cache / FOLDER / f"{key}.json"


def load(path: Path) -> dict[str, Any] | None:
    """Return a kept measurement; None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("version") != KEPT_VERSION:
        return None
    return content


def keep(path: Path, content: dict[str, Any]) -> None:
    """Write a measurement, and remove those unused longest where there are too many.

    Raises:
        ProblemError: The disk is full or cannot be written.
    """
    write_json(path, content)
    files = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in files[MAX_FILES:]:
        old.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """Note that a measurement was of use."""
    os.utime(path)
