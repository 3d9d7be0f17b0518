"""The themes of ftwizard. The only place where colours are written down."""

from textual.theme import Theme

from tui.terminal import Colors

# `text-muted` and `text-disabled` are opaque on purpose: the built-in ones are an alpha of an unknown background and
# fall under a contrast of 4.5 on the cursor's row.
DARK = Theme(
    name="ftwizard-dark",
    dark=True,
    primary="#6cb2f0",
    secondary="#9d8cf2",
    accent="#f0b95a",
    success="#7ecb95",
    warning="#e9a84c",
    error="#f07b86",
    foreground="#dfe6ee",
    background="#10151b",
    surface="#171e26",
    panel="#1e2731",
    variables={
        "text-muted": "#94a3b3",
        "text-disabled": "#6d7b8a",
        "block-cursor-background": "#23405c",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#1b2a39",
        "block-cursor-blurred-foreground": "#dfe6ee",
        "border": "#6cb2f0",
        "border-blurred": "#33404e",
        "footer-background": "#1e2731",
        "footer-key-foreground": "#f0b95a",
        "footer-description-foreground": "#b9c4cf",
        "input-selection-background": "#2f5f8a",
        "scrollbar": "#3a4a5b",
        "scrollbar-background": "#141b22",
        "button-focus-text-style": "bold",
        "rule": "#2b3743",
        "trained-background": "#1d4a35",
    },
)

LIGHT = Theme(
    name="ftwizard-light",
    dark=False,
    primary="#1f6fb5",
    secondary="#6a54c9",
    accent="#a86200",
    success="#22783f",
    warning="#9a5b00",
    error="#b3263c",
    foreground="#1c242c",
    background="#fbfaf7",
    surface="#f2f0ea",
    panel="#e8e5dc",
    variables={
        "text-muted": "#55606b",
        "text-disabled": "#808a94",
        "block-cursor-background": "#cfe3f6",
        "block-cursor-foreground": "#0c1218",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#e3ebf2",
        "block-cursor-blurred-foreground": "#1c242c",
        "border": "#1f6fb5",
        "border-blurred": "#c4c0b4",
        "footer-background": "#e8e5dc",
        "footer-key-foreground": "#a86200",
        "footer-description-foreground": "#3b454f",
        "input-selection-background": "#a9cdee",
        "scrollbar": "#b5b0a3",
        "scrollbar-background": "#efece4",
        "button-focus-text-style": "bold",
        "rule": "#d5d1c5",
        "trained-background": "#cdebd6",
    },
)

# Sixteen colours or none: the terminal's own palette; the cursor is reverse video, which survives NO_COLOR.
ANSI = Theme(
    name="ftwizard-ansi",
    ansi=True,
    dark=True,
    primary="ansi_bright_blue",
    secondary="ansi_cyan",
    accent="ansi_yellow",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "text-muted": "ansi_default",
        "text-disabled": "ansi_default",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "block-cursor-text-style": "reverse",
        "block-cursor-blurred-foreground": "ansi_default",
        "block-cursor-blurred-background": "ansi_default",
        "block-cursor-blurred-text-style": "bold",
        "border": "ansi_bright_blue",
        "border-blurred": "ansi_default",
        "footer-key-foreground": "ansi_yellow",
        "footer-description-foreground": "ansi_default",
        "footer-background": "ansi_default",
        "input-cursor-foreground": "ansi_default",
        "input-cursor-background": "ansi_default",
        "input-cursor-text-style": "reverse",
        "input-selection-background": "ansi_cyan",
        "input-selection-foreground": "ansi_black",
        "button-focus-text-style": "bold reverse",
        "scrollbar": "ansi_blue",
        "scrollbar-background": "ansi_default",
        "rule": "ansi_default",
        "trained-background": "ansi_default",
    },
)

THEMES = (DARK, LIGHT, ANSI)

OWN_TOKENS = {"rule": "border-blurred", "trained-background": "success-muted"}
"""Our own tokens and the token that stands in for each in the built-in themes that a person may select."""


def theme_for(colors: Colors) -> Theme:
    """Return the theme to start with on a terminal with these colours."""
    return DARK if colors == "full" else ANSI
