"""Rows that no chat template writes out: how each task's rows become token ids."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.encoding import Tokens
from engine.data.label_names import names_in
from engine.data.rows import Row, spoken_text, turns
from engine.data.spans import Span

RowEncoder: TypeAlias = Callable[[Sequence[Row]], list[list[Tokens]]]
"""Returns the sequences of each row."""


def row_encoder(task: Task, tokenizer: PreTrainedTokenizerBase) -> RowEncoder | None:
    """Return what encodes the rows of a task; None where a chat template or plain text is encoded.

    Args:
        task: What the model is asked to give out.
        tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
    """
    if task.head == "masked-lm":
        return lambda rows: _readable(tokenizer, rows)
    if task.head == "seq2seq-lm":
        return lambda rows: _rewritten(task, tokenizer, rows)
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


def is_one_turn(row: Row) -> bool:
    """Return whether a row is one text with the text to make of it, instructions aside."""
    roles = [turn["role"] for turn in turns(row) if turn["role"] != "system"]
    return roles == ["user", "assistant"] and not any("tool_calls" in turn for turn in turns(row))


def encode_sources(task: Task, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[list[int]]:
    """Return the token ids of what is read of each row: prefix, instructions and source, as the tokenizer frames it."""
    texts = [_source(task, row) for row in rows]
    return [list(ids) for ids in tokenizer(texts, truncation=False)["input_ids"]] if texts else []


def closing_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a text to write: those behind every one that the tokenizer makes ready as such."""
    ids = list(tokenizer(text_target="a")["input_ids"])
    return {int(ids[-1])} if ids and ids[-1] in tokenizer.all_special_ids else set()


def _source(task: Task, row: Row) -> str:
    said = [(turn["role"], spoken_text(turn)) for turn in turns(row)]
    instructions = [text for role, text in said if role == "system"]
    asked = [text for role, text in said if role == "user"]
    return task.prefix + "\n\n".join([*instructions, *asked[-1:]])


def _rewritten(task: Task, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[list[Tokens]]:
    """Encode a source and behind it the text to write, which ends with the token that ends texts; only that is trained.

    Tokenizers of several languages frame a target otherwise than a source. A row of which no token is left on one of
    the sides gives no sequence.
    """
    if not rows:
        return []
    special, ends = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}, closing_ids(tokenizer)
    targets = tokenizer(text_target=[spoken_text(turns(row)[-1]) for row in rows], truncation=False)["input_ids"]
    found: list[list[Tokens]] = []
    for source, target in zip(encode_sources(task, tokenizer, rows), map(list, targets), strict=True):
        if not special.issuperset(source) and not special.issuperset(target):
            target = target if target[-1] in ends else [*target, int(tokenizer.eos_token_id)]
            whole = [*source, *target]
            found.append([Tokens(whole, [(len(source), len(whole))])])
        else:
            found.append([])
    return found


def _readable(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[list[Tokens]]:
    """Encode plain texts without what stands around each window; words may be hidden, special tokens never are."""
    special = np.array(sorted(tokenizer.all_special_ids), dtype=np.int64)
    texts = [row["text"] for row in rows]
    encoded = tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"] if rows else []
    return [[Tokens(list(ids), _runs_outside(ids, special))] if len(ids) else [] for ids in encoded]


def _runs_outside(ids: Sequence[int], special: np.ndarray) -> list[Span]:
    """Return the stretches of tokens that are none of the special ones."""
    ordinary = np.concatenate([[False], ~np.isin(np.asarray(ids, dtype=np.int64), special), [False]])
    edges = np.flatnonzero(np.diff(ordinary.astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
