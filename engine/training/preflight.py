"""Checks of the learner itself before the first step: its files, its weights, its tokens, and whether it can learn.

Each verdict becomes one `preflight.checked` event; the first that blocks ends the run before anything was trained. The
checks of the rendered rows alone are `engine.data.preflight`. See docs/preflight.md.
"""

import math
import time
from collections.abc import Callable

from engine.data.preflight_case import Verdict
from engine.planning.profiles import PreflightCheck
from engine.recipe.problems import Problem, ProblemError
from engine.training.context import RunContext
from engine.training.preflight_chance import check_first_loss
from engine.training.preflight_gradients import check_accumulation
from engine.training.preflight_heads import check_first_label_loss
from engine.training.preflight_learning import check_coverage, check_trial, check_what_learns
from engine.training.preflight_packing import check_packing, without_packing
from engine.training.preflight_pairs import check_judge, check_reference
from engine.training.preflight_rewards import check_rewards
from engine.training.preflight_tokens import check_ids, check_known_tokens
from engine.training.recovery import Attempts
from engine.training.requests import EventSink

PATHS = {
    "P8": "training.packing",
    "P9": "training.micro_batch",
    "P10": "method.targets",
    "P11": "method.name",
    "P12": "method.name",
    "P13": "model.base",
    "P19": "model.base",
    "P20": "model.base",
    "P21": "model.base",
    "P22": "training.learning_rate",
    "P23": "model.base",
    "P34": "preference.judge",
    "P35": "model.base",
    "P25": "reinforcement.rewards",
    "P29": "training.learning_rate",
    "P30": "method.targets",
    "P31": "method.name",
}


class Preflight:
    """Makes checks one by one and tells what each found.

    Attributes:
        checks: What was found so far, in order.
    """

    def __init__(self, events: EventSink) -> None:
        self.checks: list[PreflightCheck] = []
        self._events = events

    def check(self, check_id: str, title: str, look: Callable[[], Verdict]) -> PreflightCheck:
        """Make one check and write its event.

        Args:
            check_id: Number in docs/preflight.md.
            title: What is checked, as people say it.
            look: The check; a `ProblemError` that it raises is a verdict that blocks.

        Raises:
            ProblemError: The verdict blocks.
        """
        began_s = time.perf_counter()
        try:
            verdict = look()
        except ProblemError as error:
            first = error.problems[0]
            blocked = Verdict("blocked", " ".join(problem.message for problem in error.problems), first.fix)
            self._tell(blocked.as_check(check_id, title, time.perf_counter() - began_s))
            raise
        found = verdict.as_check(check_id, title, time.perf_counter() - began_s)
        # JSON has no word for the others.
        finite = {name: value for name, value in found.measured.items() if math.isfinite(value)}
        found = found.model_copy(update={"measured": finite})
        self._tell(found)
        if found.status == "blocked":
            raise ProblemError(
                Problem(f"preflight.{check_id.lower()}", found.message, found.fix, path=PATHS.get(check_id, ""))
            )
        return found

    def _tell(self, check: PreflightCheck) -> None:
        self.checks.append(check)
        self._events.write("preflight.checked", **check.model_dump())


def check_learner(preflight: Preflight, context: RunContext, attempts: Attempts) -> None:
    """Check the learner with the run's own rows, cheapest first; weights and random states are left as they were.

    Where the plan chose packing by itself and the model does not keep packed rows apart, packing is turned off instead
    of ending the run: `context.plan` and `attempts` then say so. An attempt that goes on from a checkpoint repeats
    nothing, since neither model nor rows have changed.

    Raises:
        ProblemError: A check forbids the start.
        StopRequested: A stop was asked for meanwhile.
    """
    if context.checkpoint is not None:
        return
    thorough = context.recipe.training.preflight != "off"
    preflight.check("P13", "The model has every token of the rows", lambda: check_ids(context))
    preflight.check("P11", "Weights learn", lambda: check_what_learns(context))
    preflight.check("P10", "Adapters reach the model", lambda: check_coverage(context))
    preflight.check("P12", "The model knows every token of the rows", lambda: check_known_tokens(context))
    if not thorough:
        return
    context.desk.attend()
    if context.recipe.training.packing:
        _check_packing(preflight, context, attempts)
    context.desk.attend()
    if context.task.signal in ("answers", "text"):
        preflight.check("P23", "The first loss is sane", lambda: check_first_loss(context))
    if context.task.signal in ("labels", "tags", "rewards"):
        preflight.check("P23", "The first loss is sane", lambda: check_first_label_loss(context))
    context.desk.attend()
    if context.task.signal == "prompts":
        # What is learnt here is not in the rows, so that they cannot be learnt by heart.
        preflight.check("P25", "Rewards tell a right answer from none", lambda: check_rewards(context))
        return
    preflight.check("P9", "A step does not depend on its cut", lambda: check_accumulation(context))
    context.desk.attend()
    preflight.check("P22", "The model can learn one batch by heart", lambda: check_trial(context))


def check_comparison(preflight: Preflight, context: RunContext) -> None:
    """Check what answers are compared with, once it is known; a resumed attempt repeats nothing.

    Raises:
        ProblemError: A check forbids the start.
    """
    if context.checkpoint is not None:
        return
    if context.recipe.preference.judge is not None:
        preflight.check("P34", "The judge can be asked", lambda: check_judge(context))
    if context.references is not None:
        preflight.check("P35", "The model starts as its own reference", lambda: check_reference(context))


def _check_packing(preflight: Preflight, context: RunContext, attempts: Attempts) -> None:
    source = context.plan.sources.get("training.packing")
    plans_own = source is not None and source.kind == "derived"
    title = "Packed rows do not see each other"
    found = preflight.check("P8", title, lambda: check_packing(context, plans_own=plans_own))
    if found.status == "warning":
        context.plan = without_packing(context.plan)
        attempts.packing_off = True
        attempts.save(context.run)
        context.notice("warning", "preflight.packing_off", f"{found.message} {found.fix}")
