"""The wizard in the command palette: every step, the recipe file, a fresh start."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.wizard.draft import STEP_TITLES, STEPS, StepName

if TYPE_CHECKING:
    from tui.wizard.screen import WizardScreen


class WizardCommands(Provider):
    """Commands of the wizard."""

    @property
    def _wizard(self) -> "WizardScreen":
        from tui.wizard.screen import WizardScreen

        assert isinstance(self.screen, WizardScreen)
        return self.screen

    def _commands(self) -> Iterator[tuple[str, Callable[[], object], str]]:
        wizard = self._wizard
        for number, step in enumerate(STEPS, 1):
            title = f"Go to step {number}: {STEP_TITLES[step]}"
            yield title, partial(self._open, step), "Opens it, or says what is missing"
        yield "Save the recipe as a file", wizard.action_save_recipe, "YAML that `ftwizard run` reads"
        yield "Leave the wizard", wizard.leave, "The draft is kept"

    def _open(self, step: StepName) -> None:
        self._wizard.run_worker(self._wizard.open_step(step))

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
