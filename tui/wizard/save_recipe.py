"""The question where to save a recipe."""

import os
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.paths import typed_path
from engine.text import clean_line
from tui.widgets.path_input import PathInput, PathSuggester


class SaveRecipeScreen(ModalScreen[Path | None]):
    """Asks for a file; one that exists is overwritten only after a second enter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def __init__(self, text: str, suggested: str) -> None:
        super().__init__()
        self._text = text
        self._suggested = suggested
        self._warned_of: Path | None = None

    def compose(self) -> ComposeResult:
        """Yield question, input and answer."""
        with Vertical(id="dialog"):
            yield Static(Content("Save the recipe as"), classes="question")
            yield PathInput(self._suggested, compact=True, suggester=PathSuggester(folders_only=True))
            yield Static(Content("enter saves · tab completes · esc cancels"), id="dialog-note")

    def on_mount(self) -> None:
        """Focus the input."""
        self.query_one(PathInput).focus()

    def action_leave(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    @on(Input.Submitted)
    def _save(self, event: Input.Submitted) -> None:
        path = typed_path(event.value.strip())
        if not event.value.strip() or os.path.isdir(path):
            self._say("Type the name of a file.")
            return
        if not os.path.isdir(path.parent):
            self._say(f"There is no folder {clean_line(path.parent)}.")
            return
        if os.path.exists(path) and path != self._warned_of:
            self._warned_of = path
            self._say(f"{clean_line(path)} exists. Enter again overwrites it.")
            return
        try:
            write_whole(path, self._text)
        except OSError as error:
            self._say(f"{clean_line(path)} cannot be written: {clean_line(error.strerror or error)}.")
            return
        self.dismiss(path)

    def _say(self, text: str) -> None:
        self.query_one("#dialog-note", Static).update(Content.styled(text, "$warning"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that the old one stays until the new one is whole."""
    staging = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        staging.write_text(text, encoding="utf-8")
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def suggested_file(name: str) -> str:
    """Return a file name for a recipe, made of letters, digits and dashes."""
    words = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    return ("-".join(part for part in words.split("-") if part) or "recipe") + ".yaml"
