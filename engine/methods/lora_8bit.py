"""LoRA on a base model held in 8 bits (LLM.int8, Dettmers et al., https://arxiv.org/abs/2208.07339)."""

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods import lora
from engine.recipe.problems import Problem, ProblemError
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
    if not _holds_8bit_layers(model):
        raise ProblemError(
            Problem(
                "method.not_quantized",
                "8-bit LoRA needs a base model that was loaded in 8 bits, and this one was not.",
                "Load it with bits=8, or choose the method lora.",
                path="method.name",
            )
        )
    return lora.apply(model, recipe, tokenizer)


def _holds_8bit_layers(model: PreTrainedModel) -> bool:
    from bitsandbytes.nn import Linear8bitLt

    return any(isinstance(module, Linear8bitLt) for module in model.modules())
