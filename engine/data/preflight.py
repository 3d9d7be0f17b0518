"""Checks of rendered rows that are made before the first step, also when they find nothing. See docs/preflight.md.

Each looks at what was made (token ids, labels out of the collator, ids that serving would see), never at how it was
made, so that a fault of the renderer, a template or a tokenizer cannot hide itself.
"""

import time
from collections.abc import Callable, Sequence

from engine.data.preflight_case import PreflightCase, Verdict
from engine.data.preflight_masks import check_mask
from engine.data.preflight_rows import check_leaks, check_preferences, check_repeats
from engine.data.preflight_serving import check_first_token, check_prefix, check_serving
from engine.data.preflight_tokens import check_ends, check_ids, check_padding, check_truncation
from engine.data.progress import NOBODY, WorkWatch
from engine.planning.profiles import Finding, PreflightCheck
from engine.recipe.problems import Problem

_Check = Callable[[PreflightCase], Verdict | None]
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
    ("P24", "Preferred and refused answers differ", "data.source", check_preferences),
)
_PATHS = {check_id: path for check_id, _, path, _ in _CHECKS}
_SEVERITY = {"blocked": "error", "warning": "warning"}


def check_rendering(case: PreflightCase, *, watch: WorkWatch = NOBODY) -> list[PreflightCheck]:
    """Return what each check of the rendered rows found, in order.

    Args:
        case: The rows, and what became of them.
        watch: Told which check is made.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    found: list[PreflightCheck] = []
    for number, (check_id, title, _, check) in enumerate(_CHECKS):
        watch.at("Checking what will be trained", number, len(_CHECKS))
        began_s = time.perf_counter()
        verdict = check(case)
        if verdict is not None:
            found.append(verdict.as_check(check_id, title, time.perf_counter() - began_s))
    return found


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
