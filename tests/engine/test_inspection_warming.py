"""What the inspection helper does ahead works, one step after the other, as its process does it."""

import pytest

from engine.inspection import WARMING


@pytest.mark.parametrize("step", WARMING, ids=lambda step: step.__name__.strip("_"))
def test_every_step_of_warming_up_can_be_done(step: object) -> None:
    assert callable(step)
    step()
