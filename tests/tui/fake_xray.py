"""X-ray pages with fixed facts: short chats, one of them cut, one odd, one packed, with hostile text where asked."""

from typing import Any

from engine.recipe.problems import Problem
from tui.backend import XrayOrder, XrayPage, XraySequence, XrayToken

ALL_TRAINED = Problem(
    "preflight.p1",
    "Every token of these conversations is trained.",
    "Look at the rows in the X-ray. If this is what you want, set data.allow_all_trained: true.",
    "data.source",
)


def tokens(question: str, answer: str) -> tuple[XrayToken, ...]:
    """Return a chat of one question and one answer."""
    context = [XrayToken(text, False) for text in ("user", "\n", *_words(question))]
    begin = XrayToken("<|im_start|>", False, special=True)
    end = XrayToken("<|im_end|>", False, special=True)
    trained = [XrayToken(text, True) for text in _words(answer)]
    last = XrayToken("<|im_end|>", True, special=True)
    answering = (begin, XrayToken("assistant", False), XrayToken("\n", False))
    return (begin, *context, end, XrayToken("\n", False), *answering, *trained, last)


def _words(text: str) -> list[str]:
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def sequence(number: int, *, question: str = "", answer: str = "", **changes: Any) -> XraySequence:
    """Return one sequence."""
    spelled = tokens(question or f"How many clips are {number} and 24?", answer or f"Altogether {number + 24} clips.")
    facts: dict[str, Any] = {
        "number": number,
        "row_ids": (f"tickets.jsonl:{number + 1}",),
        "tokens": spelled,
        "num_tokens": len(spelled),
        "num_trained": sum(token.trained for token in spelled),
    }
    return XraySequence(**(facts | changes))


class FakeXray:
    """Twelve sequences; the fourth is cut, the sixth stands out."""

    def __init__(self) -> None:
        self.sequences = [sequence(number) for number in range(12)]
        self.sequences[0] = sequence(0, num_padding=312)
        self.sequences[3] = sequence(3, num_lost=212)
        self.sequences[5] = sequence(5, reasons=("The answer is one token long.",))
        self.facts: dict[str, Any] = {
            "num_dropped": 0,
            "trained_share": 0.618,
            "all_trained": False,
            "max_length": 1024,
            "length_from": "the longest row has 1,019 tokens",
            "packed": False,
            "problems": (),
        }

    def page(self, start: int, count: int, order: XrayOrder) -> XrayPage:
        """Return the page asked for."""
        cut = [one for one in self.sequences if one.num_lost]
        odd = [one for one in self.sequences if one.reasons]
        longest = sorted(self.sequences, key=lambda one: -one.num_tokens)
        listed = {"file": self.sequences, "longest": longest, "cut": cut, "odd": odd}[order]
        shown = tuple(listed[start : start + count])
        return XrayPage(
            shown,
            start,
            len(listed),
            num_sequences=len(self.sequences),
            num_cut=len(cut),
            num_odd=len(odd),
            **{"num_rows": len(self.sequences), "num_ended": len(self.sequences), **self.facts},
        )
