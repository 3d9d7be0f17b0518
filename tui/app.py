"""The app: themes, the stack of screens and a clean end. Screens are imported when they are opened."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import RenderableType
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.text import clean_line
from tui.backend import Backend, RunRow
from tui.cell_diff import DiffedUpdate, TerminalCells, cell_diff_wanted
from tui.start import AppResult, Home, Monitor, StartPoint, Wizard
from tui.terminal import Colors, examine_terminal, keep_keys_alive, leave_cleanly_on_signals
from tui.theme import OWN_TOKENS, THEMES, theme_for

if TYPE_CHECKING:
    from tui.wizard.draft import Draft

__all__ = ["AppResult", "FtwizardApp", "Home", "Monitor", "StartPoint", "Wizard", "run_app"]


class FtwizardApp(App[AppResult]):
    """Home at the bottom of the stack; the wizard, a monitor or a result above it."""

    TITLE = "ftwizard"
    CSS_PATH = ["app.tcss", "home/home.tcss", "wizard/wizard.tcss"]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", id="app.help"),
        Binding("ctrl+p", "command_palette", "Commands", id="app.commands", priority=True),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", priority=True),
        Binding("ctrl+l", "repaint", "Repaint", show=False, id="app.repaint"),
        # Before every other meaning of escape, but only while the keys are shown.
        Binding("escape", "hide_keys", "Hide the keys", show=False, priority=True, id="app.hide_keys"),
    ]

    def __init__(self, start: StartPoint, backend: Backend, *, colors: Colors = "full") -> None:
        # The colour filter is chosen inside `App.__init__` and never again: an ANSI theme set later under NO_COLOR is
        # black on black.
        super().__init__(ansi_color=None if colors == "full" else True)
        self.start = start
        self.backend = backend
        self.last_run: Path | None = None
        self._cells = TerminalCells() if cell_diff_wanted() else None
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = theme_for(colors).name

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Send only the cells that changed; Textual would send every dirty region whole."""
        sent = self._running and not self._closed and not self._batch_count and not self.is_headless
        if self._cells is not None and sent and isinstance(renderable, CompositorUpdate):
            renderable = self._cells.diffed(renderable, self.size, self.console)
            cursor = screen.outer_size.clamp_offset(self.cursor_position)
            if (
                isinstance(renderable, DiffedUpdate)
                and not renderable.text
                and cursor == self._previous_cursor_position
            ):
                return
        super()._display(screen, renderable)

    def _forget_cells(self) -> None:
        if self._cells is not None:
            self._cells.forget()

    def on_resize(self) -> None:
        """Repaint everything: a terminal moves its lines when its size changes."""
        self._forget_cells()

    def action_repaint(self) -> None:
        """Repaint everything."""
        self._forget_cells()
        self.refresh(layout=True)

    def get_css_variables(self) -> dict[str, str]:
        """Return the theme's tokens, with stand-ins for ours in the built-in themes."""
        variables = super().get_css_variables()
        for own, stand_in in OWN_TOKENS.items():
            variables.setdefault(own, variables[stand_in])
        return variables

    def get_default_screen(self) -> Screen[Any]:
        """Return the screen at the bottom of the stack."""
        from tui.home.screen import HomeScreen

        return HomeScreen(self.backend)

    async def on_mount(self) -> None:
        """Open the start point and make SIGTERM and SIGHUP leave a clean terminal."""
        self.app_resume_signal.subscribe(self, lambda _: self._forget_cells())
        if not self.is_headless:
            leave_cleanly_on_signals(self.leave_with_code)
        match self.start:
            case Wizard() as wizard:
                self.open_wizard(preset=wizard.preset, recipe=dict(wizard.recipe), at_review=wizard.at_review)
            case Monitor() as monitor:
                self.open_monitor(monitor.run_path, leave_when_done=monitor.leave_when_done)
            case Home():
                pass

    def leave_with_code(self, code: int) -> None:
        """End the app with an exit code for the shell."""
        self.exit(AppResult(code, self.last_run), return_code=code)

    async def action_quit(self) -> None:
        """End the app; drafts are saved and runs go on, so nothing is asked."""
        self.leave_with_code(0)

    def action_help(self) -> None:
        """Show or hide every key of what is open."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let escape through to the screen unless the keys are shown."""
        if action == "hide_keys":
            return bool(self.screen.query("HelpPanel"))
        return super().check_action(action, parameters)

    def action_hide_keys(self) -> None:
        """Hide the keys that F1 showed."""
        self.action_hide_help_panel()

    def open_wizard(
        self,
        *,
        preset: str = "",
        recipe: dict[str, Any] | None = None,
        at_review: bool = False,
        draft: "Draft | None" = None,
    ) -> None:
        """Open the wizard on a draft, a preset or nothing.

        Args:
            preset: Name of a preset laid under the answers.
            recipe: Nested recipe dictionary of answers.
            at_review: Open the review instead of the first step.
            draft: Continue this draft; the other arguments are not looked at then.
        """
        from engine.recipe.problems import ProblemError
        from tui.wizard.draft import new_draft
        from tui.wizard.screen import WizardScreen

        if draft is None:
            try:
                tree = self.backend.preset_tree(preset) if preset else {}
            except ProblemError as error:
                self.notify(clean_line(error), severity="error", markup=False)
                return
            draft = new_draft(preset=preset, preset_tree=tree, you=recipe or {})
            if at_review:
                draft = draft.at_step("review")
        self.push_screen(WizardScreen(self.backend, draft))

    def open_next_run(self, follows: str, answers: Mapping[str, Any]) -> None:
        """Open the wizard on what a finished run brings along, at the first step that still asks something.

        Args:
            follows: Name of the finished run.
            answers: `{recipe path: value}`, laid in as the person's own.
        """
        from engine.recipe.sources import unflatten
        from tui.wizard.draft import new_draft

        draft = new_draft(you=unflatten(answers), follows=follows)
        self.open_wizard(draft=draft.at_step(draft.first_open))

    def open_monitor(self, run_path: Path, *, leave_when_done: bool = False, replacing: bool = False) -> None:
        """Open the monitor of a run.

        Args:
            run_path: Run directory.
            leave_when_done: End the app when the run has ended.
            replacing: Take the place of the screen on top, so that leaving the monitor leads home.
        """
        from tui.monitor.screen import MonitorScreen

        self.last_run = run_path
        screen = MonitorScreen(run_path, leave_when_done=leave_when_done)
        opener: Callable[[Screen[Any]], object] = self.switch_screen if replacing else self.push_screen
        opener(screen)

    def open_result(self, run_path: Path) -> None:
        """Open the result of a run."""
        from tui.results.screen import ResultScreen

        self.last_run = run_path
        self.push_screen(ResultScreen(run_path))

    def open_compare(self, run_path: Path, other_path: Path | None = None) -> None:
        """Open the models of a finished run side by side.

        Args:
            run_path: Run directory.
            other_path: Another run, whose model stands beside.
        """
        from tui.compare.screen import CompareScreen

        self.last_run = run_path
        self.push_screen(CompareScreen(run_path, self.backend, other_path=other_path))

    def open_runs(self) -> None:
        """Open the table of all runs."""
        from tui.runs.screen import RunsScreen

        self.push_screen(RunsScreen(self.backend))

    def open_run(self, run: RunRow) -> None:
        """Open the result of a run that is finished, else its monitor."""
        if not run.path.is_dir():
            self.notify(f"{clean_line(run.path)} is gone.", severity="warning", markup=False)
        elif run.state == "finished":
            self.open_result(run.path)
        else:
            self.open_monitor(run.path)

    def leave_screen(self) -> None:
        """Go back by one screen; end the app where the start point was this screen."""
        if len(self.screen_stack) <= 2 and isinstance(self.start, Monitor):
            self.leave_with_code(0)
        elif len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.leave_with_code(0)


def run_app(start: StartPoint, *, mouse: bool = True, backend: Backend | None = None) -> AppResult:
    """Run the screens until the person leaves.

    Args:
        start: What to open first.
        mouse: Whether the mouse is used as well as the keys.
        backend: The engine; the real one when None.
    """
    from tui.engine_backend import EngineBackend

    support = examine_terminal()
    keep_keys_alive()
    engine = backend if backend is not None else EngineBackend()
    app = FtwizardApp(start, engine, colors=support.colors)
    try:
        result = app.run(mouse=mouse)
    finally:
        engine.cool_down()
    if result is not None:
        return result
    return AppResult(app.return_code or 0, app.last_run)
