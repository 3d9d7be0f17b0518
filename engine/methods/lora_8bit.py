"""LoRA on a base model held in 8 bits (LLM.int8, Dettmers et al., https://arxiv.org/abs/2208.07339)."""

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.methods import find_method
from engine.methods import lora
from engine.methods.quantized import require_quantized
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Add adapters to an 8-bit model.

    Args:
        model: From `load_model(..., bits=8)`.
        recipe: As for LoRA.
        tokenizer: As for LoRA.

    Raises:
        ProblemError: The model is not quantised, or a target matches no layer.
    """
    require_quantized(model, find_method("lora-8bit"))
    return lora.apply(model, recipe, tokenizer)
