"""Measure a model that writes: teacher-forced numbers, generated answers, samples to read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.catalog.metrics import GENERATING_CHOICES, METRIC_NAMES, find_metric
from engine.data.chat_template import TemplateRefusedError
from engine.data.cleaning.personal import hide_secrets
from engine.data.rendered import Rendered
from engine.evaluation.checked_answers import Checked, WrittenAnswer, check_answers
from engine.evaluation.general import passages, read_general
from engine.evaluation.generation import Answerer, context_length, generation_share
from engine.evaluation.job import DEFAULT_MAX_LENGTH, Examined, Job
from engine.evaluation.kept_rows import RowGroup, only
from engine.evaluation.measurement import COMPARED_PHASES, TEST_PHASES, Sample
from engine.evaluation.prompts import (
    CONTINUATION_TOKENS,
    Question,
    question_from_prompt,
    question_from_row,
)
from engine.evaluation.row_groups import answer_groups, token_groups
from engine.evaluation.scores import score_answers, score_sums
from engine.evaluation.scoring import RowScore, TokenRow, TokenScorer
from engine.evaluation.target_scoring import TargetScorer

NUM_SAMPLES = 3
"""Held-out rows that are answered as samples when the recipe names no prompts."""
SAMPLE_TOKENS_DURING = 64
"""Longest sample while training waits."""
DEFAULT_NEW_TOKENS = 256


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure the loss of the next token, and the answers that the model writes.

    Loss, perplexity and token accuracy cover the trained tokens of the first `evaluation.max_rows` rows; every token
    weighs the same. Metrics of answers cover greedy answers to the first `evaluation.generate_rows` rows. During
    training only the sample prompts are answered, unless `training.best_by` is a metric of answers.
    """
    return _TextJob(job).run(want_generation)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes:
        samples: Fixed prompts with its text.
        answers: Questions of rows with its answer, those that are compared with something.
    """

    samples: list[Sample]
    answers: list[tuple[Question, str]]


class Writing:
    """Answers to the questions of a measurement, for tasks whose numbers come from something else.

    Args:
        job: The measurement; its rows pose the questions.
        want_generation: Whether anything is asked.
    """

    def __init__(self, job: Job, *, want_generation: bool) -> None:
        self._job = _TextJob(job)
        self._questions = self._job._scored_questions() if want_generation else []
        self._num_scored = len(self._questions)
        self._places = self._job._add_samples(self._questions) if want_generation else []

    def __len__(self) -> int:
        return len(self._questions)

    def write(self) -> Written:
        """Let the model answer; nothing, with a remark, where memory runs out."""
        job = self._job
        texts = job.job.unless_too_large("generated answers", lambda: job._answer(self._questions)) or []
        pairs = list(zip(self._questions, texts, strict=False))
        samples = [pairs[place] for place in self._places if place < len(pairs)]
        return Written(
            [_sample(question, text) for question, text in samples if text is not None],
            [(question, text) for question, text in pairs[: self._num_scored] if text is not None],
        )


def _sample(question: Question, text: str) -> Sample:
    return Sample(hide_secrets(question.prompt), hide_secrets(question.expected), hide_secrets(text))


def answer_record(question: Question, text: str) -> dict[str, str]:
    """Return an answer as a measurement keeps it.

    Files of a run are copied and its samples shown; a token that stands in a row stays out of them.
    """
    return {
        "id": question.id,
        "prompt": hide_secrets(question.prompt),
        "expected": hide_secrets(question.expected),
        "text": hide_secrets(text),
    }


@dataclass
class _TextJob:
    job: Job

    @property
    def plain_text(self) -> bool:
        return self.job.renderer.task.signal == "text"

    @property
    def _only_samples(self) -> bool:
        """Whether training waits, and for nothing but samples: no written answer decides which step is best."""
        best_by = self.job.recipe.training.best_by
        decides = best_by in METRIC_NAMES and find_metric(best_by).generates
        return self.job.phase == "during" and not decides

    def run(self, want_generation: bool) -> Examined:
        """Measure; the caller has put the model in evaluation mode."""
        token_rows = self._token_rows()
        questions = self._scored_questions() if want_generation else []
        num_scored = len(questions)
        sample_places = self._add_samples(questions) if want_generation else []
        general = passages(self.job)
        self.job.begin(len(token_rows), len(token_rows) + len(general) + len(questions))
        scores = self.job.unless_too_large("the loss", lambda: self._score(token_rows)) or []
        known = read_general(self.job, general)
        texts = self.job.unless_too_large("generated answers", lambda: self._answer(questions)) or []
        if not texts:
            sample_places = []
        answers = [
            (question, text) for question, text in zip(questions[:num_scored], texts, strict=False) if text is not None
        ]
        metrics = self._numbers(scores) | known.metrics
        metrics |= score_answers(
            [text for _, text in answers], [question.expected for question, _ in answers], self.job.metrics
        )
        checked = self._check(answers)
        metrics |= checked.metrics
        self._remark(metrics, has_rows=bool(token_rows), num_too_long=sum(text is None for text in texts))
        return Examined(
            metrics=metrics,
            samples=[
                _sample(question, text)
                for question, text in ((questions[place], texts[place]) for place in sample_places)
                if text is not None
            ],
            num_rows=len(scores),
            num_tokens=sum(score.tokens for score in scores),
            num_generated=len(answers),
            answers=[answer_record(question, text) for question, text in answers],
            rows=only([*self._groups(token_rows, scores, answers, metrics), *checked.rows, *known.rows], metrics),
        )

    def _check(self, answers: Sequence[tuple[Question, str]]) -> Checked:
        """Return what schema, pattern and a person's own metric say; one that fails ends nothing."""
        written = [WrittenAnswer(each.id, each.prompt, text, each.expected) for each, text in answers]
        checked = check_answers(self.job.recipe.evaluation, written, self.job.metrics)
        for failure in checked.failures:
            self.job.alarm(failure)
        if self.job.phase not in COMPARED_PHASES:
            checked.rows.clear()
        return checked

    def _groups(
        self,
        token_rows: Sequence[TokenRow],
        scores: Sequence[RowScore],
        answers: Sequence[tuple[Question, str]],
        metrics: Mapping[str, float],
    ) -> list[RowGroup]:
        if self.job.phase not in COMPARED_PHASES:
            return []
        taught = token_groups([row.id for row in token_rows][: len(scores)], scores)
        written = answer_groups(
            [question.id for question, _ in answers],
            [text for _, text in answers],
            [question.expected for question, _ in answers],
            metrics,
        )
        return [*taught, *written]

    def _token_rows(self) -> list[TokenRow]:
        """Return the sequences of the held-out rows; of plain text, where a row can be a book, as many as rows."""
        limit = self.job.recipe.evaluation.max_rows
        rows = self.job.rows[:limit]
        rendered = self.job.renderer.render_rows(rows)
        num_dropped = rendered.dropped.total()
        if num_dropped:
            self.job.remarks.append(
                f"{num_dropped} of {len(rows)} {self.job.kind} rows count in no loss: {' '.join(rendered.sentences())}"
            )
        if self.job.few_shot:
            return self.job.few_shot.token_rows(rows)
        sequences = rendered.sequences[:limit] if self.plain_text else rendered.sequences
        token_rows = [_token_row(sequence) for sequence in sequences]
        return [row for row in token_rows if row.num_trained]

    def _scored_questions(self) -> list[Question]:
        """Return the held-out rows to be answered and compared; during training only where they say what is best."""
        if self._only_samples or not GENERATING_CHOICES.intersection(self.job.metrics):
            return []
        return self._questions(self.job.recipe.evaluation.generate_rows)

    def _questions(self, limit: int) -> list[Question]:
        """Return the questions of the first rows that pose one; rows that do not are counted in a remark."""
        questions: list[Question] = []
        num_without = 0
        for row in self.job.rows:
            if len(questions) == limit:
                break
            try:
                question = question_from_row(row, self.job.tokenizer, self.job.renderer, self._max_prompt_tokens())
            except TemplateRefusedError:
                # Named where the rows are rendered for the loss.
                question = None
            if question is not None:
                questions.append(self.job.few_shot.ask(row, question) if self.job.few_shot else question)
            else:
                num_without += 1
        if num_without:
            self.job.remarks.append(
                f"{num_without} {self.job.kind} rows were not asked: they have no answer whose question fits into "
                f"{self._max_prompt_tokens()} tokens."
            )
        return questions

    def _max_prompt_tokens(self) -> int:
        """Longest prompt asked: what training could see before an answer, with room for one token in the context."""
        if self.job.renderer.frame.pairs:
            # A source is cut as in training, and the answer has a context of its own.
            return self.job.renderer.max_length
        return min(self.job.recipe.training.max_length or DEFAULT_MAX_LENGTH, context_length(self.job.model) - 1)

    def _add_samples(self, questions: list[Question]) -> list[int]:
        """Append the sample questions that are not asked anyway; return where all of them stand."""
        if self.job.phase in TEST_PHASES:
            # Samples show how held-out rows are answered over the run; test rows are for numbers.
            return []
        prompts = self.job.recipe.evaluation.sample_prompts
        if prompts is None:
            if not questions:
                questions.extend(self._questions(NUM_SAMPLES))
            return list(range(min(NUM_SAMPLES, len(questions))))
        first = len(questions)
        typed = [question_from_prompt(prompt, self.job.renderer, plain_text=self.plain_text) for prompt in prompts]
        questions.extend(map(self.job.few_shot.ask_typed, typed) if self.job.few_shot else typed)
        return list(range(first, len(questions)))

    def _score(self, rows: Sequence[TokenRow]) -> list[RowScore]:
        return self.job.each(rows, lambda row: len(row.input_ids), self._scorer().score)

    def _scorer(self) -> TokenScorer | TargetScorer:
        job = self.job
        if job.renderer.frame.pairs:
            return TargetScorer(job.model, job.tokenizer, precision=job.precision)
        return TokenScorer(job.model, precision=job.precision, pad_id=job.pad_id)

    def _answer(self, questions: Sequence[Question]) -> list[str | None]:
        if not questions:
            return []
        checkpointing = bool(self.job.recipe.training.activation_checkpointing)
        share = generation_share(self.job.model, activation_checkpointing=checkpointing)
        answerer = Answerer(
            self.job.model,
            self.job.tokenizer,
            max_new_tokens=self._max_new_tokens(),
            micro_batch_tokens=self.job.max_batch_tokens,
            cached_share=share,
            num_beams=self.job.recipe.text_to_text.num_beams,
            precision=self.job.precision,
            should_stop=self.job.should_stop,
        )
        texts = answerer.answer([question.input_ids for question in questions], self.job.advance, self.job.tell_smaller)
        if self.job.few_shot is None:
            return texts
        return [None if text is None else self.job.few_shot.answer_in(text) for text in texts]

    def _max_new_tokens(self) -> int:
        limit = self.job.recipe.evaluation.max_new_tokens or DEFAULT_NEW_TOKENS
        if self.plain_text:
            limit = min(limit, CONTINUATION_TOKENS)
        return min(limit, SAMPLE_TOKENS_DURING) if self._only_samples else limit

    def _numbers(self, scores: Sequence[RowScore]) -> dict[str, float]:
        """Return the teacher-forced numbers: the loss always, the others when the recipe asks for them."""
        values = score_sums(
            [score.loss for score in scores], [score.right for score in scores], [score.tokens for score in scores]
        )
        return {name: value for name, value in values.items() if name == "loss" or name in self.job.metrics}

    def _remark(self, metrics: Mapping[str, float], *, has_rows: bool, num_too_long: int) -> None:
        if self.job.few_shot:
            self.job.remarks.extend(self.job.few_shot.remarks())
        if not has_rows:
            self.job.remarks.append(f"There is no {self.job.kind} row to measure the loss on.")
        for name in ("loss", "perplexity"):
            if name in metrics and not math.isfinite(metrics[name]):
                self.job.alarm(f"The {self.job.kind} {name} is no finite number.")
                break
        if num_too_long:
            self.job.remarks.append(
                f"{num_too_long} sample prompts fill the model's context of {context_length(self.job.model)} tokens "
                "and were not answered."
            )


def _token_row(sequence: Rendered) -> TokenRow:
    return TokenRow(sequence.input_ids, sequence.trained_mask, sequence.id)
