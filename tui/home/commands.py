"""The first screen in the command palette: a new run and every preset."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from engine.text import clean_line
from tui.command_list import Command, CommandList

if TYPE_CHECKING:
    from tui.home.screen import HomeScreen


class HomeCommands(CommandList):
    """Commands of the first screen."""

    @property
    def _home(self) -> "HomeScreen":
        from tui.home.screen import HomeScreen

        assert isinstance(self.screen, HomeScreen)
        return self.screen

    def commands(self) -> Iterator[Command]:
        """Yield what can be done now."""
        home = self._home
        yield "New run", home.action_new_run, "Seven steps"
        yield "All runs", home.action_runs, "In a table, to sort, filter and compare"
        for preset in home.presets:
            title = f"New run from preset {clean_line(preset.name)}"
            yield title, partial(home.app.open_wizard, preset=preset.name), clean_line(preset.title)
