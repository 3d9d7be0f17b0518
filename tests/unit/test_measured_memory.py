"""Measured against predicted memory: the verdict and its words."""

import pytest

from engine.runs.measured_memory import MemoryComparison, compare_memory
from engine.runs.reducer import Picture

GIB = 1024**3
PREDICTED = {
    "low_bytes": int(2.8 * GIB), "expected_bytes": 3 * GIB, "high_bytes": int(3.6 * GIB), "depth": "simulated",
    "micro_batch": 4,
}  # fmt: skip


def pictured(gib: float | None, *, phase: str = "training", step: int = 40, kind: str = "rss", **training) -> Picture:
    picture = Picture(predicted=PREDICTED, training=training)
    if gib is not None:
        picture.measured_peak = {"bytes": int(gib * GIB), "step": step, "phase": phase, "kind": kind}
    return picture


def compared(gib: float | None, **facts) -> MemoryComparison:
    found = compare_memory(pictured(gib, **facts), None)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("gib", "verdict", "sentence"),
    [
        (3.1, "inside", "peak 3.1 GiB at step 40, predicted 2.8 to 3.6 GiB: inside"),
        (4.0, "above", "peak 4.0 GiB at step 40, predicted 2.8 to 3.6 GiB: 410 MiB above the range"),
        (2.3, "below", "peak 2.3 GiB at step 40, predicted 2.8 to 3.6 GiB: 512 MiB below the range"),
        (None, "unknown", "not measured yet, predicted 2.8 to 3.6 GiB"),
    ],
)
def test_the_verdict_and_its_words(gib: float | None, verdict: str, sentence: str) -> None:
    found = compared(gib)
    assert (found.verdict, found.sentence()) == (verdict, sentence)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("loading", "while the model was loaded"),
        ("evaluation", "while the model of step 1,200 was measured"),
        ("merging", "while the model was exported"),
        ("a phase of a later version", ""),
    ],
)
def test_the_place_of_a_peak_is_said(phase: str, words: str) -> None:
    assert compared(3.0, phase=phase, step=1200).place == words


def test_the_error_is_of_what_was_measured() -> None:
    assert compared(2.0).error_percent == pytest.approx(50)
    assert compared(4.0).error_percent == pytest.approx(-25)
    assert compared(None).error_percent is None


def test_what_keeps_the_two_apart_is_said() -> None:
    assert compared(3.0).caveats == []
    assert "without the CUDA context" in compared(3.0, kind="reserved").caveats[0]
    assert compared(3.0, micro_batch=4).caveats == []
    assert compared(3.0, micro_batch=2).caveats == ["Predicted for 4 rows at a time; the run went on with 2."]


@pytest.mark.parametrize("predicted", [{}, {"low_bytes": "much"}, {"low_bytes": 1, "expected_bytes": None}])
def test_nothing_is_compared_with_no_prediction(predicted: dict) -> None:
    assert compare_memory(Picture(predicted=predicted), None) is None
