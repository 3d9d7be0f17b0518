"""What the wizard says and shows for objectives that are no talk: classes, tags, hidden words, texts made of texts."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.catalog.metrics import METRICS, find_metric
from engine.catalog.objectives import OBJECTIVES
from engine.data.cleaning.clean import unasked
from engine.data.sequence_length import sequence_length
from engine.data.shapes_checks import label_findings
from engine.evaluation.report_data import metric_row
from engine.planning.profiles import CheckResult, DataProfile, LengthProfile, ModelProfile
from engine.planning.steps import count_sequences
from engine.recipe.fields import recipe_fields
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe
from tests.tui.fake_xray import FakeXray
from tests.unit.made_plans import plan
from tui.backend import Choice, PresetRow, WorkProgress
from tui.home.entries import home_entries
from tui.monitor import panels
from tui.plain_xray import page_lines
from tui.results.screen import metric_table, shortened
from tui.verbs.data_cli import data_app
from tui.wizard import lengths
from tui.wizard.data_sources import builtin_for
from tui.wizard.data_text import summary_content, work_content
from tui.wizard.draft import Draft, FoundDraft
from tui.wizard.facts import Facts
from tui.wizard.model import is_folder, template_words
from tui.wizard.review_text import plan_content
from tui.wizard.settings import best_values
from tui.wizard.settings_rows import (
    SECTION_TITLES,
    TITLE_WIDTH,
    editable_fields,
    fitting_metrics,
    unread_settings,
    value_text,
)
from tui.wizard.xray_text import HIDDEN_WORDS, headline, help_words, legend_content
from tui.wizard.xray_text import summary_content as xray_summary

SHORT = LengthProfile(count=10, mean=5, p50=5, p90=8, p99=9, longest=9, total=50, covered=[(5, 5), (9, 10)])
LONG = SHORT.model_copy(update={"p50": 50, "p99": 90, "longest": 1_390, "covered": [(50, 5), (1_390, 10)]})
PAIRS = DataProfile(
    format="source_target", num_rows=10, num_train=10, lengths=LONG, source_lengths=SHORT, answer_lengths=SHORT
)


def test_a_long_name_of_a_preset_stands_apart_from_its_title() -> None:
    presets = [PresetRow("chat-lora", "Chat", ""), PresetRow("domain-adaptation-encoder", "Domain adaptation", "")]
    lines = [entry.content.plain for entry in home_entries([], presets, FoundDraft(None), now=0.0)]
    short, long = lines[-2:]
    assert "domain-adaptation-encoder Domain adaptation" in long
    assert short.index("Chat") == long.index("Domain adaptation")


def test_a_folder_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert not is_folder("mine")
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert is_folder("mine")
    assert not is_folder("bert")


def test_chat_templates_are_told_of_where_they_are_read() -> None:
    encoder = model("encoder")
    assert template_words("classification", encoder) == ""
    assert template_words("token-classification", encoder) == ""
    assert template_words("text-to-text", replaced(encoder, kind="encoder-decoder")) == ""
    assert "no chat template" in template_words("text-to-text", replaced(encoder, kind="decoder"))


def model(kind: str) -> ModelProfile:
    return ModelProfile(
        base="m",
        architecture="X",
        model_type="bert",
        num_params=1,
        vocab_size=2,
        hidden_size=2,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=2,
        intermediate_size=2,
        context_length=8,
        tied_embeddings=True,
        kind=kind,
    )


def replaced(profile: ModelProfile, **changes: str) -> ModelProfile:
    return profile.model_copy(update=changes)


def test_conversations_that_come_along_are_offered_to_those_who_learn_from_them() -> None:
    commands = [Choice("builtin:commands", "Commands", "")]
    offered = {goal.name for goal in OBJECTIVES if builtin_for(commands, goal.name)}
    assert {"chat", "text-to-text"} <= offered
    assert offered.isdisjoint({"classification", "token-classification", "domain-adaptation", "preference"})


def test_lengths_of_pairs_are_those_that_the_length_cuts() -> None:
    chart = lengths.chart_content(PAIRS, 8, 8, width=70, rows=3).plain
    assert "sources: m median 5" in chart
    assert "1,390" not in chart
    assert [row.num_cut for row in lengths.offered_lengths(PAIRS, 5)] == [5]
    assert "targets: median 5" in summary_content(PAIRS, []).plain


@pytest.mark.parametrize(
    ("learnt", "words"),
    [("labels", "learns the class"), ("tags", "the tag of each word"), (HIDDEN_WORDS, "guesses the words")],
)
def test_the_xray_says_what_is_learnt(learnt: str, words: str) -> None:
    assert words in help_words(learnt)
    assert "write" not in help_words(learnt)
    assert "learns to write" in help_words("answers")


def test_targets_are_no_turns() -> None:
    page = replace(FakeXray().page(0, 3, "file"), answers="targets", num_ended=3)
    assert "the targets, and their ends in 3 of 12 rows" in headline(page)
    assert "turn" not in headline(page)
    assert "the targets and their ends" in headline(replace(page, num_ended=12))


@pytest.mark.parametrize("marked", [True, False])
def test_nothing_is_marked_as_trained_where_a_class_is_learnt(marked: bool) -> None:
    assert "trained" not in legend_content(marked=marked, trained=False).plain
    assert "trained" in legend_content(marked=marked).plain


def test_plain_lines_say_the_class_and_nothing_of_writing() -> None:
    page = FakeXray().page(0, 1, "file")
    learnt = replace(page, learnt="2 classes.", sequences=(replace(page.sequences[0], learns="good"),))
    text = "\n".join(page_lines(learnt))
    assert "→ good" in text
    assert "learns to write" not in text
    assert "learns to write" in "\n".join(page_lines(page))


def test_settings_follow_the_kind_of_model() -> None:
    assert "training.packing" in unread_settings("text-to-text", "encoder-decoder")
    assert "training.packing" not in unread_settings("text-to-text", "decoder")
    assert "text_to_text.max_target_length" in unread_settings("text-to-text", "decoder")
    assert {"evaluation.generate_rows", "training.packing"} <= unread_settings("domain-adaptation", "encoder")
    assert "masked_perplexity" in fitting_metrics("domain-adaptation", "encoder")
    assert "perplexity" not in fitting_metrics("domain-adaptation", "encoder")
    assert "masked_perplexity" not in fitting_metrics("domain-adaptation", "decoder")


def test_the_best_step_is_not_said_by_what_is_never_measured() -> None:

    draft = Draft({"objective": "domain-adaptation"})
    assert "perplexity" not in best_values(draft, "encoder")
    assert "masked_perplexity" not in best_values(draft, "decoder")


def test_every_section_and_title_has_room() -> None:
    assert {field.section for field in recipe_fields()} <= set(SECTION_TITLES)
    assert max(len(field.title) for field in recipe_fields()) < TITLE_WIDTH


def test_what_a_plan_leaves_open_is_not_decided_by_it() -> None:
    assert value_text(None) == "decided by the plan"
    assert value_text(None, planned=True) == "none"
    assert value_text([]) == value_text({}) == value_text("") == "none"
    assert value_text({"a": 1}) == "a: 1"


def test_what_the_xray_found_is_wrapped_beside_its_label() -> None:
    found = "7 tags are learnt, each word's on its first token, none cut, none odd"
    lines = plan_content(plan({}), [], 79, xray=found).plain.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("X-ray"))
    assert max(map(len, lines[at : at + 2])) <= 79
    assert lines[at + 1].startswith(" " * 9)
    assert lines[at + 1].endswith("x\N{NO-BREAK SPACE}looks")


def test_every_objective_is_named_where_one_can_be() -> None:
    text = " ".join(CliRunner().invoke(data_app, ["xray", "--help"]).output.split())
    for goal in OBJECTIVES:
        assert goal.name in text


def test_what_was_found_is_told_once_while_data_is_read() -> None:
    work = WorkProgress("Checking", 1, 10, "rows", found="Read as source_target.")
    assert work_content("a.csv", work, None, 5.0).plain.count("source_target") == 1


def test_findings_keep_their_way_out_on_the_screen() -> None:
    rows = ", ".join(f"MTS-Dialog-TrainingSet.csv:{number}" for number in range(12))
    long = Problem("p7", f"364 sources are cut ({rows}).", "Set training.max_length higher.", severity="warning")
    page = replace(FakeXray().page(0, 3, "file"))
    assert "Set training.max_length higher." in xray_summary(page, [long], asks=False).plain
    lines = summary_content(PAIRS, [long, long, long]).plain.splitlines()
    assert sum(-(-len(line) // 78) for line in lines) <= 6
    assert lines[3].endswith("…")
    one = summary_content(PAIRS, [replace(long, message="The first of each is kept, " * 4)]).plain
    assert "Set training.max_length higher." in one


def test_the_xray_tells_sources_from_rows() -> None:
    recipe = Recipe.model_validate(
        {"objective": "text-to-text", "model": {"base": "m"}, "data": {"source": "a.csv"}, "method": {"name": "full"}}
    )
    length, why = sequence_length(recipe, model("encoder-decoder").model_copy(update={"context_length": 99}), SHORT)
    assert (length, why) == (16, "the longest source has 9 tokens")
    assert "row" in sequence_length(recipe, model("decoder").model_copy(update={"context_length": 99}), SHORT)[1]


def test_every_column_of_the_evaluations_is_apart_from_the_next() -> None:
    names = [panels._TITLES.get(metric.name, metric.title.lower()) for metric in METRICS]
    assert max(map(len, names)) < panels._CELL_WIDTH


def test_long_names_of_metrics_keep_the_table_of_the_result_straight() -> None:
    measured = {"loss": 3.0, "masked_perplexity": 41.9, "general_masked_perplexity": 35.7}
    rows = [metric_row(find_metric(name), {"metrics": measured}, {"metrics": measured}) for name in measured]
    lines = [line.plain for line in metric_table({"metrics": rows})]
    assert len({len(line.rstrip().rpartition("=")[0]) for line in lines[1:]}) == 1


def test_a_long_prompt_leaves_room_for_what_is_said_to_it() -> None:
    talk = "\n".join(f"Doctor: line {number}" for number in range(40))
    assert shortened("What is 2 + 2?") == "What is 2 + 2?"
    assert len(shortened(talk).splitlines()) == 4
    assert len(shortened("word " * 400)) < 330


def test_numbers_as_tags_are_told() -> None:
    rows = [{"id": f"a:{number}", "tokens": ["Mia", "runs"], "tags": ["1", "0"]} for number in range(3)]
    assert [found.code for found in label_findings(rows)] == ["data.unnamed_tags"]
    named = [{**row, "tags": ["B-PER", "O"]} for row in rows]
    assert label_findings(named) == []


def test_checks_that_ask_nothing_of_such_rows_are_not_listed() -> None:
    assert unasked({"id": "a", "text": "t"}) == {"contradictions", "repeated_answers", "class_balance"}
    assert unasked({"id": "a", "text": "t", "label": "x"}) == {"repeated_answers"}
    assert unasked({"id": "a", "tokens": ["t"], "tags": ["O"]}) == {"repeated_answers", "class_balance"}
    assert unasked({"id": "a", "prompt": [], "completion": []}) == frozenset()


def test_switches_of_checks_that_were_not_made_are_not_shown() -> None:
    made = [CheckResult(name=name, action="report") for name in ("secrets", "hidden_characters")]
    data = PAIRS.model_copy(update={"checks": made})
    shown = {field.path for field in editable_fields(recipe_fields(), Draft({"objective": "chat"}), Facts(data=data))}
    assert {"data.cleaning.secrets", "data.cleaning.leaked_rows"} <= shown
    assert "data.cleaning.class_balance" not in shown
    assert "data.text_unit" not in shown
    mine = Draft({"objective": "chat", "data.cleaning.class_balance": "off"})
    assert "data.cleaning.class_balance" in {f.path for f in editable_fields(recipe_fields(), mine, Facts(data=data))}


def test_windows_of_text_count_their_last_ones() -> None:
    lengths = LengthProfile(count=100, mean=1000, p50=1000, p90=1000, p99=1000, longest=1000, total=100_000)
    data = DataProfile(format="text", num_train=100, lengths=lengths)
    # A thousand tokens are eight windows of 132, the last of them not full.
    assert abs(count_sequences(data, 132, packing=False, text=True) - 800) <= 16
    assert count_sequences(data, 2000, packing=False, text=True) == 100
