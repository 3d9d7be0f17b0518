"""The memory formula against real training of encoders and of encoders with a decoder, with the heads they get."""

import pytest

from engine.planning.layer_sums import head_of_class
from engine.planning.memory import Setup, estimate_memory, memory_components
from tests.engine.measured_heads import made_model, trained_peak, with_lora

USUAL_TOLERANCE = 0.08
CASES = [
    ("BertForSequenceClassification", "bert", "full", False, 2, USUAL_TOLERANCE),
    ("BertForTokenClassification", "bert", "lora", False, 1, USUAL_TOLERANCE),
    ("BertForMaskedLM", "bert", "full", True, 1, 0.15),
    ("DistilBertForSequenceClassification", "distilbert", "full", False, 1, USUAL_TOLERANCE),
    ("ModernBertForMaskedLM", "modernbert", "lora", False, 1, USUAL_TOLERANCE),
    ("DebertaV2ForSequenceClassification", "deberta-v2", "full", False, 1, 0.12),
    ("T5ForConditionalGeneration", "t5", "lora", False, 1, USUAL_TOLERANCE),
    ("BartForConditionalGeneration", "bart", "full", False, 2, USUAL_TOLERANCE),
]


@pytest.mark.parametrize(("class_name", "family", "method", "checkpointing", "accumulation", "tolerance"), CASES)
def test_the_formula_meets_what_training_took(class_name, family, method, checkpointing, accumulation, tolerance):
    model, profile = made_model(class_name, family)
    profile = profile.model_copy(update={"head": head_of_class(class_name)})
    assert profile.num_params == sum(weight.numel() for weight in model.parameters())
    options = {"gradient_checkpointing": True} if checkpointing else {}
    trained = with_lora(model, family) if method == "lora" else model
    measured = trained_peak(trained, class_name, micro_batch=2, length=192, accumulation=accumulation, **options)
    setup = Setup(
        "cpu",
        method,
        "float32",
        2,
        192,
        accumulates=accumulation > 1,
        activation_checkpointing=checkpointing,
    )
    counted = sum(memory_components(profile, setup).values())
    assert counted == pytest.approx(measured, rel=tolerance), (class_name, method, counted, measured)
    estimate = estimate_memory(profile, setup, available_bytes=None, where="host RAM")
    assert estimate.low_bytes <= measured + estimate.components["process"] <= estimate.high_bytes
    assert estimate.confidence == "normal"


def test_a_class_head_takes_no_logits_of_the_vocabulary():
    _, profile = made_model("BertForMaskedLM", "bert")
    large = profile.model_copy(update={"vocab_size": 50_000, "num_params": profile.num_params + 49_232 * 192})
    setup = Setup("cuda", "lora", "bfloat16", 8, 128)
    needs = {
        head: sum(memory_components(large.model_copy(update={"head": head}), setup).values())
        for head in ("masked-lm", "sequence-classification", "token-classification")
    }
    logits = 8 * 128 * 50_000 * 8
    assert needs["masked-lm"] - needs["sequence-classification"] > logits
    assert needs["token-classification"] == needs["sequence-classification"]


def test_adapters_of_an_encoder_with_a_decoder_are_counted_where_they_are():
    model, profile = made_model("T5ForConditionalGeneration", "t5")
    adapted = with_lora(model, "t5")
    learnt = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    setup = Setup("cpu", "lora", "float32", 1, 64, rank=16)
    assert memory_components(profile, setup)["adapter"] == 4 * learnt
