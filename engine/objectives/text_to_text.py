"""Text to text: learn to turn one text into another.

With a model that goes on with a text, source and result are a conversation of one turn, and only the result is learnt.
With an encoder and a decoder they are read and written apart (`engine.objectives.encoder_decoder`).
"""

from engine.objectives.supervised import examples, gathered, trainer

__all__ = ["examples", "gathered", "trainer"]
