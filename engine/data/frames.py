"""What a sequence length means for rows whose parts stand apart: the ends of a text, a source and what is made of it.

Sources and windows keep the special tokens that the tokenizer puts around every text, however short they are cut: a
model that was made to read whole texts has never seen one without.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task

NO_LIMIT = 1 << 30
"""A length that cuts nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the text of a sequence.

    Attributes:
        head: Tokens in front of each window of plain text.
        tail: Tokens behind each window of plain text; of a source, its last tokens, which stay when it is cut.
        pairs: A sequence is a source, not trained, and behind it the text to write, trained; each has its own length.
    """

    head: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()
    pairs: bool = False

    @property
    def num_around(self) -> int:
        """Tokens around each window of plain text."""
        return len(self.head) + len(self.tail)

    def window(self, max_length: int) -> int:
        """Return the tokens of plain text in a sequence of `max_length` tokens; at least one."""
        return max(1, max_length - self.num_around)


@dataclass(frozen=True, slots=True)
class PairCut:
    """Which tokens of a pair stay: all but those from `gap_begin` to `gap_end`, and those from `end` on."""

    gap_begin: int
    gap_end: int
    end: int


def cut_pair(num_source: int, num_tokens: int, max_length: int, max_target: int, num_tail: int) -> PairCut:
    """Return what stays of a pair.

    Args:
        num_source: Tokens of the source.
        num_tokens: Tokens of source and target.
        max_length: Longest source.
        max_target: Longest target.
        num_tail: Tokens at the end of the source that stay.
    """
    over = max(0, num_source - max_length)
    gap_end = max(0, num_source - num_tail) if over else num_source
    return PairCut(max(0, gap_end - over), gap_end, min(num_tokens, num_source + max_target))


def frame_of(task: Task, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Return what stands around the texts of a task.

    Args:
        task: What the model is asked to give out.
        tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
    """
    if task.head == "seq2seq-lm":
        return Frame(tail=ends_of(tokenizer)[1], pairs=True)
    if task.head == "masked-lm":
        head, tail = ends_of(tokenizer)
        return Frame(head, tail)
    return Frame()


def ends_of(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that the tokenizer puts in front of every text, and behind it."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    framed = list(tokenizer("a")["input_ids"])
    for start in range(len(framed) - len(plain) + 1):
        if plain and framed[start : start + len(plain)] == plain:
            return tuple(framed[:start]), tuple(framed[start + len(plain) :])
    return (), ()
