"""Measure a model that learns from rewards: what its answers to held-out prompts earn, and how far it has moved."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from engine.data.chat_template import TemplateRefusedError
from engine.data.cleaning.personal import hide_secrets
from engine.data.rows import Row, asked
from engine.evaluation.general import passages, read_general
from engine.evaluation.generation import Answerer, Written, generation_share
from engine.evaluation.job import Examined, Job
from engine.evaluation.kept_rows import RowGroup, only
from engine.evaluation.measurement import TEST_PHASES, Sample
from engine.evaluation.metrics.kl import row_kl
from engine.evaluation.prompts import Question, question_from_prompt
from engine.evaluation.row_groups import group, mean_group
from engine.evaluation.scores import score_completions
from engine.evaluation.scoring import TokenRow, TokenScorer
from engine.objectives.reference import Reference
from engine.objectives.rewarding import Rewarding, judged
from engine.rewards.judge import Earned

NUM_SAMPLES = 3
"""Held-out prompts whose answers are shown when the recipe names none."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One held-out prompt with the model's answer.

    Attributes:
        row: The prompt row.
        question: What was asked.
        written: What the model wrote.
        earned: What that earned.
    """

    row: Row
    question: Question
    written: Written
    earned: Earned


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure greedy answers to the first `evaluation.generate_rows` held-out prompts, at every evaluation.

    Greedy and not drawn, so that the same model earns the same; the rewards of training, which are drawn, are a little
    lower. KL is that of those answers.

    Args:
        job: The measurement.
        want_generation: Without answers there is nothing to measure.
    """
    if not want_generation:
        return Examined({})
    assert job.rewarding is not None
    asked_rows = _questions(job)
    typed = _typed(job)
    questions = [question for _, question in asked_rows] + typed
    general = passages(job)
    distances = 2 * len(asked_rows) if "kl" in job.metrics and job.rewarding.reference is not None else 0
    job.begin(len(asked_rows), len(questions) + len(general) + distances)
    written = job.unless_too_large("generated answers", lambda: _write(job, questions)) or []
    answered = _judge(job, job.rewarding, asked_rows, written)
    kl_sums = _distances(job, answered, job.rewarding.reference) if "kl" in job.metrics else None
    known = read_general(job, general)
    metrics = _metrics(job, job.rewarding, answered, kl_sums) | known.metrics
    if not asked_rows:
        job.remarks.append(f"There is no {job.kind} prompt to answer.")
    return Examined(
        metrics=metrics,
        samples=_samples(job, answered, typed, written[len(asked_rows) :]),
        num_rows=len(answered),
        num_generated=len(answered),
        answers=[_answer(each) for each in answered],
        rows=only([*_groups(answered, kl_sums), *known.rows], metrics),
    )


def _groups(answered: Sequence[Answered], kl_sums: Sequence[float] | None) -> list[RowGroup]:
    ids = [each.question.id for each in answered]
    lengths = [len(each.written.ids) for each in answered]
    return [
        *mean_group("reward", ids, [each.earned.total for each in answered]),
        *mean_group("solved_rate", ids, [float(bool(each.earned.solved)) for each in answered]),
        *mean_group("completion_length", ids, lengths),
        *group({"kl": "ratio"}, ids if kl_sums else [], list(zip(kl_sums or [], lengths, strict=False))),
    ]


def _questions(job: Job) -> list[tuple[Row, Question]]:
    """Return the first held-out prompts with what the model reads of them; those without room are remarked on."""
    found: list[tuple[Row, Question]] = []
    num_without = 0
    for row in map(asked, job.rows):
        if len(found) == job.recipe.evaluation.generate_rows:
            break
        try:
            ids = job.renderer.prompt_ids(row)
        except TemplateRefusedError:
            ids = []
        if not 0 < len(ids) <= job.renderer.max_length:
            num_without += 1
            continue
        shown = next((turn["content"] for turn in reversed(row["prompt"]) if turn["role"] == "user"), "")
        found.append((row, Question(str(row["id"]), str(shown), str(row.get("answer", "")), ids)))
    if num_without:
        job.remarks.append(
            f"{num_without} {job.kind} prompts were not asked: they leave no room for an answer, or the chat template "
            "refuses them."
        )
    return found


def _typed(job: Job) -> list[Question]:
    """Return the prompts of the recipe; none for test rows, whose numbers alone count."""
    prompts = job.recipe.evaluation.sample_prompts or []
    if job.phase in TEST_PHASES:
        return []
    return [question_from_prompt(prompt, job.renderer, plain_text=False) for prompt in prompts]


def _write(job: Job, questions: Sequence[Question]) -> list[Written | None]:
    recipe = job.recipe
    share = generation_share(job.model, activation_checkpointing=bool(recipe.training.activation_checkpointing))
    answerer = Answerer(
        job.model,
        job.tokenizer,
        max_new_tokens=recipe.evaluation.max_new_tokens or recipe.reinforcement.max_completion or 1,
        micro_batch_tokens=job.max_batch_tokens,
        cached_share=share,
        precision=job.precision,
        should_stop=job.should_stop,
    )
    return answerer.write([question.input_ids for question in questions], job.advance, job.tell_smaller)


def _judge(
    job: Job, rewarding: Rewarding, asked_rows: Sequence[tuple[Row, Question]], written: Sequence[Written | None]
) -> list[Answered]:
    pairs = [
        (row, question, text) for (row, question), text in zip(asked_rows, written, strict=False) if text is not None
    ]
    given = [judged(question.id, row, text.text, len(text.ids)) for row, question, text in pairs]
    earned = rewarding.judge.judge(given)
    return [Answered(*pair, each) for pair, each in zip(pairs, earned, strict=True)]


def _distances(job: Job, answered: Sequence[Answered], reference: Reference | None) -> list[float] | None:
    """Return the KL of each answer to the model of the start, summed over its tokens; None without that model."""
    if reference is None:
        job.remarks.append(
            "The KL to the base model is not measured: with reinforcement.beta 0 no copy of its weights is kept."
        )
        return None
    rows = [
        TokenRow(
            [*each.question.input_ids, *each.written.ids],
            [0] * len(each.question.input_ids) + [1] * len(each.written.ids),
        )
        for each in answered
    ]
    ours = job.unless_too_large("the KL to the base model", lambda: _log_probs(job, rows, None))
    base = job.unless_too_large("the KL to the base model", lambda: _log_probs(job, rows, reference))
    if ours is None or base is None:
        return None
    return [row_kl(mine, other) for mine, other in zip(ours, base, strict=True)]


def _log_probs(job: Job, rows: Sequence[TokenRow], reference: Reference | None) -> list[list[float]]:
    scorer = TokenScorer(job.model, precision=job.precision, pad_id=job.pad_id)
    with nullcontext() if reference is None else reference.in_place():
        return job.each(rows, lambda row: len(row.input_ids), scorer.log_probs)


def _metrics(
    job: Job, rewarding: Rewarding, answered: Sequence[Answered], kl_sums: Sequence[float] | None
) -> dict[str, float]:
    left_out = set() if rewarding.judge.tells_solved else {"solved_rate"}
    if kl_sums is None:
        left_out.add("kl")
    return score_completions(
        [each.earned.total for each in answered],
        [len(each.written.ids) for each in answered],
        kl_sums or [0.0] * len(answered),
        1.0,
        [name for name in job.metrics if name not in left_out],
        told=[float(bool(each.earned.solved)) for each in answered],
    )


def _samples(
    job: Job, answered: Sequence[Answered], typed: Sequence[Question], written: Sequence[Written | None]
) -> list[Sample]:
    if job.phase in TEST_PHASES:
        return []
    if typed:
        return [
            Sample(hide_secrets(question.prompt), "", hide_secrets(text.text))
            for question, text in zip(typed, written, strict=False)
            if text is not None
        ]
    return [
        Sample(
            hide_secrets(each.question.prompt),
            hide_secrets(each.question.expected),
            hide_secrets(each.written.text),
            each.earned.total,
        )
        for each in answered[:NUM_SAMPLES]
    ]


def _answer(each: Answered) -> dict[str, Any]:
    return {
        "id": each.question.id,
        "prompt": hide_secrets(each.question.prompt),
        "expected": hide_secrets(each.question.expected),
        "text": hide_secrets(each.written.text),
        "reward": each.earned.total,
    }
