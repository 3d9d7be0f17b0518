"""Gradual unfreezing while training runs: at the start of each optimizer step what is open learns, the rest is held."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.methods.gradual_unfreezing import Stage, Unfreezing, stages_of
from engine.recipe.schema import Recipe

Tell = Callable[[Stage, Unfreezing], None]


def _tell_nobody(_stage: Stage, _unfreezing: Unfreezing) -> None:
    return


class StageCallback(TrainerCallback):
    """Opens the stages of a model.

    Everything is trainable when it is made, when the optimizer is made and after the last step; a probe or a rehearsal,
    which go without it, so measure the last stage. What is open depends on the step alone, so that a resumed run is in
    the stage that it left.

    Args:
        model: With every weight trainable.
        recipe: With the schedule filled in.
        tell: Called when a stage opens.
    """

    def __init__(self, model: torch.nn.Module, recipe: Recipe, *, tell: Tell = _tell_nobody) -> None:
        self._unfreezing = Unfreezing(model, stages_of(model, recipe))
        self._tell = tell

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open what learns in this step."""
        for stage in self._unfreezing.go_to(state.global_step):
            self._tell(stage, self._unfreezing)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Make everything trainable again."""
        self._unfreezing.open_all()
