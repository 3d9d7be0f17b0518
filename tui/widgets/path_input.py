"""An input for paths: tab completes, up and down are left to a list below it."""

import asyncio
import os
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from engine.paths import typed_path
from engine.text import clean_line

MAX_SCANNED = 2000


def looks_like_path(text: str) -> bool:
    """Whether a person who typed this means a path on this machine."""
    return text.startswith(("/", "~", "./", "../", ".")) or (os.sep in text and os.path.exists(typed_path(text)))


def complete_path(text: str, *, suffixes: tuple[str, ...] = (), folders_only: bool = False) -> str | None:
    """Return `text` completed to the first matching entry of its folder, in name order; None when nothing matches.

    Args:
        text: What was typed; `~` is understood and kept.
        suffixes: Offer only files that end so; all files when empty.
        folders_only: Offer no files.
    """
    head, _, stem = text.rpartition("/")
    folder = typed_path((head or "/") if "/" in text else ".")
    try:
        with os.scandir(folder) as listing:
            entries = [entry for _, entry in zip(range(MAX_SCANNED), listing, strict=False)]
    except (OSError, ValueError):
        return None
    names: list[str] = []
    for entry in entries:
        if (
            not entry.name.startswith(stem)
            or (entry.name.startswith(".") and not stem)
            or clean_line(entry.name) != entry.name
        ):
            continue
        if entry.is_dir():
            names.append(entry.name + "/")
        elif not folders_only and (not suffixes or entry.name.lower().endswith(suffixes)):
            names.append(entry.name)
    if not names:
        return None
    prefix = text[: len(text) - len(stem)]
    return prefix + min(names)


class PathSuggester(Suggester):
    """Suggests the first matching entry of the folder that is being typed."""

    def __init__(self, *, suffixes: tuple[str, ...] = (), folders_only: bool = False) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes = suffixes
        self._folders_only = folders_only

    async def get_suggestion(self, value: str) -> str | None:
        """Return the completion of `value`."""
        if not value or not looks_like_path(value):
            return None
        found = await asyncio.to_thread(complete_path, value, suffixes=self._suffixes, folders_only=self._folders_only)
        return found if found != value else None


class PathInput(Input):
    """A one-row input above a list: tab takes the completion, up and down move the list's cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Choose", id="path.choose"),
        Binding("tab", "complete", "Complete", show=False),
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("pagedown", "move(8)", show=False),
        Binding("pageup", "move(-8)", show=False),
    ]

    class Moved(Message):
        """Up or down was pressed; `rows` says how far, negative for up."""

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.rows = rows

    def action_complete(self) -> None:
        """Take the completion; without one tab moves the focus as everywhere."""
        if self._suggestion and self._suggestion != self.value:
            self.value = self._suggestion
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()

    def action_move(self, rows: int) -> None:
        """Ask for the list's cursor to move."""
        self.post_message(self.Moved(rows))
