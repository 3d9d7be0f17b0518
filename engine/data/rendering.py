"""Canonical rows to token ids and a mask of what is trained: exactly what the trainer will see.

A token is trained when it carries a character of an answer, or ends the answer's turn. Nothing here looks at text again
once the ids exist, so the preview, the preflight and the trainer cannot disagree.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from engine.data.chat_template import CALL_PROBE, PROBE, ChatTemplate, Message, TemplateRefusedError
from engine.data.rows import Row, Tally, spoken_text, turns
from engine.data.spans import Marked, Span, mark_conversation
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

_LEADS = ("\ue0f8", "\n", ".", ")", "a", "0")
"""Characters put in front of an answer to encode it as a continuation; the first is unknown to every vocabulary."""
TEXT_PROMPT_TOKENS = 32
"""Tokens of a plain-text row that a sample continues from."""

RENDER_REASONS = {
    "answer_cut_off": "lose their whole answer when cut to the sequence length",
    "template_refused": "are refused by the chat template",
    "no_tokens": "have no tokens to train on",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence for the trainer.

    Attributes:
        input_ids: Token ids, at most `max_length`.
        trained_mask: 1 where the loss counts, of the same length.
        cut: Whether tokens were cut off at `max_length`.
        id: `file:line` of the row.
        num_before_cut: Tokens before cutting.
    """

    input_ids: list[int]
    trained_mask: list[int]
    cut: bool
    id: str = ""
    num_before_cut: int = 0

    @property
    def num_trained(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.trained_mask)

    @property
    def teaches(self) -> bool:
        """Whether anything is learnt; not from the first token, which nothing predicts."""
        return any(self.trained_mask[1:])


@dataclass(slots=True)
class RenderedRows:
    """Sequences of many rows, and what happened to the others.

    Attributes:
        sequences: In row order; a row can give several.
        dropped: Rows without a sequence, by reason.
        num_cut: Sequences that lost tokens at the end.
        spelled: Rows whose text spells a special token, which the tokenizer reads as that token.
    """

    sequences: list[Rendered] = field(default_factory=list)
    dropped: Tally = field(default_factory=Tally)
    num_cut: int = 0
    spelled: Tally = field(default_factory=Tally)

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(sequence.input_ids) for sequence in self.sequences)

    @property
    def num_trained(self) -> int:
        """Trained tokens of all sequences."""
        return sum(sequence.num_trained for sequence in self.sequences)

    def sentences(self) -> list[str]:
        """Return what was dropped or cut, in plain sentences."""
        lines = [self._dropped_sentence(reason) for reason in self.dropped.counts]
        if self.num_cut:
            lines.append(f"{self.num_cut} of {len(self.sequences)} sequences are cut to the sequence length.")
        for token, count in self.spelled.counts.items():
            rows = "row spells" if count == 1 else "rows spell"
            lines.append(
                clean_line(f"{count} {rows} {token}, which the model reads as a token: {self.spelled.named(token)}.")
            )
        return lines

    def _dropped_sentence(self, reason: str) -> str:
        detail = f" ({self.dropped.details[reason]})" if reason in self.dropped.details else ""
        count = self.dropped.counts[reason]
        rows = "row" if count == 1 else "rows"
        return clean_line(f"{count} {rows} {RENDER_REASONS[reason]}{detail}: {self.dropped.named(reason)}.")

    def problems(self) -> list[Problem]:
        """Return the blocking problem when no sequence is left to train on; empty otherwise."""
        if self.sequences:
            return []
        refused = 0 < self.dropped.counts.get("template_refused", 0) == self.dropped.total()
        fix = "Set model.chat_template to chatml." if refused else "Set training.max_length higher."
        message = f"No row is left to train on: {' '.join(self.sentences())}"
        return [Problem("data.nothing_to_train", clean_line(message, max_chars=800), fix, path="data.source")]


class Renderer:
    """Turns rows into sequences, the same way for training, evaluation and preview."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, system_prompt: str | None = None) -> None:
        """Prepare rendering.

        Args:
            tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
            max_length: Longest sequence in tokens.
            system_prompt: Put in front of conversations without a system message.
        """
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.system_prompt = system_prompt
        self._added_ids = frozenset(tokenizer.added_tokens_decoder) | frozenset(tokenizer.all_special_ids)
        # An unknown character is no end of a turn, although its token is a special one.
        self._closing_ids = self._added_ids - {tokenizer.unk_token_id}
        self._control = _control_pattern(tokenizer)
        self._template: ChatTemplate | None = None
        self._cuts_cleanly = self._piecewise()

    @property
    def template(self) -> ChatTemplate:
        """The chat template, tried when a conversation first needs it.

        Raises:
            ProblemError: The tokenizer has none, or it does not work.
        """
        if self._template is None:
            self._template = ChatTemplate(self.tokenizer)
        return self._template

    @property
    def stop_token_ids(self) -> list[int]:
        """Tokens that end an answer: what the template closes a turn with, and the end of text."""
        stops = {int(self.tokenizer.eos_token_id)}
        if self.tokenizer.chat_template:
            for marked in [*mark_conversation(self.template, PROBE), *self._marked_call()]:
                ids, mask = self._tokens(marked)
                last = [token for token, now, then in zip(ids, mask, [*mask[1:], 0], strict=True) if now and not then]
                stops.update(self._closing_ids.intersection(last))
        return sorted(stops)

    def _marked_call(self) -> list[Marked]:
        """Return a marked call of a tool, because some templates end it with another token than an answer."""
        try:
            return mark_conversation(self.template, CALL_PROBE[:2]) if self.template.writes_calls else []
        except TemplateRefusedError:
            return []

    def render(self, row: Row) -> Rendered:
        """Return the sequence of a row; of several (`render_all`) the last one, which holds the last answer.

        Raises:
            ProblemError: The chat template refuses the row.
        """
        sequences = self.render_all(row)
        return replace(sequences[0], cut=len(sequences) > 1) if "text" in row else sequences[-1]

    def render_all(self, row: Row) -> list[Rendered]:
        """Return every sequence of a row, so that each of its trained tokens is trained once.

        One for most rows. Several for text longer than `max_length` (consecutive windows) and for conversations whose
        earlier answers the chat template rewrites (one for each answer).

        Raises:
            ProblemError: The chat template refuses the row.
        """
        try:
            return self._render_text(row) if "text" in row else self._render_conversation(row)
        except TemplateRefusedError as error:
            message = f"{row.get('id', 'A row')} is refused by the chat template: {error}."
            fix = "Correct the row, or set model.chat_template to chatml."
            raise ProblemError(Problem("template.refused", clean_line(message), fix, path="data.source")) from error

    def render_rows(self, rows: Iterable[Row]) -> RenderedRows:
        """Return the sequences of many rows; rows that would train on nothing are left out and counted."""
        result = RenderedRows()
        for row in rows:
            try:
                sequences = self._render_text(row) if "text" in row else self._render_conversation(row)
            except TemplateRefusedError as error:
                result.dropped.add("template_refused", row["id"], str(error))
                continue
            for token in sorted(set(self._control.findall(_spoken(row)))):
                result.spelled.add(token, row["id"])
            kept = [sequence for sequence in sequences if sequence.teaches]
            if len(kept) < len(sequences) or not sequences:
                result.dropped.add("answer_cut_off" if sequences and "messages" in row else "no_tokens", row["id"])
            result.sequences.extend(kept)
            result.num_cut += sum(sequence.cut for sequence in kept)
        return result

    def prompt_ids(self, row: Row) -> list[int]:
        """Return the ids before the last answer with the generation prompt; for plain text its first tokens."""
        if "text" in row:
            ids = self._text_ids(row["text"])
            return ids[: max(1, min(TEXT_PROMPT_TOKENS, len(ids) // 2))]
        messages = self._messages(row)[:-1]
        template = self.template.with_tools(row.get("tools"), messages)
        return self._single_bos(self._plain_ids(template.render(messages, prompt=True)))

    def prompt_ids_of(self, prompt: str, *, conversation: bool) -> list[int]:
        """Return the ids that ask for an answer to a prompt, or for a continuation of it."""
        if not conversation:
            return self._text_ids(prompt)
        row = {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": ""}]}
        return self.prompt_ids(row)

    def preview(self, row: Row) -> list[dict[str, Any]]:
        """Return the sequences of a row for people.

        Returns:
            A `PreviewRow` for each sequence: `{"id", "tokens": [{"text", "role"}], "num_tokens", "num_trained",
            "cut"}`, the role being `trained`, `special` or `context`.
        """
        return [
            {
                "id": sequence.id,
                "tokens": [
                    {"text": self._token_text(token), "role": self._token_role(token, trained)}
                    for token, trained in zip(sequence.input_ids, sequence.trained_mask, strict=True)
                ],
                "num_tokens": len(sequence.input_ids),
                "num_trained": sequence.num_trained,
                "cut": sequence.cut,
            }
            for sequence in self.render_all(row)
        ]

    def _token_role(self, token: int, trained: int) -> str:
        return "trained" if trained else "special" if token in self._added_ids else "context"

    def _token_text(self, token: int) -> str:
        # The piece itself, because decoding one token loses the space in front of it.
        if token in self._added_ids:
            return str(self.tokenizer.convert_ids_to_tokens(token))
        piece = str(self.tokenizer.convert_ids_to_tokens(token))
        text = str(self.tokenizer.decode([token]))
        return f" {text}" if piece[:1] in ("▁", "Ġ") and not text.startswith(" ") else text

    def _messages(self, row: Row) -> list[Message]:
        messages = list(turns(row))
        if self.system_prompt and (not messages or messages[0]["role"] != "system"):
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def _render_conversation(self, row: Row) -> list[Rendered]:
        marked = mark_conversation(self.template, self._messages(row), row.get("tools"))
        return [self._limited(*self._tokens(each), row) for each in marked]

    def _render_text(self, row: Row) -> list[Rendered]:
        ids = [*self._text_ids(row["text"]), int(self.tokenizer.eos_token_id)]
        windows = _windows(ids, self.max_length)
        return [Rendered(window, [1] * len(window), False, row.get("id", ""), len(ids)) for window in windows]

    def _limited(self, ids: list[int], mask: list[int], row: Row) -> Rendered:
        limit = self.max_length
        return Rendered(ids[:limit], mask[:limit], len(ids) > limit, row.get("id", ""), len(ids))

    def _text_ids(self, text: str) -> list[int]:
        return self._single_bos(list(self.tokenizer(text)["input_ids"]))

    def _single_bos(self, ids: list[int]) -> list[int]:
        # A text that spells the first token gets it twice from tokenizers that add it themselves.
        bos = self.tokenizer.bos_token_id
        return ids[1:] if bos is not None and ids[:2] == [bos, bos] else ids

    def _tokens(self, marked: Marked) -> tuple[list[int], list[int]]:
        """Return ids and mask of a marked text, each answer closed by its end-of-turn token."""
        ids, runs = self._encode(marked.text, marked.spans)
        mask = [0] * len(ids)
        closed = False
        for begin, after in runs:
            mask[begin:after] = [1] * (after - begin)
            closed = (marked.includes_end and ids[after - 1] in self._closing_ids) or self._close(ids, mask, after)
        if not closed:
            # The template leaves the last turn open; without an end the model would never stop.
            begin = runs[-1][0]
            ids, mask = [*ids, int(self.tokenizer.eos_token_id)], [*mask[:begin], *[1] * (len(mask) - begin + 1)]
        skip = len(ids) - len(self._single_bos(ids))
        return ids[skip:], mask[skip:]

    def _close(self, ids: Sequence[int], mask: list[int], after: int) -> bool:
        """Train the end-of-turn token after an answer, with white space between; return whether there is one."""
        for index in range(after, len(ids)):
            if ids[index] in self._closing_ids:
                mask[after : index + 1] = [1] * (index + 1 - after)
                return True
            if self.tokenizer.decode([ids[index]]).strip():
                return False
        return False

    def _encode(self, text: str, spans: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """Return the ids of a rendered text, and for each character span its first token and the one after its last.

        The text is cut where the last answer starts, because that is where a served prompt ends: otherwise a line feed
        could melt into the answer, and training would see other ids than serving. The template writes its special
        tokens itself, so the tokenizer adds none.
        """
        if not self.tokenizer.is_fast:
            return self._encode_without_offsets(text, spans)
        at = spans[-1][0]
        ids, offsets = self._with_offsets(text[:at])
        answer_ids, answer_offsets = self._continuation(text[at:])
        starts = [*(start for start, _ in offsets), *(at + start for start, _ in answer_offsets)]
        ends = [*(end for _, end in offsets), *(at + end for _, end in answer_offsets)]
        return [*ids, *answer_ids], [(bisect_right(ends, start), bisect_left(starts, end)) for start, end in spans]

    def _with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), list(encoded["offset_mapping"])

    def _continuation(self, text: str) -> tuple[list[int], list[Span]]:
        """Return ids and offsets of a text that goes on from another, without the space that some tokenizers put first.

        Such a tokenizer is given a character in front that does not melt into the text, and its tokens are taken off.
        """
        if self._cuts_cleanly:
            return self._with_offsets(text)
        for lead in _LEADS:
            lead_ids = self._plain_ids(lead)
            ids, offsets = self._with_offsets(lead + text)
            cut = len(lead_ids)
            if ids[:cut] == lead_ids and cut < len(ids) and offsets[cut][0] >= len(lead) >= offsets[cut - 1][1]:
                return ids[cut:], [(start - len(lead), end - len(lead)) for start, end in offsets[cut:]]
        return self._with_offsets(text)

    def _encode_without_offsets(self, text: str, spans: Sequence[Span]) -> tuple[list[int], list[Span]]:
        ids = self._plain_ids(text)
        runs: list[Span] = []
        for start, end in spans:
            upto_end = self._plain_ids(text[:end])
            common = _common_length(upto_end, ids)
            runs.append((_common_length(self._plain_ids(text[:start]), ids), common + (common < len(upto_end))))
        return ids, runs

    def _piecewise(self) -> bool:
        """Return whether a text encodes to the ids of its pieces; some tokenizers put a space before each piece."""
        pieces = [self._plain_ids("assistant:\n"), self._plain_ids("Yes")]
        return [*pieces[0], *pieces[1]] == self._plain_ids("assistant:\nYes")

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Return a pattern of the special tokens that data must not spell; the unknown token stands for itself."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    spelled = sorted((special | set(tokenizer.all_special_tokens)) - {tokenizer.unk_token}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, spelled)) or r"(?!)")


def _spoken(row: Row) -> str:
    if "text" in row:
        return str(row["text"])
    tools = [json.dumps(row["tools"], ensure_ascii=False)] if row.get("tools") else []
    return "\n".join([*tools, *map(spoken_text, turns(row))])


def _windows(ids: list[int], size: int) -> list[list[int]]:
    """Cut ids into consecutive windows; the last has at least two tokens, because one alone predicts nothing."""
    starts = list(range(0, len(ids), size))
    if len(starts) > 1 and len(ids) - starts[-1] == 1:
        starts[-1] -= 1
    return [ids[start:stop] for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)]


def _common_length(some: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(some, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(some), len(other)))
