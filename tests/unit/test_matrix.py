"""One matrix of objectives, methods and kinds of models; its page says what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.catalog.matrix import cells, reason_against
from engine.catalog.methods import METHODS
from engine.catalog.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]


def test_every_cell_is_a_yes_or_a_reason_in_words() -> None:
    found = cells()
    assert len(found) == sum(len(entry.kinds) for entry in OBJECTIVES) * len(METHODS)
    for _, _, _, reason in found:
        assert not reason or (reason[0].islower() and not reason.endswith("."))


@pytest.mark.parametrize("entry", OBJECTIVES, ids=lambda entry: entry.name)
def test_every_objective_can_be_learnt_in_full_and_with_lora(entry) -> None:
    for method in ("full", "lora"):
        assert not any(reason_against(entry.name, method, kind) for kind in entry.kinds)


def test_a_kind_that_an_objective_does_not_train_is_said_with_what_it_does() -> None:
    reason = reason_against("token-classification", "lora", "decoder")
    assert "trains encoders" in reason
    assert "decoder" in reason


def test_the_page_is_what_the_catalogue_says() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_objective_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
