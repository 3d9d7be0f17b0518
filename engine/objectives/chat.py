"""Chat: learn the answers of conversations, and to end them."""

from engine.objectives.supervised import BuiltTrainer, build_supervised
from engine.training.context import RunContext


def build_trainer(context: RunContext) -> BuiltTrainer:
    """Return a trainer whose loss covers exactly what the renderer marks: answers and their end of turn."""
    return build_supervised(context)
