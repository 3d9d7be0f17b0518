"""LoRA: small matrices beside frozen linear layers (Hu et al., https://arxiv.org/abs/2106.09685)."""

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.methods.targets import find_targets
from engine.recipe.schema import Recipe

DEFAULT_RANK = 16
ALPHA_PER_RANK = 2.0


def lora_config(model: PreTrainedModel, recipe: Recipe) -> LoraConfig:
    """Return the adapter settings of a recipe; values that no plan has filled in take their defaults."""
    method = recipe.method
    rank = method.rank or DEFAULT_RANK
    targets = find_targets(model, method.targets or "all-linear")
    revision: dict[str, Any] = {"revision": recipe.model.revision} if recipe.model.revision else {}
    return LoraConfig(
        r=rank,
        lora_alpha=method.alpha or ALPHA_PER_RANK * rank,
        lora_dropout=method.dropout or 0.0,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        bias="none",
        task_type="CAUSAL_LM",
        **revision,
    )


def apply(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Freeze the model and add adapters, which learn in float32.

    Args:
        model: From `load_model`.
        recipe: `method.rank`, `alpha`, `dropout` and `targets` are read.

    Raises:
        ProblemError: A target that matches no layer.
    """
    model.requires_grad_(False)
    config = lora_config(model, recipe)
    adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    return adapted
