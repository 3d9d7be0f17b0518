"""The wizard in the command palette: every step, the recipe file, a fresh start."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from tui.command_list import Command, CommandList
from tui.wizard.draft import STEP_TITLES, STEPS, StepName

if TYPE_CHECKING:
    from tui.wizard.screen import WizardScreen


class WizardCommands(CommandList):
    """Commands of the wizard."""

    @property
    def _wizard(self) -> "WizardScreen":
        from tui.wizard.screen import WizardScreen

        assert isinstance(self.screen, WizardScreen)
        return self.screen

    def commands(self) -> Iterator[Command]:
        """Yield what can be done now."""
        wizard = self._wizard
        for number, step in enumerate(STEPS, 1):
            title = f"Go to step {number}: {STEP_TITLES[step]}"
            yield title, partial(self._open, step), "Opens it, or says what is missing"
        yield "Save the recipe as a file", wizard.action_save_recipe, "YAML that `ftwizard run` reads"
        yield "Leave the wizard", wizard.leave, "The draft is kept"

    def _open(self, step: StepName) -> None:
        self._wizard.run_worker(self._wizard.open_step(step))
