"""A plan after its rehearsal: what was found is put in place, and what took too much at once is cut smaller."""

import asyncio

from engine.planning.leaner import ROUNDS, leaner
from engine.planning.plan import Plan
from engine.planning.planner import with_memory
from engine.planning.rehearsal import RehearsalResult
from engine.planning.rehearse import Rehearsals
from engine.planning.rehearsed import estimate_from
from engine.recipe.problems import ProblemError


async def rehearsed_plan(plan: Plan, rehearsals: Rehearsals) -> Plan:
    """Return a plan with its memory rehearsed, cut smaller and rehearsed again where it chose too much at once.

    Raises:
        ProblemError: The rehearsal cannot be carried out, or was replaced by a newer one.
    """
    deeper = await _rehearsed(plan, rehearsals)
    for _ in range(ROUNDS - 1):
        smaller = leaner(deeper)
        if smaller is None:
            break
        try:
            deeper = await _rehearsed(smaller, rehearsals)
        except ProblemError:
            # That the larger cut does not fit is known, and not that the smaller one does.
            break
    return deeper


async def _rehearsed(plan: Plan, rehearsals: Rehearsals) -> Plan:
    result = await rehearsals.of(plan)
    # The ranked table is made anew, which would hold up the keys of the wizard for a moment.
    return await asyncio.to_thread(_with_result, plan, result)


def _with_result(plan: Plan, result: RehearsalResult) -> Plan:
    return with_memory(plan, estimate_from(result, plan, plan.machine.calibration))
