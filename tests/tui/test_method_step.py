"""The method step: the plan's ranked table by keys, live as length and batch change, rehearsed, and honest."""

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from engine.planning.plan import MemoryEstimate, Plan
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.sources import Layered
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import GIB, NEEDED_BYTES, ONE_GPU, FakeBackend
from tests.tui.snapshots import check_snapshot
from tests.tui.test_wizard import HOSTILE, Running, at, shown, wizard, wizard_app
from tui.app import FtwizardApp
from tui.wizard import readings
from tui.wizard.dials import BATCH, LENGTH, next_batch, power_above, power_below
from tui.wizard.draft import STEPS, StepName
from tui.wizard.facts import Facts
from tui.wizard.option_rows import Columns

START = len(" Which weights should learn? ")
"""Cells in front of the two numbers."""
ANSWERS = {"objective": "chat", "model": {"base": "Qwen/Qwen3-0.6B"}, "data": {"source": "tickets.jsonl"}}


@pytest.fixture(autouse=True)
def _in_a_folder_and_in_a_hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tickets.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readings, "REHEARSAL_PAUSE_S", 0.05)


def answered_app(backend: FakeBackend) -> FtwizardApp:
    """Return the app with a draft that has every answer but the method."""
    return wizard_app(backend, recipe=ANSWERS, at_review=True)


async def open_method(pilot: Running) -> None:
    """Open the method step and wait for its table."""
    await at(pilot, "review")
    await wizard(pilot)._open("method")
    await wait_for(pilot, lambda: facts(pilot).plan_state.progress == "done", "the plan")
    await pilot.pause()


def flat(pilot: Running) -> str:
    """Return the screen as one line."""
    return " ".join(shown(pilot).split())


def facts(pilot: Running) -> Facts:
    return wizard(pilot).facts


async def go_to(pilot: Running, row_id: str) -> None:
    listed = wizard(pilot).query_one("#method-list", OptionList)
    await pilot.press("home")
    for _ in range(listed.option_count):
        option = listed.highlighted_option
        if option is not None and option.id == row_id:
            return
        await pilot.press("down")
    raise AssertionError(f"no row {row_id}: {[option.id for option in listed.options]}")


async def planned(pilot: Running, path: str, value: object) -> None:
    """Wait until a plan for an answer is shown."""
    section, name = path.split(".")

    def there() -> bool:
        plan = facts(pilot).plan
        done = facts(pilot).plan_state.progress == "done"
        return plan is not None and done and getattr(getattr(plan.recipe, section), name) == value

    await wait_for(pilot, there, f"a plan with {path} = {value}")
    await pilot.pause()


async def test_the_table_ranks_marks_and_explains_every_option(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        text = shown(pilot)
        assert "★ ● LoRA" in text
        assert "★ recommended, ● chosen" in text
        assert f"~{NEEDED_BYTES['full'] / GIB:.1f} of 5.2 GiB" in text
        assert "does not fit" in text
        assert "cannot run: one run uses one GPU" in text
        assert "micro-batch 4 × accumulation 4" in text
        for part in ("model weights", "optimizer states", "activations"):
            assert part in text
        await pilot.press("down")
        await wait_for(pilot, lambda: "paged_adamw_8bit" in shown(pilot), "the settings of the next row")


async def test_enter_takes_an_option_and_goes_on(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await pilot.press("down", "enter")
        await at(pilot, "settings")
        assert wizard(pilot).draft.value("method.name") == "qlora"
        await pilot.press("escape")
        await at(pilot, "method")
        await planned(pilot, "method.name", "qlora")
        await wait_for(pilot, lambda: "★ ○ LoRA" in shown(pilot), "the recommended one, not chosen")
        assert " ● QLoRA" in shown(pilot)


async def test_the_recommended_option_is_taken_without_any_key(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await pilot.press("f4")
        await at(pilot, "settings")
        assert wizard(pilot).draft.value("method.name") is None


async def test_an_option_that_does_not_fit_offers_ways_that_do(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await go_to(pilot, "option-full-single-1-1")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "It does not fit. Enter takes" in shown(pilot), "the ways")
        assert wizard(pilot).draft.step == "method", "nothing that does not fit is left behind unseen"
        assert "Needs about 9.6 GiB, 5.2 GiB free." in flat(pilot)
        assert "✗ Method" in shown(pilot)
        listed = wizard(pilot).query_one("#method-list", OptionList)
        assert listed.highlighted_option is not None
        assert listed.highlighted_option.id == "way-0", "the cursor waits on the first way"
        assert "The base model stays as it is" in flat(pilot)
        await pilot.press("enter")
        await planned(pilot, "method.name", "lora")
        await wait_for(pilot, lambda: "It does not fit. Enter takes" not in shown(pilot), "the ways to go")


async def test_an_option_that_cannot_run_is_reached_says_why_and_is_not_taken(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await go_to(pilot, "option-lora-ddp-2-1")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "Cannot run here" in shown(pilot), "the reason")
        assert wizard(pilot).draft.step == "method"
        assert wizard(pilot).draft.value("method.name") is None


async def test_length_and_batch_turn_in_place_and_the_table_follows(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        assert "‹ 512 › 99.1 %" in shown(pilot)
        await pilot.press("right")
        await planned(pilot, LENGTH, 640)
        assert "‹ 640 › 100 %" in shown(pilot)
        await pilot.press("right", "right")
        await planned(pilot, LENGTH, 2048)
        await pilot.press("left", "left", "left")
        await planned(pilot, LENGTH, 512)
        await pilot.press("plus")
        await planned(pilot, BATCH, 32)
        assert "micro-batch 4 × accumulation 8" in shown(pilot)
        await pilot.press("ctrl+r")
        await planned(pilot, BATCH, 16)
        assert not {LENGTH, BATCH} & set(wizard(pilot).draft.you)


async def test_a_typed_length_is_checked_and_taken(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await pilot.press("l", *"3", "enter")
        await wait_for(
            pilot, lambda: "✗" in str(wizard(pilot).query_one("#method-status", Static).render()), "the refusal"
        )
        assert LENGTH not in wizard(pilot).draft.you
        wizard(pilot).query_one("#editor-input", Input).value = ""
        await pilot.press(*"300", "enter")
        await planned(pilot, LENGTH, 300)
        await pilot.press("b", "escape")
        await pilot.pause()
        assert wizard(pilot).draft.step == "method", "escape leaves the editor first"
        await pilot.press("b", *"8", "enter")
        await planned(pilot, BATCH, 8)


async def test_the_mouse_turns_and_asks(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        row = shown(pilot).splitlines()[4]
        await pilot.click("Dials", offset=(row.index("›") - START, 0))
        await planned(pilot, LENGTH, 640)
        row = shown(pilot).splitlines()[4]
        await pilot.click("Dials", offset=(row.rindex("‹") - START, 0))
        await planned(pilot, BATCH, 8)
        await pilot.click("Dials", offset=(3, 0))
        await wait_for(pilot, lambda: wizard(pilot).query_one("#editor").display, "the editor")


# --- the rehearsal ----------------------------------------------------------------------------------------------------


async def test_the_rehearsal_replaces_the_formula_and_says_so(backend: FakeBackend) -> None:
    backend.rehearsal_gate = asyncio.Event()
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await wait_for(pilot, lambda: "is being rehearsed" in shown(pilot), "the sign of work")
        assert "), formula" in shown(pilot)
        await wait_for(pilot, lambda: backend.rehearsed, "its start")
        backend.rehearsal_gate.set()
        await wait_for(pilot, lambda: "), simulated" in shown(pilot), "its result")
        assert "✓ LoRA: simulated" in shown(pilot)
        assert "~" not in next(line for line in shown(pilot).splitlines() if "● LoRA" in line)


async def test_a_failed_rehearsal_says_so_on_one_line_and_keeps_the_formula(backend: FakeBackend) -> None:
    backend.rehearsal_error = ProblemError(Problem("rehearsal.died", "The rehearsal ran out of memory.", "Close it."))
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await wait_for(pilot, lambda: "The rehearsal ran out of memory." in shown(pilot), "the words")
        assert "), formula" in shown(pilot)
        await pilot.press("f4")
        await at(pilot, "settings")


async def test_keys_in_a_row_start_one_rehearsal_and_it_is_of_the_last(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await wait_for(pilot, lambda: facts(pilot).rehearsal.progress == "done", "the first rehearsal")
        before = len(backend.rehearsed)
        monkeypatch.setattr(readings, "REHEARSAL_PAUSE_S", 1.0)
        for _ in range(6):
            await pilot.press("plus")
        await planned(pilot, BATCH, 1024)
        await wait_for(pilot, lambda: facts(pilot).rehearsal.progress == "done", "the last rehearsal")
        assert [plan.recipe.training.effective_batch for plan in backend.rehearsed[before:]] == [1024]


async def test_leaving_for_the_data_gives_the_rehearsal_up_and_coming_back_begins_it_again(
    backend: FakeBackend,
) -> None:
    begun: list[Plan] = []
    ended: list[str] = []
    gate = asyncio.Event()
    real = backend.rehearse

    async def rehearse(plan: Plan) -> Plan:
        begun.append(plan)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return await real(plan)

    backend.rehearse = rehearse  # type: ignore[method-assign]
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await wait_for(pilot, lambda: facts(pilot).rehearsal.progress == "busy", "its beginning")
        await wait_for(pilot, lambda: begun, "the call")
        await pilot.press("escape")
        await at(pilot, "xray")
        assert facts(pilot).rehearsal.progress == "none"
        await wait_for(pilot, lambda: ended, "its end")
        gate.set()
        await pilot.press("f4")
        await at(pilot, "method")
        await wait_for(pilot, lambda: "✓ LoRA: simulated" in shown(pilot), "the rehearsal after all")


async def test_a_rehearsal_that_is_over_is_not_repeated_on_the_next_steps(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        await wait_for(pilot, lambda: facts(pilot).rehearsal.progress == "done", "the rehearsal")
        await pilot.press("f4")
        await at(pilot, "settings")
        assert "simulated" in shown(pilot)
        await pilot.press("f4")
        await at(pilot, "review")
        assert "simulated" in shown(pilot)
        assert "evaluation" in shown(pilot), "phases whose peaks differ are named"
        assert len(backend.rehearsed) == 1


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_a_plan_that_breaks_unexpectedly_ends_in_words(backend: FakeBackend) -> None:
    backend.plan_error = RuntimeError("boom \x1b[2J")
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await pilot.press("enter")
        await at(pilot, "model")
        await pilot.press("enter")
        await at(pilot, "data")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: facts(pilot).data is not None, "the data")
        await pilot.press("f4")
        await wait_for(pilot, lambda: facts(pilot).xray.whole is not None, "the X-ray")
        await pilot.press("f4")
        await at(pilot, "method")
        await wait_for(pilot, lambda: "RuntimeError: boom" in shown(pilot), "the words")
        assert "\x1b" not in shown(pilot)
        await wizard(pilot)._open("review")
        await wait_for(pilot, lambda: "RuntimeError: boom" in shown(pilot), "the words on the review")


@pytest.mark.parametrize("name", ["model_profile", "profile_data"])
async def test_a_profile_that_breaks_unexpectedly_ends_in_words(name: str, backend: FakeBackend) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the helper is broken")

    setattr(backend, name, broken)
    app = wizard_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await at(pilot, "objective")
        await pilot.press("enter")
        await at(pilot, "model")
        await pilot.press("enter")
        if name == "profile_data":
            await at(pilot, "data")
            await pilot.press("down", "enter")
        await wait_for(pilot, lambda: "RuntimeError: the helper is broken" in flat(pilot), "the words")


async def test_hostile_words_of_a_plan_do_nothing(backend: FakeBackend) -> None:
    real = backend.plan

    def plan(layered: Layered, model: ModelProfile, data: DataProfile) -> Plan:
        made = real(layered, model, data)
        options = [
            option.model_copy(update={"title": HOSTILE, "why_not": HOSTILE, "quality": HOSTILE, "time_basis": HOSTILE})
            for option in made.options
        ]
        return made.model_copy(update={"options": options})

    backend.plan = plan  # type: ignore[method-assign]
    app = answered_app(backend)
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        for _ in range(4):
            await pilot.press("down", "enter")
            await pilot.pause()
            assert "\x1b" not in shown(pilot)
        assert app.is_running


# --- width and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (120, 36), (200, 60)], ids=str)
async def test_no_row_is_cut_at_any_width(size: tuple[int, int], backend: FakeBackend) -> None:
    backend.fixed_machine = ONE_GPU
    app = answered_app(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        listed = wizard(pilot).query_one("#method-list", OptionList)
        room = listed.scrollable_content_region.width
        for option in listed.options:
            assert option.prompt.cell_length <= room, option.prompt  # type: ignore[union-attr]
        assert listed.size.height >= 3
        assert ("disk" in shown(pilot)) == (size[0] >= 100)


def test_columns_never_take_more_than_the_width(backend: FakeBackend) -> None:
    for width in range(30, 260):
        columns = Columns.within(width, [])
        used = 5 + columns.title + 18 + (columns.bar + 1 if columns.bar else 0)
        used += columns.time + columns.speed + columns.disk + columns.precision + columns.rest
        assert used <= max(width, 35), width


def test_batches_turn_through_powers_of_two() -> None:
    assert [next_batch(batch, 1) for batch in (1, 12, 16, 65536)] == [2, 16, 32, 65536]
    assert [next_batch(batch, -1) for batch in (1, 2, 12, 16)] == [1, 1, 8, 8]
    for number in range(2, 5000):
        assert power_below(number) < number < power_above(number)
        assert power_above(number) <= 2 * number


def test_an_estimate_without_free_memory_is_drawn(backend: FakeBackend) -> None:
    from tui.widgets.memory_bar import Span, memory_stack, of_free, range_bar

    memory = MemoryEstimate(
        components={"weights": 3, "nothing": 0, "activations": 1},
        expected_bytes=4,
        low_bytes=3,
        high_bytes=6,
        where="GPU 0",
    )
    span = Span.of(memory)
    assert range_bar(span, 20).cell_length == 20
    assert of_free(span) == "4 B"
    assert memory_stack(memory, 40).cell_length == 40


async def test_facts_that_come_while_a_step_is_swapped_wait_for_its_widgets(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        screen = wizard(pilot)
        real = screen._swap

        async def swapped_slowly(step: StepName) -> None:
            swap = asyncio.create_task(real(step))
            while not swap.done():
                screen.take_facts(machine=ONE_GPU)
                await asyncio.sleep(0)
            await swap

        screen._swap = swapped_slowly  # type: ignore[method-assign]
        for step in STEPS:
            await screen._open(step)
        assert "NVIDIA GeForce RTX 4090" in shown(pilot)


async def test_more_methods_open_and_close_and_can_be_taken(backend: FakeBackend) -> None:
    app = answered_app(backend)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await open_method(pilot)
        listed = wizard(pilot).query_one("#method-list", OptionList)
        usual = listed.option_count
        assert "prompt-tuning" not in [option.id for option in listed.options]
        await go_to(pilot, "more-methods")
        assert "▸ More methods (IA)3, Prompt tuning, Prefix tuning" in flat(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert listed.option_count == usual + 3
        await go_to(pilot, "option-prefix-tuning-single-1-1")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "Not with this recipe" in flat(pilot), "why it cannot be taken")
        assert wizard(pilot).draft.value("method.name") != "prefix-tuning"
        await go_to(pilot, "more-methods")
        await pilot.press("enter")
        await pilot.pause()
        assert listed.option_count == usual
        await pilot.press("enter")
        await go_to(pilot, "option-ia3-single-1-1")
        check_snapshot(app, "wizard-method-more-80x24", Path.cwd())
        await pilot.press("enter")
        await at(pilot, "settings")
        assert wizard(pilot).draft.value("method.name") == "ia3"
