"""Which families of models have no dropout, so that a wish for it is refused before anything is loaded."""

from engine.recipe.problems import Problem
from engine.text import clean_line

WITHOUT_DROPOUT: frozenset[str] = frozenset(
    {
        *("blt", "ernie4_5", "ernie4_5_moe", "falcon_mamba", "lfm2", "lfm2_moe", "mamba", "mamba2", "rwkv", "xlstm"),
    }
)
"""Families whose configuration in transformers 5.23 names no dropout. The loader looks at the model itself."""


def no_place(model_type: str) -> Problem:
    """Return the problem of a family that drops nothing anywhere."""
    return Problem(
        "training.dropout_no_place",
        f"training.dropout has no effect: models of the family {clean_line(model_type, max_chars=40)} have no dropout.",
        "Remove training.dropout; method.dropout drops inputs of the adapters.",
        "training.dropout",
    )
