"""(IA)3: learned scales of keys, values and inner features (Liu et al., https://arxiv.org/abs/2205.05638)."""

import re
from typing import Any

import torch
from peft import IA3Config, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from engine.methods.targets import feed_forward_layers, linear_layers, shortest_endings
from engine.models.heads import PEFT_TASKS, head_modules, head_of
from engine.planning.memory_setup import FUSED_NAMES, SCALED_NAMES
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe


def ia3_config(model: PreTrainedModel, recipe: Recipe) -> IA3Config:
    """Return which layers are scaled: what makes keys and values, and what reads the inner features of a block.

    Where one layer makes queries, keys and values together, all of its output is scaled.

    Raises:
        ProblemError: `method.nothing_to_scale`, the family names its layers in another way.
    """
    layers = list(linear_layers(model))
    named = {name: name.rsplit(".", 1)[-1] for name in layers}
    scaled = [name for name, last in named.items() if last in SCALED_NAMES]
    scaled = scaled or [name for name, last in named.items() if last in FUSED_NAMES]
    modules = dict(model.named_modules())
    reading = [name for name in feed_forward_layers(layers) if _narrows(modules[name])]
    if not scaled and not reading:
        raise ProblemError(
            Problem(
                "method.nothing_to_scale",
                "(IA)3 scales keys, values and inner features, and no layer of this model is named as one of them.",
                "Choose the method lora.",
                "method.name",
            )
        )
    head = head_modules(model)
    inner = shortest_endings(reading, layers)
    revision: dict[str, Any] = {"revision": recipe.model.revision} if recipe.model.revision else {}
    return IA3Config(
        target_modules=[*shortest_endings(scaled, layers), *inner],
        feedforward_modules=inner,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type=PEFT_TASKS[head_of(model)],
        # A head that starts at random would make nonsense of what the scales learn.
        modules_to_save=head or None,
        exclude_modules=rf"({'|'.join(map(re.escape, head))})(\..*)?" if head else None,
        **revision,
    )


def _narrows(layer: torch.nn.Module) -> bool:
    """Whether a layer of a feed-forward network leads back to the width of the model."""
    weight: Any = layer.weight
    rows, columns = weight.shape
    return bool(columns < rows if isinstance(layer, Conv1D) else rows < columns)


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and add scales, which start at one and learn in float32.

    Args:
        model: From `load_model`.
        recipe: `model.revision` is read.
        tokenizer: Not read; every method has the same signature.

    Raises:
        ProblemError: The model has no layer that is named as one to scale.
    """
    model.requires_grad_(False)
    adapted: PeftModel = get_peft_model(model, ia3_config(model, recipe), autocast_adapter_dtype=True)
    return adapted
