"""Two answers without names: which is better? At the end the screen says which was which, and how sure that is."""

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from engine.recipe.problems import ProblemError
from engine.runs.blind_file import BlindTest, load_test, models_mark, new_test, save_test
from engine.runs.directory import RunDirectory
from engine.text import clean
from tui.backend import Backend, Talker
from tui.compare.blind import BLIND_PROMPTS, Pair, pair_of, result_lines, still_open
from tui.compare.partners import Answer, Partners
from tui.compare.sides import Material, Side
from tui.compare.words import NOTHING, prompt_content
from tui.widgets.bars import TopBar
from tui.widgets.key_footer import KeyFooter
from tui.widgets.labels import muted
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from engine.runs.held_out_prompts import HeldOutPrompt
    from tui.app import FtwizardApp

_NEW_SEED: int | None = None
"""Of the order; tests set it."""


class BlindScreen(SpokenErrors, Screen[None]):
    """Asks about one pair of answers after the other. Nothing says who wrote what before all are judged.

    Args:
        run: The run whose file keeps the judgements.
        material: Two models, or three, of which the last two are judged.
        backend: The engine.
    """

    app: "FtwizardApp"
    CSS_PATH = "blind.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "judge('1')", "1 is better", id="blind.left"),
        Binding("2", "judge('2')", "2 is better", id="blind.right"),
        Binding("0", "judge('0')", "Tie", id="blind.tie"),
        Binding("e", "expected", "Expected", id="blind.expected"),
        Binding("a", "again", "Begin anew", id="blind.again"),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("escape", "leave", "Leave", id="blind.stop"),
        Binding("q", "leave", show=False),
    ]

    class TestRead(Message):
        """What was judged before is known."""

        def __init__(self, test: BlindTest) -> None:
            super().__init__()
            self.test = test

    class PairWritten(Message):
        """Both models have answered a prompt; `pair` is None where one could not, `problem` says why."""

        def __init__(self, pair: Pair | None, problem: str = "") -> None:
            super().__init__()
            self.pair = pair
            self.problem = problem

    class WritingEnded(Message):
        """No more pairs come."""

    class Judged(Message):
        """The result was computed, or could not be."""

        def __init__(self, test: BlindTest | None, problem: str = "") -> None:
            super().__init__()
            self.test = test
            self.problem = problem

    def __init__(self, run: RunDirectory, material: Material, backend: Backend) -> None:
        super().__init__()
        self._run = run
        self._backend = backend
        self._sides = material.sides[-2:]
        self._prompts = material.held_out[:BLIND_PROMPTS]
        self._partners = Partners(
            self._sides, self._open, together=material.together, max_new_tokens=material.max_new_tokens
        )
        self._test: BlindTest | None = None
        self._pairs: deque[Pair] = deque()
        self._failures = 0
        self._problem = ""
        self._writing = True
        self._counting = False
        self._expected = False
        self._saving_failed = False

    def compose(self) -> ComposeResult:
        """Yield the prompt over two columns that look alike."""
        yield TopBar("blind A/B", self._run.folder_name)
        yield Static(Content("Reading what was judged …"), id="blind-prompt")
        with Horizontal(id="blind-answers"):
            for name in ("1", "2"):
                with VerticalScroll(id=f"blind-column-{name}", classes="answer", can_focus=False) as column:
                    yield Static(id=f"blind-answer-{name}")
                column.border_title = Content(name)
        with VerticalScroll(id="blind-result", can_focus=True):
            yield Static(id="blind-words")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the test as it was left, then let the models write."""
        self.query_one("#blind-answers").display = False
        self.query_one("#blind-result").display = False
        self._read()

    def on_unmount(self) -> None:
        """End the processes, however the screen was left."""
        self._partners.close()

    def _open(self, side: Side) -> Talker:
        return self._backend.talk_to(side.folder, side.which, f"blind-{self._sides.index(side)}")

    # --- in the background ------------------------------------------------------------------------------------------

    @property
    def _keys(self) -> tuple[str, str]:
        return self._sides[0].key, self._sides[1].key

    @work(thread=True, group="blind-read", exit_on_error=False)
    def _read(self) -> None:
        runs = [RunDirectory(side.folder) for side in self._sides]
        mark = models_mark([folder for run in runs for folder in (run.merged_folder, run.adapter_folder)])
        test = load_test(self._run, self._keys, mark)
        self.post_message(self.TestRead(test if test is not None else new_test(self._keys, mark, _NEW_SEED)))

    @work(thread=True, group="blind-write", exit_on_error=False)
    def _write(self, prompts: "list[HeldOutPrompt]", test: BlindTest) -> None:
        def written(prompt: "HeldOutPrompt", answers: list[Answer]) -> None:
            why = next((answer.note for answer in answers if answer.state == "failed"), "")
            self.post_message(self.PairWritten(pair_of(prompt, answers, test), why))

        self._partners.ask_pairs(prompts, written)
        self.post_message(self.WritingEnded())

    @work(thread=True, group="blind-count", exit_on_error=False)
    def _count(self, test: BlindTest) -> None:
        try:
            judged = test.judged
            row = self._backend.win_rate([one.prompt_id for one in judged], [one.win for one in judged])
            test = replace(test, result=row)
            save_test(self._run, test)
        except ProblemError as error:
            self.post_message(self.Judged(None, error.problems[0].sentence()))
            return
        self.post_message(self.Judged(test))

    # --- facts ------------------------------------------------------------------------------------------------------

    @on(TestRead)
    def _take_test(self, message: TestRead) -> None:
        self._test = message.test
        prompts = still_open(self._prompts, message.test)
        if prompts and not message.test.result:
            self._write(prompts, message.test)
        else:
            self._writing = False
        self._show()

    @on(PairWritten)
    def _take_pair(self, message: PairWritten) -> None:
        pair = message.pair
        if pair is None:
            self._failures += 1
            self._problem = message.problem
        elif pair.same:
            self._keep(pair, "0")
        else:
            self._pairs.append(pair)
        self._show()

    @on(WritingEnded)
    def _take_end(self) -> None:
        self._writing = False
        self._partners.close()
        self._show()

    @on(Judged)
    def _take_result(self, message: Judged) -> None:
        self._counting = False
        if message.test is None:
            self._problem = message.problem
            self._say(Content.styled(message.problem, "$error"))
            return
        self._test = message.test
        self._show()

    def _keep(self, pair: Pair, key: str) -> None:
        """Take a judgement into the test, and the test to the disk."""
        assert self._test is not None
        self._test = self._test.with_judgement(pair.judged(key))
        try:
            save_test(self._run, self._test)
        except ProblemError as error:
            if not self._saving_failed:
                self._saving_failed = True
                self.notify(error.problems[0].sentence(), severity="error", markup=False)

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self.refresh_bindings()
        test = self._test
        if test is None or self._counting:
            return
        self.query_one("#blind-answers").display = bool(self._pairs)
        if self._pairs:
            self._show_pair(self._pairs[0])
        elif test.result:
            self._reveal(test)
        elif self._writing:
            self._say(muted("The models answer; a pair is shown when both have written it."))
        elif not test.judged:
            self._say(Content.styled(f"There is nothing to judge. {self._problem}".strip(), "$warning"))
        else:
            self._counting = True
            self._say(muted("Counting …"))
            self._count(test)

    def _show_pair(self, pair: Pair) -> None:
        assert self._test is not None
        head = f"Prompt {len(self._test.judged) + self._failures + 1} of {len(self._prompts)}"
        self._say(prompt_content(pair.prompt, head, expected=self._expected))
        for name, text in zip(("1", "2"), pair.shown, strict=True):
            shown = clean(text).strip()
            self.query_one(f"#blind-answer-{name}", Static).update(Content(shown) if shown else muted(NOTHING))

    def _reveal(self, test: BlindTest) -> None:
        lines = result_lines(test, self._prompts, (self._sides[0].title, self._sides[1].title))
        if self._failures:
            lines.insert(3, muted(f"{self._failures} prompts could not be answered by both. {self._problem}"))
        self._say(Content.styled("Judged.", "bold"))
        result = self.query_one("#blind-result")
        self.query_one("#blind-words", Static).update(Content("\n").join(lines))
        result.display = True
        result.focus()

    def _say(self, words: Content) -> None:
        self.query_one("#blind-prompt", Static).update(words)

    # --- keys -------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Judge only what is shown; begin anew only what is judged."""
        match action:
            case "judge" | "expected" | "scroll":
                return bool(self._pairs)
            case "again":
                return self._test is not None and bool(self._test.result) and not self._counting
            case _:
                return True

    def action_judge(self, key: str) -> None:
        """Take the judgement of the pair that is shown."""
        pair = self._pairs.popleft()
        self._keep(pair, key)
        for name in ("1", "2"):
            self.query_one(f"#blind-column-{name}").scroll_home(animate=False)
        self._show()

    def action_expected(self) -> None:
        """Show the answer in the data, or hide it."""
        self._expected = not self._expected
        self._show()

    def action_scroll(self, by: int) -> None:
        """Scroll both answers by the same."""
        for name in ("1", "2"):
            self.query_one(f"#blind-column-{name}").scroll_relative(y=by, animate=False)

    def action_again(self) -> None:
        """Forget the result and judge all of it anew, in another order."""
        assert self._test is not None
        self._test = new_test(self._keys, self._test.models, _NEW_SEED)
        self._failures, self._problem, self._writing = 0, "", True
        self.query_one("#blind-result").display = False
        self._partners.reopen()
        self._write(still_open(self._prompts, self._test), self._test)
        self._show()

    def action_leave(self) -> None:
        """Go back; what was judged is kept, and the rest waits."""
        self.app.leave_screen()
