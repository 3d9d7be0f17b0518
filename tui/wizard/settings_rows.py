"""The rows of the settings step, generated from the fields of the recipe; plain data, no widget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from textual.content import Content

from engine.catalog.methods import METHOD_NAMES, METHOD_SETTINGS, find_method
from engine.catalog.objectives import OBJECTIVE_SETTINGS, OBJECTIVES, find_objective
from engine.catalog.preference_losses import LOSS_SETTINGS, PREFERENCE_LOSSES, find_loss
from engine.catalog.rewards import REWARDS, find_reward
from engine.recipe.problems import Problem
from engine.text import clean_line, short_number
from tui.widgets.labels import SEVERITY_MARKS, fit, hanging
from tui.wizard.draft import Draft, step_of
from tui.wizard.facts import Facts, step_problems

if TYPE_CHECKING:
    from engine.catalog.objectives import ModelKind
    from engine.recipe.fields import RecipeField

RowKind = Literal["heading", "field", "choice", "fold"]
TITLE_WIDTH = 25
VALUE_WIDTH = 22
SECTION_TITLES = {
    "": "Run",
    "model": "Model",
    "method": "Method",
    "data": "Data",
    "data.cleaning": "Cleaning",
    "data.split": "Split",
    "training": "Training",
    "evaluation": "Evaluation",
    "domain_adaptation": "Domain adaptation",
    "text_to_text": "Text to text",
    "classification": "Classification",
    "token_classification": "Token classification",
    "preference": "Preference",
    "reward_model": "Reward model",
    "reinforcement": "Rewards",
    "tracking": "Tracking",
    "delivery": "Delivery",
}
FOLD = "fold"
CLEANING = "data.cleaning"
NOTHING = "none"
LOSS_NAMES = frozenset(loss.name for loss in PREFERENCE_LOSSES)
REWARD_NAMES = frozenset(reward.name for reward in REWARDS)
_OF_REWARD_FILE = {"reinforcement.trust_reward_code"}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One row. `path` names its field; `option` the value that a `choice` row switches."""

    row_id: str
    kind: RowKind
    content: Content
    path: str = ""
    option: str = ""

    @property
    def pickable(self) -> bool:
        """Whether the cursor stops here."""
        return self.kind != "heading"


def editable_fields(fields: "tuple[RecipeField, ...]", draft: Draft, facts: Facts) -> "list[RecipeField]":
    """Return the fields that this step shows: those no other step asks for and that method and objective read."""
    method = draft.value("method.name") or (facts.plan.recipe.method.name if facts.plan is not None else None)
    read = find_method(method).settings if method in METHOD_NAMES else METHOD_SETTINGS
    objective = str(draft.value("objective") or "")
    hidden = {path for path in METHOD_SETTINGS if path not in read} | unread_settings(objective, model_kind(facts))
    if facts.data is not None and facts.data.format not in (None, "text"):
        hidden.add("data.text_unit")  # Nothing but text files is read by it.
    hidden |= _of_choices(draft, facts) - chosen_settings(draft, facts)
    hidden |= {path for path in _unasked_checks(fields, facts) if draft.value(path) is None}
    return [
        field
        for field in fields
        if step_of(field.path) == "settings" and (field.path not in hidden or field.path in draft.you)
    ]


def _unasked_checks(fields: "tuple[RecipeField, ...]", facts: Facts) -> set[str]:
    """Return the switches of checks that ask nothing of such rows: the data's profile lists all that were made."""
    if facts.data is None or not facts.data.checks:
        return set()
    made = {f"{CLEANING}.{check.name}" for check in facts.data.checks} | {f"{CLEANING}.leaked_rows"}
    return {field.path for field in fields if field.section == CLEANING and field.path not in made}


def model_kind(facts: Facts) -> "ModelKind | None":
    """Return the kind of the base model; None before it was read."""
    return facts.model.kind if facts.model is not None else None


def unread_settings(objective: str, kind: "ModelKind | None" = None) -> set[str]:
    """Return the recipe paths that an objective does not read with a kind of model.

    Args:
        objective: Nothing is known to be unread for a name that is no objective's.
        kind: None for what no kind reads.
    """
    goal = next((entry for entry in OBJECTIVES if entry.name == objective), None)
    if goal is None:
        return set()
    read = goal.settings if kind is None else goal.settings_of(kind)
    return {path for path in OBJECTIVE_SETTINGS if path not in read} | set(goal.unread)


def fitting_metrics(objective: str, kind: "ModelKind | None") -> tuple[str, ...]:
    """Return the metrics of an objective that can be measured with a kind of model."""
    goal = find_objective(objective)
    fitting = goal.metrics if kind is None else goal.metrics_of(kind)
    return (*fitting, *goal.asked)


def chosen_settings(draft: Draft, facts: Facts) -> set[str]:
    """Return the recipe paths that are read because of a choice: the loss of a preference, the rewards of a run."""
    match draft.value("objective"):
        case "preference":
            loss = str(_in_force("preference.loss", "dpo", draft, facts))
            return set(find_loss(loss).settings) if loss in LOSS_NAMES else set()
        case "reinforcement-learning":
            rewards = _in_force("reinforcement.rewards", [], draft, facts)
            found = {find_reward(name).setting for name in rewards if name in REWARD_NAMES}
            return found | (_OF_REWARD_FILE if "file" in rewards else set())
    return set()


def _of_choices(draft: Draft, facts: Facts) -> set[str]:
    """Return the recipe paths that only some of those choices read."""
    match draft.value("objective"):
        case "preference":
            return set(LOSS_SETTINGS)
        case "reinforcement-learning":
            return {reward.setting for reward in REWARDS} | _OF_REWARD_FILE
    return set()


def _in_force(path: str, default: Any, draft: Draft, facts: Facts) -> Any:
    """Return the value at a path, as `resolved_value` does for a field."""
    planned = None if path in draft.you else _planned(path, facts)
    return draft.value(path, default) if planned is None else planned


def resolved_value(field: "RecipeField", draft: Draft, facts: Facts) -> Any:
    """Return the value in force: the answer, else what the plan made of it, else the default."""
    if field.path in draft.you:
        return draft.you[field.path]
    planned = _planned(field.path, facts)
    if planned is not None:
        return planned
    return draft.value(field.path, field.default)


def _planned(path: str, facts: Facts) -> Any:
    if facts.plan is None:
        return None
    node: Any = facts.plan.recipe
    for part in path.split("."):
        node = getattr(node, part)
    return node


def source_text(path: str, draft: Draft, facts: Facts) -> str:
    """Return where the value in force comes from."""
    if path not in draft.you and facts.plan is not None and path in facts.plan.sources:
        source = facts.plan.sources[path]
        return (
            f"{source.kind}: {source.detail}"
            if source.detail and source.kind == "derived"
            else (f"{source.kind} {source.detail}".strip())
        )
    return str(draft.source(path))


def value_text(value: Any, *, planned: bool = False) -> str:
    """Return a value as people write it in a recipe.

    Args:
        value: None, or empty, where there is none.
        planned: The plan is there: what has no value then stays without one.
    """
    match value:
        case None:
            return NOTHING if planned else "decided by the plan"
        case "" | list() | Mapping() if not value:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return short_number(value)
        case list():
            return ", ".join(clean_line(item) for item in value)
        case Mapping():
            return ", ".join(f"{clean_line(key)}: {clean_line(item)}" for key, item in value.items())
    return clean_line(value)


def setting_rows(
    fields: "list[RecipeField]", draft: Draft, facts: Facts, *, unfolded: bool, width: int = 80
) -> list[SettingRow]:
    """Return all rows: basic fields by section, the fold, and the advanced ones when it is open.

    Args:
        fields: What this step shows.
        draft: For answers and their sources.
        facts: For what the plan made of them, and for problems.
        unfolded: Whether the advanced fields show; faulty ones always do.
        width: Columns of a row; a source that is longer is cut, the explanation shows it whole.
    """
    problems: dict[str, list[Problem]] = {}
    for problem in step_problems("settings", draft, facts):
        problems.setdefault(problem.path, []).append(problem)
    make = _RowMaker(draft, facts, problems, width)
    # What a reward cannot do without stands beside the rewards.
    needed = chosen_settings(draft, facts) if draft.value("objective") == "reinforcement-learning" else set()
    basic = [field for field in fields if field.level == "basic" or field.path in needed]
    advanced = [field for field in fields if field not in basic]
    shown = [field for field in advanced if unfolded or field.path in problems]
    return [*make.by_section(basic, "basic"), make.fold(advanced, unfolded), *make.by_section(shown, "advanced")]


@dataclass(frozen=True, slots=True)
class _RowMaker:
    """Makes rows from one state of the wizard."""

    draft: Draft
    facts: Facts
    problems: Mapping[str, list[Problem]]
    width: int

    def by_section(self, fields: "list[RecipeField]", group: str) -> list[SettingRow]:
        rows: list[SettingRow] = []
        part = None
        for field in fields:
            # What is always shown is short enough without groups.
            here = (field.section, field.group if group == "advanced" else "")
            if here != part:
                part = here
                gap = "\n" if rows or group == "advanced" else ""
                section = SECTION_TITLES.get(field.section, field.section)
                title = f" {section}: {here[1][0].lower()}{here[1][1:]}" if here[1] else f" {section}"
                heading = Content.assemble(gap, (title, "bold $accent"))
                rows.append(SettingRow(f"heading-{group}-{'-'.join(here)}", "heading", heading))
            rows.append(self.field(field))
            if field.kind == "choices":
                rows += self.choices(field)
        return rows

    def fold(self, advanced: "list[RecipeField]", unfolded: bool) -> SettingRow:
        changed = sum(field.path in self.draft.you for field in advanced)
        note = f"  {len(advanced)} more" + (f", {changed} changed" if changed else "")
        arrow = "▾" if unfolded else "▸"
        return SettingRow(
            FOLD, "fold", Content.assemble("\n", (f" {arrow} Advanced", "bold $primary"), (note, "$text-muted"))
        )

    def field(self, field: "RecipeField") -> SettingRow:
        value = resolved_value(field, self.draft, self.facts)
        source = source_text(field.path, self.draft, self.facts)
        style = "bold" if source == "you" else "$text-muted" if value in (None, "", [], {}) else "$success"
        room = max(8, self.width - 3 - TITLE_WIDTH - VALUE_WIDTH - 4)
        parts: list[Content | tuple[str, str]] = [
            (f"   {fit(field.title, TITLE_WIDTH - 1)} ", ""),
            (fit(value_text(value, planned=self.facts.plan is not None), VALUE_WIDTH) + "  ", style),
            (clean_line(source, max_chars=room), "$accent" if source == "you" else "$text-muted"),
        ]
        for problem in self.problems.get(field.path, [])[:1]:
            glyph, color = SEVERITY_MARKS[problem.severity]
            text = hanging(problem.sentence(), 7, self.width - 3)
            parts.append((f"\n     {glyph} {text.lstrip()}", color))
        return SettingRow(f"field-{field.path}", "field", Content.assemble(*parts), field.path)

    def choices(self, field: "RecipeField") -> list[SettingRow]:
        chosen = resolved_value(field, self.draft, self.facts) or []
        rows: list[SettingRow] = []
        for option in self._offered(field, chosen):
            mark = ("[✓] ", "bold $success") if option in chosen else ("[ ] ", "$text-muted")
            content = Content.assemble("     ", mark, option.replace("_", " "))
            rows.append(SettingRow(f"choice-{field.path}-{option}", "choice", content, field.path, option))
        return rows

    def _offered(self, field: "RecipeField", chosen: Sequence[str]) -> list[str]:
        """Return the choices worth showing: of metrics those of the objective, and what is chosen in any case."""
        if field.path != "evaluation.metrics":
            return list(field.choices)
        fitting = fitting_metrics(str(self.draft.value("objective", "chat")), model_kind(self.facts))
        return [option for option in field.choices if option in fitting or option in chosen]
