"""A tiny text grammar: alternatives in parentheses, slots after a dollar sign, and the finish of a sentence."""

import random
import re
from collections.abc import Sequence

_CHOICE = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\$([a-z_]+)")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou](?!ne\b|se[df]))")
_SENTENCE_START = re.compile(r"(^|[.!?] |\.\" |\n|(?:^|(?<= ))\")([a-z])")
_SPACES = re.compile(r" {2,}")


def expand(template: str, rng: random.Random, **slots: str) -> str:
    """Return one sentence or passage of a template.

    Args:
        template: Text with `(this|that|)` alternatives, which may nest, and `$slot` references.
        rng: Source of the choices.
        **slots: Values of the slots; they are put in after the choices, so they may hold parentheses.

    Raises:
        KeyError: The template names a slot without a value.
    """
    return tidy(phrase(template, rng, **slots))


def phrase(template: str, rng: random.Random, **slots: str) -> str:
    """Return a part of a sentence of a template: `expand` without capitals."""
    count = 1
    text = template
    while count:
        text, count = _CHOICE.subn(lambda match: rng.choice(match[1].split("|")), text)
    return _ARTICLE.sub(r"\1n ", _SLOT.sub(lambda match: slots[match[1]], text))


def tidy(text: str) -> str:
    """Return text with `an` before vowels, single spaces and capitals at sentence starts."""
    text = _SPACES.sub(" ", text).strip()
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def listing(words: Sequence[str], last: str = "and") -> str:
    """Return `a, b and c`."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
