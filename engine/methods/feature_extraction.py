"""Feature extraction: the lower part of the model stays as it is; its head and, if wanted, its last blocks learn."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods.blocks import Parts, find_parts
from engine.models.heads import head_of, is_new
from engine.planning.depth import default_layers
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """Freeze the model below its head and its last blocks, in place; what learns is held in float32.

    An output layer that is tied to the embeddings belongs to them and stays frozen, as learning it would need the
    activations of every block.

    Args:
        model: From `load_model`, in the number format of the arithmetic.
        recipe: `method.layers` is read.
        tokenizer: Not read; every method has the same signature.

    Raises:
        ProblemError: There are fewer blocks, the blocks are not found, or the head has nothing that could learn alone.
    """
    parts = find_parts(model)
    layers = recipe.method.layers
    chosen = default_layers(len(parts.blocks), head_is_new=is_new(head_of(model))) if layers is None else layers
    _check(parts, chosen)
    model.requires_grad_(False)
    weights = dict(model.named_parameters())
    for part in (parts.head, *parts.blocks[:chosen]):
        for name in part.names:
            weights[name].data = weights[name].data.float()
            weights[name].requires_grad_(True)
    return model


def _check(parts: Parts, layers: int) -> None:
    if layers > len(parts.blocks):
        raise ProblemError(
            Problem(
                "method.too_many_layers",
                f"method.layers is {layers}, and the model has {len(parts.blocks)} blocks.",
                f"Set method.layers to at most {len(parts.blocks)}, or choose the method full.",
                path="method.layers",
            )
        )
    if layers == 0 and not parts.head_has_matrix:
        raise ProblemError(
            Problem(
                "method.head_is_tied",
                "The output layer of this model is its table of embeddings, which stays frozen, so that with "
                "method.layers 0 only a norm would learn.",
                "Set method.layers to at least 1.",
                path="method.layers",
            )
        )
