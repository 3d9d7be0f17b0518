"""Checks of rendered rows that are made before the first step, also when they find nothing. See docs/preflight.md.

Each looks at what was made (token ids, labels out of the collator, ids that serving would see), never at how it was
made, so that a fault of the renderer, a template or a tokenizer cannot hide itself.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from engine.catalog.tasks import Task
from engine.data.pipeline import PreparedData
from engine.data.preflight_case import UNCUT_LENGTH, PreflightCase, Verdict
from engine.data.preflight_cuts import check_truncation
from engine.data.preflight_masks import check_mask
from engine.data.preflight_pairs import check_preferences
from engine.data.preflight_rows import check_leaks, check_repeats
from engine.data.preflight_serving import check_first_token, check_prefix, check_serving
from engine.data.preflight_tokens import check_ends, check_ids, check_padding
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.data.tokenized import TokenizedRows
from engine.planning.plan import Plan
from engine.planning.profiles import Finding, ModelProfile, PreflightCheck
from engine.planning.virtual_prompt import text_context
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class RunRows:
    """The rows of a run directory."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    test: Sequence[Row] = ()


_Check = Callable[[PreflightCase], Verdict | None]
_OF_WRITING = frozenset({"P1", "P2", "P3", "P4", "P5", "P6"})
"""Checks of what a model learns to write, and of how it will be asked to."""
_CHECKS: tuple[tuple[str, str, str, _Check], ...] = (
    ("P1", "The loss covers the answers and nothing else", "data.source", check_mask),
    ("P2", "Every answer teaches where to stop", "model.chat_template", check_ends),
    ("P3", "Padding hides no end of text", "model.base", check_padding),
    ("P4", "One token begins a text, not two", "model.chat_template", check_first_token),
    ("P5", "Training and serving read the same tokens", "model.chat_template", check_serving),
    ("P6", "A prompt is how its conversation begins", "model.chat_template", check_prefix),
    ("P7", "Rows are whole at this sequence length", "training.max_length", check_truncation),
    ("P13", "The model has every token of the rows", "model.base", check_ids),
    ("P14", "No evaluation row is a training row", "data.held_out", check_leaks),
    ("P15", "The rows differ", "data.source", check_repeats),
    ("P24", "Better and worse answers can be told apart", "data.source", check_preferences),
)
_PATHS = {check_id: path for check_id, _, path, _ in _CHECKS}
_OF_TOKENS = frozenset({"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P13"})
"""Checks that look at token ids; the others look at the rows."""
_SEVERITY = {"blocked": "error", "warning": "warning"}


def check_rendering(
    case: PreflightCase, *, leave_out: Collection[str] = (), watch: WorkWatch = NOBODY
) -> list[PreflightCheck]:
    """Return what each check of the rendered rows found, in order.

    Args:
        case: The rows, and what became of them.
        leave_out: Checks that somebody else makes better.
        watch: Told which check is made.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    found: list[PreflightCheck] = []
    left_out = {*leave_out, *_unsuited(case.renderer.task)}
    wanted = [each for each in _CHECKS if each[0] not in left_out]
    for number, (check_id, title, _, check) in enumerate(wanted):
        watch.at("Checking what will be trained", number, len(wanted))
        began_s = time.perf_counter()
        verdict = check(case)
        if verdict is not None:
            verdict = _of_sample(verdict, case) if check_id in _OF_TOKENS else verdict
            found.append(verdict.as_check(check_id, title, time.perf_counter() - began_s))
    return found


def _unsuited(task: Task) -> frozenset[str]:
    """Return the checks that say nothing of a task."""
    if task.head == "masked-lm":
        # Nobody asks such a model to go on; what it may learn is looked at all the same.
        return _OF_WRITING - {"P1", "P3"}
    return frozenset() if task.signal in ("answers", "text") else _OF_WRITING


def _of_sample(verdict: Verdict, case: PreflightCase) -> Verdict:
    """Say how many rows were looked at where not all are rendered."""
    if case.drawn_rows is None or verdict.status == "skipped":
        return verdict
    looked = f"Looked at {len(case.drawn_rows):,} of {len(case.train_rows):,} rows; the run looks at all."
    return replace(verdict, message=f"{verdict.message} {looked}")


def check_prepared(
    recipe: Recipe,
    prepared: PreparedData,
    tokens: TokenizedRows,
    renderer: Renderer,
    model: ModelProfile | None,
    *,
    max_length: int,
    max_target: int | None = None,
    drawn_rows: Sequence[Row] | None = None,
    watch: WorkWatch = NOBODY,
) -> list[PreflightCheck]:
    """Return what the checks find in prepared rows, before there is a plan.

    Args:
        recipe: A checked recipe.
        prepared: Its rows.
        tokens: The training rows as token ids.
        renderer: What rendered them.
        model: Facts of the model; None where only a tokenizer is here.
        max_length: Sequence length in tokens, as the plan will take it.
        max_target: Longest text to write, likewise; None where it has no length of its own.
        drawn_rows: The rows behind `tokens` where those are a sample of the training rows.
        watch: Told which check is made.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    case = PreflightCase(
        recipe=recipe,
        renderer=renderer,
        train_rows=prepared.train_rows,
        held_out_rows=prepared.held_out_rows,
        whole=tokens.cut(UNCUT_LENGTH),
        max_length=max_length,
        max_target=max_target,
        test_rows=prepared.test_rows,
        vocab_size=None if model is None else _rows_of_embedding(model, recipe, len(renderer.tokenizer)),
        context_length=None if model is None else text_context(model, recipe.method),
        num_duplicates_dropped=prepared.profile.dropped.get("duplicate", 0),
        drawn_rows=drawn_rows,
        watch=watch,
    )
    return check_rendering(case, watch=watch)


def _rows_of_embedding(model: ModelProfile, recipe: Recipe, num_tokens: int) -> int:
    """Return how many tokens the model will know: the run makes rows for the recipe's new ones, and for no others.

    Args:
        model: Facts of the model as it is.
        recipe: `model.new_tokens` is read.
        num_tokens: Of the tokenizer, new ones included.
    """
    knows_the_others = num_tokens - len(recipe.model.new_tokens) <= model.vocab_size
    return max(model.vocab_size, num_tokens) if recipe.model.new_tokens and knows_the_others else model.vocab_size


def check_of_run(
    plan: Plan, rows: RunRows, tokens: TokenizedRows, renderer: Renderer, *, watch: WorkWatch = NOBODY
) -> list[PreflightCheck]:
    """Return what the checks find in the rows of a run.

    The ids are held against the model itself, once it is loaded (`engine.training.preflight`).

    Args:
        plan: Of the run, every value filled in.
        rows: The rows of the run directory.
        tokens: The training rows as token ids.
        renderer: What rendered them; its `max_length` is the run's.
        watch: Told which check is made.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    case = PreflightCase(
        recipe=plan.recipe,
        renderer=renderer,
        train_rows=rows.train,
        held_out_rows=rows.held_out,
        whole=tokens.cut(UNCUT_LENGTH),
        max_length=renderer.max_length,
        context_length=text_context(plan.model, plan.recipe.method),
        max_target=renderer.max_target,
        test_rows=rows.test,
        num_duplicates_dropped=plan.data.dropped.get("duplicate", 0),
        watch=watch,
    )
    return check_rendering(case, leave_out=("P13",), watch=watch)


def findings_of(checks: Sequence[PreflightCheck]) -> list[Finding]:
    """Return what blocks or warns as findings of a profile, codes `preflight.p1` and so on."""
    return [
        Finding.model_validate(
            {
                "code": f"preflight.{check.id.lower()}",
                "message": check.message,
                "fix": check.fix,
                "path": _PATHS.get(check.id, ""),
                "severity": _SEVERITY[check.status],
            }
        )
        for check in checks
        if check.status in _SEVERITY
    ]


def problems_of(checks: Sequence[PreflightCheck]) -> list[Problem]:
    """Return what blocks or warns as problems."""
    return [Problem(**finding.model_dump()) for finding in findings_of(checks)]


def blocking(checks: Sequence[PreflightCheck]) -> list[Problem]:
    """Return the problems that forbid the start."""
    return [problem for problem in problems_of(checks) if problem.severity == "error"]
