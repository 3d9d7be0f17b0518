"""Every objective with every method: trains, moves what should move, resumes, saves, loads and merges.

`make test` passes a diagonal, each method once; `make test-all` every cell.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.catalog.matrix import reason_against
from engine.catalog.objectives import ModelKind
from tests.engine.matrix_cells import (
    COLUMNS,
    DIAGONAL,
    METHODS,
    OBJECTIVES,
    MatrixWorld,
    check_export,
    check_resumed,
    check_training,
    context_of,
)


def _diagonal() -> set[tuple[str, str, str]]:
    """Return each method once, with the objective and the kind of model that had the fewest turns of those it suits."""
    turns: Counter[str] = Counter()
    chosen = set()
    for method in DIAGONAL:
        name = METHODS[method].name
        suited = [column for column in COLUMNS if not reason_against(column[0], name, column[1])]
        objective, kind = min(suited, key=lambda column: (turns[column[0]], turns[column[1]]))
        turns.update((objective, kind))
        chosen.add((objective, kind, method))
    return chosen


FAST = _diagonal()


def _cells() -> Iterator[object]:
    for objective, kind in COLUMNS:
        for method in METHODS:
            if reason_against(objective, METHODS[method].name, kind):
                continue
            marks = [] if (objective, kind, method) in FAST else [pytest.mark.slow]
            yield pytest.param(objective, kind, method, marks=marks, id=f"{objective}-{kind}-{method}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> MatrixWorld:
    return MatrixWorld(Path(tmp_path_factory.mktemp("matrix")))


@pytest.mark.parametrize(("objective", "kind", "method"), _cells())
def test_a_cell_of_the_matrix_works(
    objective: str, kind: ModelKind, method: str, world: MatrixWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = world.plan(objective, kind, METHODS[method])
    straight = context_of(world.new_run(plan))
    check_training(straight)
    check_resumed(world, straight, monkeypatch)
    # Last: merging uses the model up.
    check_export(straight)


def test_every_method_is_on_the_diagonal() -> None:
    from engine.methods.apply import METHODS as DONE

    assert {METHODS[name].name for _, _, name in FAST} == set(DONE)


def test_every_objective_is_on_the_diagonal() -> None:
    assert {objective for objective, _, _ in FAST} == set(OBJECTIVES)


def test_every_objective_of_the_catalogue_has_its_cells() -> None:
    assert {objective for objective, _ in COLUMNS} == set(OBJECTIVES)


def test_new_tokens_that_the_rows_use_are_tokens_of_the_model(world: MatrixWorld) -> None:
    plan = world.plan("classification", "decoder", METHODS["lora-tokens"])
    (found,) = [check for check in plan.data.preflight if check.id == "P13"]
    assert found.status == "passed"
    assert found.measured["highest_id"] >= plan.model.vocab_size
