"""The keys that matter now, on one row; what does not fit is dropped from the right, never `F1`."""

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

MAX_KEYS = 6
GAP = 3
HELP_KEY = "f1"
"""Leads to all keys that have no room, so it is always shown, last."""
_KEY_NAMES = {"escape": "esc", "enter": "enter", "question_mark": "?", "slash": "/", "space": "space", "tab": "tab"}


def key_name(key: str) -> str:
    """Return how a key is written for people, such as `^q`, `F1` or `esc`."""
    first = key.split(",")[0].strip()
    if first.startswith("ctrl+"):
        return "^" + first.removeprefix("ctrl+")
    if first.startswith("f") and first[1:].isdigit():
        return first.upper()
    return _KEY_NAMES.get(first, first)


def _width(binding: Binding) -> int:
    return len(key_name(binding.key)) + 1 + len(binding.description)


def _fitting(shown: list[tuple[Binding, bool]], width: int) -> list[tuple[Binding, bool]]:
    """Return the keys that fit on one row; the one before the last, which leads to all others, goes first."""
    kept = list(shown)
    while len(kept) > 1 and sum(_width(binding) + GAP for binding, _ in kept) - GAP > width:
        kept.pop(-2)
    return kept


class KeyFooter(Widget):
    """One row with at most six active keys; a click presses the key.

    Bindings are shown in the order: focused widget, screen, app. `Binding(show=False)` keeps a key out.
    """

    DEFAULT_CSS = """
    KeyFooter {
        dock: bottom;
        height: 1;
        padding: 0 1;
        background: $footer-background;
        color: $footer-description-foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__(id="key-footer")
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow the screen's active bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def shown_bindings(self) -> list[tuple[Binding, bool]]:
        """Return the keys to show with whether each is enabled, at most six, one per action."""
        seen: dict[str, tuple[Binding, bool]] = {}
        for _node, binding, enabled, _tooltip in self.screen.active_bindings.values():
            if binding.show and binding.description:
                seen.setdefault(binding.action, (binding, enabled))
        help_key = [item for item in seen.values() if item[0].key == HELP_KEY]
        others = [item for item in seen.values() if item[0].key != HELP_KEY]
        return [*others[: MAX_KEYS - len(help_key)], *help_key]

    def render(self) -> Content:
        """Return the row."""
        self._spans = []
        parts: list[tuple[str, str]] = []
        column = 0
        for binding, enabled in _fitting(self.shown_bindings(), self.size.width):
            key, words = key_name(binding.key), binding.description
            width = _width(binding)
            self._spans.append((column, column + width, binding.key.split(",")[0]))
            parts += [
                (key, "bold $footer-key-foreground" if enabled else "$text-disabled"),
                (f" {words}", "" if enabled else "$text-disabled"),
                (" " * GAP, ""),
            ]
            column += width + GAP
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Press the key under the mouse."""
        column = event.get_content_offset_capture(self).x
        for start, end, key in self._spans:
            if start <= column < end:
                self.app.simulate_key(key)
                return
