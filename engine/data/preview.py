"""The X-ray: rows as the trainer will see them, token by token."""

from typing import Any

from engine.data.pipeline import prepare
from engine.data.profile import renderer_for
from engine.recipe.schema import Recipe


def preview_rows(recipe: Recipe, *, folder: str, start: int = 0, count: int = 5) -> list[dict[str, Any]]:
    """Return sequences of training rows as `Renderer.preview` gives them, with `row` counted from 0.

    Args:
        recipe: A checked recipe.
        folder: Local folder of the model whose tokenizer is used.
        start: First row.
        count: Number of rows.

    Raises:
        ProblemError: The data, the tokenizer or its chat template cannot be used.
    """
    renderer, _ = renderer_for(recipe, folder)
    rows = prepare(recipe).train_rows[start : start + count]
    return [{**sequence, "row": start + index} for index, row in enumerate(rows) for sequence in renderer.preview(row)]
