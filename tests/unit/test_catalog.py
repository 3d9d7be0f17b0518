"""The catalogue against the schema, the implementations, and published facts of base models."""

import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine.catalog.base_models import BASE_MODELS, find_base_model, models_for
from engine.catalog.builtin import BUILTIN_DATA, BUILTIN_MODEL, builtin_path, is_builtin
from engine.catalog.learning_rates import RATE_FAMILIES
from engine.catalog.methods import METHOD_SETTINGS, METHODS, VARIANTS, find_method
from engine.catalog.metrics import GENERATING_CHOICES, METRIC_CHOICES, METRICS, find_metric
from engine.catalog.objectives import OBJECTIVES, find_objective
from engine.planning.architectures import read_architecture
from engine.planning.known_classes import has_head
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
    formats = {shape for objective in OBJECTIVES for shape in objective.formats}
    assert formats == set(FIELDS["data.format"].choices)


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
    assert {path for path in METHOD_SETTINGS if path.startswith("method.")} == adapters


def test_metrics_of_objectives_can_be_chosen():
    for objective in OBJECTIVES:
        assert objective.metrics
        assert set(objective.measurable) <= set(METRIC_CHOICES)
        assert not set(objective.metrics) & set(objective.asked)
    answers = {"exact_match", "rouge", "bleu", "chrf", "win_rate", "wer", "cer"}
    answers |= {"json_valid", "json_schema", "regex", "metric_file"}
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
        ("perplexity", 2.149e41, "2.1e+41"),
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
OBJECTIVE_NAMES = {
    *("chat", "domain-adaptation", "text-to-text", "classification", "token-classification"),
    *("preference", "reward-model", "reinforcement-learning"),
}
HUB_TOTALS = {
    # Elements of all safetensors of the repository, as the hub counts them.
    "Qwen/Qwen3-0.6B": 751_632_384,
    "Qwen/Qwen3-1.7B": 2_031_739_904,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "ibm-granite/granite-3.3-2b-instruct": 2_533_539_840,
    "allenai/OLMo-2-0425-1B-Instruct": 1_484_916_736,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-2-2b-it": 2_614_341_888,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "microsoft/phi-4": 14_659_507_200,
    "answerdotai/ModernBERT-base": 149_655_232,
    "answerdotai/ModernBERT-large": 395_881_664,
    "google-bert/bert-base-uncased": 110_106_428,
    "google-bert/bert-large-uncased": 336_226_108,
    "google-bert/bert-base-multilingual-cased": 178_566_653,
    "FacebookAI/roberta-base": 124_697_433,
    "FacebookAI/roberta-large": 355_412_057,
    "FacebookAI/xlm-roberta-base": 278_885_778,
    "FacebookAI/xlm-roberta-large": 561_192_082,
    "distilbert/distilbert-base-multilingual-cased": 135_445_755,
    "facebook/bart-base": 139_420_416,
}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_counted_weights_are_the_published_number(card):
    assert card.architecture.counted
    assert card.architecture.num_params == card.num_params
    assert card.profile.num_params == card.num_params
    assert card.profile.base == card.name


@pytest.mark.parametrize("name", HUB_TOTALS)
def test_published_numbers_are_those_of_the_hub_less_what_is_not_loaded(name):
    card = find_base_model(name)
    hidden, vocab = card.architecture.hidden_size, card.architecture.vocab_size
    unused = {
        0,
        vocab * hidden,  # an output layer that is stored although it is tied to the embedding
        hidden * hidden + hidden,  # the pooler
        hidden * hidden + hidden + 2 * hidden + 2,  # pooler, and whether one sentence follows another
    }
    assert HUB_TOTALS[name] - card.num_params in unused


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_profiles_are_whole(card):
    profile = card.profile
    assert profile.num_heads % profile.num_kv_heads == 0
    assert profile.linear_shapes
    assert profile.kind == card.kind
    assert profile.body_params > 0
    assert profile.has_chat_template == card.chat_template
    assert profile.weights_dtype == card.weights_dtype
    assert profile.context_length == card.context_length
    assert card.license
    assert card.languages
    assert profile.folder is None
    assert profile.weights_bytes == 0


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_tokens_are_those_that_its_kind_needs(card):
    profile = card.profile
    if card.kind == "encoder":
        assert profile.pad_token
        assert profile.cls_token
        assert profile.sep_token
        assert profile.mask_token
    else:
        assert profile.eos_token
    assert (card.kind == "encoder-decoder") <= bool(profile.pad_token)


HEADS = {
    "decoder": {
        "chat": "causal-lm",
        "classification": "sequence-classification",
        "reward-model": "sequence-classification",
    },
    "encoder": {
        "classification": "sequence-classification",
        "token-classification": "token-classification",
        "domain-adaptation": "masked-lm",
    },
    "encoder-decoder": {"text-to-text": "seq2seq-lm"},
}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_objectives_of_a_model_have_a_head_in_the_library(card):
    assert card.objectives
    assert set(card.objectives) <= OBJECTIVE_NAMES
    for objective in card.objectives:
        head = HEADS[card.kind].get(objective, "causal-lm")
        assert head in card.architecture.heads
        assert has_head(card.architecture.model_type, head), (card.name, objective)


def test_every_objective_has_models_and_each_kind_its_own():
    for objective in OBJECTIVE_NAMES:
        assert models_for(objective), objective
    assert {card.kind for card in models_for("token-classification")} == {"encoder"}
    assert {card.kind for card in models_for("text-to-text")} == {"decoder", "encoder-decoder"}
    assert "encoder" not in {card.kind for card in models_for("chat")}


def test_encoders_know_how_far_they_can_read():
    assert find_base_model("google-bert/bert-base-uncased").context_length == 512
    assert find_base_model("FacebookAI/roberta-base").context_length == 512  # 514 positions, counted from the padding
    assert find_base_model("answerdotai/ModernBERT-base").context_length == 8192
    t5 = find_base_model("google/flan-t5-small").profile
    assert (t5.context_length, t5.relative_positions) == (512, True)


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


def test_the_page_of_models_is_current():
    script = ENGINE.parent / "scripts" / "write_models_docs.py"
    found = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_page_of_methods_is_what_the_catalogue_says():
    command = [sys.executable, str(ENGINE.parent / "scripts" / "write_method_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ENGINE.parent, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_variants_are_those_of_the_schema():
    assert [one.name for one in VARIANTS] == list(FIELDS["method.variant"].choices)
    for one in VARIANTS:
        assert one.summary.endswith(".")
        assert one.when.endswith(".")


def test_every_rate_of_a_family_lies_in_its_range():
    assert {method.rates for method in METHODS} <= set(RATE_FAMILIES)
    for family in RATE_FAMILIES.values():
        rates = [rate for _, rate in family.rates]
        assert rates == sorted(rates, reverse=True), "larger models take smaller steps"
        assert all(family.lowest < rate < family.highest for rate in rates)
