"""The catalogue against the schema, the implementations, and published facts of base models."""

from pathlib import Path

import pytest

import engine
from engine.catalog.base_models import BASE_MODELS, find_base_model
from engine.catalog.builtin import BUILTIN_DATA, BUILTIN_MODEL, builtin_path, is_builtin
from engine.catalog.methods import ADAPTER_SETTINGS, METHOD_SETTINGS, METHODS, find_method
from engine.catalog.metrics import GENERATING_CHOICES, METRIC_CHOICES, METRICS, find_metric
from engine.catalog.objectives import OBJECTIVES, find_objective
from engine.planning.architectures import read_architecture
from engine.recipe.fields import fields_by_path
from engine.recipe.problems import ProblemError

ENGINE = Path(engine.__file__).parent
FIELDS = fields_by_path()
ENTRIES = [*OBJECTIVES, *METHODS, *METRICS, *BASE_MODELS]


def modules_of(package: str) -> set[str]:
    """Return the module names of a package by its files, without importing it."""
    return {path.stem for path in (ENGINE / package).glob("*.py")} - {"__init__"}


def test_names_are_those_of_the_schema():
    assert {entry.name for entry in OBJECTIVES} == set(FIELDS["objective"].choices)
    assert {entry.name for entry in METHODS} == set(FIELDS["method.name"].choices)
    assert set(METRIC_CHOICES) == set(FIELDS["evaluation.metrics"].choices)
    formats = [shape for objective in OBJECTIVES for shape in objective.formats]
    assert sorted(formats) == sorted(FIELDS["data.format"].choices)


@pytest.mark.parametrize(("package", "entries"), [("objectives", OBJECTIVES), ("methods", METHODS)])
def test_every_entry_has_a_module_of_its_name(package, entries):
    modules = modules_of(package)
    assert {entry.name.replace("-", "_") for entry in entries} <= modules


def test_every_entry_speaks_in_sentences():
    for entry in ENTRIES:
        for text in (entry.summary, entry.when, entry.when_not):
            assert text.endswith((".", "?")), entry.name
            assert len(text) <= 120, entry.name
        assert 0 < len(entry.title) <= 30, entry.name


def test_settings_of_methods_are_fields():
    assert set(METHOD_SETTINGS) <= set(FIELDS)
    adapters = {path for path in FIELDS if path.startswith("method.") and path != "method.name"}
    assert set(ADAPTER_SETTINGS) == adapters


def test_metrics_of_objectives_can_be_chosen():
    for objective in OBJECTIVES:
        assert objective.metrics
        assert set(objective.metrics) <= set(METRIC_CHOICES)
    answers = {"exact_match", "rouge", "bleu", "chrf", "win_rate"}
    assert set(GENERATING_CHOICES) == answers | {"reward", "solved_rate", "kl", "completion_length"}


def test_metrics_of_one_choice_are_made_in_one_way():
    for choice in METRIC_CHOICES:
        asked = [metric for metric in METRICS if metric.choice == choice]
        assert len({(metric.generates, metric.needs) for metric in asked}) == 1
        assert asked[0].needs


def test_entries_are_found_by_name():
    assert find_objective("chat").title
    assert find_method("qlora").bits == 4
    assert find_metric("rougeL").choice == "rouge"
    assert find_base_model("nobody/nothing") is None
    for find in (find_objective, find_method, find_metric):
        with pytest.raises(KeyError):
            find("nothing")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("exact_match", 0.815, "81.5 %"),
        ("exact_match", 0.0, "0.0 %"),
        ("perplexity", 3.4159, "3.42"),
        ("perplexity", 12345.6, "12,346"),
        ("loss", 0.00123, "0.00123"),
        ("loss", None, "n/a"),
        ("loss", float("nan"), "n/a"),
        ("perplexity", float("inf"), "∞"),
    ],
)
def test_metrics_are_shown_as_a_table_shows_them(name, value, shown):
    assert find_metric(name).format(value) == shown


def test_metrics_know_their_direction():
    assert find_metric("perplexity").improved(3.0, 2.0)
    assert not find_metric("perplexity").improved(2.0, 2.0)
    assert find_metric("exact_match").improved(0.1, 0.2)
    length = find_metric("completion_length")
    assert not length.improved(10.0, 20.0)
    assert not length.improved(20.0, 10.0)
    assert (length.better_words, find_metric("kl").better_words) == ("", "")
    assert find_metric("loss").better_words == "lower is better"


def test_titles_inside_a_sentence_keep_the_capitals_of_names():
    words = {name: find_metric(name).word for name in ("exact_match", "rougeL", "f1_macro", "kl", "chrf", "bleu")}
    assert words == {
        "exact_match": "exact match", "rougeL": "ROUGE-L", "f1_macro": "macro F1", "kl": "KL to the base",
        "chrf": "chrF", "bleu": "BLEU",
    }  # fmt: skip


CARDS = [card for card in BASE_MODELS if card.architecture is not None]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_counted_weights_are_the_published_number(card):
    assert card.architecture.num_params == card.num_params
    assert card.profile.num_params == card.num_params
    assert card.profile.base == card.name


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_profiles_are_whole(card):
    profile = card.profile
    assert profile.num_heads % profile.num_kv_heads == 0
    assert [name for name, _, _ in profile.linear_shapes] == [
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    ]
    assert profile.eos_token
    assert profile.has_chat_template
    assert card.license
    assert profile.folder is None
    assert profile.weights_bytes == 0


def test_counting_agrees_with_a_count_by_hand():
    config = {
        "model_type": "llama",
        "vocab_size": 10,
        "hidden_size": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 6,
    }
    attention = 4 * 4 + 2 * (4 * 2) + 4 * 4
    block = attention + 3 * 4 * 6 + 2 * 4
    assert read_architecture(config).num_params == 2 * 10 * 4 + 2 * block + 4


def test_real_models_come_first_and_the_starter_last():
    assert not BASE_MODELS[0].builtin
    assert BASE_MODELS[-1].name == BUILTIN_MODEL
    assert len({card.name for card in BASE_MODELS}) == len(BASE_MODELS)
    assert sum(card.builtin for card in BASE_MODELS) == 1


def test_builtin_names():
    assert is_builtin(BUILTIN_MODEL)
    assert is_builtin(BUILTIN_DATA)
    assert not is_builtin("some/model")
    with pytest.raises(ProblemError, match=r"builtin:starter.*builtin:commands"):
        builtin_path("builtin:nothing")


def test_builtin_files_are_there():
    assert builtin_path(BUILTIN_MODEL).is_dir()
    assert builtin_path(BUILTIN_DATA).exists()
    profile = BASE_MODELS[-1].profile
    assert profile.weights_bytes > 0
    assert profile.has_chat_template
    assert profile.folder == str(builtin_path(BUILTIN_MODEL))
