"""P-tuning: virtual tokens made by a small network (Liu et al., https://arxiv.org/abs/2103.10385)."""

from peft import PeftModel, PromptEncoderConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods.virtual_tokens import DEFAULT_TOKENS, default_encoder_width, shared_settings
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and put virtual tokens in front of every text, made by a network that learns in float32.

    The result holds the tokens alone: the network is for training.

    Args:
        model: From `load_model`.
        recipe: `method.virtual_tokens` and `method.encoder_width` are read.
        tokenizer: Not read; every method has the same signature.
    """
    model.requires_grad_(False)
    hidden = model.config.get_text_config().hidden_size
    config = PromptEncoderConfig(
        num_virtual_tokens=recipe.method.virtual_tokens or DEFAULT_TOKENS,
        encoder_reparameterization_type="MLP",
        encoder_hidden_size=recipe.method.encoder_width or default_encoder_width(hidden),
        **shared_settings(model, recipe),
    )
    adapted: PeftModel = get_peft_model(model, config)
    return adapted
