"""How to go on from a finished run: the ways of the catalogue for which it has left a model, with their answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.catalog.next_runs import NextRun, next_runs
from engine.catalog.objectives import find_objective
from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.references import is_run_reference, reference_to, run_model

if TYPE_CHECKING:
    from engine.planning.plan import Plan

_SYSTEM_PROMPT = "data.system_prompt"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One way to go on.

    Attributes:
        title: What the next run learns, in two or three words.
        why: One sentence.
        answers: `{recipe path: value}` that the finished run brings along.
    """

    title: str
    why: str
    answers: dict[str, Any]

    def command(self, data: str = "FILE") -> tuple[str, ...]:
        """Return the words of the command that starts it.

        Args:
            data: What it is to learn from.
        """
        changes = {path: _typed(value) for path, value in {**self.answers, "data.source": data}.items()}
        return ("ftwizard", "run", *(word for path, text in changes.items() for word in ("--set", f"{path}={text}")))


def follow_ups(run: RunDirectory) -> tuple[FollowUp, ...]:
    """Return the ways to go on from a run; none where its plan cannot be read or its model is gone."""
    try:
        plan = run.read_plan()
    except ProblemError:
        return ()
    ways = next_runs(plan.recipe.objective, plan.model.kind)
    return tuple(_follow_up(way, run, plan) for way in ways if _left(way, run))


def _left(way: NextRun, run: RunDirectory) -> bool:
    """Whether a run has left what the next one needs: a whole model to start from; an adapter is enough to judge."""
    whole = (run.merged_folder / "config.json").is_file()
    return whole or (way.role == "judge" and (run.adapter_folder / "adapter_config.json").is_file())


def _follow_up(way: NextRun, run: RunDirectory, plan: "Plan") -> FollowUp:
    objective = find_objective(way.objective)
    answers = way.answers(reference_to(run), _start(plan) if way.role == "judge" else "")
    # Conversations went on from this message; without it the next run would meet another model.
    if plan.recipe.data.system_prompt and _SYSTEM_PROMPT in objective.settings:
        answers[_SYSTEM_PROMPT] = plan.recipe.data.system_prompt
    return FollowUp(objective.title, way.why, answers)


def _start(plan: "Plan") -> str:
    """Return what a run started from, where that writes and is still there; else nothing, and the person is asked."""
    from engine.planning.layer_sums import head_of_class

    base = plan.model.base
    if head_of_class(plan.model.architecture) not in (None, "causal-lm"):
        return ""
    if is_run_reference(base):
        try:
            found = run_model(base).reference
        except ProblemError:
            return ""
        # A part of an id finds a run as well, such as one that bears the name of a run that is gone.
        return found if found == base else ""
    return base


def _typed(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
