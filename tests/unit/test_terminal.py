"""What the terminal can show, and that the app leaves it clean."""

import codecs
import subprocess
import sys

import pytest

from tui.terminal import examine_terminal, keep_keys_alive
from tui.theme import ANSI, DARK, THEMES, theme_for


@pytest.mark.parametrize(
    ("environment", "colors"),
    [
        ({"TERM": "xterm-256color"}, "full"),
        ({"TERM": "tmux-256color"}, "full"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "full"),
        ({"TERM": "linux"}, "16"),
        ({"TERM": "xterm"}, "16"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "full"),
        ({"TERM": "xterm-256color", "TEXTUAL_COLOR_SYSTEM": "standard"}, "16"),
        ({"TERM": "linux", "NO_COLOR": "1"}, "none"),
    ],
)
def test_colours_follow_the_environment(environment: dict[str, str], colors: str) -> None:
    support = examine_terminal(environment, stdin_is_tty=True, stdout_is_tty=True)
    assert support.colors == colors
    assert support.screen


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_terminal_that_cannot_draw_is_refused_with_the_way_out(term: str) -> None:
    support = examine_terminal({"TERM": term}, stdin_is_tty=True, stdout_is_tty=True)
    assert not support.screen
    assert "TERM" in support.reason
    assert "--plain" in support.reason


def test_no_terminal_is_refused_with_the_way_out() -> None:
    for stdin, stdout in ((False, True), (True, False)):
        support = examine_terminal({"TERM": "xterm"}, stdin_is_tty=stdin, stdout_is_tty=stdout)
        assert "not a terminal" in support.reason
        assert "--plain" in support.reason


def test_the_theme_is_the_terminals_own_palette_where_colours_are_few() -> None:
    assert theme_for("full") is DARK
    assert theme_for("16") is ANSI
    assert theme_for("none") is ANSI


def _luminance(color: str) -> float:
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [theme for theme in THEMES if not theme.ansi], ids=lambda theme: theme.name)
def test_every_text_colour_can_be_read_on_the_background_and_on_the_cursor(theme: object) -> None:
    from textual.theme import Theme

    assert isinstance(theme, Theme)
    texts = {
        "muted": theme.variables["text-muted"],
        **{name: getattr(theme, name) for name in ("foreground", "primary", "success", "warning", "error", "accent")},
    }
    assert theme.background is not None
    for name, color in texts.items():
        assert _contrast(color, theme.background) >= 4.5, f"{name} on the background"
        assert _contrast(color, theme.variables["block-cursor-background"]) >= 3.0, f"{name} on the cursor"


def test_bytes_that_are_no_utf8_do_not_end_the_reader() -> None:
    keep_keys_alive()
    from textual.drivers import linux_driver

    decode = vars(linux_driver)["getincrementaldecoder"]("utf-8")().decode
    assert decode(b"\x1b[M \xb00") == "\x1b[M \N{REPLACEMENT CHARACTER}0"
    assert decode(b"q") == "q"
    assert codecs.getincrementaldecoder("utf-8")().errors == "strict", "only Textual's reader is changed"


def test_the_questions_to_the_terminal_need_no_textual() -> None:
    program = (
        "import sys, tui.terminal, tui.start, tui.wizard.draft;"
        "print([name for name in ('textual', 'torch', 'pydantic', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
