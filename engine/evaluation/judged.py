"""The win rate: a reward model that the person names compares written answers with those of the base model."""

from collections.abc import Sequence
from typing import Any

from engine.data.rows import Row
from engine.evaluation.job import Job
from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.measurement import load_measurement, measurement_file
from engine.evaluation.prompts import Question, as_conversation
from engine.evaluation.row_groups import win_groups
from engine.evaluation.scores import score_wins
from engine.recipe.problems import ProblemError


def win_rate(job: Job, answers: Sequence[tuple[Question, str]]) -> tuple[dict[str, float], list[RowGroup]]:
    """Return the win rate of answers and what each adds to it, after training and where there is a judge; else nothing.

    The answers of the base model are those that the measurement before training has kept.

    Args:
        job: The measurement.
        answers: Questions of rows with the model's answer.
    """
    judge = job.recipe.preference.judge
    if judge is None or job.phase not in ("after", "test") or "win_rate" not in job.metrics or not answers:
        return {}, []
    before = base_answers(job)
    rows = {str(row["id"]): row for row in job.rows}
    pairs = [(question, text, before[question.id]) for question, text in answers if question.id in before]
    if not pairs:
        job.alarm("The base model's answers are not kept: there is no win rate.")
        return {}, []
    ours = [_conversation(rows[question.id], question, text) for question, text, _ in pairs]
    base = [_conversation(rows[question.id], question, text) for question, _, text in pairs]
    scores = job.unless_too_large("the judge", lambda: _scores(job, judge, [*ours, *base]))
    if not scores:
        return {}, []
    mine, theirs = scores[: len(ours)], scores[len(ours) :]
    return score_wins(mine, theirs, job.metrics), win_groups([question.id for question, _, _ in pairs], mine, theirs)


def base_answers(job: Job) -> dict[str, str]:
    """Return `{row: answer}` of the base model to the same rows, as they were measured before training."""
    if job.folder is None:
        return {}
    content = load_measurement(job.folder / measurement_file("before" if job.phase == "after" else "test_before", 0))
    return {str(answer["id"]): str(answer["text"]) for answer in (content or {}).get("answers", [])}


def _conversation(row: Row, question: Question, text: str) -> list[dict[str, Any]]:
    asked = as_conversation(row)["messages"][: question.num_turns]
    return [*asked, {"role": "assistant", "content": text}]


def _scores(job: Job, judge: str, conversations: list[list[dict[str, Any]]]) -> list[float]:
    # Only runs with a judge load a second model.
    from engine.models.reward import load_reward_model

    try:
        loaded = load_reward_model(judge, str(next(job.model.parameters()).device))
    except ProblemError as error:
        job.alarm(f"The judge cannot be asked: {error.problems[0].message}")
        return []
    return loaded.score(conversations)
