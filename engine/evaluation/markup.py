"""Text from data and models inside Markdown and HTML, where it must stay text."""

import html
import re

from engine.text import clean, clean_line

# The dot after `www` too: without it some readers make a link of what follows.
_MARKDOWN_ACTING = re.compile(r"([\\`*_{}\[\]()#+!|<>~$:@&-]|(?<=www)\.)", re.IGNORECASE)
_BACKTICKS = re.compile(r"`+")


def escape_markdown(text: object, *, max_chars: int | None = None) -> str:
    """Return text on one line that Markdown shows as it is, also inside a table cell."""
    return _MARKDOWN_ACTING.sub(r"\\\1", clean_line(text, max_chars=max_chars))


def inline_code(text: object, *, max_chars: int | None = None) -> str:
    """Return text as inline code, fenced by more backticks than it holds; table cells keep their borders."""
    shown = clean_line(text, max_chars=max_chars).replace("|", "\N{BROKEN BAR}")
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(shown)), default=0))
    edge = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def code_block(text: object, language: str = "", *, max_chars: int | None = None) -> str:
    """Return text as a fenced block, fenced by more backticks than it holds."""
    shown = clean(text, max_chars=max_chars).rstrip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def escape_html(text: object, *, max_chars: int | None = None) -> str:
    """Return text that HTML shows as it is, in elements and in quoted attributes."""
    return html.escape(clean(text, max_chars=max_chars), quote=True)
