"""Measure a model on held-out rows: teacher-forced numbers, generated answers, samples to read."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from engine.catalog.metrics import GENERATING_CHOICES
from engine.data.chat_template import TemplateRefusedError
from engine.data.cleaning.personal import hide_secrets
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.evaluation.batches import in_batches
from engine.evaluation.few_shot import FewShot
from engine.evaluation.generation import Answerer, EvaluationInterrupted, context_length, generation_share
from engine.evaluation.isolation import undisturbed
from engine.evaluation.measurement import TEST_PHASES, Measurement, Phase, Sample, save_measurement
from engine.evaluation.measures import default_metrics
from engine.evaluation.prompts import (
    CONTINUATION_TOKENS,
    Question,
    question_from_prompt,
    question_from_row,
)
from engine.evaluation.scores import score_answers, score_sums
from engine.evaluation.scoring import RowScore, TokenRow, TokenScorer
from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.recipe.schema import Recipe

Emit = Callable[..., None]

NUM_SAMPLES = 3
"""Held-out rows that are answered as samples when the recipe names no prompts."""
SAMPLE_TOKENS_DURING = 64
"""Longest sample while training waits."""
DEFAULT_NEW_TOKENS = 256
DEFAULT_MAX_LENGTH = 1024
__all__ = ["EvaluationInterrupted", "Measurement", "measure"]


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    renderer: Renderer,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    phase: Phase,
    step: int,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
    want_generation: bool = True,
    folder: Path | None = None,
    micro_batch: int | None = None,
    few_shot: FewShot | None = None,
) -> Measurement:
    """Measure a model; training goes on afterwards as if nothing had happened.

    Loss, perplexity and token accuracy cover the trained tokens of the first `evaluation.max_rows` rows; every token
    weighs the same. Exact match and ROUGE cover greedy answers to the first `evaluation.generate_rows` rows and are
    left out during training, which only answers the sample prompts.

    Args:
        model: Full, PEFT or 4-bit model.
        rows: Held-out rows in canonical form.
        recipe: The plan's recipe, with every value filled in.
        emit: Called as `emit(type, **payload)` with `evaluation.*`, `samples.generated` and `notice.raised` events.
        should_stop: Asked between batches and at every generated token.
        want_generation: Generate at all; otherwise only the teacher-forced numbers.
        folder: The run's `evaluation/` folder; the measurement is written there when given.
        micro_batch: Rows that training holds in memory at once, where that is no longer what the recipe says.
        few_shot: Examples to put in front of every question; the same rows, questions and answers are measured.

    Where memory runs out, the same rows are taken in smaller batches, down to single rows; what even then does not fit
    is left out, with a remark and a notice, and the rest is measured.

    Raises:
        EvaluationInterrupted: `should_stop` became true; nothing was written.
    """
    rows_at_once = micro_batch or recipe.training.micro_batch or 1
    ask, stop = emit or _ignore, should_stop or _never
    job = _Job(model, tokenizer, renderer, rows, recipe, phase, step, ask, stop, rows_at_once, few_shot)
    try:
        with undisturbed(model):
            measurement = job.run(want_generation)
    finally:
        # What measuring took is not kept from training.
        give_back_memory()
    if folder is not None:
        save_measurement(measurement, folder)
    job.report(measurement)
    return measurement


@dataclass
class _Job:
    """One measurement under way; holds what its steps share."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    rows: Sequence[Row]
    recipe: Recipe
    phase: Phase
    step: int
    emit: Emit
    should_stop: Callable[[], bool]
    micro_batch: int
    few_shot: FewShot | None = None
    remarks: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    @property
    def _kind(self) -> str:
        return "test" if self.phase in TEST_PHASES else "held-out"

    @property
    def plain_text(self) -> bool:
        return self.recipe.objective == "domain-adaptation"

    @property
    def metrics(self) -> Sequence[str]:
        return self.recipe.evaluation.metrics or default_metrics(self.recipe.objective)

    @property
    def precision(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.recipe.training.precision or "float32")
        return dtype

    @property
    def max_batch_tokens(self) -> int:
        """Tokens of one training micro-batch: what fitted with gradients fits without."""
        return self.micro_batch * (self.recipe.training.max_length or DEFAULT_MAX_LENGTH)

    def run(self, want_generation: bool) -> Measurement:
        """Measure; the caller has put the model in evaluation mode."""
        started = time.monotonic()
        token_rows = self._token_rows()
        questions = self._scored_questions() if want_generation else []
        num_scored = len(questions)
        sample_places = self._add_samples(questions) if want_generation else []
        self.total = len(token_rows) + len(questions)
        self.emit("evaluation.started", phase=self.phase, step=self.step, num_rows=len(token_rows))
        scores = self._unless_too_large("the loss", lambda: self._score(token_rows)) or []
        texts = self._unless_too_large("generated answers", lambda: self._answer(questions)) or []
        if not texts:
            sample_places = []
        answers = [
            (question, text) for question, text in zip(questions[:num_scored], texts, strict=False) if text is not None
        ]
        metrics = self._numbers(scores) | score_answers(
            [text for _, text in answers], [question.expected for question, _ in answers], self.metrics
        )
        self._remark(metrics, has_rows=bool(token_rows), num_too_long=sum(text is None for text in texts))
        return Measurement(
            phase=self.phase,
            step=self.step,
            metrics=metrics,
            samples=[
                Sample(hide_secrets(question.prompt), hide_secrets(question.expected), hide_secrets(text))
                for question, text in ((questions[place], texts[place]) for place in sample_places)
                if text is not None
            ],
            num_rows=len(scores),
            num_tokens=sum(score.tokens for score in scores),
            num_generated=len(answers),
            elapsed_s=round(time.monotonic() - started, 3),
            # Files of a run are copied and its samples shown; a token that stands in a row stays out of them.
            answers=[
                {
                    "id": question.id,
                    "prompt": hide_secrets(question.prompt),
                    "expected": hide_secrets(question.expected),
                    "text": hide_secrets(text),
                }
                for question, text in answers
            ],
            remarks=self.remarks,
            examples=list(self.few_shot.examples) if self.few_shot else [],
        )

    def report(self, measurement: Measurement) -> None:
        """Emit what was found."""
        # What is wrong with rows is so at each evaluation; it is told once and kept in every file.
        told = measurement.remarks if self.phase in ("before", "test_before") else self.alarms
        shown = {"num_examples": len(measurement.examples)} if self.few_shot else {}
        for remark in told:
            self.emit("notice.raised", severity="warning", code="evaluation.remark", message=remark)
        self.emit(
            "evaluation.completed",
            phase=self.phase,
            step=self.step,
            metrics=measurement.metrics,
            num_rows=measurement.num_rows,
            elapsed_s=measurement.elapsed_s,
            **shown,
        )
        if measurement.samples:
            samples = [asdict(sample) for sample in measurement.samples]
            self.emit("samples.generated", phase=self.phase, step=self.step, samples=samples)

    def _token_rows(self) -> list[TokenRow]:
        """Return the sequences of the held-out rows; of plain text, where a row can be a book, as many as rows."""
        limit = self.recipe.evaluation.max_rows
        rows = self.rows[:limit]
        rendered = self.renderer.render_rows(rows)
        num_dropped = rendered.dropped.total()
        if num_dropped:
            self.remarks.append(
                f"{num_dropped} of {len(rows)} {self._kind} rows count in no loss: {' '.join(rendered.sentences())}"
            )
        if self.few_shot:
            return self.few_shot.token_rows(rows)
        sequences = rendered.sequences[:limit] if self.plain_text else rendered.sequences
        token_rows = [TokenRow(sequence.input_ids, sequence.trained_mask) for sequence in sequences]
        return [row for row in token_rows if row.num_trained]

    def _scored_questions(self) -> list[Question]:
        """Return the held-out rows to be answered and compared; none during training."""
        if self.phase == "during" or not GENERATING_CHOICES.intersection(self.metrics):
            return []
        return self._questions(self.recipe.evaluation.generate_rows)

    def _questions(self, limit: int) -> list[Question]:
        """Return the questions of the first rows that pose one; rows that do not are counted in a remark."""
        questions: list[Question] = []
        num_without = 0
        for row in self.rows:
            if len(questions) == limit:
                break
            try:
                question = question_from_row(row, self.tokenizer, self.renderer, self._max_prompt_tokens())
            except TemplateRefusedError:
                # Named where the rows are rendered for the loss.
                question = None
            if question is not None:
                questions.append(self.few_shot.ask(row, question) if self.few_shot else question)
            else:
                num_without += 1
        if num_without:
            self.remarks.append(
                f"{num_without} {self._kind} rows were not asked: they have no answer whose question fits into "
                f"{self._max_prompt_tokens()} tokens."
            )
        return questions

    def _max_prompt_tokens(self) -> int:
        """Longest prompt asked: what training could see before an answer, with room for one token in the context."""
        return min(self.recipe.training.max_length or DEFAULT_MAX_LENGTH, context_length(self.model) - 1)

    def _add_samples(self, questions: list[Question]) -> list[int]:
        """Append the sample questions that are not asked anyway; return where all of them stand."""
        if self.phase in TEST_PHASES:
            # Samples show how held-out rows are answered over the run; test rows are for numbers.
            return []
        prompts = self.recipe.evaluation.sample_prompts
        if prompts is None:
            if not questions:
                questions.extend(self._questions(NUM_SAMPLES))
            return list(range(min(NUM_SAMPLES, len(questions))))
        first = len(questions)
        typed = [question_from_prompt(prompt, self.renderer, plain_text=self.plain_text) for prompt in prompts]
        questions.extend(map(self.few_shot.ask_typed, typed) if self.few_shot else typed)
        return list(range(first, len(questions)))

    def _score(self, rows: Sequence[TokenRow]) -> list[RowScore]:
        pad_id = self.tokenizer.pad_token_id
        scorer = TokenScorer(self.model, precision=self.precision, pad_id=int(pad_id) if pad_id is not None else 0)
        scores: list[RowScore] = []

        def score(batch: Sequence[TokenRow]) -> list[RowScore]:
            if self.should_stop():
                raise EvaluationInterrupted
            return scorer.score(batch)

        for batch, found in in_batches(
            rows, lambda row: len(row.input_ids), self.max_batch_tokens, score, self._tell_smaller
        ):
            scores.extend(found)
            self._advance(len(batch))
        return scores

    def _unless_too_large(self, what: str, work: Callable[[], list[Any]]) -> list[Any] | None:
        """Return what work returns; None, with a remark, when memory runs out with a single row."""
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        give_back_memory()
        # All of it, and not only the rows that do not fit: before and after must be of the same rows.
        self._alarm(
            f"There was not enough memory for {what}, not even with one {self._kind} row at a time: it is left out of "
            f"the measurement {self._moment}."
        )
        return None

    def _tell_smaller(self, num_rows: int, fewer: int) -> None:
        self.emit(
            "notice.raised",
            severity="note",
            code="evaluation.smaller_batches",
            message=f"Out of memory while {num_rows} {self._kind} rows were measured at once {self._moment}. Going on "
            f"with {fewer}; the numbers are the same.",
        )

    @property
    def _moment(self) -> str:
        match self.phase:
            case "during":
                return f"at step {self.step}"
            case "few_shot":
                return "with examples in the prompt"
            case "test_before" | "test":
                return f"{'before' if self.phase == 'test_before' else 'after'} training"
            case _:
                return f"{self.phase} training"

    def _alarm(self, sentence: str) -> None:
        """Remark on something that is told whenever it happens."""
        self.alarms.append(sentence)
        self.remarks.append(sentence)

    def _answer(self, questions: Sequence[Question]) -> list[str | None]:
        if not questions:
            return []
        checkpointing = bool(self.recipe.training.activation_checkpointing)
        share = generation_share(self.model, activation_checkpointing=checkpointing)
        answerer = Answerer(
            self.model,
            self.tokenizer,
            max_new_tokens=self._max_new_tokens(),
            micro_batch_tokens=self.max_batch_tokens,
            cached_share=share,
            precision=self.precision,
            should_stop=self.should_stop,
        )
        texts = answerer.answer([question.input_ids for question in questions], self._advance, self._tell_smaller)
        if self.few_shot is None:
            return texts
        return [None if text is None else self.few_shot.answer_in(text) for text in texts]

    def _max_new_tokens(self) -> int:
        limit = self.recipe.evaluation.max_new_tokens or DEFAULT_NEW_TOKENS
        if self.plain_text:
            limit = min(limit, CONTINUATION_TOKENS)
        return min(limit, SAMPLE_TOKENS_DURING) if self.phase == "during" else limit

    def _advance(self, number: int) -> None:
        if number:
            self.done += number
            self.emit("evaluation.progressed", phase=self.phase, done=self.done, total=self.total)

    def _numbers(self, scores: Sequence[RowScore]) -> dict[str, float]:
        """Return the teacher-forced numbers: the loss always, the others when the recipe asks for them."""
        values = score_sums(
            [score.loss for score in scores], [score.right for score in scores], [score.tokens for score in scores]
        )
        return {name: value for name, value in values.items() if name == "loss" or name in self.metrics}

    def _remark(self, metrics: Mapping[str, float], *, has_rows: bool, num_too_long: int) -> None:
        if self.few_shot:
            self.remarks.extend(self.few_shot.remarks())
        if not has_rows:
            self.remarks.append("There is no held-out row to measure the loss on.")
        for name in ("loss", "perplexity"):
            if name in metrics and not math.isfinite(metrics[name]):
                self._alarm(f"The held-out {name} is no finite number.")
                break
        if num_too_long:
            self.remarks.append(
                f"{num_too_long} sample prompts fill the model's context of {context_length(self.model)} tokens and "
                "were not answered."
            )


def _ignore(event_type: str, **payload: Any) -> None:
    """Drop an event."""


def _never() -> bool:
    return False
