"""Domain adaptation: read plain text on and on."""

from engine.objectives.supervised import BuiltTrainer, build_supervised
from engine.training.context import RunContext


def build_trainer(context: RunContext) -> BuiltTrainer:
    """Return a trainer whose loss covers every token of the text.

    The renderer has split long texts into windows, none of it is cut. Packing keeps short ones from being padded; the
    windows in one sequence do not see each other.
    """
    return build_supervised(context)
