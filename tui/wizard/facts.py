"""What the wizard has found out about the answers: profiles, plans, problems; and what that means for each step.

Nothing here is saved: it is read again when a draft is continued.
"""

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from engine.recipe.problems import Problem, blocking
from engine.recipe.sources import flatten, unflatten
from tui.backend import HubAnswer, Machine, ShapeLook, WorkProgress, XrayOrder, XrayPage
from tui.wizard.draft import STEPS, Draft, StepName, step_of

if TYPE_CHECKING:
    # pydantic costs 100 ms: the first step must not wait for it.
    from engine.planning.plan import Plan, PlanOption
    from engine.planning.profiles import DataProfile, Finding, ModelProfile

Progress = Literal["none", "busy", "done", "failed"]
Mark = Literal["done", "current", "problem", "busy", "todo"]

_MODEL_PATHS = ("model.base", "model.revision", "model.trust_remote_code")
_DATA_PREFIXES = ("objective", "model.", "data.", "training.seed", "token_classification.")
_XRAY_PATHS = ("training.max_length", "training.packing", "training.effective_batch", "training.micro_batch")
ALLOW_ALL_TRAINED = "data.allow_all_trained"
PREFLIGHT = "preflight."
"""How the codes of findings begin that belong to the X-ray: what the sequences are, not what the file holds."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """Something that is read in the background.

    Attributes:
        key: The answers it was read for; other answers make it stale.
        progress: How far reading is.
        problems: Why it failed, or what is wrong with it.
    """

    key: str = ""
    progress: Progress = "none"
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class XrayFacts:
    """What is known of the sequences that the trainer will draw.

    Attributes:
        state: How far the first page is.
        work: How far the reading is; None before its first word and after its end.
        whole: The first page, with what is true of all sequences.
        page: The page that was turned to last.
        order: Its order.
        turning: How far the page is that was asked for last.
        seen: Key of the X-ray that the person saw last.
    """

    state: Inspected = field(default_factory=Inspected)
    work: WorkProgress | None = None
    whole: XrayPage | None = None
    page: XrayPage | None = None
    order: XrayOrder = "file"
    turning: Inspected = field(default_factory=Inspected)
    seen: str = ""


@dataclass(frozen=True, slots=True)
class HubFacts:
    """A search on the model hub.

    Attributes:
        words: What was searched for last.
        state: How far it is.
        answer: What was found.
    """

    words: str = ""
    state: Inspected = field(default_factory=Inspected)
    answer: HubAnswer = field(default_factory=HubAnswer)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything found out so far.

    Attributes:
        plan: The newest plan; while `plan_state` is busy it is the one of the answers before.
        automatic: The option that a plan takes when nobody chooses a method.
        rehearsal: How far the rehearsal of that plan is; its result is in the plan itself.
        data_look: What the first rows look like, while all are read and after.
        data_work: How far the reading of the data is; None before its first word and after its end.
    """

    machine: Machine | None = None
    model_state: Inspected = field(default_factory=Inspected)
    model: "ModelProfile | None" = None
    hub: HubFacts = field(default_factory=HubFacts)
    data_state: Inspected = field(default_factory=Inspected)
    data: "DataProfile | None" = None
    data_look: ShapeLook | None = None
    data_work: WorkProgress | None = None
    xray: XrayFacts = field(default_factory=XrayFacts)
    plan_state: Inspected = field(default_factory=Inspected)
    plan: "Plan | None" = None
    automatic: "PlanOption | None" = None
    rehearsal: Inspected = field(default_factory=Inspected)
    answer_problems: tuple[Problem, ...] = ()


def model_key(draft: Draft) -> str:
    """Return what decides the model profile; empty without a base model."""
    if not draft.value("model.base"):
        return ""
    return json.dumps([draft.value(path) for path in _MODEL_PATHS], default=str)


def data_key(draft: Draft) -> str:
    """Return what decides the data profile; empty while objective, model or data is open."""
    if not all(draft.value(path) for path in ("objective", "model.base", "data.source")):
        return ""
    answers = {**draft.preset_values, **draft.you}
    return json.dumps({path: answers[path] for path in sorted(answers) if path.startswith(_DATA_PREFIXES)}, default=str)


def plan_key(draft: Draft, facts: Facts) -> str:
    """Return what decides the plan; empty while a profile is missing or an answer is wrong."""
    if not data_ready(draft, facts) or not model_ready(draft, facts):
        return ""
    return json.dumps({**draft.preset_values, **draft.you}, sort_keys=True, default=str)


def xray_key(draft: Draft, facts: Facts) -> str:
    """Return what decides the sequences that the trainer will draw; empty while model or data is not read."""
    if not data_ready(draft, facts) or not model_ready(draft, facts):
        return ""
    return json.dumps(flatten(xray_tree(draft)), sort_keys=True, default=str)


def xray_tree(draft: Draft) -> dict[str, Any]:
    """Return the part of the recipe that the sequences depend on."""
    answers = {**draft.preset_values, **draft.you}
    return unflatten(
        {path: value for path, value in answers.items() if path.startswith((*_DATA_PREFIXES, *_XRAY_PATHS))}
    )


def xray_ready(draft: Draft, facts: Facts) -> bool:
    """Whether the X-ray of these answers was read, or cannot be."""
    key = xray_key(draft, facts)
    return bool(key) and facts.xray.state.key == key and facts.xray.state.progress in ("done", "failed")


def seen_now(draft: Draft, facts: Facts) -> Facts:
    """Return the facts with the X-ray counted as seen when it is what is open."""
    key = facts.xray.state.key
    if draft.step != "xray" or facts.xray.seen == key or not xray_ready(draft, facts):
        return facts
    return replace(facts, xray=replace(facts.xray, seen=key))


def all_trained_problem(draft: Draft, facts: Facts) -> Problem | None:
    """Return the finding that asks whether every token is to be trained."""
    found = blocking(step_problems("xray", draft, facts))
    return next((problem for problem in found if ALLOW_ALL_TRAINED in problem.fix), None)


def inspection_tree(draft: Draft) -> dict[str, Any]:
    """Return the part of the recipe that the data profile depends on."""
    answers = {**draft.preset_values, **draft.you}
    return unflatten({path: value for path, value in answers.items() if path.startswith(_DATA_PREFIXES)})


def model_ready(draft: Draft, facts: Facts) -> bool:
    """Whether the profile of the chosen model is there."""
    return (
        facts.model is not None and facts.model_state.key == model_key(draft) and facts.model_state.progress == "done"
    )


def data_ready(draft: Draft, facts: Facts) -> bool:
    """Whether the profile of the chosen data is there."""
    return facts.data is not None and facts.data_state.key == data_key(draft) and facts.data_state.progress == "done"


def problem_of(finding: "Finding") -> Problem:
    """Return a finding of a document as a problem."""
    return Problem(finding.code, finding.message, finding.fix, finding.path, finding.severity)


def step_problems(step: StepName, draft: Draft, facts: Facts) -> list[Problem]:
    """Return what is wrong on one step, errors first."""
    found = [problem for problem in facts.answer_problems if step_of(problem.path) == step]
    if step == "model" and facts.model_state.key == model_key(draft):
        found += facts.model_state.problems
        found += _model_problems(draft, facts)
    if step == "data" and facts.data_state.key == data_key(draft):
        found += facts.data_state.problems
        found += (
            [problem_of(finding) for finding in facts.data.findings] if data_ready(draft, facts) and facts.data else []
        )
    if step == "data":
        found = [problem for problem in found if not problem.code.startswith(PREFLIGHT)]
    if step == "xray":
        found += _xray_problems(draft, facts)
    if step in ("method", "settings", "review"):
        found += _plan_problems(step, facts)
    return sorted(_distinct(found), key=lambda problem: ("error", "warning", "note").index(problem.severity))


def _model_problems(draft: Draft, facts: Facts) -> list[Problem]:
    """Return what speaks against the model that was read, and whether the objective trains such models."""
    if facts.model is None or not model_ready(draft, facts):
        return []
    from engine.planning.model_findings import model_findings

    trusted = bool(draft.value("model.trust_remote_code"))
    found = model_findings(facts.model, draft.value("objective", "chat"), trusted=trusted)
    return [problem_of(finding) for finding in found]


def _xray_problems(draft: Draft, facts: Facts) -> list[Problem]:
    """Return what the sequences say; before they are read, what the data said of them."""
    if xray_ready(draft, facts):
        return [*facts.xray.state.problems, *(facts.xray.whole.problems if facts.xray.whole is not None else ())]
    if not data_ready(draft, facts) or facts.data is None:
        return []
    found = [problem_of(finding) for finding in facts.data.findings]
    return [problem for problem in found if problem.code.startswith(PREFLIGHT)]


def _distinct(problems: list[Problem]) -> list[Problem]:
    return list({(problem.code, problem.message): problem for problem in problems}.values())


def _plan_problems(step: StepName, facts: Facts) -> list[Problem]:
    found = list(facts.plan_state.problems)
    if facts.plan is not None and facts.plan_state.progress == "done":
        found += [problem_of(finding) for finding in facts.plan.findings]
    return (
        found if step == "review" else [problem for problem in found if problem.path and step_of(problem.path) == step]
    )


def fit_problems(facts: Facts) -> list[Problem]:
    """Return why the plan does not fit the memory; the way on stays open, since every setting may change that."""
    if facts.plan is None or facts.plan_state.progress != "done":
        return []
    found = [problem_of(finding) for finding in facts.plan.findings if finding.code.startswith("memory.")]
    return blocking(found)


def blocked_reason(step: StepName, draft: Draft, facts: Facts) -> str:
    """Return why the step after `step` cannot be opened, as a short sentence; empty when it can."""
    reason = _missing_reason(step, draft, facts)
    if reason:
        return reason
    errors = blocking(step_problems(step, draft, facts))
    return errors[0].message if errors else ""


def _missing_reason(step: StepName, draft: Draft, facts: Facts) -> str:
    if step == "objective" and not draft.value("objective"):
        return "Choose what the model should learn."
    if step == "model":
        if not draft.value("model.base"):
            return "Choose a base model."
        if facts.model_state.progress == "busy":
            return "The model is being read."
    if step == "data":
        if not draft.value("data.source"):
            return "Choose the data."
        if not data_ready(draft, facts) and facts.data_state.progress != "failed":
            return "The data is being read."
    if step == "xray" and data_ready(draft, facts) and not xray_ready(draft, facts):
        return "The X-ray is being read."
    if step == "review":
        return _review_reason(draft, facts)
    return ""


def _review_reason(draft: Draft, facts: Facts) -> str:
    for step in STEPS[:-1]:
        reason = blocked_reason(step, draft, facts)
        if reason:
            return reason
    if facts.plan is None or facts.plan_state.progress == "busy" or facts.plan_state.key != plan_key(draft, facts):
        return "" if facts.plan_state.progress == "failed" else "The plan is being made."
    return ""


def first_open_step(draft: Draft, facts: Facts, wanted: StepName) -> tuple[StepName, str]:
    """Return the step to open when `wanted` is asked for, and why it is another one.

    Every step before `wanted` must let the person through; steps before the current one always open.
    """
    if STEPS.index(wanted) <= STEPS.index(draft.step):
        return wanted, ""
    for step in STEPS[: STEPS.index(wanted)]:
        reason = _unseen_reason(step, draft, facts) or _missing_reason(step, draft, facts)
        reason = reason or _error_of(step, draft, facts)
        if reason:
            return step, reason
    return wanted, ""


def _unseen_reason(step: StepName, draft: Draft, facts: Facts) -> str:
    """Return why the X-ray cannot be jumped over: it is looked at once for these answers."""
    if step != "xray" or STEPS.index(draft.step) > STEPS.index("xray") or not data_ready(draft, facts):
        return ""
    return "" if xray_ready(draft, facts) and facts.xray.seen == xray_key(draft, facts) else "Look at the X-ray first."


def _error_of(step: StepName, draft: Draft, facts: Facts) -> str:
    errors = blocking(step_problems(step, draft, facts))
    return errors[0].message if errors else ""


def step_mark(step: StepName, draft: Draft, facts: Facts) -> Mark:
    """Return how a step is marked in the rail."""
    answered = {"objective": "objective", "model": "model.base", "data": "data.source"}.get(step)
    known = step in draft.visited or (answered is not None and bool(draft.value(answered)))
    if known and (blocking(step_problems(step, draft, facts)) or (step == "method" and fit_problems(facts))):
        return "problem"
    if step == draft.step:
        return "current"
    busy = (step == "model" and facts.model_state.progress == "busy") or (
        step == "data" and facts.data_state.progress == "busy"
    )
    busy = busy or (step == "xray" and facts.xray.state.progress == "busy")
    if busy:
        return "busy"
    done = bool(draft.value(answered)) if answered else step in draft.visited
    return "done" if done and step != "review" else "todo"


def forget_stale(draft: Draft, facts: Facts) -> Facts:
    """Return the facts without what was read for other answers."""
    fresh = facts
    if facts.model_state.key != model_key(draft):
        fresh = replace(fresh, model=None, model_state=Inspected())
    if facts.data_state.key != data_key(draft):
        fresh = replace(fresh, data=None, data_state=Inspected(), data_look=None, data_work=None)
    if facts.xray.state.key != xray_key(draft, fresh):
        fresh = replace(fresh, xray=XrayFacts(seen=facts.xray.seen))
    return fresh
