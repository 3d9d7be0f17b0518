"""The wizard on answers that are compared or rewarded: what is asked for stands where a person looks."""

from typing import Any

from engine.planning.profiles import DataProfile, LengthProfile
from engine.recipe.fields import recipe_fields
from engine.recipe.schema import RECIPE_SECTIONS
from tests.tui.fake_backend import data_profile, model_profile
from tests.unit.made_plans import plan, tiny
from tui.wizard.draft import Draft
from tui.wizard.facts import Facts
from tui.wizard.lengths import planned_length, written_tokens
from tui.wizard.review_text import plan_content, recipe_content
from tui.wizard.settings_rows import SECTION_TITLES, editable_fields, setting_rows


def rows_of(**you: Any) -> tuple[list[str], list[str]]:
    """Return the paths that the settings step always shows, and those that it folds away."""
    draft, facts = Draft(you={path.replace("__", "."): value for path, value in you.items()}), Facts()
    fields = editable_fields(recipe_fields(), draft, facts)
    shown = [row.path for row in setting_rows(fields, draft, facts, unfolded=False) if row.kind == "field"]
    every = [row.path for row in setting_rows(fields, draft, facts, unfolded=True) if row.kind == "field"]
    return shown, [path for path in every if path not in shown]


def test_every_section_has_a_name_for_people() -> None:
    assert set(RECIPE_SECTIONS) <= set(SECTION_TITLES)


def test_loss_and_beta_of_a_preference_are_found_at_once_and_only_what_the_loss_reads() -> None:
    shown, folded = rows_of(objective="preference")
    assert {"preference.loss", "preference.beta"} <= set(shown)
    assert "preference.label_smoothing" in folded
    assert not {"preference.desirable_weight", "preference.simpo_gamma"} & {*shown, *folded}
    _, folded = rows_of(objective="preference", preference__loss="kto")
    assert {"preference.desirable_weight", "preference.undesirable_weight"} <= set(folded)
    assert "preference.label_smoothing" not in folded
    # What the person set stays in sight, so that it can be taken back.
    _, folded = rows_of(objective="preference", preference__loss="kto", preference__simpo_gamma=0.5)
    assert "preference.simpo_gamma" in folded


def test_what_a_reward_cannot_do_without_stands_beside_the_rewards() -> None:
    named = {"reinforcement.pattern", "reinforcement.wished_length", "reinforcement.reward_model"}
    shown, folded = rows_of(objective="reinforcement-learning")
    assert "reinforcement.beta" in shown
    assert not named & {*shown, *folded}
    shown, _ = rows_of(objective="reinforcement-learning", reinforcement__rewards=["model", "format"])
    assert {"reinforcement.reward_model", "reinforcement.pattern"} <= set(shown)
    assert "reinforcement.reward_file" not in shown
    shown, _ = rows_of(objective="reinforcement-learning", reinforcement__rewards=["file"])
    assert {"reinforcement.reward_file", "reinforcement.trust_reward_code"} <= set(shown)


PROMPTS = DataProfile(
    format="prompts",
    num_train=100,
    lengths=LengthProfile(count=100, mean=30, p50=30, p90=38, p99=40, longest=40, total=3000),
)


def test_a_length_of_prompts_leaves_room_for_the_answer_that_is_written() -> None:
    model = model_profile()
    draft = Draft(you={"objective": "reinforcement-learning"})
    assert written_tokens(draft, model, PROMPTS) == 128
    assert planned_length(draft, model, PROMPTS)[0] == 40
    told = draft.with_values({"reinforcement.max_completion": 64, "training.max_length": 100})
    assert written_tokens(told, model, PROMPTS) == 64
    assert planned_length(told, model, PROMPTS) == (36, "you set it", True)
    assert written_tokens(Draft(you={"objective": "chat"}), model, data_profile()) == 0


def test_the_review_names_the_run_that_it_starts_from_and_counts_answers() -> None:
    base = "run:20261201-101010-smollm2-on-rows-k3f9"
    folder = "/home/x/runs/20261201-101010-smollm2-on-rows-k3f9/model/merged"
    made = plan(objective="reinforcement-learning", model=tiny(base=base, from_run="x", folder=folder))
    assert made.recipe.model.base == folder
    told = plan_content(made, [], 78).plain
    assert base in told
    assert folder not in told
    assert " 16 answers (" in told.replace("of 16", " 16")
    assert folder not in recipe_content(made, 78).plain
    assert " rows (" in plan_content(plan(), [], 78).plain
