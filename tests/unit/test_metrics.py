"""The metric modules equal the scorers that they stand on, and load as `evaluate` modules without a network."""

import math
from pathlib import Path

import pytest
from rouge_score import rouge_scorer

from engine.catalog.metrics import find_metric
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


def test_perplexity_weighs_tokens_and_overflows_to_infinity():
    scores = score_sums([10.0, 1.0], [1, 9], [10, 90])
    assert scores["loss"] == pytest.approx(0.11)
    assert scores["perplexity"] == pytest.approx(math.exp(0.11))
    assert scores["token_accuracy"] == pytest.approx(0.1)
    assert score_sums([1e6], [0], [1])["perplexity"] == math.inf
    assert math.isnan(score_sums([math.nan], [0], [1])["loss"])
    assert score_sums([], [], []) == {}


@pytest.mark.parametrize("name", ["exact_match", "rouge", "perplexity", "token_accuracy"])
def test_each_module_loads_through_evaluate_from_the_package(name, tmp_path):
    import evaluate

    path = Path(metrics.__file__).parent / f"{name}.py"
    module = evaluate.load(str(path), cache_dir=str(tmp_path), keep_in_memory=True)
    values = (ANSWERS, EXPECTED) if name in ("exact_match", "rouge") else ([2, 3], [4, 6])
    result = module.compute(predictions=values[0], references=values[1])
    assert set(result) & {"exact_match", "rougeL", "perplexity", "token_accuracy"}


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
    assert direction(perplexity, math.nan, 3.0) == direction(perplexity, None, 3.0) == "unknown"


def test_metrics_of_plain_text_need_no_generation():
    chosen = known_metrics({"loss", *default_metrics("domain-adaptation")})
    assert [metric.name for metric in chosen] == ["loss", "perplexity", "token_accuracy"]
    assert not any(metric.generates for metric in chosen)
