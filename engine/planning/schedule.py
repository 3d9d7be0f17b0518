"""How the learning rate moves: up to its full value, then as the recipe says. Pure arithmetic."""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "wsd", "constant"]

FALLING_SHARE = 0.2
"""Share of the steps over which `wsd` lets the rate fall (arXiv 2405.18392 finds 10 to 20 % enough)."""


def warmup_steps(share: float, total_steps: int) -> int:
    """Return the steps of the warm-up: the share, rounded up, but never the whole run."""
    # The epsilon keeps 0.07 * 100 (7.000000000000001) at seven steps.
    return min(math.ceil(share * total_steps - 1e-9), max(total_steps - 1, 0))


def rate_share(step: int, *, schedule: Schedule, warmup_steps: int, total_steps: int, min_share: float = 0.0) -> float:
    """Return the share of the learning rate that a step uses, from 0 to 1.

    The curves of transformers, but for the warm-up: theirs starts at zero, so that the first step, in a short run the
    whole warm-up, would read its rows and change nothing. Here the first of n warm-up steps uses 1 / (n + 1).

    Args:
        step: Optimizer step, from 0.
        schedule: The curve after the warm-up.
        warmup_steps: Steps before the full learning rate.
        total_steps: Steps of the whole run.
        min_share: What is left of the rate at the end of a falling curve.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return min_share + (1.0 - min_share) * _fallen(schedule, done, warmup_steps, total_steps)


def _fallen(schedule: Schedule, done: float, warmup_steps: int, total_steps: int) -> float:
    """Return where a curve from 1 to 0 stands after a share of the steps behind the warm-up."""
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case "wsd":
            # The fall is a share of the whole run; a warm-up that leaves less room shortens it.
            falling = min(1.0, FALLING_SHARE * total_steps / max(1, total_steps - warmup_steps))
            return min(1.0, (1.0 - done) / falling)
