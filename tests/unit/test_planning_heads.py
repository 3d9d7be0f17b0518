"""What a new head changes in a plan: weights, findings about the kind of model, and how far it reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import matrix
from engine.catalog.base_models import find_base_model
from engine.catalog.matrix import reason_against_kind
from engine.catalog.objectives import OBJECTIVES, Objective
from engine.planning import heads, model_findings
from engine.planning.architectures import read_architecture
from engine.planning.heads import with_head
from engine.planning.memory_setup import Setup, adapter_params
from engine.planning.model_findings import model_findings as findings_of
from engine.planning.model_folder import describe
from engine.planning.model_profile import read_model_profile
from engine.planning.profiles import DataProfile, ModelProfile
from tests.unit.made_plans import TEXT, gpu, plan, with_gpus

BERT = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def write_model(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\n")
    return folder


def profile(name: str) -> ModelProfile:
    card = find_base_model(name)
    assert card is not None
    return card.profile


def codes(model: ModelProfile, objective: str) -> list[str]:
    return [finding.code for finding in findings_of(model, objective)]


@pytest.fixture
def every_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives of each head, whichever of them the catalogue has."""
    made: list[tuple[str, str, Any]] = [
        ("chat", "answers", (("decoder", "causal-lm"),)),
        ("domain-adaptation", "text", (("decoder", "causal-lm"), ("encoder", "masked-lm"))),
        ("text-to-text", "answers", (("encoder-decoder", "seq2seq-lm"), ("decoder", "causal-lm"))),
        (
            "classification",
            "labels",
            (("encoder", "sequence-classification"), ("decoder", "sequence-classification")),
        ),
        ("token-classification", "tags", (("encoder", "token-classification"),)),
        ("reward-model", "rewards", (("decoder", "sequence-classification"),)),
    ]
    base = OBJECTIVES[0]
    table: dict[str, Objective] = {}
    for name, signal, of_kinds in made:
        values = {field: getattr(base, field) for field in base.__dataclass_fields__}
        table[name] = Objective(**{**values, "name": name, "title": name, "signal": signal, "heads": of_kinds})
    monkeypatch.setattr(heads, "find_objective", table.__getitem__)
    monkeypatch.setattr(matrix, "find_objective", table.__getitem__)
    monkeypatch.setattr(model_findings, "find_objective", table.__getitem__)
    monkeypatch.setattr(model_findings, "OBJECTIVES", tuple(table.values()))


@pytest.mark.usefixtures("every_objective")
@pytest.mark.parametrize(
    ("name", "objective", "labels", "added"),
    [
        # 768 x 768 + 768 before the classes, 769 for each; of the word head nothing is left.
        ("google-bert/bert-base-uncased", "classification", 77, 590_592 + 769 * 77),
        ("google-bert/bert-base-uncased", "token-classification", 9, 769 * 9),
        ("google-bert/bert-base-uncased", "domain-adaptation", 0, 590_592 + 1536 + 30522),
        ("Qwen/Qwen3-0.6B", "classification", 3, 1024 * 3),
        ("Qwen/Qwen3-0.6B", "reward-model", 0, 1024),
        ("Qwen/Qwen3-8B", "classification", 3, 4096 * 3),
        ("google/flan-t5-small", "text-to-text", 0, 32128 * 512),
    ],
)
def test_a_head_counts_with_its_labels(name: str, objective: str, labels: int, added: int) -> None:
    model = profile(name)
    data = DataProfile(format=None, labels=[str(number) for number in range(labels)])
    headed = with_head(model, objective, data)
    assert headed.num_params == model.body_params + added
    assert with_head(headed, objective, data) == headed


@pytest.mark.usefixtures("every_objective")
def test_two_labels_are_counted_with_until_the_data_tells_more() -> None:
    model = profile("google-bert/bert-base-uncased")
    assert with_head(model, "classification").num_labels == 2
    assert with_head(model, "classification", DataProfile(format=None)).num_labels == 2
    assert with_head(model, "reward-model") == model  # rewards are not learned by encoders here


@pytest.mark.usefixtures("every_objective")
def test_a_model_of_another_kind_is_refused_with_models_and_objectives_that_fit() -> None:
    (finding,) = findings_of(profile("google-bert/bert-base-uncased"), "chat")
    assert finding.code == "model.kind_unsuited"
    assert finding.severity == "error"
    assert "chat trains decoders; this is an encoder" in finding.message
    assert "openai-community/gpt2" in finding.fix  # the nearest in size that is a decoder
    assert "classification, token-classification" in finding.fix
    (finding,) = findings_of(profile("Qwen/Qwen3-0.6B"), "token-classification")
    assert "bert" in finding.fix.lower()
    assert reason_against_kind("chat", "decoder") == ""


@pytest.mark.usefixtures("every_objective")
@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("google-bert/bert-base-uncased", "classification"),
        ("google-bert/bert-base-uncased", "domain-adaptation"),
        ("FacebookAI/xlm-roberta-base", "token-classification"),
        ("google/flan-t5-small", "text-to-text"),
        ("Qwen/Qwen3-0.6B", "chat"),
        ("Qwen/Qwen3-0.6B", "reward-model"),
    ],
)
def test_what_fits_is_left_alone(name: str, objective: str) -> None:
    assert codes(profile(name), objective) == []


@pytest.mark.usefixtures("every_objective")
def test_a_family_without_a_class_for_the_head_is_refused() -> None:
    assert codes(profile("ibm-granite/granite-3.3-2b-instruct"), "classification") == ["model.no_such_head"]


@pytest.mark.usefixtures("every_objective")
def test_word_heads_that_were_never_trained_are_named() -> None:
    bare = profile("google-bert/bert-base-uncased").model_copy(update={"architecture": "BertModel"})
    assert codes(bare, "domain-adaptation") == ["model.head_is_new"]
    assert codes(bare, "classification") == []
    classes = profile("Qwen/Qwen3-8B").model_copy(update={"architecture": "Qwen3ForSequenceClassification"})
    assert codes(classes, "chat") == ["model.head_is_new"]
    tied = profile("Qwen/Qwen3-0.6B").model_copy(update={"architecture": "Qwen3ForSequenceClassification"})
    assert codes(tied, "chat") == []


@pytest.mark.usefixtures("every_objective")
def test_a_mask_token_is_missed_only_where_words_are_hidden(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "bert", BERT)
    (folder / "tokenizer_config.json").write_text('{"cls_token": "[CLS]", "pad_token": "[PAD]"}')
    model = read_model_profile(str(folder))
    assert (model.cls_token, model.mask_token) == ("[CLS]", None)
    assert "model.no_mask_token" not in codes(model, "classification")
    errors = [finding.code for finding in findings_of(model, "domain-adaptation") if finding.severity == "error"]
    assert "model.no_mask_token" in errors


def test_special_tokens_of_old_repositories_are_those_of_their_class(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "bert", BERT)
    (folder / "tokenizer_config.json").write_text("{}")
    model = read_model_profile(str(folder))
    assert (model.cls_token, model.sep_token, model.mask_token, model.pad_token) == (
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[PAD]",
    )


def test_positions_counted_from_the_padding_shorten_the_context() -> None:
    roberta = {**BERT, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "pad_token_id": 1}
    assert read_architecture({**roberta, "max_position_embeddings": 514}).context_length == 512
    assert read_architecture({**BERT, "max_position_embeddings": 512}).context_length == 512


def test_places_end_and_distances_go_on() -> None:
    long = {"training": {"max_length": 900}}
    bert = plan(long, model=profile("google-bert/bert-base-uncased"))
    t5 = plan(long, model=profile("google/flan-t5-small"))
    assert "plan.length_exceeds_context" in {finding.code for finding in bert.findings}
    beyond = next(finding for finding in t5.findings if finding.code == "plan.length_beyond_training")
    assert beyond.severity == "note"
    assert "plan.length_exceeds_context" not in {finding.code for finding in t5.findings}


def test_numbers_and_kernels_that_a_family_cannot_take() -> None:
    turing = with_gpus(gpu(16, (7, 5)))
    t5, bert = profile("google/flan-t5-small"), profile("google-bert/bert-base-uncased")
    assert plan(model=bert, hardware=turing).recipe.training.precision == "float16"
    assert plan(model=t5, hardware=turing).recipe.training.precision == "float32"
    ampere = with_gpus(gpu(16, (8, 6)))
    flash = {"training": {"attention": "flash_attention_2"}}
    messages = [found.message for found in plan(flash, model=t5, hardware=ampere).findings]
    assert any("no FlashAttention for t5" in message for message in messages)


def test_attention_that_is_written_out_is_planned_so() -> None:
    deberta = describe(
        read_architecture({**BERT, "model_type": "deberta-v2", "type_vocab_size": 0}), base="made/deberta"
    )
    assert plan(model=deberta).recipe.training.attention == "eager"
    asked = plan({"training": {"attention": "sdpa"}}, model=deberta)
    found = next(finding for finding in asked.findings if finding.code == "plan.not_capable")
    assert found.fix == "Set training.attention to eager."
    assert plan(model=profile("google-bert/bert-base-uncased")).recipe.training.attention == "sdpa"


def test_classes_are_measured_on_all_held_out_rows_that_there_usually_are() -> None:
    model = profile("google-bert/bert-base-uncased")
    data = DataProfile(format="text_label", labels=["a", "b"], num_train=100, num_held_out=10)
    found = plan({"objective": "classification"}, model=model, data=data)
    assert found.recipe.evaluation.max_rows == 2000
    found = plan({"objective": "classification", "evaluation.max_rows": 7}, model=model, data=data)
    assert found.recipe.evaluation.max_rows == 7


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [("intermediate.dense", 1), ("output.dense", 2), ("dense", 3), ("query", 1), ("encoder.layer.1.output.dense", 1)],
)
def test_ranks_of_layers_whose_names_have_several_parts_are_taken_and_counted(pattern: str, layers: int) -> None:
    bert = profile("google-bert/bert-base-uncased")
    ranks = {"method.name": "lora", "method.rank": 4, "method.rank_pattern": {pattern: 64}}
    found = plan(ranks, model=bert, objective="domain-adaptation", data=TEXT)
    assert "method.unknown_pattern" not in {finding.code for finding in found.findings}
    setup = Setup("cpu", "lora", "float32", 1, 64, rank=4)
    added = adapter_params(bert, replace(setup, rank_pattern=((pattern, 64),))) - adapter_params(bert, setup)
    narrow = bert.num_layers * 60 * 2 * bert.hidden_size
    assert added >= layers * narrow


def test_a_rank_for_a_layer_that_an_encoder_lacks_is_refused() -> None:
    ranks = {"method.name": "lora", "method.rank_pattern": {"down_proj": 64}}
    found = plan(ranks, model=profile("google-bert/bert-base-uncased"), objective="domain-adaptation", data=TEXT)
    assert "method.unknown_pattern" in {finding.code for finding in found.findings}
