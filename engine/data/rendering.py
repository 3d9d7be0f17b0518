"""Canonical rows to token ids and a mask of what is trained: exactly what the trainer will see.

A token is trained when it carries a character of an answer, or ends the answer's turn. Nothing here looks at text again
once the ids exist, so the X-ray, the preflight and the trainer cannot disagree.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.chat_template import CALL_PROBE, PROBE, ChatTemplate, Message, TemplateRefusedError, shared_alarm
from engine.data.encoding import Encoder, Tokens
from engine.data.frames import NO_LIMIT, Frame, PairCut, cut_pair, frame_of
from engine.data.rendered import ListedSequences, Rendered, RenderedRows, windows
from engine.data.row_encoders import RowEncoder, closing_ids, encode_sources, is_one_turn, row_encoder
from engine.data.rows import Row, asked, spoken_text, turns
from engine.data.spans import Marked, mark_conversation, mark_sides
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

TEXT_PROMPT_TOKENS = 32
"""Tokens of a plain-text row that a sample continues from."""
BATCH_ROWS = 2048
BATCH_CHARS = 1 << 20
"""Rows, or characters of rendered text, that go to the tokenizer in one call."""


@dataclass(slots=True)
class UncutRow:
    """A row as tokens, before anything is cut.

    Attributes:
        row: The row.
        number: Its place among the rows, from 0.
        sequences: One of plain text; of a conversation one, or one for each answer; the sides of a pair.
        refused: Why it cannot be made a sequence; empty when it can.
        reason: The kind of why, a key of `engine.data.rendered.RENDER_REASONS`.
        is_text: Whether it is plain text, which is cut into windows instead of losing its end.
    """

    row: Row
    number: int
    sequences: list[Tokens] = field(default_factory=list)
    refused: str = ""
    reason: str = "template_refused"
    is_text: bool = False


class Renderer:
    """Turns rows into sequences, the same way for training, evaluation and the X-ray."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        system_prompt: str | None = None,
        task: Task | None = None,
        *,
        max_target: int | None = None,
    ) -> None:
        """Prepare rendering.

        Args:
            tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
            max_length: Longest sequence in tokens; of an encoder-decoder model, the longest source.
            system_prompt: Put in front of conversations without a system message.
            task: What the model is asked to give out; None for writing text.
            max_target: Longest text that an encoder-decoder model learns to write, in tokens; None for any.
        """
        self.task = Task() if task is None else task
        self.max_target = max_target
        self._encode_rows: RowEncoder | None = row_encoder(self.task, tokenizer)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.system_prompt = system_prompt
        self._control = _control_pattern(tokenizer)
        self._template: ChatTemplate | None = None

    @cached_property
    def _encoder(self) -> Encoder:
        """What turns texts into ids as they are trained to be written; encoders are never asked to write."""
        return Encoder(self.tokenizer)

    @cached_property
    def frame(self) -> Frame:
        """What stands around the texts of a sequence, and whether it is a source with its target."""
        return frame_of(self.task, self.tokenizer)

    @property
    def learns_rows(self) -> bool:
        """Whether a row teaches by what it is, whichever of its tokens are there: a class is learnt of any text."""
        return self.task.signal == "labels"

    @property
    def keeps_rows_whole(self) -> bool:
        """Whether a row is of no use without all of its sequences, as the sides of a pair are."""
        return self.task.signal in ("preferences", "rewards")

    @property
    def drops_cut_rows(self) -> bool:
        """Whether a row that does not fit is left out instead of losing its end, as a prompt is."""
        return self.task.signal == "prompts"

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
        if self.frame.pairs:
            return sorted(stops | closing_ids(self.tokenizer))
        if self.tokenizer.chat_template:
            for tokens in self._encoder.conversations([*mark_conversation(self.template, PROBE), *self._marked_call()]):
                last = [tokens.ids[after - 1] for _, after in tokens.runs]
                stops.update(self._encoder.closing_ids.intersection(last))
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
        return replace(sequences[0], cut=len(sequences) > 1) if self.is_text(row) else sequences[-1]

    def render_all(self, row: Row) -> list[Rendered]:
        """Return every sequence of a row, so that each of its trained tokens is trained once.

        One for most rows. Several for text longer than `max_length` (consecutive windows) and for conversations whose
        earlier answers the chat template rewrites (one for each answer).

        Raises:
            ProblemError: The chat template refuses the row.
        """
        (uncut,) = self.uncut([row])
        if uncut.refused:
            message = f"{row.get('id', 'A row')} is refused by the chat template: {uncut.refused}."
            fix = "Correct the row, or set model.chat_template to chatml."
            raise ProblemError(Problem("template.refused", clean_line(message), fix, path="data.source"))
        return self._cut(uncut)

    def render_rows(self, rows: Iterable[Row]) -> RenderedRows:
        """Return the sequences of many rows; rows that would train on nothing are left out and counted."""
        result = RenderedRows()
        kept: list[Rendered] = []
        for uncut in self.uncut(rows):
            row_id = uncut.row.get("id", "")
            if uncut.refused:
                result.dropped.add(uncut.reason, row_id, uncut.refused)
                continue
            for token in self.spelled(uncut.row):
                result.spelled.add(token, row_id)
            sequences = self._cut(uncut)
            taught = [sequence for sequence in sequences if sequence.teaches or self.learns_rows]
            if self.drops_cut_rows:
                if any(sequence.cut for sequence in sequences):
                    result.dropped.add("prompt_too_long", row_id)
                else:
                    kept.extend(sequences)
                continue
            if self.keeps_rows_whole and len(taught) < len(sequences):
                taught = []
            if len(taught) < len(sequences) or not sequences:
                result.dropped.add("answer_cut_off" if sequences and not uncut.is_text else "no_tokens", row_id)
            kept.extend(taught)
            result.num_cut += sum(sequence.cut for sequence in taught)
            if self.frame.pairs:
                result.num_targets_cut += sum(len(each.ids) > self._pair_cut(each).end for each in uncut.sequences)
        result.sequences = ListedSequences(kept)
        return result

    def uncut(self, rows: Iterable[Row]) -> Iterator[UncutRow]:
        """Yield rows as tokens, whole and in order; what the tokenizer does overlaps with what the template does."""
        # One at a time: two at once were measured on two cores and no faster.
        with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as tokenizer:
            ahead: Future[list[UncutRow]] | None = None
            for batch in self._batches(rows):
                behind, ahead = ahead, tokenizer.submit(self._encoded, batch)
                if behind is not None:
                    yield from behind.result()
            if ahead is not None:
                yield from ahead.result()

    def is_text(self, row: Row) -> bool:
        """Return whether a row is plain text, which is cut into windows instead of losing its end."""
        return self.task.signal == "text" or (self.task.signal == "answers" and "text" in row)

    def spelled(self, row: Row) -> list[str]:
        """Return the special tokens that the text of a row spells, which the tokenizer reads as those tokens."""
        return sorted(set(self._control.findall(_spoken(row))))

    def prompt_ids(self, row: Row) -> list[int]:
        """Return the ids before the last answer with the generation prompt; for plain text its first tokens."""
        if self.frame.pairs:
            (ids,) = encode_sources(self.task, self.tokenizer, [row])
            kept = cut_pair(len(ids), len(ids), self.max_length, 0, len(self.frame.tail))
            return [*ids[: kept.gap_begin], *ids[kept.gap_end :]]
        if "prompt" in row:
            return self._encoder.single_bos(self._encoder.plain_ids(self._marked_prompt(row).text))
        if "text" in row:
            ids = self._encoder.text_ids(row["text"])
            return ids[: max(1, min(TEXT_PROMPT_TOKENS, len(ids) // 2))]
        messages = self.messages(row)[:-1]
        template = self.template.with_tools(row.get("tools"), messages)
        return self._encoder.single_bos(self._encoder.plain_ids(template.render(messages, prompt=True)))

    def prompt_ids_of(self, prompt: str, *, conversation: bool) -> list[int]:
        """Return the ids that ask for an answer to a prompt, or for a continuation of it."""
        if not conversation and not self.frame.pairs:
            return self._encoder.text_ids(prompt)
        row = {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": ""}]}
        return self.prompt_ids(row)

    def messages(self, row: Row) -> list[Message]:
        """Return the turns of a conversation as the chat template gets them: system prompt and prefix in place."""
        messages = list(turns(row))
        if self.task.prefix:
            messages = [
                {**turn, "content": f"{self.task.prefix}{turn['content']}"} if turn["role"] == "user" else turn
                for turn in messages
            ]
        if self.system_prompt and (not messages or messages[0]["role"] != "system"):
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def _batches(self, rows: Iterable[Row]) -> Iterator[list[tuple[UncutRow, list[Marked]]]]:
        """Yield rows with their marked texts (none for plain text), as many as go to the tokenizer in one call."""
        numbered = enumerate(rows)
        while batch := self._batch(numbered):
            yield batch

    def _batch(self, numbered: Iterator[tuple[int, Row]]) -> list[tuple[UncutRow, list[Marked]]]:
        batch: list[tuple[UncutRow, list[Marked]]] = []
        num_chars = 0
        with shared_alarm():
            for number, row in numbered:
                uncut = UncutRow(row, number, is_text=self.is_text(row))
                if self.frame.pairs and not is_one_turn(row):
                    uncut.refused, uncut.reason = "several turns", "not_one_turn"
                marked = self._marked(uncut) if self._encode_rows is None and not uncut.is_text else []
                batch.append((uncut, marked))
                num_chars += sum(len(each.text) for each in marked) or len(_spoken(row))
                if len(batch) == BATCH_ROWS or num_chars >= BATCH_CHARS:
                    break
        return batch

    def _marked(self, uncut: UncutRow) -> list[Marked]:
        try:
            row = uncut.row
            if self.task.signal == "prompts":
                return [self._marked_prompt(asked(row))]
            if "messages" in row:
                return mark_conversation(self.template, self.messages(row), row.get("tools"))
            return mark_sides(self.template, row, self.system_prompt)
        except TemplateRefusedError as error:
            uncut.refused = str(error)
            return []

    def _marked_prompt(self, row: Row) -> Marked:
        """Return the prompt of a row, whatever answers stand beside it."""
        (marked,) = mark_sides(
            self.template, {key: row[key] for key in ("prompt", "tools") if key in row}, self.system_prompt
        )
        return marked

    def _encoded(self, batch: Sequence[tuple[UncutRow, list[Marked]]]) -> list[UncutRow]:
        if self._encode_rows is not None:
            fitting = [uncut for uncut, _ in batch if not uncut.refused]
            encoded = self._encode_rows([uncut.row for uncut in fitting])
            for uncut, sequences in zip(fitting, encoded, strict=True):
                uncut.sequences = sequences
            return [uncut for uncut, _ in batch]
        texts = iter(self._encoder.texts([uncut.row["text"] for uncut, _ in batch if uncut.is_text]))
        conversations = iter(self._encoder.conversations([each for _, marked in batch for each in marked]))
        for uncut, marked in batch:
            sides = [] if uncut.is_text else list(islice(conversations, len(marked)))
            if self.task.signal == "prompts":
                # Nothing of a prompt is learnt: it is what the model answers.
                uncut.sequences = [replace(each, runs=[], targets=told(asked(uncut.row))) for each in sides]
            else:
                uncut.sequences = [next(texts)] if uncut.is_text else _sides(uncut.row, sides)
        return [uncut for uncut, _ in batch]

    def _cut(self, uncut: UncutRow) -> list[Rendered]:
        row_id, limit = uncut.row.get("id", ""), self.max_length
        if uncut.is_text:
            return self._windows(uncut.sequences, row_id)
        if self.frame.pairs:
            return [self._cut_of_pair(each, row_id) for each in uncut.sequences]
        return [
            Rendered(each.ids[:limit], _mask(each, limit), len(each.ids) > limit, row_id, len(each.ids), each.targets)
            for each in uncut.sequences
        ]

    def _windows(self, whole: Sequence[Tokens], row_id: str) -> list[Rendered]:
        """Return a text in consecutive windows, each with what stands around it."""
        head, tail = self.frame.head, self.frame.tail
        around = [0] * len(head), [0] * len(tail)
        found: list[Rendered] = []
        for each in whole:
            mask = _mask(each, len(each.ids))
            for at, end in windows(len(each.ids), self.frame.window(self.max_length)):
                ids, trained = [*head, *each.ids[at:end], *tail], [*around[0], *mask[at:end], *around[1]]
                found.append(Rendered(ids, trained, False, row_id, len(each.ids)))
        return found

    def _pair_cut(self, pair: Tokens) -> PairCut:
        limit = NO_LIMIT if self.max_target is None else self.max_target
        return cut_pair(pair.runs[0][0], len(pair.ids), self.max_length, limit, len(self.frame.tail))

    def _cut_of_pair(self, pair: Tokens, row_id: str) -> Rendered:
        kept, mask = self._pair_cut(pair), _mask(pair, len(pair.ids))
        ids, trained = pair.ids[: kept.end], mask[: kept.end]
        del ids[kept.gap_begin : kept.gap_end], trained[kept.gap_begin : kept.gap_end]
        return Rendered(ids, trained, len(ids) < len(pair.ids), row_id, len(pair.ids))


def renderer_of(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """Return the renderer of a plan's rows.

    Args:
        plan: With every value filled in.
        tokenizer: As returned by `engine.models.tokenizers.load_tokenizer`.
    """
    recipe = plan.recipe
    length = recipe.row_tokens or plan.model.context_length
    target = recipe.text_to_text.max_target_length
    return Renderer(tokenizer, length, recipe.data.system_prompt, plan.task, max_target=target)


def _sides(row: Row, tokens: Iterable[Tokens]) -> list[Tokens]:
    """Return the sequences of a conversation, those of answers that are judged with what was said of them."""
    if "chosen" in row:
        return [replace(each, targets=(good,)) for each, good in zip(tokens, (1, 0), strict=True)]
    if "completion" in row and isinstance(row.get("label"), bool):
        return [replace(each, targets=(int(row["label"]),)) for each in tokens]
    return list(tokens)


def told(row: Row) -> tuple[int, ...]:
    """Return what rewards are told of a prompt row, as the bytes of a JSON object; its id goes beside it."""
    known = {key: value for key, value in row.items() if key != "id"}
    return tuple(json.dumps(known, ensure_ascii=True, separators=(",", ":")).encode())


def _mask(tokens: Tokens, limit: int) -> list[int]:
    mask = [0] * len(tokens.ids)
    for begin, after in tokens.runs:
        mask[begin:after] = [1] * (after - begin)
    return mask[:limit]


def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Return a pattern of the special tokens that data must not spell; the unknown token stands for itself."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    spelled = sorted((special | set(tokenizer.all_special_tokens)) - {tokenizer.unk_token}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, spelled)) or r"(?!)")


def _spoken(row: Row) -> str:
    if "text" in row:
        return str(row["text"])
    if "tokens" in row:
        return " ".join(row["tokens"])
    tools = [json.dumps(row["tools"], ensure_ascii=False)] if row.get("tools") else []
    spoken = [turn for key in ("prompt", "chosen", "rejected", "completion") for turn in row.get(key, ())]
    return "\n".join([*tools, *map(spoken_text, [*turns(row), *spoken])])
