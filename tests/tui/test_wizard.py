"""The wizard by keys: seven steps to a run, back at any time, and nothing that others wrote can act on the screen."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from engine.planning.profiles import Finding
from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import ONE_GPU, FakeBackend, data_profile, model_profile
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.backend import Machine, ModelOffer
from tui.home.screen import HomeScreen
from tui.monitor.screen import MonitorScreen
from tui.start import AppResult, Wizard
from tui.widgets.help_line import Explanation, HelpLine
from tui.wizard.draft import STEPS, newest_draft
from tui.wizard.screen import WizardScreen

SIZES = [(80, 24), (120, 36)]
HOSTILE = "[/INST][@click=app.quit]\x1b[2J\x1b]0;x\x07 list[int] [bold"
Running = Pilot[AppResult]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "tickets.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    monkeypatch.chdir(here)


def wizard_app(backend: FakeBackend, **start: Any) -> FtwizardApp:
    return FtwizardApp(Wizard(**start), backend)


def wizard(pilot: Running) -> WizardScreen:
    screen = pilot.app.screen_stack[1]
    assert isinstance(screen, WizardScreen)
    return screen


def shown(pilot: Running) -> str:
    compositor = pilot.app.screen._compositor
    return "\n".join("".join(segment.text for segment in strip) for strip in compositor.render_strips())


async def at(pilot: Running, step: str) -> None:
    await wait_for(pilot, lambda: len(pilot.app.screen_stack) > 1 and wizard(pilot).draft.step == step, step)
    await pilot.pause()


async def walk_to(pilot: Running, step: str) -> None:
    """Answer as a person in a hurry until `step` is open and what it shows was read."""
    await at(pilot, "objective")
    for now, following in zip(STEPS, STEPS[1:], strict=False):
        if now == step:
            break
        if now == "data":
            await pilot.press("down", "enter")
            await wait_for(pilot, lambda: wizard(pilot).facts.data is not None, "the data")
            await pilot.press("f4")
        elif now in ("objective", "model"):
            await pilot.press("enter")
        else:
            if now == "xray":
                await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None, "the X-ray")
            await pilot.press("f4")
        await at(pilot, following)
    if step in ("method", "settings", "review"):
        await wait_for(pilot, lambda: wizard(pilot).facts.plan_state.progress == "done", "the plan")
        assert wizard(pilot).facts.plan is not None
    await wait_for(pilot, lambda: wizard(pilot).facts.machine is not None, "the machine")
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_pictures_of_the_whole_walk(
    size: tuple[int, int], backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/ada/project"))
    monkeypatch.setattr("tui.wizard.data.files_here", lambda: [Path("/home/ada/project/tickets.jsonl")])
    if size[0] > 100:
        backend.fixed_machine = ONE_GPU
    app = wizard_app(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:

        async def picture(name: str) -> None:
            await pilot.pause()
            check_snapshot(app, f"wizard-{name}-{size[0]}x{size[1]}", tmp_path)

        await walk_to(pilot, "objective")
        await picture("objective")
        await pilot.press("enter")
        await at(pilot, "model")
        await picture("model")
        await pilot.press("enter")
        await at(pilot, "data")
        await picture("data")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        for view in ("rows", "lengths", "problems", "columns"):
            await picture(f"data-{view}")
            await pilot.press("right")
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None, "the X-ray")
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).facts.rehearsal.progress == "done", "the rehearsal")
        await picture("method")
        await pilot.press("f4")
        await at(pilot, "settings")
        await picture("settings")
        await pilot.press("f4")
        await at(pilot, "review")
        await picture("review")
        await pilot.press("right")
        await picture("review-recipe")


async def test_seven_steps_by_keys_start_the_run_that_was_reviewed(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "review")
        app.open_monitor = lambda path, **_: setattr(app, "last_run", path)  # type: ignore[method-assign]
        assert backend.warm.is_set(), "a worker warms up while the person answers"
        await pilot.press("enter")
        await wait_for(pilot, lambda: app.last_run is not None, "the run")
        tree, plan = backend.launched[0]
        assert tree["objective"] == "chat"
        assert tree["model"] == {"base": "Qwen/Qwen3-0.6B"}
        assert tree["data"] == {"source": str(Path.cwd() / "tickets.jsonl")}
        assert plan.recipe.method.name == "lora"
        assert newest_draft(backend.drafts).draft is None, "a started run leaves no draft"


async def test_a_preset_opens_at_its_review_and_plans_by_itself(backend: FakeBackend) -> None:
    app = wizard_app(backend, preset="quick-start", at_review=True)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: wizard(pilot).facts.plan is not None, "the plan")
        await pilot.press("right")
        await pilot.pause()
        assert "preset quick-start" in shown(pilot)
        await pilot.press("escape")
        await at(pilot, "settings")


async def test_a_note_speaks_against_nothing_at_the_review_and_stands_below(backend: FakeBackend) -> None:
    backend.findings = [Finding(code="data.note", message="2 rows are nearly equal.", severity="note")]
    app = wizard_app(backend, preset="quick-start", at_review=True)
    async with app.run_test(size=(100, 50), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "2 rows are nearly equal." in shown(pilot))
        said = shown(pilot)
        assert said.index("Nothing speaks against this run.") < said.index("Memory") < said.index("2 rows are nearly")


async def test_a_preset_that_cannot_run_here_says_why_at_its_review_and_in_the_rail(backend: FakeBackend) -> None:
    backend.model_error = ProblemError(Problem("model.gone", "The model is gone.", "Take another.", "model.base"))
    app = wizard_app(backend, preset="quick-start", at_review=True)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await wait_for(pilot, lambda: "The model is gone. Take another." in shown(pilot))
        assert "✗ Model" in shown(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert backend.launched == []


async def test_next_says_what_is_missing_and_back_leads_home_with_the_draft_kept(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await pilot.press("f4")
        await pilot.pause()
        assert wizard(pilot).draft.step == "objective"
        assert "Choose what the model should learn." in shown(pilot)
        await pilot.press("enter")
        await at(pilot, "model")
        await pilot.press("escape", "escape")
        await wait_for(pilot, lambda: isinstance(app.screen, HomeScreen))
        draft = newest_draft(backend.drafts).draft
        assert draft is not None
        assert draft.value("objective") == "chat"


async def test_an_answer_is_on_the_disk_before_the_next_key(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "settings")
        await pilot.press("ctrl+o")
        await at(pilot, "review")
        saved = newest_draft(backend.drafts).draft
        assert saved is not None
        assert saved.step == "review"
        assert saved.value("data.source") == str(Path.cwd() / "tickets.jsonl")


async def test_back_works_with_errors_on_the_page(backend: FakeBackend) -> None:
    backend.data_error = ProblemError(
        Problem("data.broken_line", "tickets.jsonl:17: this line is not JSON.", "Correct the line.", "data.source")
    )
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "data")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data_state.progress == "failed")
        await pilot.pause()
        assert "tickets.jsonl:17" in shown(pilot)
        assert "Correct the line." in shown(pilot)
        await pilot.press("f4")
        await pilot.pause()
        assert wizard(pilot).draft.step == "data"
        await pilot.press("escape")
        await at(pilot, "model")
        assert "✗ Data" in shown(pilot)


async def test_reading_can_be_cancelled_and_started_again(backend: FakeBackend) -> None:
    backend.data_gate = asyncio.Event()
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "data")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: backend.profiled, "the reading to begin")
        await pilot.pause()
        assert "esc cancels" in shown(pilot)
        await pilot.press("escape")
        await wait_for(pilot, lambda: "Reading was cancelled." in shown(pilot))
        backend.data_gate.set()
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None, "the data")


async def test_a_typed_hub_model_is_asked_for_cancelled_and_asked_for_again(backend: FakeBackend) -> None:
    backend.model_gate = asyncio.Event()
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await pilot.press(*"made/model", "enter")
        await wait_for(pilot, lambda: "Reading made/model" in shown(pilot))
        assert "esc cancels" in shown(pilot)
        await pilot.press("f4")
        assert wizard(pilot).draft.step == "model"
        await pilot.press("escape")
        await wait_for(pilot, lambda: "Reading the model was cancelled." in shown(pilot))
        refusal = Problem("model.not_found", "There is no hub model called made/model.", "Check the spelling.")
        backend.model_error = ProblemError(refusal)
        backend.model_gate.set()
        await pilot.press(*"made/model", "enter")
        await wait_for(pilot, lambda: "no hub model called made/model" in shown(pilot))
        backend.model_error = None
        await pilot.press(*"made/model", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.model is not None, "the model")
        await pilot.press("f4")
        await at(pilot, "data")


async def test_an_older_answer_never_overwrites_a_newer_one(backend: FakeBackend) -> None:
    backend.data_gate = asyncio.Event()
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "data")
        await pilot.press("enter")
        await wait_for(pilot, lambda: len(backend.profiled) == 1)
        await pilot.press("escape", "down", "down", "enter")
        backend.data_gate.set()
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        assert wizard(pilot).draft.value("data.source") == str(Path.cwd() / "tickets.jsonl")
        assert backend.profiled[-1]["data"]["source"] == str(Path.cwd() / "tickets.jsonl")


async def test_a_model_that_does_not_fit_can_be_reached_and_says_why(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        assert wizard(pilot).draft.step == "model"
        assert wizard(pilot).draft.value("model.base") is None
        assert "Needs about 5.2 GiB even with QLoRA" in shown(pilot)


async def test_the_filter_finds_models_and_escape_empties_it_first(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await pilot.press(*"smol")
        await pilot.pause()
        assert "SmolLM2 135M" in shown(pilot)
        assert "Qwen3 8B" not in shown(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "Qwen3 8B" in shown(pilot)
        assert wizard(pilot).draft.step == "model"


@pytest.mark.parametrize(
    ("step", "text", "path", "taken"),
    [
        ("model", "SmolLM2", "model.base", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("data", "tickets.jsonl", "data.source", "{here}/tickets.jsonl"),
    ],
)
async def test_enter_that_comes_with_the_text_takes_what_was_typed(
    step: str, text: str, path: str, taken: str, backend: FakeBackend
) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, step)
        # A pasted line and a slow connection bring both in one piece: nothing is handled between them.
        line = wizard(pilot).step.query_one(Input)
        line.value = text
        await line.action_submit()
        await wait_for(pilot, lambda: wizard(pilot).draft.value(path), path)
        assert wizard(pilot).draft.value(path) == taken.format(here=Path.cwd())


async def test_a_folder_is_completed_by_tab_and_taken(backend: FakeBackend) -> None:
    (Path.cwd() / "my-model").mkdir()
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "model")
        typed = wizard(pilot).query_one(Input)
        await pilot.press(*"./my")
        await wait_for(pilot, lambda: typed._suggestion, "the completion")
        await pilot.press("tab")
        assert typed.value == "./my-model/"
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.model is not None)
        assert wizard(pilot).draft.value("model.base") == str(Path.cwd() / "my-model")


async def test_a_broken_model_blocks_with_its_reason(backend: FakeBackend) -> None:
    backend.model_error = ProblemError(
        Problem("model.pickle_only", "The folder holds pickle weights only.", "Convert them.", "model.base")
    )
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.model_state.progress == "failed")
        await pilot.pause()
        assert "pickle weights only" in shown(pilot)
        assert wizard(pilot).draft.step == "model"


async def test_a_column_is_bound_anew_by_keys(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "data")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await pilot.press("left", "down", "enter")
        await pilot.pause()
        assert "topic" in shown(pilot)
        await pilot.press("down", "down", "enter")
        await wait_for(pilot, lambda: wizard(pilot).draft.value("data.mapping") is not None)
        assert wizard(pilot).draft.value("data.mapping") == {"completion": "answer", "prompt": "topic"}
        await wait_for(pilot, lambda: backend.profiled[-1]["data"].get("mapping"), "the data to be read again")


async def choose_setting(pilot: Running, path: str) -> None:
    listed = wizard(pilot).query_one("#settings-list", OptionList)
    listed.highlighted = listed.get_option_index(f"field-{path}")
    await pilot.pause()


async def test_a_setting_is_edited_checked_and_reset(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        await choose_setting(pilot, "training.epochs")
        await pilot.press("enter", *"much", "enter")
        await pilot.pause()
        assert "training.epochs" not in wizard(pilot).draft.you, "a wrong value is never taken"
        assert '"much"' in shown(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert wizard(pilot).draft.step == "settings", "escape leaves the editor first"
        await pilot.press("enter", *"0.5", "enter")
        await wait_for(pilot, lambda: wizard(pilot).draft.value("training.epochs") == 0.5)
        await wait_for(pilot, lambda: wizard(pilot).facts.plan_state.progress == "done")
        await pilot.pause()
        assert "you" in shown(pilot)
        await pilot.press("ctrl+r")
        await wait_for(pilot, lambda: "training.epochs" not in wizard(pilot).draft.you)


async def test_choices_turn_by_arrows_and_metrics_switch_one_by_one(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        await choose_setting(pilot, "delivery.merge")
        await pilot.press("right")
        await wait_for(pilot, lambda: wizard(pilot).draft.value("delivery.merge") is False)
        listed = wizard(pilot).query_one("#settings-list", OptionList)
        chosen = ["perplexity", "token_accuracy", "general_text", "exact_match", "rouge"]
        offered = {option.id for option in listed.options if "choice-evaluation.metrics-" in str(option.id)}
        fitting = [*chosen, "json_valid", "json_schema", "regex", "metric_file"]
        assert offered == {f"choice-evaluation.metrics-{name}" for name in fitting}, "those of the objective, no others"
        for name in ("rouge", "perplexity", "general_text", "exact_match"):
            chosen.remove(name)
            listed.highlighted = listed.get_option_index(f"choice-evaluation.metrics-{name}")
            await pilot.press("enter")
            await wait_for(pilot, lambda: wizard(pilot).draft.value("evaluation.metrics") == chosen, name)
        listed.highlighted = listed.get_option_index("choice-evaluation.metrics-token_accuracy")
        await pilot.press("enter")
        await pilot.pause()
        assert wizard(pilot).draft.value("evaluation.metrics") == ["token_accuracy"], "the last one stays"


async def test_advanced_fields_unfold_and_every_field_explains_itself(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        listed = wizard(pilot).query_one("#settings-list", OptionList)
        folded = listed.option_count
        listed.highlighted = listed.get_option_index("fold")
        await pilot.press("enter")
        await wait_for(pilot, lambda: listed.option_count > folded + 10)
        for field in backend.fields():
            if f"field-{field.path}" in {option.id for option in listed.options}:
                await choose_setting(pilot, field.path)
                assert field.title in shown(pilot).splitlines()[-3], field.path


async def test_a_finding_of_the_plan_blocks_the_start_and_names_the_fix(backend: FakeBackend) -> None:
    backend.findings = [Finding(code="disk.full", message="The disk is full.", fix="Free 2 GiB.", severity="error")]
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "review")
        assert "The disk is full. Free 2 GiB." in shown(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert backend.launched == []


async def test_a_failed_start_says_why_and_keeps_everything(backend: FakeBackend) -> None:
    backend.launch_error = ProblemError(Problem("disk.not_writable", "The runs folder cannot be written.", "Free it."))
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "review")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "The runs folder cannot be written." in shown(pilot))
        assert wizard(pilot).draft.step == "review"
        assert newest_draft(backend.drafts).draft is not None


async def test_the_recipe_is_saved_and_never_overwritten_unasked(backend: FakeBackend) -> None:
    (Path.cwd() / "chat.yaml").write_text("mine\n")
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "review")
        await pilot.press("s")
        await pilot.pause()
        await pilot.press("enter")
        await wait_for(pilot, lambda: "exists" in shown(pilot))
        assert (Path.cwd() / "chat.yaml").read_text() == "mine\n"
        await pilot.press("enter")
        await wait_for(pilot, lambda: (Path.cwd() / "chat.yaml").read_text() != "mine\n")
        assert "objective: chat" in (Path.cwd() / "chat.yaml").read_text()


async def test_the_palette_opens_steps_and_says_what_is_missing(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await wizard(pilot).open_step("review")
        await pilot.pause()
        assert wizard(pilot).draft.step == "objective"
        await pilot.press("ctrl+p", *"go to step 5")
        await wait_for(pilot, lambda: "Go to step 5" in shown(pilot), "the command")
        await pilot.press("escape", "escape")


async def test_the_mouse_does_what_the_keys_do(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await pilot.click("#objectives", offset=(8, 1))
        await at(pilot, "model")
        await pilot.click("#nav-back")
        await at(pilot, "objective")
        await pilot.click("StepRail", offset=(18, 0))
        await at(pilot, "model")
        await pilot.click("#key-footer", offset=(2, 0))
        await at(pilot, "data")


async def test_hostile_text_is_shown_on_every_step_and_does_nothing(backend: FakeBackend) -> None:
    backend.data = data_profile(
        evidence=HOSTILE,
        columns=[HOSTILE, "answer"],
        mapping={"prompt": HOSTILE, "completion": "answer"},
        dropped={HOSTILE: 2},
        examples=[{"prompt": HOSTILE, HOSTILE: HOSTILE}],
        findings=[Finding(code="x", message=HOSTILE, fix=HOSTILE, path="data.source", severity="warning")],
    )
    backend.findings = [Finding(code="x", message=HOSTILE, fix=HOSTILE, severity="warning")]

    async def profile(base: str, revision: str | None) -> Any:
        return model_profile(HOSTILE, architecture=HOSTILE)

    backend.model_profile = profile  # type: ignore[method-assign]
    recipe = {"objective": "chat", "model": {"base": HOSTILE}, "data": {"source": HOSTILE}, "name": HOSTILE}
    app = wizard_app(backend, recipe=recipe)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        for step in STEPS:
            await wizard(pilot)._open(step)
            await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
            for key in ("right", "right", "down", "left"):
                await pilot.press(key)
                await pilot.pause()
                assert "\x1b" not in shown(pilot)
            assert app.is_running
        await wait_for(pilot, lambda: wizard(pilot).facts.plan_state.progress == "done")
        wizard(pilot).launch_failed(HOSTILE)
        wizard(pilot)._say(HOSTILE)
        await pilot.pause()
        assert "[/INST]" in shown(pilot)


async def test_no_colour_still_shows_the_cursor(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = FtwizardApp(Wizard(), backend, colors="none")
    async with app.run_test(size=(80, 24)) as pilot:
        await walk_to(pilot, "data")
        strips = app.screen._compositor.render_strips()
        assert any(segment.style and segment.style.reverse for strip in strips[5:12] for segment in strip)


async def test_the_first_screens_import_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from tui.app import FtwizardApp\n"
        "from tui.engine_backend import EngineBackend\n"
        "from tui.start import Wizard\n"
        "async def main():\n"
        "    backend = EngineBackend()\n"
        "    backend.warm_up = lambda: None\n"
        "    app = FtwizardApp(Wizard(), backend)\n"
        "    async with app.run_test(size=(80, 24)) as pilot:\n"
        "        await pilot.pause()\n"
        "        await pilot.press('enter')\n"
        "        await pilot.pause()\n"
        "asyncio.run(main())\n"
        "heavy = ('torch', 'transformers', 'datasets', 'numpy', 'peft', 'trl')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    environment = {**os.environ, "FTWIZARD_HOME": str(tmp_path / "home")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    output, _ = await process.communicate()
    assert output.decode().strip().endswith("[]")


async def test_f1_shows_every_key_and_hides_them_again(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await pilot.press("f1")
        await wait_for(pilot, lambda: app.screen.query("HelpPanel"), "the panel")
        await pilot.press("f1")
        await wait_for(pilot, lambda: not app.screen.query("HelpPanel"), "the panel to go")


async def test_a_small_terminal_and_a_resize_leave_every_step_usable(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(60, 16), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "method")
        for size in ((40, 10), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await pilot.press("f4")
        await at(pilot, "settings")
        assert "Settings" in shown(pilot)


async def test_the_footer_never_shows_more_than_six_keys(backend: FakeBackend) -> None:
    from tui.widgets.key_footer import MAX_KEYS, KeyFooter

    app = wizard_app(backend)
    async with app.run_test(size=(120, 36)) as pilot:
        await walk_to(pilot, "review")
        footer = app.screen.query_one(KeyFooter)
        assert 0 < len(footer.shown_bindings()) <= MAX_KEYS
        assert "Start" in footer.render().plain


@pytest.mark.parametrize("width", [40, 60, 80])
async def test_the_key_of_the_help_has_room_on_every_terminal(width: int, backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(width, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        assert shown(pilot).splitlines()[-1].rstrip().endswith("F1 Help")


async def test_escape_hides_the_keys_before_it_means_anything_else(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        await pilot.press("f1")
        await wait_for(pilot, lambda: app.screen.query("HelpPanel"), "the keys")
        await pilot.press("escape")
        await wait_for(pilot, lambda: not app.screen.query("HelpPanel"), "the keys to go")
        assert wizard(pilot).draft.step == "model"
        await pilot.press("escape")
        await at(pilot, "objective")


async def test_a_start_that_takes_long_says_so_and_can_be_neither_left_nor_repeated(backend: FakeBackend) -> None:
    backend.launch_gate.clear()
    app = wizard_app(backend)
    try:
        async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
            await walk_to(pilot, "review")
            await pilot.press("enter")
            await wait_for(pilot, lambda: "Starting the run" in shown(pilot), "the busy line")
            await pilot.press("escape", "f3", "enter", "s")
            await wait_for(pilot, lambda: len(app.screen_stack) == 3, "the question where to save the recipe")
            assert wizard(pilot).draft.step == "review"
            backend.launch_gate.set()
            await wait_for(pilot, lambda: isinstance(app.screen, MonitorScreen), "the monitor")
            await wait_for(pilot, lambda: app.screen.query("#panel-log"), "its panels")
            assert len(app.screen_stack) == 2
            assert len(backend.launched) == 1
            assert newest_draft(backend.drafts).draft is None
    finally:
        backend.launch_gate.set()


async def test_models_are_judged_anew_when_the_machine_is_known(backend: FakeBackend) -> None:
    judged_for: list[object] = []
    offers = backend.model_offers

    def spied(machine: Machine | None, objective: str | None = None) -> list[ModelOffer]:
        judged_for.append(machine)
        return offers(machine, objective)

    backend.model_offers = spied  # type: ignore[method-assign]
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "model")
        wizard(pilot).take_facts(machine=ONE_GPU)
        await wait_for(pilot, lambda: judged_for[-1] == ONE_GPU, "a new look at the models")


async def test_an_explanation_without_room_ends_in_an_ellipsis(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "objective")
        line = wizard(pilot).query_one(HelpLine)
        line.explain(Explanation("Title", "word " * 100))
        await pilot.pause()
        assert str(line.render()).rstrip().endswith("…")
        line.explain(Explanation("Title", "short"))
        await pilot.pause()
        assert "…" not in str(line.render())


async def test_a_refused_value_names_the_way_out_of_a_form(backend: FakeBackend) -> None:
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await walk_to(pilot, "settings")
        await choose_setting(pilot, "training.epochs")
        await pilot.press("enter", *"-3", "enter")
        await wait_for(pilot, lambda: "empty the line for the default" in " ".join(shown(pilot).split()), "the fix")
        assert "remove the key" not in shown(pilot)
