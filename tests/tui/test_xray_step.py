"""The X-ray step by keys: what is trained can be seen, nothing is jumped over, and hostile tokens stay text."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Input

from engine.recipe.problems import Problem, ProblemError
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_xray import ALL_TRAINED, FakeXray, sequence
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.backend import XrayToken
from tui.engine_backend import no_tokenizer
from tui.start import AppResult, Wizard
from tui.widgets.confirm import ConfirmScreen
from tui.widgets.token_lines import token_lines
from tui.widgets.token_view import TokenView
from tui.wizard.screen import WizardScreen
from tui.wizard.xray import XrayStep
from tui.wizard.xray_text import headline, percent
from tui.xray_answers import xray_page

SIZES = [(80, 24), (120, 36)]
ANSWERS = {
    "objective": "chat",
    "model": {"base": "Qwen/Qwen3-0.6B"},
    "data": {"source": "builtin:commands"},
    "method": {"name": "lora"},
}
Running = Pilot[AppResult]


def wizard(pilot: Running) -> WizardScreen:
    screen = pilot.app.screen_stack[1]
    assert isinstance(screen, WizardScreen)
    return screen


def shown(pilot: Running) -> str:
    compositor = pilot.app.screen._compositor
    return "\n".join("".join(segment.text for segment in strip) for strip in compositor.render_strips())


def opened(backend: FakeBackend, *, at_review: bool = False) -> FtwizardApp:
    return FtwizardApp(Wizard(preset="quick-start", at_review=at_review), backend)


async def to_xray(pilot: Running) -> None:
    """Go from the first step to the X-ray of the preset's data."""
    await wait_for(pilot, lambda: len(pilot.app.screen_stack) > 1, "the wizard")
    await wait_for(pilot, lambda: wizard(pilot).facts.data is not None, "the data")
    await pilot.pause()
    await wizard(pilot).open_step("xray")
    await wait_for(pilot, lambda: wizard(pilot).facts.xray.state.progress in ("done", "failed"), "the X-ray")
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_pictures_of_the_xray(size: tuple[int, int], backend: FakeBackend, tmp_path: Path) -> None:
    app = opened(backend)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await to_xray(pilot)
        check_snapshot(app, f"wizard-xray-{size[0]}x{size[1]}", tmp_path)


async def test_the_rail_with_seven_steps_fits_one_row_of_80_columns(backend: FakeBackend) -> None:
    app = opened(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_xray(pilot)
        rail = next(line for line in shown(pilot).split("\n") if "Objective" in line)
        assert [name for name in ("Model", "Data", "X-ray", "Method", "Settings", "Review") if name not in rail] == []


async def test_the_headline_says_what_is_trained_cut_and_odd(backend: FakeBackend) -> None:
    app = opened(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_xray(pilot)
        said = " ".join(shown(pilot).split())
        assert "62 % of all tokens are trained: the answers and the ends of turns." in said
        assert "1 of 12 sequences is cut at 1,024 tokens, 1 stands out." in said
        assert "+ 312 padding" in said


async def test_keys_turn_through_sequences_and_orders(backend: FakeBackend) -> None:
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        assert "1 of 12 in file order" in shown(pilot)
        await pilot.press("n", "right", "n", "n", "n")
        await wait_for(pilot, lambda: "6 of 12 in file order" in shown(pilot), "a page that was not there")
        assert "The answer is one token long." in shown(pilot)
        await pilot.press("p")
        await wait_for(pilot, lambda: "5 of 12 in file order" in shown(pilot))
        await pilot.press("c")
        await wait_for(pilot, lambda: "✗ cut here: 212 tokens are lost" in shown(pilot))
        assert "1 of 1 that are cut = sequence 4" in shown(pilot)
        await pilot.press("o")
        await wait_for(pilot, lambda: "1 of 1 that stand out = sequence 6" in shown(pilot))
        await pilot.press("l")
        await wait_for(pilot, lambda: "1 of 12 by length" in shown(pilot))
        await pilot.press("f")
        await wait_for(pilot, lambda: "1 of 12 in file order" in shown(pilot))


async def test_g_goes_to_a_number_and_refuses_what_is_none(backend: FakeBackend) -> None:
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        await pilot.press("g", "1", "1", "enter")
        await wait_for(pilot, lambda: "11 of 12 in file order" in shown(pilot))
        await pilot.press("g", "9", "9", "enter")
        await wait_for(pilot, lambda: "Type a number from 1 to 12, not 99." in shown(pilot))
        await pilot.press("escape")
        await pilot.pause()
        assert not pilot.app.screen.query_one("#xray-number", Input).display
        assert wizard(pilot).draft.step == "xray"


@pytest.mark.parametrize(("key", "said"), [("c", "No sequence is cut."), ("o", "No sequence stands out.")])
async def test_a_key_for_what_there_is_none_of_says_so(key: str, said: str, backend: FakeBackend) -> None:
    backend.xray_pages.sequences = [sequence(0), sequence(1)]
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        await pilot.press(key)
        await wait_for(pilot, lambda: said in shown(pilot))
        assert "1 of 2 in file order" in shown(pilot)


async def test_next_stays_closed_until_the_xray_was_read(backend: FakeBackend) -> None:
    backend.xray_gate = asyncio.Event()
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: len(pilot.app.screen_stack) > 1)
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await wizard(pilot).open_step("xray")
        await wait_for(pilot, lambda: "Tokenising… 40 %" in shown(pilot), "how far it is")
        await pilot.press("f4")
        await pilot.pause()
        assert wizard(pilot).draft.step == "xray"
        assert "The X-ray is being read." in shown(pilot)
        backend.xray_gate.set()
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None)
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "method")


async def test_esc_cancels_the_xray_under_way_and_r_reads_it_again(backend: FakeBackend) -> None:
    backend.xray_gate = asyncio.Event()
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: len(pilot.app.screen_stack) > 1)
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await wizard(pilot).open_step("xray")
        await wait_for(pilot, lambda: "Tokenising… 40 %  esc cancels" in shown(pilot), "the way out")
        await pilot.press("escape")
        await wait_for(pilot, lambda: "The X-ray was cancelled." in shown(pilot), "that it was cancelled")
        assert wizard(pilot).draft.step == "xray"
        await wait_for(pilot, lambda: backend.xray_cancelled == 1, "the end of the work")
        await pilot.press("f4")
        await pilot.pause()
        assert wizard(pilot).draft.step == "xray", "what was not seen is not passed"
        backend.xray_gate.set()
        await pilot.press("r")
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None, "the X-ray")
        await pilot.press("escape")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "data", "the step before")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"num_ended": 12}, "trained: the answers and the ends of turns."),
        ({"num_ended": 9}, "trained: the answers, and the end of the last turn in 9 of 12 rows."),
        ({"num_ended": 0}, "trained: the answers; no row ends with a trained end of its turn."),
        ({"all_trained": True, "trained_share": 0.97}, "trained: the text, all but the token that begins a row."),
        ({"all_trained": True, "trained_share": 1.0}, "100 % of all tokens are trained: all of the text."),
        ({"trained_share": 0.0}, "0 % of all tokens are trained. 1 of 12"),
    ],
)
def test_the_headline_tells_what_was_counted(facts: dict[str, Any], said: str) -> None:
    made = FakeXray()
    made.facts |= facts
    assert said in headline(made.page(0, 5, "file"))


async def test_the_xray_cannot_be_jumped_over_until_it_was_seen(backend: FakeBackend) -> None:
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await wait_for(pilot, lambda: len(pilot.app.screen_stack) > 1)
        await wait_for(pilot, lambda: wizard(pilot).facts.data is not None)
        await wizard(pilot).open_step("objective")
        await wizard(pilot).open_step("settings")
        assert wizard(pilot).draft.step == "xray"
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None)
        await wizard(pilot).open_step("objective")
        await wizard(pilot).open_step("settings")
        assert wizard(pilot).draft.step == "settings"


async def test_nothing_trained_blocks_with_its_rows(backend: FakeBackend) -> None:
    problem = Problem("preflight.p1", "Nothing is trained in 12 rows (tickets.jsonl:1).", "Choose other data.")
    backend.xray_pages.facts |= {"trained_share": 0.0, "problems": (problem,)}
    app = opened(backend)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await to_xray(pilot)
        await pilot.press("f4")
        await pilot.pause()
        assert wizard(pilot).draft.step == "xray"
        said = shown(pilot)
        assert "0 % of all tokens are trained" in said
        assert "Nothing is trained in 12 rows (tickets.jsonl:1)." in said
        assert "✗ X-ray" in said


async def test_the_way_out_of_an_error_shows_however_many_rows_it_names(backend: FakeBackend) -> None:
    rows = ", ".join(f"a-long-name-of-a-file-{number}.jsonl:{number}" for number in range(12))
    problem = Problem("preflight.p7", f"12 rows lose their answer ({rows}).", "Set training.max_length higher.")
    backend.xray_pages.facts |= {"problems": (problem,)}
    async with opened(backend).run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        assert "12 rows lose their answer" in shown(pilot)
        assert "→ Set training.max_length higher." in shown(pilot)


async def test_everything_trained_on_a_chat_asks_and_the_answer_is_remembered(backend: FakeBackend) -> None:
    backend.xray_pages.facts |= {"trained_share": 1.0, "problems": (ALL_TRAINED,)}
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        assert "Train on everything?" in shown(pilot)
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(app.screen, WizardScreen))
        assert wizard(pilot).draft.value("data.allow_all_trained") is None, "no is no"
        await pilot.press("y")
        await wait_for(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        backend.xray_pages.facts |= {"problems": ()}
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).draft.value("data.allow_all_trained") is True)
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.state.progress == "done")
        assert backend.xrayed[-1][0]["data"]["allow_all_trained"] is True
        await pilot.press("f4")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "method")


async def test_without_the_tokenizer_the_step_says_why_and_lets_go_on(backend: FakeBackend) -> None:
    backend.xray_error = ProblemError(no_tokenizer())
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        assert "tokenizer is not on this machine" in " ".join(shown(pilot).split())
        await pilot.press("enter")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "method")


async def test_what_broke_blocks_and_r_reads_again(backend: FakeBackend) -> None:
    backend.xray_error = RuntimeError("the helper ended [/INST]\x1b[2J")
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        assert "the helper ended [/INST]" in shown(pilot)
        assert "\x1b" not in shown(pilot)
        backend.xray_error = None
        await pilot.press("r")
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None)


async def test_a_preset_at_its_review_has_one_line_of_it_and_blocks_on_its_errors(backend: FakeBackend) -> None:
    problem = Problem("preflight.p7", "All answers are cut.", "Raise training.max_length.", "training.max_length")
    backend.xray_pages.facts |= {"problems": (problem,)}
    app = opened(backend, at_review=True)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await wait_for(pilot, lambda: "62 % of the tokens trained, 1 of 12 cut at 1,024, 1 odd" in shown(pilot))
        assert "All answers are cut." in shown(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert backend.launched == []
        await pilot.press("x")
        await wait_for(pilot, lambda: wizard(pilot).draft.step == "xray")


async def test_another_length_makes_it_stale_and_it_is_read_again(backend: FakeBackend) -> None:
    app = opened(backend, at_review=True)
    async with app.run_test(size=(100, 40)) as pilot:
        await wait_for(pilot, lambda: wizard(pilot).facts.xray.whole is not None)
        first = len(backend.xrayed)
        from tui.wizard.step_view import Answered

        wizard(pilot).step.post_message(Answered({"training.max_length": 64}))
        await wait_for(pilot, lambda: len(backend.xrayed) > first)
        assert backend.xrayed[-1][0]["training"]["max_length"] == 64


HOSTILE = ("\x1b[2J", "[/INST]", "[@click=app.quit]", "\x07\x00", "[bold", "\u202e", "\u200b")


async def test_hostile_tokens_stay_text(backend: FakeBackend) -> None:
    tokens = tuple(XrayToken(text, number % 2 == 0, special=number == 1) for number, text in enumerate(HOSTILE))
    ids = ("[red]\x1b[31m.jsonl:1",)
    backend.xray_pages.sequences = [sequence(0, tokens=tokens, row_ids=ids, reasons=("\x1b]0;x\x07 [b]",))]
    app = opened(backend)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_xray(pilot)
        said = shown(pilot)
        assert "[/INST]" in said
        assert "[@click=app.quit]" in said
        assert not set(said) & {"\x1b", "\x07", "\x00", "\u202e", "\u200b"}


SCRIPTS = {
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق",
    "combining": "Vie\u0302\u0323t e\u0301\u0300\u0302\u0323\u0301 nga\u0300y",
    "emoji": "👩‍👩‍👧 🇩🇪 ✋🏽 text",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("width", [4, 7, 20, 78])
@pytest.mark.parametrize("marked", [True, False])
def test_no_line_is_wider_than_asked_in_any_script(script: str, width: int, marked: bool) -> None:
    tokens = tuple(XrayToken(piece, number % 3 == 0) for number, piece in enumerate(SCRIPTS[script].split(" ") * 5))
    lines = token_lines(sequence(0, tokens=tokens), width, marked=marked)
    assert max(sum(cell_len(text) for text, _ in line) for line in lines) <= width


def test_marks_tell_kinds_apart_without_colour_and_go_where_there_is_one() -> None:
    plain = token_lines(sequence(0, question="a", answer="b"), 60, marked=True)
    assert ["".join(text for text, _ in line) for line in plain] == [
        "⟦<|im_start|>⟧user⏎",
        "a⟦<|im_end|>⟧⏎",
        "⟦<|im_start|>⟧assistant⏎",
        "«b⟦<|im_end|>⟧»",
    ]
    coloured = token_lines(sequence(0, question="a", answer="b"), 60, marked=False)
    assert coloured[-1] == [("b", "trained"), ("<|im_end|>", "trained special")]


def test_packed_rows_stand_apart_with_their_places() -> None:
    tokens = (XrayToken("one", True), XrayToken("two", True, segment=1), XrayToken("", False, padding=True, segment=1))
    packed = sequence(0, tokens=tokens, row_ids=("a.txt:1", "a.txt:7"), num_tokens=2, num_padding=1)
    lines = ["".join(text for text, _ in line) for line in token_lines(packed, 30, marked=False)]
    assert lines == ["── a.txt:1 " + "─" * 19, "one", "── a.txt:7 " + "─" * 19, "two", "+ 1 padding"]


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0 %"), (0.0004, "less than 0.1 %"), (0.004, "0.4 %"), (0.618, "62 %"), (0.996, "99.6 %"), (1, "100 %")],
)
def test_a_share_near_none_or_all_is_never_rounded_to_it(share: float, said: str) -> None:
    assert percent(share) == said


async def test_four_thousand_tokens_scroll_line_by_line_and_end(backend: FakeBackend) -> None:
    tokens = tuple(XrayToken(f" word{number}", number % 2 == 0) for number in range(4000))
    backend.xray_pages.sequences = [sequence(0, tokens=tokens, num_tokens=9000)]
    app = opened(backend)
    async with app.run_test(size=(80, 24)) as pilot:
        await to_xray(pilot)
        view = app.screen.query_one(TokenView)
        assert view.num_lines > 400
        await pilot.press("j", "j", "k", "down")
        await wait_for(pilot, lambda: view.scroll_offset.y == 2, "two lines down")
        await pilot.press("end")
        await wait_for(pilot, lambda: "+ 5,000 more tokens" in shown(pilot), "the end")


def test_an_answer_of_the_helper_becomes_a_page() -> None:
    token = {"text": "a", "trained": True, "special": False, "padding": False, "segment": 0}
    one: dict[str, Any] = {"number": 3, "row_ids": ["a:4"], "tokens": [token], "num_tokens": 1, "num_trained": 1}
    one |= {"num_padding": 0, "num_lost": 2, "reasons": ["odd"], "learns": "", "trained_runs": [[0, 1]]}
    totals = {"start": 0, "total": 1, "num_sequences": 9, "num_cut": 1, "num_odd": 1, "num_dropped": 0}
    facts = {
        "trained_share": 0.5,
        "all_trained": False,
        "num_rows": 9,
        "num_ended": 8,
        "max_length": 8,
        "length_from": "you",
        "packed": False,
        "answers": "targets",
        "learnt": "",
    }
    problem = {"code": "a", "message": "b", "fix": "c", "path": "d", "severity": "warning"}
    page = xray_page({"sequences": [one], "problems": [problem], **totals, **facts})
    assert page.sequences[0].tokens == (XrayToken("a", True),)
    assert page.sequences[0].num_lost == 2
    assert page.problems[0].severity == "warning"


def test_the_footer_has_room_for_the_way_on() -> None:
    shown_keys = [binding for binding in XrayStep.BINDINGS if getattr(binding, "show", False)]
    assert len(shown_keys) <= 3
