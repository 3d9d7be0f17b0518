"""The few-shot baseline: the untouched base model with examples in its prompt, to hold a fine-tune against.

Examples come from the training rows and stand in front of every held-out question: as turns of the conversation for
models that know a chat template, as plain text for those that do not.
"""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.data.chat_template import TemplateRefusedError
from engine.data.cleaning.facts import key_of
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.data.rows import Row, last_answer, spoken_text, turns
from engine.evaluation.prompts import Question
from engine.evaluation.scoring import TokenRow

_NAMES = {"user": "User:", "assistant": "Assistant:", "tool": "Tool:"}
"""How plain text marks who speaks; most text that base models have read marks it so."""
_AFTER_TURN = {"user": "\n", "assistant": "\n\n", "tool": "\n"}


def choose_examples(train_rows: Sequence[Row], held_out_rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return training rows to show, the same ones for the same seed and rows.

    They are drawn from the shorter half of the rows, so that they fit; rows with other answers are preferred, so that
    three examples of a label do not hide the other labels. A row that asks what a held-out row asks is never taken.
    What is held of a row while choosing are hashes and numbers, 32 bytes, so that many rows are no matter.

    Args:
        train_rows: Rows in canonical form; plain text is passed over.
        held_out_rows: Rows that the model is judged on.
        count: Examples wanted.
        seed: Of the run.
    """
    if not count:
        return []
    asked = {key_of(*_question(row)) for row in held_out_rows if turns(row)}
    places, lengths = array("q"), array("q")
    questions, answers = array("Q"), array("Q")
    for place, row in enumerate(train_rows):
        if turns(row) and (question := key_of(*_question(row))) not in asked:
            places.append(place)
            questions.append(question)
            answers.append(key_of(last_answer(row)))
            lengths.append(sum(len(spoken_text(turn)) for turn in _spoken(row)))
    different = np.unique(np.array(questions, np.uint64), return_index=True)[1]
    by_length = different[np.argsort(np.array(lengths, np.int64)[different], kind="stable")]
    shorter = by_length[: max(count, (len(by_length) + 1) // 2)].tolist()
    random.Random(seed).shuffle(shorter)
    return [train_rows[places[number]] for number in _fresh_first(shorter, answers, count)]


def _fresh_first(numbers: Sequence[int], answers: Sequence[int], count: int) -> list[int]:
    """Return so many numbers, those with an answer that none before them has first."""
    seen: set[int] = set()
    fresh: list[int] = []
    others: list[int] = []
    for number in numbers:
        (others if answers[number] in seen else fresh).append(number)
        seen.add(answers[number])
        if len(fresh) == count:
            break
    return [*fresh, *others][:count]


def _question(row: Row) -> tuple[str, ...]:
    """Return all that is said before the last answer."""
    return tuple(spoken_text(turn).strip() for turn in _spoken(row)[:-1])


def _spoken(row: Row) -> list[dict[str, str]]:
    return [turn for turn in turns(row) if turn["role"] != "system"]


@dataclass
class FewShot:
    """Puts examples in front of held-out questions, as many as the model's context has room for.

    Attributes:
        tokenizer: Of the model.
        renderer: As training and the other measurements use it.
        examples: Training rows to show, in order.
        context: Longest sequence of the model, in tokens.
        max_new_tokens: Room that an answer needs, in tokens.
        plain_text: Write prompts as plain text, for a model that knows no chat template.
        shortened: Ids of rows that had room for fewer examples, once they were rendered.
    """

    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    examples: Sequence[Row]
    context: int
    max_new_tokens: int
    plain_text: bool = False
    shortened: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._wide = Renderer(self.tokenizer, self.context, self.renderer.system_prompt, self.renderer.task)

    def limited_to(self, rows: Sequence[Row]) -> "FewShot":
        """Return the same with no more examples than fit in front of the shortest of these rows."""
        shortest = min(rows, key=lambda row: sum(len(text) for text in _question(row)))
        for count in range(len(self.examples), 0, -1):
            ids = self._prompt_ids(shortest, count)
            if ids is not None and len(ids) + self.max_new_tokens <= self.context:
                return replace(self, examples=self.examples[:count], shortened=set())
        return replace(self, examples=[], shortened=set())

    def token_rows(self, rows: Sequence[Row]) -> list[TokenRow]:
        """Return the sequences of held-out rows behind the examples; only the rows' own answers are trained tokens."""
        return [token_row for row in rows for token_row in self._token_rows(row) if token_row.num_trained]

    def ask(self, row: Row, question: Question) -> Question:
        """Return a question of `row` with the examples in front of it."""
        cut = {**row, "messages": [*turns(row)[: question.num_turns], {"role": "assistant", "content": ""}]}
        for count in range(len(self.examples), -1, -1):
            ids = self._prompt_ids(cut, count)
            if ids is not None and len(ids) + self.max_new_tokens <= self.context:
                self._note(row, count)
                return replace(question, input_ids=ids)
        return question

    def ask_typed(self, question: Question) -> Question:
        """Return the question of a typed prompt with the examples in front of it."""
        row = {"id": "", "messages": [{"role": "user", "content": question.prompt}]}
        return self.ask(row, replace(question, num_turns=1))

    def answer_in(self, text: str) -> str:
        """Return the answer alone; a model without a chat template goes on with the next question."""
        return text.split(f"\n{_NAMES['user']}")[0].strip() if self.plain_text else text

    def remarks(self) -> list[str]:
        """Return what people should know of how the examples were used."""
        if not self.shortened:
            return []
        rows = "1 held-out row had" if len(self.shortened) == 1 else f"{len(self.shortened)} held-out rows had"
        return [f"{rows} room for fewer than {len(self.examples)} examples in the context of {self.context} tokens."]

    def _note(self, row: Row, count: int) -> None:
        if count < len(self.examples) and row.get("id"):
            self.shortened.add(str(row["id"]))

    def _prompt_ids(self, row: Row, count: int) -> list[int] | None:
        """Return the prompt of a row's last answer behind `count` examples; None when the template refuses it."""
        shown = self._behind_examples(row, count)
        if self.plain_text:
            text, spans = self._as_text(shown, num_own=1)
            return self._wide.prompt_ids_of(text[: spans[-1][0]], conversation=False)
        try:
            return self._wide.prompt_ids(shown)
        except TemplateRefusedError:
            return None

    def _behind_examples(self, row: Row, count: int) -> Row:
        system = [turn for turn in turns(row) if turn["role"] == "system"]
        shown = [turn for example in self.examples[:count] for turn in _spoken(example)]
        return {**row, "messages": [*system, *shown, *_spoken(row)]}

    def _token_rows(self, row: Row) -> list[TokenRow]:
        for count in range(len(self.examples), -1, -1):
            sequences = self._text_rows(row, count) if self.plain_text else self._chat_rows(row, count)
            if sequences is not None:
                self._note(row, count)
                return sequences
        return []

    def _chat_rows(self, row: Row, count: int) -> list[TokenRow] | None:
        """Return the sequences of a row with their own trained tokens; None when the context is too small for them."""
        own = self._wide.render_rows([row]).sequences
        if not count or not own:
            return [TokenRow(each.input_ids, each.trained_mask) for each in self.renderer.render_rows([row]).sequences]
        whole: Sequence[Rendered] = self._wide.render_rows([self._behind_examples(row, count)]).sequences
        if not whole or any(sequence.cut for sequence in whole):
            return None
        if len(whole) == 1:
            num_trained = [sum(sequence.num_trained for sequence in own)]
        else:
            # The template rewrites earlier answers: each has a sequence of its own, and those of the examples go.
            whole = whole[-sum(turn["role"] == "assistant" for turn in turns(row)) :]
            num_trained = [sequence.num_trained for sequence in whole]
        # What the other measurements cut off is cut off here too.
        end = max(0, len(whole[-1].input_ids) - len(own[-1].input_ids)) + self.renderer.max_length
        return [_ending_in(sequence, number, end) for sequence, number in zip(whole, num_trained, strict=True)]

    def _text_rows(self, row: Row, count: int) -> list[TokenRow] | None:
        num_own = sum(turn["role"] == "assistant" for turn in turns(row))
        text, spans = self._as_text(self._behind_examples(row, count), num_own=num_own)
        ids = self._wide.prompt_ids_of(text, conversation=False)
        limit = self.context if count else min(self.context, self.renderer.max_length)
        if len(ids) > limit and count:
            return None
        mask = [0] * len(ids)
        for start, end in spans:
            first, after = (self._place(text[:at], ids) for at in (start, end))
            mask[first:after] = [1] * (after - first)
        return [TokenRow(ids[:limit], mask[:limit])]

    def _place(self, text: str, ids: Sequence[int]) -> int:
        """Return how many tokens a beginning of the text has in common with the whole."""
        part = self._wide.prompt_ids_of(text, conversation=False)
        pairs = enumerate(zip(part, ids, strict=False))
        return next((place for place, (left, right) in pairs if left != right), min(len(part), len(ids)))

    def _as_text(self, row: Row, *, num_own: int) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation as plain text and the character spans of its last `num_own` answers.

        A span starts behind the colon, where a prompt ends, and holds the blank line that ends the answer.
        """
        system = next((turn["content"] for turn in turns(row) if turn["role"] == "system"), self._wide.system_prompt)
        text = f"{system}\n\n" if system else ""
        spans = []
        for turn in _spoken(row):
            text += _NAMES[turn["role"]]
            start = len(text)
            text += f" {spoken_text(turn).strip()}{_AFTER_TURN[turn['role']]}"
            if turn["role"] == "assistant":
                spans.append((start, len(text)))
        return text, spans[-num_own:]


def _ending_in(sequence: Rendered, num_trained: int, end: int) -> TokenRow:
    """Return the first `end` tokens of a sequence with only its last `num_trained` trained tokens left trained."""
    surplus = sequence.num_trained - num_trained
    mask = list(sequence.trained_mask)
    for place, flag in enumerate(mask):
        if surplus <= 0:
            break
        mask[place] = 0
        surplus -= flag
    return TokenRow(sequence.input_ids[:end], mask[:end])
