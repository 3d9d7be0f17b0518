"""LoRA: small matrices beside frozen linear layers (Hu et al., https://arxiv.org/abs/2106.09685)."""

import re
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.methods.targets import find_targets
from engine.models.heads import PEFT_TASKS, head_modules, head_of
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line

DEFAULT_RANK = 16
ALPHA_PER_RANK = 2.0


def lora_config(model: PreTrainedModel, recipe: Recipe) -> LoraConfig:
    """Return the adapter settings of a recipe; values that no plan has filled in take their defaults."""
    method, head = recipe.method, head_modules(model)
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
        task_type=PEFT_TASKS[head_of(model)],
        # A head that starts at random would make nonsense of what the adapters learn.
        modules_to_save=head or None,
        exclude_modules=rf"({'|'.join(map(re.escape, head))})(\..*)?" if head else None,
        **revision,
    )


def apply(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Freeze the model and add adapters, which learn in float32.

    Args:
        model: From `load_model`.
        recipe: `method.rank`, `alpha`, `dropout` and `targets` are read.

    Raises:
        ProblemError: A target that matches no layer, or one that takes no adapter.
    """
    model.requires_grad_(False)
    config = lora_config(model, recipe)
    try:
        adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise _refused(str(error), config) from error
    return adapted


def _refused(reason: str, config: LoraConfig) -> ProblemError:
    """Return the problem of layers that PEFT knows to take no adapter."""
    targets = ", ".join(sorted(config.target_modules or ()))
    return ProblemError(
        Problem(
            "method.refused_target",
            clean_line(f"The model takes no adapters on all of {targets}: {reason}", max_chars=600),
            "Leave the layer that is named out of method.targets, or set method.targets to all-linear.",
            path="method.targets",
        )
    )
