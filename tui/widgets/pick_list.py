"""One input over one list: typing filters or names something new, arrows and enter choose; one focus does it all."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tui.widgets.choice_list import ChoiceList
from tui.widgets.path_input import PathInput


@dataclass(frozen=True, slots=True)
class PickRow:
    """One row; headings have `pickable=False` and are skipped by the cursor."""

    row_id: str
    content: Content
    pickable: bool = True


class PickList(Vertical):
    """Input and list."""

    DEFAULT_CSS = """
    PickList {
        height: 1fr;
        & > PathInput { margin: 0 1 1 1; }
        & > OptionList { height: 1fr; }
    }
    """

    class TextChanged(Message):
        """The input's text changed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Highlighted(Message):
        """The cursor is on a row."""

        def __init__(self, row_id: str) -> None:
            super().__init__()
            self.row_id = row_id

    class Picked(Message):
        """Enter or a click took a row.

        Args:
            picker: The list.
            row_id: The row that was clicked; None for enter, which takes the row under the cursor.
        """

        def __init__(self, picker: "PickList", row_id: str | None = None) -> None:
            super().__init__()
            self._picker = picker
            self._row_id = row_id

        @property
        def row_id(self) -> str:
            """The row; asked only when the message is handled.

            A pasted line or a slow connection brings text and enter at once: the step must have listed the rows for
            that text before it is said which of them was meant.
            """
            return self._row_id if self._row_id is not None else self._picker.row_under_cursor

    def __init__(self, *, placeholder: str, suggester: Suggester) -> None:
        super().__init__()
        self._placeholder = placeholder
        self._suggester = suggester

    def compose(self) -> ComposeResult:
        """Yield input and list; the list takes no focus of its own."""
        yield PathInput(placeholder=self._placeholder, compact=True, suggester=self._suggester)
        yield ChoiceList(follows_input=True)

    @property
    def text(self) -> str:
        """What is typed."""
        return self.query_one(PathInput).value

    @text.setter
    def text(self, text: str) -> None:
        self.query_one(PathInput).value = text

    @property
    def placeholder(self) -> str:
        """What stands in the empty input."""
        return self.query_one(PathInput).placeholder

    @placeholder.setter
    def placeholder(self, text: str) -> None:
        self.query_one(PathInput).placeholder = text

    @property
    def row_under_cursor(self) -> str:
        """Id of the row under the cursor; empty without one."""
        option = self.query_one(OptionList).highlighted_option
        return option.id or "" if option is not None else ""

    def take_focus(self) -> None:
        """Focus the input."""
        self.query_one(PathInput).focus()

    def set_rows(self, rows: Sequence[PickRow], *, highlight: str | None = None) -> None:
        """Show these rows, the cursor on `highlight` or on the first row that can be picked.

        Rows that are shown already are drawn anew in their places and the cursor stays.
        """
        listed = self.query_one(OptionList)
        ids = [row.row_id for row in rows]
        if highlight is None and ids == [option.id for option in listed.options]:
            for row in rows:
                listed.replace_option_prompt(row.row_id, row.content)
            return
        listed.set_options([Option(row.content, id=row.row_id, disabled=not row.pickable) for row in rows])
        first = next((index for index, row in enumerate(rows) if row.pickable), None)
        listed.highlighted = ids.index(highlight) if highlight in ids else first

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.TextChanged(event.value))

    @on(PathInput.Moved)
    def _moved(self, event: PathInput.Moved) -> None:
        event.stop()
        listed = self.query_one(OptionList)
        step = listed.action_cursor_down if event.rows > 0 else listed.action_cursor_up
        for _ in range(abs(event.rows)):
            step()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Picked(self))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Highlighted(event.option_id))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Picked(self, event.option_id))
