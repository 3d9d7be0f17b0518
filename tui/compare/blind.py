"""The state of a blind test, without a screen: which pair is open, what was judged, what to say at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from engine.runs.blind_file import BlindTest, Choice, Judgement
from engine.runs.held_out_prompts import HeldOutPrompt
from tui.compare.partners import Answer
from tui.widgets.labels import muted, safe

BLIND_PROMPTS = 20
_LISTED_CHARS = 40


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers that wait for a judgement.

    Attributes:
        prompt: What was asked.
        first: Answer of the first side.
        second: Answer of the second side.
        swapped: The second side stands on the left.
    """

    prompt: HeldOutPrompt
    first: str
    second: str
    swapped: bool

    @property
    def shown(self) -> tuple[str, str]:
        """The answers as they stand, left and right."""
        return (self.second, self.first) if self.swapped else (self.first, self.second)

    @property
    def same(self) -> bool:
        """Whether there is nothing to choose."""
        return self.first.strip() == self.second.strip()

    def judged(self, key: str) -> Judgement:
        """Return the judgement that a key stands for: `1` left, `2` right, `0` tie."""
        choice: Choice = "tie" if key == "0" else "second" if (key == "1") == self.swapped else "first"
        return Judgement(self.prompt.id, choice, self.swapped, self.first, self.second, self.same)


def still_open(prompts: Sequence[HeldOutPrompt], test: BlindTest) -> list[HeldOutPrompt]:
    """Return the prompts that are not judged yet."""
    judged = {judgement.prompt_id for judgement in test.judged}
    return [prompt for prompt in prompts if prompt.id not in judged]


def pair_of(prompt: HeldOutPrompt, answers: Sequence[Answer], test: BlindTest) -> Pair | None:
    """Return the pair of a prompt; None where a model could not answer it."""
    first, second = answers
    if first.state != "done" or second.state != "done":
        return None
    return Pair(prompt, first.text, second.text, test.swapped(prompt.id))


def verdict_sentence(row: Mapping[str, Any], second: str, first: str) -> tuple[str, str]:
    """Return what the judgements say, with a style.

    Args:
        row: Row of the win rate, as a report has it.
        second: Title of the side whose wins are counted.
        first: Title of the other.
    """
    match row.get("direction"):
        case "better":
            return f"▲ You like the answers of {second} better, beyond luck.", "$success"
        case "worse":
            return f"▼ You like the answers of {first} better, beyond luck.", "$error"
        case _:
            return (
                "≈ There is no evidence that either is better: luck alone would give such a result. "
                "More prompts may tell.",
                "$text-muted",
            )


def counts_sentence(test: BlindTest, first: str, second: str) -> str:
    """Return how often each side won."""
    wins = [judgement.win for judgement in test.judged]
    same = sum(judgement.same for judgement in test.judged)
    ties = f"{wins.count(0.5)} ties" + (f" ({same} with the same answer)" if same else "")
    return f"{second} won {wins.count(1.0)}, {first} won {wins.count(0.0)}, {ties}, of {len(wins)} prompts."


def result_lines(test: BlindTest, prompts: Sequence[HeldOutPrompt], titles: tuple[str, str]) -> list[Content]:
    """Return the end of a test: the win rate, what it says, and which was which.

    Args:
        test: All judged, with its result.
        prompts: Those that were asked.
        titles: Of the first and the second side.
    """
    first, second = titles
    row = test.result
    interval = str(row.get("after_interval_text") or "")
    sure = f", 95 % interval {interval}" if interval else ""
    sentence, style = verdict_sentence(row, second, first)
    lines = [
        Content.assemble((f"Win rate of {second}: ", ""), safe(row.get("after_text") or "n/a", "bold"), safe(sure)),
        Content.styled(sentence, style),
        Content(counts_sentence(test, first, second)),
        Content(""),
        muted(f"{'Prompt':<{_LISTED_CHARS}}  {'1 was':<12}{'2 was':<12}you chose"),
    ]
    shown = {prompt.id: prompt.shown for prompt in prompts}
    return [*lines, *(_line(judgement, shown.get(judgement.prompt_id, ""), titles) for judgement in test.judged)]


def _line(judgement: Judgement, prompt: str, titles: tuple[str, str]) -> Content:
    first, second = (title if len(title) < 12 else title[:10] + "…" for title in titles)
    left, right = (second, first) if judgement.swapped else (first, second)
    chose = {"first": first, "second": second, "tie": "the same answer" if judgement.same else "tie"}
    words = " ".join((prompt or judgement.prompt_id).split())
    cut = safe(words, max_chars=_LISTED_CHARS)
    padding = " " * max(0, _LISTED_CHARS - cut.cell_length)
    return Content.assemble(cut, (f"{padding}  {left:<12}{right:<12}", "$text-muted"), (chose[judgement.choice], ""))
