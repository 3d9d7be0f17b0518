"""How long the rows are and what each sequence length would cut; one of the lengths can be taken."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.catalog.objectives import find_objective
from engine.planning.data_words import CutRow, LengthBin, cut_rows, length_bins
from engine.planning.derive import choose_completion, choose_length
from engine.planning.profiles import DataProfile, LengthProfile, ModelProfile
from engine.planning.steps import rows_cut
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.widgets.histogram import Bar, Mark, histogram
from tui.wizard.draft import Draft
from tui.wizard.step_view import Answered, Explained

LENGTH_PATH, ANSWER_PATH = "training.max_length", "reinforcement.max_completion"
CHART_ROWS = 4
TALL_CHART_ROWS = 9
_DEFAULT_BATCH = 16


class LengthsView(Vertical):
    """A histogram over a table of sequence lengths; the cursor of the table is marked in the histogram."""

    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    LengthsView {
        height: 1fr;
        & > #length-chart { height: auto; padding: 0 1; }
        & > #data-lengths { height: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="data-lengths-view")
        self._profile: DataProfile | None = None
        self._planned, self._why, self._by_you = 0, "", False
        self._written = 0

    def compose(self) -> ComposeResult:
        """Yield chart and table."""
        yield Static(id="length-chart")
        yield ChoiceList(list_id="data-lengths")

    def on_resize(self) -> None:
        """Draw the chart anew."""
        self._draw()

    def point(self, draft: Draft, model: ModelProfile | None, profile: DataProfile) -> None:
        """Show the lengths of a profile, and which of them a run of this draft takes."""
        before = self._planned
        self._profile = profile
        self._planned, self._why, self._by_you = planned_length(draft, model, profile)
        self._written = written_tokens(draft, model, profile)
        rows = offered_lengths(profile, self._planned)
        listed = self.query_one(OptionList)
        kept = listed.highlighted_option.id if listed.highlighted_option is not None else None
        listed.set_options([Option(self._row(row), id=str(row.length)) for row in rows])
        wanted = str(self._planned) if kept is None or before != self._planned else kept
        ids = [str(row.length) for row in rows]
        listed.highlighted = ids.index(wanted) if wanted in ids else 0 if ids else None
        self._draw()

    def _row(self, row: CutRow) -> Content:
        mark = "●" if row.length == self._planned else " "
        note = ""
        if row.length == self._planned:
            note = "  you" if self._by_you else "  the plan takes it"
        return Content.assemble(
            (f" {mark} {row.length:>6,}  ", "bold"), (cut_words(row, self._estimated), ""), (note, "$accent")
        )

    @property
    def _estimated(self) -> bool:
        return self._profile is None or self._profile.cut_lengths is None or self._profile.cut_lengths.estimated

    @property
    def _cursor(self) -> int:
        option = self.query_one(OptionList).highlighted_option
        return int(option.id) if option is not None and option.id else self._planned

    def _draw(self) -> None:
        if self._profile is None or not self.is_mounted:
            return
        rows = TALL_CHART_ROWS if self.size.height >= 20 else CHART_ROWS
        chart = chart_content(self._profile, self._planned, self._cursor, width=max(20, self.size.width - 2), rows=rows)
        self.query_one("#length-chart", Static).update(chart)

    @on(OptionList.OptionHighlighted, "#data-lengths")
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._draw()
        if event.option_id is None or self._profile is None:
            return
        length = int(event.option_id)
        row = next(row for row in offered_lengths(self._profile, self._planned) if row.length == length)
        reason = f" The plan takes it: {self._why}." if length == self._planned and not self._by_you else ""
        said = cut_sentence(row, self._estimated, compared=self._profile.compared)
        room = f", and {self._written:,} tokens for an answer" if self._written else ""
        text = f"{said}{reason} Enter takes this length{room}."
        self.post_message(Explained(Explanation(f"{length:,} tokens", text)))

    @on(OptionList.OptionSelected, "#data-lengths")
    def _take(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(Answered({LENGTH_PATH: int(event.option_id) + self._written}))


def planned_length(draft: Draft, model: ModelProfile | None, profile: DataProfile) -> tuple[int, str, bool]:
    """Return the most tokens of a row in a run of this draft, why, and whether somebody set it; 0 when nobody knows.

    That is the sequence length, less the answer where the model writes one to the row.
    """
    written = written_tokens(draft, model, profile)
    if draft.value(LENGTH_PATH):
        return max(1, int(draft.value(LENGTH_PATH)) - written), "you set it", True
    if model is None:
        return 0, "", False
    batch = int(draft.value("training.effective_batch", _DEFAULT_BATCH))
    length, why = choose_length(draft.value("objective", "chat"), model, profile, batch, written=written)
    return max(1, length - written), why, False


def written_tokens(draft: Draft, model: ModelProfile | None, profile: DataProfile) -> int:
    """Return how many tokens a model adds to a row of this draft while it learns; 0 where it only reads."""
    objective = str(draft.value("objective", "chat"))
    if model is None or find_objective(objective).signal != "prompts":
        return 0
    return int(draft.value(ANSWER_PATH) or choose_completion(profile.answer_lengths, model)[0])


def offered_lengths(profile: DataProfile, planned: int) -> list[CutRow]:
    """Return what each length would cut, the shortest first, the planned one among them."""
    rows = cut_rows(profile)
    lengths = profile.cut_lengths
    if planned and lengths is not None and planned not in {row.length for row in rows}:
        num_cut = rows_cut(lengths, planned)
        rows.append(CutRow(planned, num_cut, num_cut / max(1, lengths.count)))
    return sorted(rows, key=lambda row: row.length)


def cut_words(row: CutRow, estimated: bool) -> str:
    """Return what a length cuts, short enough for a row."""
    about = "about " if estimated else ""
    if not row.num_cut:
        return f"{about}nothing is cut"
    if row.only_left_out:
        return f"{about}{row.num_cut:,} too long ({row.share:.1%}); {_rows(row.num_left_out or 0)} left out"
    lost = f", {row.lost_tokens:,} tokens" if row.lost_tokens is not None else ""
    answers = f"; {row.num_answers_lost:,} lose their answer" if row.num_answers_lost else ""
    if row.num_left_out:
        answers = f"; {_rows(row.num_left_out)} left out"
    return f"{about}{row.num_cut:,} cut ({row.share:.1%}){lost}{answers}"


def cut_sentence(row: CutRow, estimated: bool, *, compared: bool = False) -> str:
    """Return what a length does to the rows, as a sentence; `compared` where answers with their prompts are counted."""
    about = "about " if estimated else ""
    guess = " Lengths are estimated from characters." if estimated else ""
    if not row.num_cut:
        return f"{about}No row is cut.".capitalize() + guess
    counted = _answers if compared else _rows
    if row.only_left_out:
        left, long = row.num_left_out or 0, f"{about}{counted(row.num_cut)} ({row.share:.1%})"
        return f"At {row.length:,}: {long} {_are(row.num_cut)} too long; {_rows(left)} {_are(left)} left out.{guess}"
    tokens = f" {row.lost_tokens:,} tokens" if row.lost_tokens is not None else " their end"
    sentence = f"At {row.length:,}: {about}{counted(row.num_cut)} ({row.share:.1%}) {_lose(row.num_cut)}{tokens}"
    if row.num_answers_cut:
        sentence += f"; {counted(row.num_answers_cut)} a part of the answer"
    if row.num_left_out:
        why = "nothing is left of an answer" if compared else "nothing is left to learn"
        sentence += f"; {_rows(row.num_left_out)} {_are(row.num_left_out)} left out, because {why}"
    elif row.num_answers_lost:
        sentence += f"; {_rows(row.num_answers_lost)} {_lose(row.num_answers_lost)} the whole answer"
    return sentence + "." + guess


def _answers(count: int) -> str:
    return "1 answer with its prompt" if count == 1 else f"{count:,} answers with their prompts"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _lose(count: int) -> str:
    return "loses" if count == 1 else "lose"


def chart_content(profile: DataProfile, planned: int, cursor: int, *, width: int, rows: int) -> Content:
    """Return the histogram with its legend."""
    lengths = profile.cut_lengths
    if lengths is None:
        return Content.styled("The lengths of the rows are not known.", "$text-muted")
    bins = length_bins(lengths)
    legend = _legend(lengths, planned, "" if profile.source_lengths is None else "sources: ")
    if not bins:
        return legend
    marks = [Mark(_bin_of(bins, cursor), "▲", "bold $primary")]
    marks += [Mark(_bin_of(bins, planned), "P", "bold $success")] if planned else []
    for letter, length in (("m", lengths.p50), ("9", lengths.p99), ("L", lengths.longest)):
        marks.append(Mark(_bin_of(bins, length), letter, "bold"))
    bars = [Bar(f"{each.up_to:,}", each.num_rows) for each in bins]
    return Content("\n").join(
        [histogram(bars, marks, width=width, height=rows, cursor=_bin_of(bins, cursor)), legend],
    )


def _bin_of(bins: list[LengthBin], length: int) -> int:
    """Return the number of the bar that a length falls into; the last one for what is longer than every row."""
    return next((number for number, each in enumerate(bins) if length <= each.up_to), len(bins) - 1)


def _legend(lengths: LengthProfile, planned: int, what: str) -> Content:
    about = "~" if lengths.estimated else ""
    text = f"{what}m median {about}{lengths.p50:,}  9 p99 {about}{lengths.p99:,}  L longest {about}{lengths.longest:,}"
    text += f"  P plan {planned:,}" if planned else ""
    text += "  ~ estimated" if lengths.estimated else ""
    return Content.styled(text, "$text-muted")
