"""Rows that no chat template writes out: how each task's rows become token ids."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeAlias

from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.encoding import Tokens
from engine.data.label_names import names_in
from engine.data.rows import Row

RowEncoder: TypeAlias = Callable[[Sequence[Row]], list[list[Tokens]]]
"""Returns the sequences of each row."""


def row_encoder(task: Task, tokenizer: PreTrainedTokenizerBase) -> RowEncoder | None:
    """Return what encodes the rows of a task; None where a chat template or plain text is encoded.

    Args:
        task: What the model is asked to give out.
        tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
    """
    if task.signal == "labels":
        return lambda rows: _labelled(task, tokenizer, rows)
    if task.signal == "tags":
        return lambda rows: [[_tagged(task, tokenizer, row)] for row in rows]
    return None


def _tagged(task: Task, tokenizer: PreTrainedTokenizerBase, row: Row) -> Tokens:
    """Encode the words of a row; what is learnt stands on the first token of each word, its tag in `targets`."""
    ids, places = encode_words(tokenizer, row["tokens"])
    numbers = task.numbers
    return Tokens(
        ids, [(place, place + 1) for place in places], tuple(numbers[row["tags"][at]] for at in places.values())
    )


def encode_words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> tuple[list[int], dict[int, int]]:
    """Return token ids of words, and `{place of a token: number of the word that begins there}`.

    Words are joined by spaces, as a text would come in later. A word that has no token of its own is left out, and so
    is one on the very first token, where no tokenizer of an encoder puts a word.
    """
    text, begins = "", []
    for spelled in words:
        begins.append(len(text))
        text += f"{spelled} "
    encoded = tokenizer(text[:-1], return_offsets_mapping=True, return_special_tokens_mask=True)
    places: dict[int, int] = {}
    known = -1
    offsets = zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    for place, ((start, end), special) in enumerate(offsets):
        word = bisect_right(begins, max(start, end - 1)) - 1
        if not special and end > start and word > known and place:
            known = word
            places[place] = word
    return list(encoded["input_ids"]), places


def _labelled(task: Task, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[list[Tokens]]:
    """Encode texts with the special tokens that the tokenizer puts around one; the class is learnt from all of it."""
    numbers = task.numbers
    encoded = tokenizer([row["text"] for row in rows], truncation=False)["input_ids"] if rows else []
    return [
        [Tokens(list(ids), [(0, len(ids))], tuple(numbers[name] for name in names_in(row)))]
        for row, ids in zip(rows, encoded, strict=True)
    ]
