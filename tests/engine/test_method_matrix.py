"""Every objective with every method: trains, moves what should move, resumes, saves, loads and merges.

`make test` passes a diagonal, each method once; `make test-all` every cell.
"""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from engine.catalog.matrix import reason_against
from tests.engine.matrix_cells import (
    DIAGONAL,
    METHODS,
    OBJECTIVES,
    MatrixWorld,
    check_export,
    check_resumed,
    check_training,
    context_of,
)

FAST = {(objective, method) for objective, method in zip(cycle(("chat", "domain-adaptation")), DIAGONAL, strict=False)}


def _cells() -> Iterator[object]:
    for objective in OBJECTIVES:
        for method in METHODS:
            if reason_against(objective, METHODS[method].name, "decoder"):
                continue
            marks = [] if (objective, method) in FAST else [pytest.mark.slow]
            yield pytest.param(objective, method, marks=marks, id=f"{objective}-{method}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> MatrixWorld:
    return MatrixWorld(Path(tmp_path_factory.mktemp("matrix")))


@pytest.mark.parametrize(("objective", "method"), _cells())
def test_a_cell_of_the_matrix_works(
    objective: str, method: str, world: MatrixWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = world.plan(objective, METHODS[method])
    straight = context_of(world.new_run(plan))
    check_training(straight)
    check_resumed(world, straight, monkeypatch)
    # Last: merging uses the model up.
    check_export(straight)


def test_every_method_is_on_the_diagonal() -> None:
    from engine.methods.apply import METHODS as DONE

    assert {METHODS[name].name for _, name in FAST} == set(DONE)
