"""Learning rates that are usual for each kind of method: a default by the size of the model, and a range.

From the papers of the methods and the tables of their authors' code, and from trials with the starter model; small
models take larger steps, and so does what few weights learn.
"""

import math
from dataclasses import dataclass

from engine.catalog.methods import Rates


@dataclass(frozen=True, slots=True)
class RateFamily:
    """Learning rates of one kind of method.

    Attributes:
        words: What it is called in running text.
        rates: `(models below so many weights, default rate)`, the smallest first.
        lowest: Below it next to nothing is learned.
        highest: Above it training mostly diverges.
    """

    words: str
    rates: tuple[tuple[float, float], ...]
    lowest: float
    highest: float

    def default(self, num_params: int) -> float:
        """Return the usual rate for a model of so many weights."""
        return next(rate for limit, rate in self.rates if num_params < limit)


RATE_FAMILIES: dict[Rates, RateFamily] = {
    "full": RateFamily(
        "full fine-tuning",
        ((5e6, 2e-3), (50e6, 5e-4), (200e6, 1e-4), (1e9, 5e-5), (math.inf, 2e-5)),
        lowest=1e-7,
        highest=0.02,
    ),
    "part": RateFamily(
        "a learning part",
        ((5e6, 2e-3), (50e6, 5e-4), (200e6, 1e-4), (1e9, 5e-5), (math.inf, 2e-5)),
        lowest=1e-7,
        highest=0.02,
    ),
    "adapter": RateFamily(
        "adapters",
        ((5e6, 3e-3), (50e6, 1e-3), (200e6, 5e-4), (20e9, 2e-4), (math.inf, 1e-4)),
        lowest=1e-7,
        highest=0.02,
    ),
    "scales": RateFamily("learned scales", ((5e6, 1e-1), (200e6, 3e-2), (math.inf, 8e-3)), lowest=1e-5, highest=0.5),
    "prompt": RateFamily("virtual tokens", ((200e6, 1e-1), (math.inf, 3e-2)), lowest=1e-5, highest=1.0),
    "prefix": RateFamily("learned prefixes", ((5e6, 2e-1), (200e6, 5e-2), (math.inf, 1e-2)), lowest=1e-6, highest=1.0),
    "encoder": RateFamily("encoded virtual tokens", ((200e6, 5e-3), (math.inf, 1e-3)), lowest=1e-6, highest=0.1),
}
