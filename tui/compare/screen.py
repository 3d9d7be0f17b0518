"""Models side by side on the same prompt: base, tuned and, when asked for, that of another run."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.held_out_prompts import HeldOutPrompt, typed_prompt
from tui.backend import Backend, Talker
from tui.compare.partners import Answer, Partners
from tui.compare.sides import Material, Side, read_material
from tui.compare.words import all_same, answer_contents, column_title, prompt_content
from tui.widgets.bars import TopBar
from tui.widgets.key_footer import KeyFooter
from tui.widgets.labels import muted
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

DRAW_EVERY_S = 0.1
MOST_SIDES = 3
_WIDE = 100
"""Columns of the terminal from which three answers stand beside each other."""
_NO_PROMPTS = "This run has no held-out prompts; t types one."


class CompareScreen(SpokenErrors, Screen[None]):
    """Answers of several models, streaming, with the words marked that they do not share.

    Args:
        run_path: A finished run.
        backend: The engine.
        other_path: Another run, whose tuned model stands beside.
    """

    app: "FtwizardApp"
    CSS_PATH = "compare.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "type", "Type a prompt", id="compare.type"),
        Binding("b", "blind", "Blind A/B", id="compare.blind"),
        Binding("o", "other", "Other run", id="compare.other"),
        Binding("d", "diff", "Diff", id="compare.diff"),
        Binding("v", "view", "Other pair", id="compare.view"),
        Binding("left", "page(-1)", "Earlier prompt", show=False, id="compare.earlier"),
        Binding("right", "page(1)", "Next prompt", show=False, id="compare.next"),
        Binding("escape", "leave", "Back", id="compare.back"),
        Binding("q", "leave", "Back", show=False),
    ]

    class MaterialRead(Message):
        """Models and prompts are known; `problem` says why not, and is empty otherwise."""

        def __init__(self, material: Material | None, problem: str = "") -> None:
            super().__init__()
            self.material = material
            self.problem = problem

    def __init__(self, run_path: Path, backend: Backend, *, other_path: Path | None = None) -> None:
        super().__init__()
        self._run = RunDirectory(run_path)
        self._backend = backend
        self._other = RunDirectory(other_path) if other_path is not None else None
        self._material: Material | None = None
        self._partners: Partners | None = None
        self._prompt: HeldOutPrompt | None = None
        self._place = 0
        self._pair = 0
        self._diff = True
        self._answers: list[Answer] = []
        self._kept: dict[tuple[str, str], list[Answer]] = {}
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        """Yield the prompt over the answers, and the row to type in."""
        yield TopBar("compare", self._run.folder_name)
        with VerticalScroll(id="compare-body", can_focus=True):
            yield Static(Content("Reading the run …"), id="compare-prompt")
            with Horizontal(id="compare-answers"):
                for place in range(MOST_SIDES):
                    yield Static(id=f"compare-answer-{place}", classes="answer")
            yield Static(id="compare-note")
        yield Input(placeholder="A prompt for all of them; enter asks, esc leaves", compact=True, id="compare-typed")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the run, and draw what the answers have become ten times a second."""
        self.query_one("#compare-typed").display = False
        self.query_one("#compare-answers").display = False
        self._read()
        self.set_interval(DRAW_EVERY_S, self._draw)

    def on_screen_resume(self) -> None:
        """Load the models again that a blind test has sent away."""
        if self._material is not None and self._partners is None:
            self._read()

    def on_unmount(self) -> None:
        """End the processes, however the screen was left."""
        self._close()

    def _close(self) -> None:
        if self._partners is not None:
            self._partners.close()
            self._partners = None

    @work(thread=True, exclusive=True, group="compare-read", exit_on_error=False)
    def _read(self) -> None:
        try:
            material = read_material(self._run, self._backend.machine(), self._other)
        except ProblemError as error:
            self.post_message(self.MaterialRead(None, error.problems[0].sentence()))
            return
        self.post_message(self.MaterialRead(material))

    @on(MaterialRead)
    def _take(self, message: MaterialRead) -> None:
        self._close()
        self._material = message.material
        if message.material is None:
            self.query_one("#compare-prompt", Static).update(Content.styled(message.problem, "$error"))
            return
        material = message.material
        self._kept = {}
        self._partners = Partners(
            material.sides, self._open, together=material.together, max_new_tokens=material.max_new_tokens
        )
        self.query_one("#compare-answers").display = True
        self.refresh_bindings()
        if self._prompt is not None:
            self._ask(self._prompt)
        else:
            self._page_to(0)

    def _open(self, side: Side) -> Talker:
        sides = self._material.sides if self._material is not None else ()
        return self._backend.talk_to(side.folder, side.which, str(sides.index(side)) if side in sides else "other")

    def _page_to(self, place: int) -> None:
        prompts = self._material.prompts if self._material is not None else ()
        if not prompts:
            self.query_one("#compare-answers").display = self._prompt is not None
            if self._prompt is None:
                self.query_one("#compare-prompt", Static).update(muted(_NO_PROMPTS))
            return
        self._place = place % len(prompts)
        self._ask(prompts[self._place])

    def _ask(self, prompt: HeldOutPrompt) -> None:
        """Ask for answers to a prompt; what all of them have answered already is shown again."""
        if self._partners is None:
            return
        self._prompt = prompt
        self.query_one("#compare-answers").display = True
        key = (prompt.id, prompt.shown)
        kept = self._kept.get(key)
        if kept is not None and all(answer.state == "done" for answer in kept):
            self._partners.stop()
            self._answers = kept
        else:
            self._answers = self._kept[key] = self._partners.ask(prompt)
        self.query_one("#compare-body").scroll_home(animate=False)
        self._draw()

    # --- drawing ----------------------------------------------------------------------------------------------------

    @property
    def _seen(self) -> list[int]:
        """Places of the models that are seen; a narrow terminal shows two."""
        places = list(range(len(self._answers)))
        if len(places) <= 2 or self.size.width >= _WIDE:
            return places
        return [[0, 1], [1, 2], [0, 2]][self._pair % 3]

    def _draw(self) -> None:
        if self._material is None or self._prompt is None:
            return
        seen = self._seen
        state = (self._prompt, seen, self._diff, [(one.text, one.state, one.note) for one in self._answers])
        if state == self._drawn:
            return
        self._drawn = state
        self.query_one("#compare-prompt", Static).update(prompt_content(self._prompt, self._head(), expected=True))
        answers = [self._answers[place] for place in seen]
        bodies = dict(zip(seen, answer_contents(answers, diff=self._diff), strict=True))
        for place in range(MOST_SIDES):
            column = self.query_one(f"#compare-answer-{place}", Static)
            column.display = place in bodies
            if place in bodies:
                column.border_title = column_title(self._material.sides[place].title, self._answers[place])
                column.update(bodies[place])
        self.query_one("#compare-note", Static).update(self._note(answers))

    def _head(self) -> str:
        prompts = self._material.prompts if self._material is not None else ()
        if self._prompt not in prompts:
            return "Typed"
        turns = " (← →)" if len(prompts) > 1 else ""
        return f"Prompt {self._place + 1} of {len(prompts)}{turns}"

    def _note(self, answers: list[Answer]) -> Content:
        assert self._material is not None
        lines = []
        if all_same(answers):
            lines.append(muted("= the same answer"))
        elif self._diff and len(answers) > 1 and all(answer.state == "done" for answer in answers):
            lines.append(muted("[-only the first-] {+not in the first+}"))
        if self._material.note:
            lines.append(muted(self._material.note))
        if self._material.memory_words:
            lines.append(Content.styled(f"! {self._material.memory_words}", "$warning"))
        return Content("\n").join(lines)

    def on_resize(self) -> None:
        """Show as many models as have room."""
        self.refresh_bindings()
        self._draw()

    # --- keys -------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done: another pair where there is one, a blind test where there are prompts."""
        material = self._material
        match action:
            case "view":
                return material is not None and len(material.sides) > 2 and self.size.width < _WIDE
            case "blind":
                return material is not None and material.writes and bool(material.held_out)
            case "type" | "other" | "diff" | "page":
                return material is not None
            case _:
                return True

    def action_page(self, by: int) -> None:
        """Ask another prompt."""
        prompts = self._material.prompts if self._material is not None else ()
        self._page_to(self._place + by if self._prompt in prompts else self._place)

    def action_type(self) -> None:
        """Open the row to type in."""
        typed = self.query_one("#compare-typed", Input)
        typed.display = True
        typed.focus()

    @on(Input.Submitted, "#compare-typed")
    def _typed(self, event: Input.Submitted) -> None:
        if event.value.strip() and self._partners is not None:
            self._ask(typed_prompt(event.value))
        self._hide_input()

    def _hide_input(self) -> None:
        self.query_one("#compare-typed").display = False
        self.query_one("#compare-body").focus()

    def action_diff(self) -> None:
        """Mark the words that differ, or do not."""
        self._diff = not self._diff
        self._draw()

    def action_view(self) -> None:
        """Show another two of three models."""
        self._pair += 1
        self._draw()

    def action_other(self) -> None:
        """Choose another run to stand beside."""
        from tui.compare.other_run import OtherRunScreen

        self.app.push_screen(OtherRunScreen(self._backend, self._run.path), self._beside)

    def _beside(self, path: Path | None) -> None:
        if path is not None:
            self._other = RunDirectory(path)
            self._read()

    def action_blind(self) -> None:
        """Judge without knowing who wrote what: base and tuned, or tuned and the other run."""
        from tui.compare.blind_screen import BlindScreen

        if self._material is None:
            return
        # Two more copies of the models would not fit beside these.
        self._close()
        self.app.push_screen(BlindScreen(self._run, self._material, self._backend))

    def action_leave(self) -> None:
        """Leave the row to type in, else go back."""
        if self.query_one("#compare-typed").display:
            self._hide_input()
        else:
            self.app.leave_screen()
