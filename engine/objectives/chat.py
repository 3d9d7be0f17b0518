"""Chat: learn the answers of conversations, and to end them.

The loss covers exactly what the renderer marks: answers and their end of turn.
"""

from engine.objectives.supervised import examples, gathered, trainer

__all__ = ["examples", "gathered", "trainer"]
