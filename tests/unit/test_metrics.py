"""The metric modules equal the scorers that they stand on, and load as `evaluate` modules without a network."""

import math
from pathlib import Path

import pytest
from rouge_score import rouge_scorer

from engine.catalog.metrics import METRIC_CHOICES, METRICS, find_metric
from engine.evaluation import metrics
from engine.evaluation.measures import default_metrics, direction, known_metrics
from engine.evaluation.scores import score_answers, score_sums

ANSWERS = ["The cat sat on the mat.", "on(red_lamp)", "a  b\n c ", "", "It's 42, isn't it? 3.14"]
EXPECTED = ["The cat lay on a mat, purring.", "on(red_lamp)", "a b c", "something", "Is it 42? It's 3.14!"]


def test_rouge_equals_the_reference_scorer():
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    reference = [scorer.score(expected, answer) for answer, expected in zip(ANSWERS, EXPECTED, strict=True)]
    from engine.evaluation.metrics.rouge import Rouge

    ours = Rouge(keep_in_memory=True).compute(predictions=ANSWERS, references=EXPECTED)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert ours[name] == pytest.approx(sum(row[name].fmeasure for row in reference) / len(reference))
    assert 0 < ours["rouge2"] < ours["rougeL"] < 1


def test_rouge_counts_words_of_every_script():
    for text in ("Привет, мир", "café crème", "你好世界", "नमस्ते दुनिया", "สวัสดี"):
        assert score_answers([text], [text], ["rouge"])["rougeL"] == 1.0
    assert score_answers(["你好世界"], ["你好地球"], ["rouge"])["rouge1"] == pytest.approx(0.5)


def test_exact_match_looks_past_whitespace_and_nothing_else():
    assert score_answers(ANSWERS, EXPECTED, ["exact_match"]) == {"exact_match": pytest.approx(2 / 5)}
    assert score_answers(["On"], ["on"], ["exact_match"])["exact_match"] == 0.0
    assert score_answers([], [], ["exact_match", "rouge"]) == {}


def test_half_a_surrogate_pair_in_the_data_ends_no_evaluation():
    assert score_answers(["x \ud800"], ["x \ud800"], ["exact_match", "rouge", "bleu", "chrf"])["exact_match"] == 1.0


def test_perplexity_weighs_tokens_and_overflows_to_infinity():
    scores = score_sums([10.0, 1.0], [1, 9], [10, 90])
    assert scores["loss"] == pytest.approx(0.11)
    assert scores["perplexity"] == pytest.approx(math.exp(0.11))
    assert scores["token_accuracy"] == pytest.approx(0.1)
    assert score_sums([1e6], [0], [1])["perplexity"] == math.inf
    assert math.isnan(score_sums([math.nan], [0], [1])["loss"])
    assert score_sums([], [], []) == {}


TEXTS = (ANSWERS, EXPECTED)
LABELS = ([0, 1, 1], [0, 1, 0])
NUMBERS = ([2.0, 3.0], [4.0, 2.0])
INPUTS = {
    "exact_match": TEXTS, "rouge": TEXTS, "bleu": TEXTS, "chrf": TEXTS,
    "wer": TEXTS, "cer": TEXTS, "json_valid": (ANSWERS, None), "json_schema": (ANSWERS, None), "regex": (ANSWERS, None),
    "metric_file": ([1.0, 2.0], None),
    "perplexity": ([2, 3], [4, 6]), "token_accuracy": ([2, 3], [4, 6]), "kl": ([2.0, 3.0], [4, 6]),
    "accuracy": LABELS, "f1_macro": LABELS, "f1_micro": LABELS, "confusion": LABELS,
    "entity_f1": ([["B-A", "O"]], [["B-A", "I-A"]]),
    "reward_accuracy": NUMBERS, "reward_margin": NUMBERS, "win_rate": NUMBERS, "solved_rate": NUMBERS,
    "reward": ([1.0, 2.0], None), "completion_length": ([3, 4], None),
}  # fmt: skip


def test_every_choice_has_a_module():
    names = {path.stem for path in Path(metrics.__file__).parent.glob("*.py")} - {"__init__"}
    assert names == set(INPUTS)
    # Hidden words and general text are measured by the modules of the next token.
    by_others = {"masked_perplexity", "masked_accuracy", "general_text"}
    assert set(METRIC_CHOICES) - by_others == names - {"confusion"}


@pytest.mark.parametrize("name", INPUTS)
def test_each_module_loads_through_evaluate_from_the_package(name, tmp_path):
    import evaluate

    path = Path(metrics.__file__).parent / f"{name}.py"
    module = evaluate.load(str(path), cache_dir=str(tmp_path), keep_in_memory=True)
    predictions, references = INPUTS[name]
    inputs = {"predictions": predictions} | ({} if references is None else {"references": references})
    result = module.compute(**inputs, **({"num_labels": 2} if name == "confusion" else {}))
    asked = {metric.name for metric in METRICS if metric.choice == name}
    assert asked <= set(result)
    assert result


def test_the_direction_of_a_change_depends_on_the_metric():
    perplexity, exact = find_metric("perplexity"), find_metric("exact_match")
    assert direction(perplexity, 9.0, 3.0) == "better"
    assert direction(perplexity, 3.0, 9.0) == "worse"
    assert direction(exact, 0.1, 0.2) == "better"
    assert direction(exact, 0.2, 0.1) == "worse"
    assert direction(exact, 0.5, 0.5004) == "same"
    assert direction(perplexity, 1000.0, 1000.5) == "same"
    assert direction(perplexity, 3.0, math.inf) == "worse"
    assert direction(perplexity, math.inf, 3.0) == "better"
    assert direction(perplexity, math.inf, math.inf) == "same"
    length = find_metric("completion_length")
    assert direction(length, 10.0, 20.0) == direction(length, 20.0, 10.0) == "unknown"
    assert direction(length, 10.0, 10.0) == "same"
    assert direction(perplexity, math.nan, 3.0) == direction(perplexity, None, 3.0) == "unknown"


def test_metrics_of_plain_text_need_no_generation():
    chosen = known_metrics({"loss", *default_metrics("domain-adaptation")})
    assert [metric.name for metric in chosen] == ["loss", "perplexity", "token_accuracy"]
    assert default_metrics("domain-adaptation", "masked-lm") == ("masked_perplexity", "masked_accuracy", "general_text")
    assert not any(metric.generates for metric in chosen)
