"""Full fine-tuning: every weight learns."""

from transformers import PreTrainedModel

from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel:
    """Make every weight trainable, in place.

    Args:
        model: From `load_model`, its weights in float32.
        recipe: Not read; every method has the same signature.
    """
    model.requires_grad_(True)
    return model
