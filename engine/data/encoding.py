"""Texts to token ids, many at a time, and marked characters to the tokens that carry them.

Fast tokenizers take many texts in one call: it uses every core and leaves the interpreter free meanwhile.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from engine.data.spans import MOST_ENDS, Marked, Span

_LEADS = ("\ue0f8", "\n", ".", ")", "a", "0")
"""Characters put in front of an answer to encode it as a continuation; the first is unknown to every vocabulary."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence, whole.

    Attributes:
        ids: Token ids.
        runs: Where it is trained: first token and the one after the last of each stretch, in order, apart.
        targets: What is learnt besides tokens: the numbers of a text's classes, a tag for each trained token, the ids
            of the text to write, 1 for a good answer and 0 for a bad one, the bytes of what rewards are told.
    """

    ids: list[int]
    runs: list[Span]
    targets: tuple[int, ...] = ()


class Encoder:
    """Turns texts into token ids as the tokenizer itself does when called."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look at what the tokenizer does with pieces of a text.

        Args:
            tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
        """
        self._tokenizer = tokenizer
        self._eos_id = int(tokenizer.eos_token_id)
        self._bos_id: int | None = tokenizer.bos_token_id
        added = frozenset(tokenizer.added_tokens_decoder) | frozenset(tokenizer.all_special_ids)
        # An unknown character is no end of a turn, although its token is a special one.
        self.closing_ids = added - {tokenizer.unk_token_id}
        self._backend = _backend_of(tokenizer)
        self._blank: dict[int, bool] = {}
        self._ends: dict[str, list[int]] = {}
        self._cuts_cleanly = self._piecewise()
        self._lead_ids = {lead: self.plain_ids(lead) for lead in _LEADS}

    def plain_ids(self, text: str) -> list[int]:
        """Return the ids of a text whose special tokens are all written in it."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text_ids(self, text: str) -> list[int]:
        """Return the ids of a text, with the special tokens that the tokenizer puts around one."""
        return self.single_bos(list(self._tokenizer(text)["input_ids"]))

    def single_bos(self, ids: list[int]) -> list[int]:
        """Return ids without a second first token: a text that spells it gets it twice where tokenizers add it."""
        bos = self._bos_id
        return ids[1:] if bos is not None and ids[:2] == [bos, bos] else ids

    def texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Return plain texts, closed by the end of text; all of them is trained."""
        if self._backend is None:
            ids = [list(self._tokenizer(text)["input_ids"]) for text in texts]
        else:
            ids = [encoded.ids for encoded in self._ready().encode_batch_fast(list(texts))]
        whole = [[*self.single_bos(each), self._eos_id] for each in ids]
        return [Tokens(each, [(0, len(each))]) for each in whole]

    def conversations(self, marked: Sequence[Marked]) -> list[Tokens]:
        """Return marked texts as tokens, each answer closed by its end-of-turn token."""
        found = self._quick(marked)
        left = [place for place, tokens in enumerate(found) if tokens is None]
        rest = [marked[place] for place in left]
        located = self._located(rest) if self._tokenizer.is_fast else [self._searched(each) for each in rest]
        for place, each, (ids, runs) in zip(left, rest, located, strict=True):
            found[place] = self._closed(each, ids, runs)
        return [tokens for tokens in found if tokens is not None]

    def _quick(self, marked: Sequence[Marked]) -> list[Tokens | None]:
        """Return the tokens of conversations whose trained part is all that follows the prompt; None of the others.

        Nobody needs to know where their tokens lie in the text: what follows the answer is an end-of-turn token and
        what comes after it, always the same. Without places the tokenizer takes a tenth to a fifth less time.
        """
        found: list[Tokens | None] = [None] * len(marked)
        if self._backend is None or not self._cuts_cleanly:
            return found
        ends = [self._end_ids(each) for each in marked]
        places = [place for place, end in enumerate(ends) if end]
        cuts = [marked[place].spans[0][0] for place in places]
        fronts = [marked[place].text[:cut] for place, cut in zip(places, cuts, strict=True)]
        rests = [marked[place].text[cut:] for place, cut in zip(places, cuts, strict=True)]
        encodings = self._encoded(fronts + rests, located=False) if places else []
        for place, front, rest in zip(places, encodings[: len(places)], encodings[len(places) :], strict=True):
            ids, rest_ids, end = front.ids, rest.ids, ends[place]
            if rest_ids[-len(end) :] == end:
                begin, after = len(ids), len(ids) + len(rest_ids) - len(end) + 1
                found[place] = self._once_begun(ids + rest_ids, [(begin, after)])
        return found

    def _end_ids(self, marked: Marked) -> list[int]:
        """Return the ids of what follows the only answer, where it begins with an end-of-turn token; empty otherwise.

        Such a token is cut out of a text before anything else, so its ids and those behind it are always the same.
        """
        if len(marked.spans) != 1 or marked.includes_end:
            return []
        text = marked.text[marked.spans[0][1] :]
        if text not in self._ends:
            if len(self._ends) >= MOST_ENDS:
                return []
            ids = self.plain_ids(text) if text else []
            token = self._tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
            # One that takes the white space in front of it would take the answer's.
            apart = token is not None and ids[0] in self.closing_ids and not token.lstrip and not token.normalized
            self._ends[text] = ids if apart and token is not None and text.startswith(token.content) else []
        return self._ends[text]

    def _closed(self, marked: Marked, ids: list[int], answers: list[Span]) -> Tokens:
        if marked.stays_open:
            return self._once_begun(ids, answers)
        runs: list[Span] = []
        closed = False
        for begin, after in answers:
            after_end = 0 if marked.includes_end and ids[after - 1] in self.closing_ids else self._end(ids, after)
            closed = after_end is not None
            _join(runs, begin, max(after, after_end or 0))
        if not closed:
            # The template leaves the last turn open; without an end the model would never stop.
            ids = [*ids, self._eos_id]
            _join(runs, answers[-1][0], len(ids))
        return self._once_begun(ids, runs)

    def _once_begun(self, ids: list[int], runs: list[Span]) -> Tokens:
        """Return a sequence without a second first token."""
        single = self.single_bos(ids)
        skip = len(ids) - len(single)
        if skip:
            runs = [(max(0, begin - skip), after - skip) for begin, after in runs if after > skip]
        return Tokens(single, runs)

    def _end(self, ids: Sequence[int], after: int) -> int | None:
        """Return the place behind the end-of-turn token after an answer, white space between; None without one."""
        for index in range(after, len(ids)):
            if ids[index] in self.closing_ids:
                return index + 1
            if not self._is_blank(ids[index]):
                return None
        return None

    def _is_blank(self, token: int) -> bool:
        if token not in self._blank:
            self._blank[token] = not self._tokenizer.decode([token]).strip()
        return self._blank[token]

    def _located(self, marked: Sequence[Marked]) -> list[tuple[list[int], list[Span]]]:
        """Return ids of rendered texts, and for each character span its first token and the one after its last.

        A text is cut where the last answer starts, because that is where a served prompt ends: otherwise a line feed
        could melt into the answer, and training would see other ids than serving. The template writes its special
        tokens itself, so the tokenizer adds none.
        """
        cuts = [each.spans[-1][0] for each in marked]
        # Without another answer in the front part, nobody asks where its tokens lie.
        located_heads = any(
            len(each.spans) > 1 or each.spans[0][1] <= cut for each, cut in zip(marked, cuts, strict=True)
        )
        heads = self._encoded([each.text[:cut] for each, cut in zip(marked, cuts, strict=True)], located=located_heads)
        tails = self._continuations([each.text[cut:] for each, cut in zip(marked, cuts, strict=True)])
        located: list[tuple[list[int], list[Span]]] = []
        for each, cut, head, tail in zip(marked, cuts, heads, tails, strict=True):
            head_ids = head.ids
            runs = [self._tokens_of(span, cut, head, tail, len(head_ids)) for span in each.spans]
            located.append(([*head_ids, *tail.ids()], runs))
        return located

    def _tokens_of(self, span: Span, cut: int, head: Encoding, tail: "_Tail", num_head: int) -> Span:
        start, end = span
        first = num_head + tail.first_after(0) if start >= cut else _first_after(head, start)
        if end > cut:
            return first, num_head + tail.num_before(end - cut)
        return first, _num_before(head, end)

    def _continuations(self, texts: list[str]) -> list["_Tail"]:
        """Return texts that go on from others, without the space that some tokenizers put first.

        Such a tokenizer is given a character in front that does not melt into the text, and its tokens are taken off.
        """
        if self._cuts_cleanly:
            return [_Tail(encoded, 0, 0) for encoded in self._encoded(texts)]
        found: dict[int, _Tail] = {}
        for lead in _LEADS:
            left = [place for place in range(len(texts)) if place not in found]
            encodings = self._encoded([lead + texts[place] for place in left]) if left else []
            for place, encoded in zip(left, encodings, strict=True):
                if self._stands_apart(lead, encoded):
                    found[place] = _Tail(encoded, len(self._lead_ids[lead]), len(lead))
        left = [place for place in range(len(texts)) if place not in found]
        for place, encoded in zip(left, self._encoded([texts[place] for place in left]) if left else [], strict=True):
            found[place] = _Tail(encoded, 0, 0)
        return [found[place] for place in range(len(texts))]

    def _stands_apart(self, lead: str, encoded: Encoding) -> bool:
        lead_ids = self._lead_ids[lead]
        cut, ids = len(lead_ids), encoded.ids
        if not cut or ids[:cut] != lead_ids or cut >= len(ids):
            return False
        return _chars(encoded, cut)[0] >= len(lead) >= _chars(encoded, cut - 1)[1]

    def _searched(self, marked: Marked) -> tuple[list[int], list[Span]]:
        """Return the same without offsets: by what the ids of the text up to each place have in common with all."""
        text, ids = marked.text, self.plain_ids(marked.text)
        runs: list[Span] = []
        for start, end in marked.spans:
            upto_end = self.plain_ids(text[:end])
            common = _common_length(upto_end, ids)
            runs.append((_common_length(self.plain_ids(text[:start]), ids), common + (common < len(upto_end))))
        return ids, runs

    def _piecewise(self) -> bool:
        """Return whether a text encodes to the ids of its pieces; some tokenizers put a space before each piece."""
        pieces = [self.plain_ids("assistant:\n"), self.plain_ids("Yes")]
        return [*pieces[0], *pieces[1]] == self.plain_ids("assistant:\nYes")

    def _encoded(self, texts: list[str], *, located: bool = True) -> list[Encoding]:
        if self._backend is None:
            encodings: list[Encoding] = list(self._tokenizer(texts, add_special_tokens=False).encodings or ())
            return encodings
        backend = self._ready()
        encode = backend.encode_batch if located else backend.encode_batch_fast
        return list(encode(texts, add_special_tokens=False))

    def _ready(self) -> Any:
        # A call of the tokenizer switches truncation and padding off, as it does for every text.
        self.plain_ids("")
        return self._backend


def _backend_of(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return what encodes for a tokenizer; None where its class does more than hand texts on."""
    kind = type(tokenizer)
    direct = isinstance(tokenizer, TokenizersBackend) and kind._encode_plus is TokenizersBackend._encode_plus
    return tokenizer.backend_tokenizer if direct and kind.__call__ is PreTrainedTokenizerBase.__call__ else None


@dataclass(frozen=True, slots=True)
class _Tail:
    """An encoded text behind a few characters that do not count.

    Attributes:
        encoded: Of the characters and the text.
        skip: Tokens of the characters.
        lead: Number of the characters.
    """

    encoded: Encoding
    skip: int
    lead: int

    def ids(self) -> list[int]:
        return self.encoded.ids[self.skip :]

    def first_after(self, char: int) -> int:
        return max(0, _first_after(self.encoded, char + self.lead) - self.skip)

    def num_before(self, char: int) -> int:
        return max(0, _num_before(self.encoded, char + self.lead) - self.skip)


def _chars(encoded: Encoding, token: int) -> Span:
    """Return the characters of a token."""
    chars: Span | None = encoded.token_to_chars(token)
    return encoded.offsets[token] if chars is None else chars


def _first_after(encoded: Encoding, char: int) -> int:
    """Return the first token that ends behind a character's place."""
    token = encoded.char_to_token(char)
    if token is not None:
        return int(token)
    # No token carries the character, or it is the end of the text.
    return bisect_right([end for _, end in encoded.offsets], char)


def _num_before(encoded: Encoding, char: int) -> int:
    """Return the number of tokens that start before a character's place."""
    token = encoded.char_to_token(char - 1) if char > 0 else None
    if token is None:
        return bisect_left([start for start, _ in encoded.offsets], char)
    count, num_tokens = int(token) + 1, len(encoded)
    # The bytes of one character can be several tokens.
    while count < num_tokens and _chars(encoded, count)[0] < char:
        count += 1
    return count


def _join(runs: list[Span], begin: int, after: int) -> None:
    """Add a stretch behind the others; one with the last where they touch."""
    if runs and begin <= runs[-1][1]:
        runs[-1] = min(begin, runs[-1][0]), max(after, runs[-1][1])
    elif after > begin:
        runs.append((begin, after))


def _common_length(some: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(some, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(some), len(other)))
