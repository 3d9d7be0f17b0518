"""QLoRA: LoRA on a base model held in 4 bits (Dettmers et al., https://arxiv.org/abs/2305.14314)."""

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.methods import find_method
from engine.methods import lora
from engine.methods.quantized import require_quantized
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Add adapters to a 4-bit model.

    PEFT's preparation for k-bit training would copy embeddings and output layer to float32, which is half of a small
    model's memory. They are frozen, so they stay as loaded; freezing and gradients through checkpoints are done here.

    Args:
        model: From `load_model(..., bits=4)`.
        recipe: As for LoRA.
        tokenizer: As for LoRA.

    Raises:
        ProblemError: The model is not quantised, or a target matches no layer.
    """
    require_quantized(model, find_method("qlora"))
    return lora.apply(model, recipe, tokenizer)
