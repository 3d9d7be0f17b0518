"""What a run brought: before and after, the same prompts side by side, and where the model lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from engine.runs.directory import RunDirectory
from engine.runs.follow_ups import FollowUp, follow_ups
from engine.text import clean, clean_line, human_count, human_duration
from tui.summary import (
    MARGIN_HEAD,
    NO_MISTAKES,
    TEST_ROWS,
    MetricRow,
    best_sample,
    checks_of,
    few_shot_of,
    forgetting_of,
    last_test,
    metric_rows,
    mistakes_of,
    model_places,
    read_report,
    samples_of,
)
from tui.widgets.bars import TopBar
from tui.widgets.key_footer import KeyFooter
from tui.widgets.labels import check_lines, muted
from tui.worker_errors import SpokenErrors

if TYPE_CHECKING:
    from tui.app import FtwizardApp

_VERDICTS = {
    "better": ("▲ better", "$success"),
    "worse": ("▼ worse", "$error"),
    "same": ("= same", "$text-muted"),
    "unclear": ("≈ no evidence", "$text-muted"),
}
_COLUMNS = (("before", "Before"), ("expected", "Expected"), ("after", "After"))
_TITLE_WIDTH = 20
PROMPT_LINES, PROMPT_CHARS = 4, 300
"""Of a prompt; at 80 columns it then leaves room for the answers."""


class ResultScreen(SpokenErrors, Screen[None]):
    """Shows `report.json` of one run.

    Args:
        run_path: Run directory.
    """

    app: "FtwizardApp"
    CSS_PATH = "results.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "page(-1)", "Earlier sample", id="result.earlier"),
        Binding("right", "page(1)", "Next sample", id="result.next"),
        Binding("c", "compare", "Compare", id="result.compare"),
        Binding("n", "next_run", "Next run", id="result.next_run"),
        Binding("escape,q", "leave", "Back", id="result.back"),
    ]

    def __init__(self, run_path: Path) -> None:
        super().__init__()
        self._run = RunDirectory(run_path)
        self._report: dict[str, Any] | None = None
        self._ways: tuple[FollowUp, ...] = ()
        self._sample = 0

    def compose(self) -> ComposeResult:
        """Yield table, samples and places."""
        yield TopBar("result", self._run.folder_name)
        with VerticalScroll(id="result-body", can_focus=True):
            yield Static(id="metrics")
            yield Static(id="mistakes")
            yield Static(id="prompt")
            with Horizontal(id="answers"):
                for name, title in _COLUMNS:
                    column = Static(id=f"answer-{name}", classes="answer")
                    column.border_title = Content(title)
                    yield column
            yield Static(id="places")
            yield Static(id="checks")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Read the report in a thread."""
        self.query_one("#metrics", Static).update(Content("Reading the report ..."))
        self.query_one("#answers").display = False
        self._read()

    @work(thread=True, exit_on_error=False, group="result-read")
    def _read(self) -> None:
        report = read_report(self._run)
        self.app.call_from_thread(self._show, report, follow_ups(self._run) if report is not None else ())

    def work_failed(self, group: str) -> None:
        """Wait no longer for a report that cannot be read."""
        self.query_one("#metrics", Static).update(Content.styled("The report cannot be read.", "$error"))

    def _show(self, report: dict[str, Any] | None, ways: tuple[FollowUp, ...]) -> None:
        self._report, self._ways = report, ways
        self.refresh_bindings()
        if report is None:
            text = "This run has no report yet: it was stopped, or it is still at work. Go back and resume it."
            self.query_one("#metrics", Static).update(Content.styled(text, "$warning"))
            return
        shown = best_sample(report)
        self._sample = samples_of(report).index(shown) if shown is not None else 0
        self.query_one("#metrics", Static).update(Content("\n").join(metric_table(report)))
        self.query_one("#places", Static).update(Content("\n").join(place_lines(self._run, report, ways)))
        mistakes = self.query_one("#mistakes", Static)
        mistakes.update(Content("\n").join(mistake_lines(report)))
        mistakes.display = bool(mistake_lines(report))
        checks = self.query_one("#checks", Static)
        checks.update(Content("\n").join(check_lines(checks_of(report))))
        checks.display = bool(checks_of(report))
        self._show_sample()

    def _show_sample(self) -> None:
        samples = samples_of(self._report or {})
        self.query_one("#answers").display = bool(samples)
        if not samples:
            self.query_one("#prompt", Static).update(muted("No answers were generated in this run."))
            return
        asked = any(clean(sample.get("expected") or "").strip() for sample in samples)
        self.query_one("#answer-expected").display = asked
        index = self._sample % len(samples)
        sample = samples[index]
        turns = " (← →)" if len(samples) > 1 else ""
        head = Content.assemble((f"Prompt {index + 1} of {len(samples)}{turns}  ", "bold $accent"))
        prompt = Content(shortened(str(sample.get("prompt") or "")))
        self.query_one("#prompt", Static).update(Content("").join([head, prompt]))
        for name, _ in _COLUMNS:
            text = clean(sample.get(name) or "").strip() or "(nothing)"
            right = name == "after" and text == str(clean(sample.get("expected") or "")).strip()
            column = self.query_one(f"#answer-{name}", Static)
            column.set_class(right, "-right")
            column.update(Content(text))

    def action_page(self, by: int) -> None:
        """Show another sample."""
        self._sample += by
        self._show_sample()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show the keys of the next run and of the comparison only where there is something to go on with."""
        match action:
            case "next_run":
                return bool(self._ways)
            case "compare":
                return self._report is not None
            case _:
                return True

    def action_compare(self) -> None:
        """Let the base and the tuned model answer the same prompts."""
        self.app.open_compare(self._run.path)

    def action_next_run(self) -> None:
        """Ask how to go on, and open the wizard with what this run brings along."""
        from tui.results.next_run import NextRunScreen

        self.app.push_screen(NextRunScreen(self._ways), self._go_on)

    def _go_on(self, way: FollowUp | None) -> None:
        if way is not None:
            self.app.open_next_run(self._run.folder_name, way.answers)

    def action_leave(self) -> None:
        """Go back."""
        self.app.leave_screen()


def shortened(prompt: str) -> str:
    """Return a prompt in a few lines: what is said to it stands below, and must be seen beside the numbers."""
    lines = clean(prompt).split("\n")
    kept = "\n".join(lines[:PROMPT_LINES])
    if len(lines) <= PROMPT_LINES and len(kept) <= PROMPT_CHARS:
        return kept
    return f"{kept[:PROMPT_CHARS].rstrip()} … (whole in the report)"


def metric_table(report: dict[str, Any]) -> list[Content]:
    """Return the table of before and after as lines."""
    prompted, verdict = few_shot_of(report)
    lines = _table_lines("Held-out rows", metric_rows(report), prompted)
    lines += [Content(sentence) for sentence in (verdict, forgetting_of(report)) if sentence]
    lines += _test_lines(report)
    return lines if len(lines) > 1 else [muted("Nothing was measured in this run.")]


def _test_lines(report: dict[str, Any]) -> list[Content]:
    """Return the table of the test rows, one line each; nothing where none were put aside."""
    num_rows, rows = last_test(report)
    if not rows:
        return []
    return _table_lines(f"{num_rows:,} {TEST_ROWS}", rows)


def _table_lines(title: str, rows: Sequence[MetricRow], prompted: str = "") -> list[Content]:
    """Return the head and one line a metric; the margin stands behind the number that it belongs to."""
    sure = any(row.margin for row in rows)
    width = max([_TITLE_WIDTH, *(len(row.title) + 1 for row in rows)])
    # Long heads, such as that of the test rows, take the place of those behind them.
    heads = f"{'before':>12}" + (f"{prompted:>14}" if prompted else "") + f"{'after':>10}"
    heads += f" {MARGIN_HEAD:<6}" if sure else ""
    lines = [muted(f"{title:<{width}}{heads}" if len(title) < width else title)]
    for row in rows:
        words, style = _VERDICTS.get(row.direction, ("", ""))
        values = f"{row.title:<{width}}{row.before:>12}" + (f"{row.few_shot:>14}" if prompted else "")
        margin = f" {row.margin:<6}" if sure else ""
        lines.append(
            Content.assemble((values, ""), (f"{row.after:>10}", "bold"), (margin, "$text-muted"), (f"  {words}", style))
        )
    return lines


def mistake_lines(report: dict[str, Any]) -> list[Content]:
    """Return the labels that were confused most often, one pair a line; nothing where rows have no labels."""
    mistakes = mistakes_of(report)
    if mistakes is None:
        return []
    if not mistakes:
        return [Content.styled(NO_MISTAKES, "$success")]
    width = max(len(pair) for pair, _ in mistakes)
    return [muted("Confused most: expected → given")] + [
        Content.assemble((f"  {pair:<{width}}  ", ""), (often, "bold"), (" rows", "$text-muted"))
        for pair, often in mistakes
    ]


def place_lines(run: RunDirectory, report: dict[str, Any], ways: Sequence[FollowUp] = ()) -> list[Content]:
    """Return where the model and the report lie, how to use them, and how to go on."""
    lines = [_fact(kind, place) for kind, place in model_places(run, report)]
    model = report.get("model") or {}
    lines.append(_fact("chat", f"ftwizard chat {run.reference}"))
    if ways:
        titles = " · ".join(way.title for way in ways)
        lines.append(_fact("next", f"{titles} (n)"))
    trainable, total = model.get("trainable_params"), model.get("num_params")
    if trainable and total:
        lines.append(_fact("learned", f"{human_count(trainable)} of {human_count(total)} weights"))
    elapsed_s = (report.get("training") or {}).get("elapsed_s")
    if elapsed_s:
        lines.append(_fact("training", human_duration(elapsed_s)))
    memory = report.get("memory") or {}
    if memory.get("sentence"):
        lines.append(_memory_fact(str(memory.get("verdict")), str(memory["sentence"])))
    return lines


def _memory_fact(verdict: str, sentence: str) -> Content:
    """Return measured against predicted memory on one line; a peak above the range is not a thing to overlook."""
    style = "$error" if verdict == "above" else ""
    return Content.assemble((f"{'memory':<9}", "$text-muted"), (clean_line(sentence), style))


def _fact(label: str, text: str) -> Content:
    return Content.assemble((f"{label:<9}", "$text-muted"), (clean_line(text), ""))
