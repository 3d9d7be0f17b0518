"""Full fine-tuning: every weight learns."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
    """Make every weight trainable, in place.

    Args:
        model: From `load_model`, its weights in float32.
        recipe: Not read; every method has the same signature.
        tokenizer: Not read.
    """
    model.requires_grad_(True)
    return model
