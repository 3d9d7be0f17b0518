"""Private keys and access tokens in text, by the shapes that their issuers publish.

A shape alone is not enough: what follows the prefix must look drawn at random, so that `sk-your-api-key-here` and
`hf_xxxxxxxx` are no alarm. Nothing here ever returns, logs or raises the text of a secret.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_MIN_BITS = 2.8
"""Least Shannon entropy per character of what follows the prefix; random letters and digits have 4 or more."""
_MIN_RUN = 16
_DIGIT = re.compile(r"\d")
_RARE = "_@:+-"
"""Characters of hints that most texts lack."""
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_SHAPES = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
_SEPARATORS = b" .()-"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of text that is looked for.

    Attributes:
        kind: What it is called in findings.
        mask: What is written in its place.
        hints: At least one of them stands in every text with a match; looked for first, because that is quick. None
            where nothing is sure to stand there.
        pattern: Its shape; the group `body` is what `holds` looks at, the whole match where there is none.
        holds: Tells real ones from others of the shape.
        shape: Stands in `shape_of` every text with a match; empty where nothing is sure to stand there.
        times: How often a hint stands there at least.
    """

    kind: str
    mask: str
    hints: tuple[str, ...] | None
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]
    shape: bytes = b""
    times: int = 1

    def matches(self, text: str) -> bool:
        """Return whether the text holds one."""
        return self.hinted(text) and any(self.holds(_body(match)) for match in self.pattern.finditer(text))

    def masked(self, text: str) -> str:
        """Return the text with the mask in place of each one."""
        return self.pattern.sub(self._replaced, text) if self.hinted(text) else text

    def hinted(self, text: str) -> bool:
        """Return whether a closer look is worth while."""
        if self.shape and self.shape not in shape_of(text):
            return False
        return self.hints is None or any(text.count(hint) >= self.times for hint in self.hints)

    def _replaced(self, match: re.Match[str]) -> str:
        body = _body(match)
        if not self.holds(body):
            return match[0]
        return _with_secret_masked(match, self.mask) if "secret" in match.re.groupindex else self.mask


def _with_secret_masked(match: re.Match[str], mask: str) -> str:
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return f"{match[0][:start]}{mask}{match[0][end:]}"


@lru_cache(maxsize=1)
def shape_of(text: str) -> bytes:
    """Return a text with each digit written as 0 and each ASCII capital as A, twice: as it is, and without separators.

    Several patterns in a row ask this of one text; a search for a shape in it takes microseconds.
    """
    if not text.isascii() and any(map(_DIGIT.search, _BEYOND_ASCII.findall(text))):
        text = _DIGIT.sub("0", text)
    shape = text.encode("utf-8", "surrogatepass").translate(_SHAPES)
    return shape + b"\n" + shape.translate(None, _SEPARATORS)


def _body(match: re.Match[str]) -> str:
    names = match.re.groupindex
    return match["secret"] if "secret" in names else match["body"] if "body" in names else match[0]


def entropy_bits(text: str) -> float:
    """Return the Shannon entropy of the characters of a text, in bits per character."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())


def looks_random(body: str) -> bool:
    """Return whether what follows a prefix looks drawn: mixed kinds of characters, none much more frequent."""
    mixed = sum((any(map(str.islower, body)), any(map(str.isupper, body)), any(map(str.isdigit, body))))
    return mixed >= 2 and entropy_bits(body) >= _MIN_BITS


def _has_random_run(body: str) -> bool:
    """Return whether a long piece without separators looks random: words joined by hyphens do not."""
    return any(len(run) >= _MIN_RUN and looks_random(run) for run in re.split(r"[-_.]", body))


def always(_: str) -> bool:
    """Hold for everything: the shape alone is proof."""
    return True


def _token(prefixes: str, shape: str, holds: Callable[[str], bool] = looks_random) -> Pattern:
    pattern = re.compile(rf"(?<![A-Za-z0-9_]){shape}(?![A-Za-z0-9_])")
    return Pattern("access token", "<TOKEN>", tuple(prefixes.split()), pattern, holds)


SECRETS: tuple[Pattern, ...] = (
    Pattern(
        "private key",
        "<PRIVATE_KEY>",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:.{0,20000}?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)",
            re.DOTALL,
        ),
        always,
    ),
    # GitHub: https://github.blog/engineering/behind-githubs-new-authentication-token-formats
    _token("ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_(?P<body>[A-Za-z0-9]{36,255})"),
    _token("github_pat_", r"github_pat_(?P<body>[A-Za-z0-9]{22}_[A-Za-z0-9]{59})"),
    _token("hf_", r"(?:api_org|hf)_(?P<body>[A-Za-z0-9]{30,60})"),
    _token("sk-", r"sk-(?P<body>[A-Za-z0-9_-]{20,250})", _has_random_run),
    _token("sk_live_ rk_live_", r"[sr]k_live_(?P<body>[A-Za-z0-9]{20,250})"),
    _token("AKIA ASIA ABIA ACCA", r"A(?:KI|SI|BI|CC)A(?P<body>[A-Z2-7]{16})", lambda body: entropy_bits(body) >= 2.5),
    _token("xox", r"xox[abeoprs]-(?:[0-9]+-)*(?P<body>[A-Za-z0-9-]{10,250})", lambda body: entropy_bits(body) >= 2.5),
    _token("hooks.slack.com", r"https://hooks\.slack\.com/services/(?P<body>T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{16,})"),
    _token("AIza", r"AIza(?P<body>[A-Za-z0-9_-]{35})"),
    _token("glpat-", r"glpat-(?P<body>[A-Za-z0-9_-]{20,})"),
    _token("npm_", r"npm_(?P<body>[A-Za-z0-9]{36})"),
    _token("SG.", r"SG\.(?P<body>[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})"),
    _token("eyJ", r"(?P<body>eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,})"),
    Pattern(
        "access token",
        "<TOKEN>",
        ("secret", "SECRET", "Secret"),
        re.compile(r"(?i)aws.{0,20}?secret.{0,20}?[=:\s]\s*[\"']?(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
        looks_random,
    ),
    Pattern(
        "password in an address",
        "<PASSWORD>",
        ("://",),
        re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>{}$]{1,64}:(?P<secret>[^\s:/@\"'<>{}$]{3,128})@[\w.-]"),
        always,
    ),
)


def find_kinds(text: str, patterns: Sequence[Pattern]) -> tuple[str, ...]:
    """Return the kinds of what a text holds, never the text itself."""
    return tuple(dict.fromkeys([pattern.kind for pattern in patterns if pattern.matches(text)]))


def finder(patterns: Sequence[Pattern]) -> Callable[[str], tuple[str, ...]]:
    """Return `find_kinds` for some patterns, quick to say that a text holds nothing.

    Where a hint stands in a text, the patterns that it belongs to look closer. Hints that share a rare character are
    looked for only in texts that hold it.
    """
    gates: dict[str, dict[str, list[int]]] = {}
    for number, pattern in enumerate(patterns):
        for hint in pattern.hints or ("",):
            gate = next((character for character in _RARE if character in hint), hint)
            gates.setdefault(gate, {}).setdefault(hint, []).append(number)

    def find(text: str) -> tuple[str, ...]:
        near: set[int] = set()
        for gate, hints in gates.items():
            if gate in text:
                for hint, numbers in hints.items():
                    if hint in text:
                        near.update(numbers)
        return find_kinds(text, [patterns[number] for number in sorted(near)]) if near else ()

    return find


def mask(text: str, patterns: Sequence[Pattern]) -> str:
    """Return the text with a typed placeholder in place of everything found."""
    for pattern in patterns:
        text = pattern.masked(text)
    return text
