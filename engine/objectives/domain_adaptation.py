"""Domain adaptation: read plain text on and on.

The loss covers every token of the text. The renderer has split long texts into windows, none of it is cut. Packing
keeps short ones from being padded; the windows in one sequence do not see each other.
"""

from engine.objectives.supervised import examples, gathered, trainer

__all__ = ["examples", "gathered", "trainer"]
