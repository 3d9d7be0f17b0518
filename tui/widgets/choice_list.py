"""A list whose enter key says in the footer what it does."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import OptionList


class ChoiceList(OptionList):
    """An `OptionList` without markup; enter is shown as "Choose"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Choose", id="list.choose"),
        Binding("space", "select", show=False),
    ]

    def __init__(self, *, list_id: str | None = None) -> None:
        super().__init__(id=list_id, markup=False)
