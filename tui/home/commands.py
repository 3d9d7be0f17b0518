"""The first screen in the command palette: a new run and every preset."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider

from engine.text import clean_line

if TYPE_CHECKING:
    from tui.home.screen import HomeScreen


class HomeCommands(Provider):
    """Commands of the first screen."""

    @property
    def _home(self) -> "HomeScreen":
        from tui.home.screen import HomeScreen

        assert isinstance(self.screen, HomeScreen)
        return self.screen

    def _commands(self) -> Iterator[tuple[str, Callable[[], object], str]]:
        home = self._home
        yield "New run", home.action_new_run, "Six questions"
        for preset in home.presets:
            title = f"New run from preset {clean_line(preset.name)}"
            yield title, partial(home.app.open_wizard, preset=preset.name), clean_line(preset.title)

    async def discover(self) -> Hits:
        """Yield every command."""
        for title, command, words in self._commands():
            yield DiscoveryHit(title, command, help=words)

    async def search(self, query: str) -> Hits:
        """Yield the commands that match."""
        matcher = self.matcher(query)
        for title, command, words in self._commands():
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, matcher.highlight(title), command, help=words)
