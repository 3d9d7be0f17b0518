"""`ftwizard` without a verb: the wizard, on screens or as line prompts."""

from tui.terminal import examine_terminal
from tui.verbs.output import EXIT_LEFT


def open_wizard(preset: str | None, *, plain: bool) -> int:
    """Open the wizard; where no screen can be drawn, say why and ask in plain lines."""
    terminal = examine_terminal()
    if plain or not terminal.screen:
        return _plain(preset, why="" if plain else terminal.reason)
    from tui.app import run_app
    from tui.start import Home, Wizard

    if preset is not None:
        from engine.recipe.presets import find_preset

        find_preset(preset)  # An unknown name is said before a screen opens.
    result = run_app(Home() if preset is None else Wizard(preset=preset, at_review=True))
    return result.exit_code


def _plain(preset: str | None, *, why: str) -> int:
    import typer

    from engine.helper import InspectionHelper
    from engine.recipe.presets import find_preset
    from engine.runs.home import home_folders
    from tui.plain import run_plain_wizard
    from tui.verbs.run import launch_prepared, watch_plain
    from tui.wizard.draft import new_draft

    if why:
        typer.echo(why, err=True)
    draft = None
    if preset is not None:
        draft = new_draft(preset=preset, preset_tree=find_preset(preset).tree).at_step("review")
    helper = InspectionHelper()
    helper.warm_up()
    try:
        prepared = run_plain_wizard(draft, helper, home_folders().drafts)
    finally:
        helper.close()
    if prepared is None:
        return EXIT_LEFT
    return watch_plain(launch_prepared(prepared))
