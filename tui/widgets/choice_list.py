"""A list whose enter key says in the footer what it does, and whose cursor shows without colour."""

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widgets import OptionList

_REVERSED = Style(reverse=True)


class ChoiceList(OptionList):
    """An `OptionList` without markup.

    Args:
        list_id: Id of the widget.
        follows_input: The cursor is moved by an input above it; the list takes no focus and always shows its cursor.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Choose", id="list.choose"),
        Binding("space", "select", show=False),
    ]
    DEFAULT_CSS = """
    ChoiceList.-follows > .option-list--option-highlighted {
        color: $block-cursor-foreground;
        background: $block-cursor-background;
        text-style: $block-cursor-text-style;
    }
    """

    def __init__(self, *, list_id: str | None = None, follows_input: bool = False) -> None:
        super().__init__(id=list_id, markup=False)
        self.set_class(follows_input, "-follows")
        self.can_focus = not follows_input

    def on_resize(self) -> None:
        """Keep the cursor in view where something beside the list takes its rows."""
        if self.highlighted is not None:
            self.scroll_to_highlight()

    def render_line(self, y: int) -> Strip:
        """Return one line; on terminals with few or no colours the cursor's line is reversed.

        Textual 8.2.8 drops `text-style: reverse` of component classes (`Widget.get_visual_style`), and NO_COLOR takes
        every background away: without this the cursor cannot be seen there.
        """
        strip = super().render_line(y)
        if not self.app.native_ansi_color or not (self.has_focus or self.has_class("-follows")):
            return strip
        line = self.scroll_offset.y + y
        on_cursor = line < len(self._lines) and self._lines[line][0] == self.highlighted
        return strip.apply_style(_REVERSED) if on_cursor else strip
