"""Each method in the wizard: the settings step asks what the method reads and nothing else, and an answer arrives.

That a field which has arrived changes the run is `tests/engine/test_every_field_counts.py`.
"""

import pytest

from engine.catalog.methods import METHOD_SETTINGS, METHODS, Method
from engine.planning.planner import make_plan
from engine.recipe.fields import recipe_fields
from engine.recipe.values import parse_value
from tests.unit.made_plans import CPU, DATA, HOME, tiny
from tests.unit.test_method_rules import VALUES
from tui.wizard.draft import Draft, new_draft
from tui.wizard.facts import Facts
from tui.wizard.settings_rows import editable_fields, setting_rows

MODEL = tiny(num_layers=8)
FIELDS = [
    pytest.param(method, path, id=f"{method.name}-{path}")
    for method in METHODS
    for path in method.settings
    if path.startswith("method.")
]
OF_THE_MODEL = {"method.rank_pattern": "{up_proj: 4}", "method.targets": "attention"}


def draft_of(method: Method) -> Draft:
    answers = {"objective": "chat", "model.base": MODEL.base, "data.source": "x/rows.jsonl", "method.name": method.name}
    return new_draft(you=answers)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_settings_step_asks_what_the_method_reads_and_nothing_else(method: Method) -> None:
    draft = draft_of(method)
    fields = editable_fields(recipe_fields(), draft, Facts())
    rows = {row.path for row in setting_rows(fields, draft, Facts(), unfolded=True) if row.kind == "field"}
    assert rows & set(METHOD_SETTINGS) == set(method.settings)


@pytest.mark.parametrize(("method", "path"), FIELDS)
def test_an_answer_arrives_in_the_plan_as_the_persons_own(method: Method, path: str) -> None:
    draft = draft_of(method)
    answer = parse_value(path, OF_THE_MODEL.get(path, VALUES[path]))
    before, after = (
        make_plan(one.layered, CPU, MODEL, DATA, home=HOME) for one in (draft, draft.with_value(path, answer))
    )
    assert not [finding for finding in after.findings if finding.path == path and finding.severity == "error"]
    name = path.removeprefix("method.")
    assert getattr(after.recipe.method, name) == answer != getattr(before.recipe.method, name)
    assert after.sources[path].kind == "you"
