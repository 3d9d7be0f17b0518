"""Every finding and every check of the rows: how many, which ones, what was done, and the switch of the check."""

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.planning.data_words import account, reason_words
from engine.planning.profiles import CheckResult, DataProfile
from engine.recipe.fields import RecipeField
from engine.recipe.problems import Problem
from engine.text import clean_line
from tui.backend import Backend
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.labels import SEVERITY_MARKS, hanging
from tui.wizard.draft import Draft
from tui.wizard.settings_offered import offered_settings
from tui.wizard.step_view import Answered, Explained

CLEANING = "data.cleaning."
DUPLICATES = "data.drop_duplicates"
_NAME_WIDTH = 19
_ACTION_WIDTH = 9


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """One row of the list.

    Attributes:
        row_id: Unique in the list.
        path: The switch that enter turns; empty without one.
        problem: The finding behind it; None for a check that found nothing.
        check: The check behind it; None for findings of no check.
    """

    row_id: str
    path: str
    problem: Problem | None
    check: CheckResult | None


class ProblemsView(Vertical):
    """The sum of all rows over a list of checks and findings; enter turns the switch of a check."""

    DEFAULT_CSS = """
    ProblemsView {
        height: 1fr;
        & > #data-account { height: auto; padding: 0 1; }
        & > #data-problems { height: 1fr; }
    }
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(id="data-problems-view")
        self._fields = {field.path: field for field in backend.fields() if field.path.startswith("data.")}
        self._backend = backend
        self._rows: list[ProblemRow] = []
        self._draft = Draft()

    def compose(self) -> ComposeResult:
        """Yield sum and list."""
        yield Static(id="data-account")
        yield ChoiceList(list_id="data-problems")

    def point(self, draft: Draft, profile: DataProfile, problems: list[Problem], work: str, width: int) -> None:
        """Show a profile.

        Args:
            draft: Decides what the switches say; they may be ahead of the profile while it is read anew.
            profile: What was found.
            problems: What is said of this step, errors first.
            work: How far the reading of newer answers is; empty when the profile is that of the draft.
            width: Columns that there are; a view that was not shown yet has none of its own.
        """
        self._draft = draft
        self._rows = problem_rows(profile, problems, self._fields)
        self.query_one("#data-account", Static).update(account_content(profile, work))
        listed = self.query_one(OptionList)
        kept = listed.highlighted or 0
        listed.set_options([Option(self._content(row, max(30, width - 3)), id=row.row_id) for row in self._rows])
        listed.highlighted = min(kept, len(self._rows) - 1) if self._rows else None

    def _content(self, row: ProblemRow, width: int) -> Content:
        head, style = _head(row)
        action = _shown_action(self._draft, row, self._fields)
        parts: list[tuple[str, str]] = [(f" {head} ", f"bold {style}"), (f"{_title(row):<{_NAME_WIDTH}}", "bold")]
        if row.path:
            parts.append((f"‹{action}›".ljust(_ACTION_WIDTH + 2), "$primary"))
        parts.append((_count_words(row), "" if row.problem is not None else "$text-muted"))
        message = row.problem.message if row.problem is not None else ""
        if message:
            parts.append(("\n" + hanging(message, 3, width), "$text-muted"))
        return Content.assemble(*parts)

    @on(OptionList.OptionHighlighted, "#data-problems")
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        row = self._row(event.option_id)
        if row is None:
            return
        field = self._fields.get(row.path)
        if field is not None:
            text = f"{field.description} Enter turns it: {' → '.join(_answers(field))}."
        else:
            text = row.problem.fix if row.problem is not None else ""
            if row.problem is not None and (settings := offered_settings([row.problem], self._backend)):
                text = f"Enter sets {setting_words(settings[0])} and reads again. {text}"
        self.post_message(Explained(Explanation(_title(row), text)))

    @on(OptionList.OptionSelected, "#data-problems")
    def _turn(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        row = self._row(event.option_id)
        if row is None:
            return
        field = self._fields.get(row.path)
        if field is None:
            settings = offered_settings([row.problem], self._backend) if row.problem is not None else []
            if settings:
                self.post_message(Answered(settings[0]))
            return
        answers = _answers(field)
        now = _shown_action(self._draft, row, self._fields)
        following = answers[(answers.index(now) + 1) % len(answers)] if now in answers else answers[0]
        self.post_message(Answered({row.path: _value(field, following)}))

    def _row(self, row_id: str | None) -> ProblemRow | None:
        return next((row for row in self._rows if row.row_id == row_id), None)


def problem_rows(profile: DataProfile, problems: list[Problem], fields: dict[str, RecipeField]) -> list[ProblemRow]:
    """Return the findings, worst first, each check once with its switch, then the checks that found nothing."""
    checks = {check.name: check for check in profile.checks}
    rows: list[ProblemRow] = []
    for number, problem in enumerate(problems):
        name = problem.path.removeprefix(CLEANING) if problem.path.startswith(CLEANING) else ""
        path = problem.path if problem.path in fields and name else ""
        if problem.code == "data.dropped.duplicate":
            path = DUPLICATES
        rows.append(ProblemRow(f"found-{number}", path, problem, checks.pop(name, None)))
    rows += [
        ProblemRow(f"check-{name}", CLEANING + name if CLEANING + name in fields else "", None, check)
        for name, check in sorted(checks.items(), key=lambda item: -item[1].count)
    ]
    return rows


def account_content(profile: DataProfile, work: str) -> Content:
    """Return the sum in which every row read appears, and why rows were dropped."""
    total = account(profile)
    lines = [Content.styled(total.sentence(), "bold")]
    if total.dropped:
        reasons = ", ".join(
            f"{count:,} {clean_line(reason_words(reason), max_chars=40)}" for reason, count in total.dropped.items()
        )
        lines.append(Content.styled(f"dropped: {reasons}", "$warning"))
    if work:
        lines.append(Content.styled(f"◌ {work}", "$primary"))
    return Content("\n").join(lines)


def setting_words(setting: object) -> str:
    """Return `data.encoding: windows-1252` for a setting that is offered."""
    assert isinstance(setting, dict)
    return ", ".join(f"{path}: {clean_line(value, max_chars=40)}" for path, value in setting.items())


def _head(row: ProblemRow) -> tuple[str, str]:
    if row.problem is not None:
        return SEVERITY_MARKS[row.problem.severity]
    count = row.check.count if row.check is not None else 0
    return ("i", "$primary") if count else ("✓", "$success")


def _title(row: ProblemRow) -> str:
    if row.check is not None:
        return clean_line(row.check.name.replace("_", " "), max_chars=_NAME_WIDTH - 1).capitalize()
    if row.path == DUPLICATES:
        return "Exact duplicates"
    code = row.problem.code if row.problem is not None else ""
    words = code.removeprefix("data.").removeprefix("dropped.").replace("_", " ")
    return clean_line(words, max_chars=_NAME_WIDTH - 1).capitalize()


def _count_words(row: ProblemRow) -> str:
    if row.check is None:
        return ""
    if not row.check.count:
        return "off" if row.check.action == "off" else "nothing found"
    words = f"{row.check.count:,} {'row' if row.check.count == 1 else 'rows'}"
    if row.check.dropped:
        words += f" · {row.check.dropped:,} left out"
    if row.check.changed:
        words += f" · {row.check.changed:,} changed"
    return words


def _answers(field: RecipeField) -> tuple[str, ...]:
    return field.choices or ("drop", "keep")


def _value(field: RecipeField, answer: str) -> str | bool:
    return answer if field.choices else answer == "drop"


def _shown_action(draft: Draft, row: ProblemRow, fields: dict[str, RecipeField]) -> str:
    field = fields.get(row.path)
    if field is None:
        return ""
    value = draft.value(row.path, field.default)
    return clean_line(value) if field.choices else "drop" if value else "keep"
