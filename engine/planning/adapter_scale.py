"""Rank and scale of LoRA where nobody set them. Light: plan and engine take the same."""

import math

DEFAULT_RANK = 16
ALPHA_PER_RANK = 2.0


def default_alpha(variant: str, rank: int) -> float:
    """Return alpha, by which the output of an adapter is scaled: alpha / rank, for rsLoRA alpha / sqrt(rank)."""
    match variant:
        case "pissa":
            # At the start the adapter is a part of the weight itself.
            return float(rank)
        case "rslora":
            return ALPHA_PER_RANK * math.sqrt(DEFAULT_RANK)
        case _:
            return ALPHA_PER_RANK * rank


def alpha_reason(variant: str) -> str:
    """Return why alpha is what it is, as a phrase."""
    match variant:
        case "pissa":
            return "the rank: the adapter starts as a part of the weight"
        case "rslora":
            return "the scale of plain LoRA at rank 16; it falls with the square root of the rank"
        case _:
            return "twice the rank"
