"""What tokens spell, one by one, readable also where several tokens share a character."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

PIECE = "⋯"
"""Text of a token that continues a character begun by an earlier one."""
GOES_ON = "##"
"""Mark in front of a WordPiece token that goes on with the word before it; others begin one."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_MAX_PIECES = 16
"""Tokens that one character may take; a family emoji is several characters, each of at most four bytes."""


class TokenTexts:
    """Spells tokens of one tokenizer.

    Args:
        tokenizer: Special and added tokens are shown by their name.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.added_tokens_decoder) | frozenset(tokenizer.all_special_ids)
        self._known: dict[int, str] = {}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._word_pieces = backend is not None and type(backend.model).__name__ == "WordPiece"

    def of(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; a character of several tokens stands at the first, `PIECE` at the others."""
        texts: list[str] = []
        at = 0
        while at < len(ids):
            alone = self._alone(ids[at])
            if self._word_pieces and ids[at] not in self.special_ids:
                alone = self._as_piece(alone, begins=at == 0 or ids[at - 1] in self.special_ids)
            if _BROKEN not in alone or ids[at] in self.special_ids:
                texts.append(alone)
                at += 1
                continue
            text, taken = self._together(ids, at)
            texts += [text, *[PIECE] * (taken - 1)]
            at += taken
        return texts

    def _as_piece(self, text: str, *, begins: bool) -> str:
        """Return a piece of a word with the space that such tokenizers drop, and without the mark of what goes on."""
        if text.startswith(GOES_ON):
            return text.removeprefix(GOES_ON)
        return text if begins else f" {text}"

    def _together(self, ids: Sequence[int], at: int) -> tuple[str, int]:
        """Return what a broken token and those after it spell together, and how many that takes."""
        for taken in range(2, min(_MAX_PIECES, len(ids) - at) + 1):
            if ids[at + taken - 1] in self.special_ids:
                break
            text = str(self._tokenizer.decode(ids[at : at + taken]))
            if _BROKEN not in text:
                return self._with_space(ids[at], text), taken
        return self._alone(ids[at]), 1

    def _alone(self, token: int) -> str:
        text = self._known.get(token)
        if text is None:
            text = self._known[token] = self._spelled(token)
        return text

    def _spelled(self, token: int) -> str:
        if token in self.special_ids:
            return str(self._tokenizer.convert_ids_to_tokens(token))
        return self._with_space(token, str(self._tokenizer.decode([token])))

    def _with_space(self, token: int, text: str) -> str:
        # Decoding from one token on loses the space in front of it.
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        return f" {text}" if piece[:1] in ("▁", "Ġ") and not text.startswith(" ") else text
