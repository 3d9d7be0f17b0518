"""LoRA: small matrices beside frozen linear layers (Hu et al., https://arxiv.org/abs/2106.09685).

Variants: rsLoRA divides by the square root of the rank (Kalajdzievski, https://arxiv.org/abs/2312.03732), DoRA learns
the length of each output apart (Liu et al., https://arxiv.org/abs/2402.09353), PiSSA starts from the largest singular
values of each weight (Meng et al., https://arxiv.org/abs/2404.02948).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from engine.methods.new_tokens import token_rows
from engine.methods.pissa import check_narrowest, keep_initial
from engine.methods.targets import find_targets, matching_layers
from engine.models.heads import PEFT_TASKS, head_modules, head_of
from engine.planning.adapter_scale import DEFAULT_RANK, default_alpha
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line


def lora_config(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> LoraConfig:
    """Return the adapter settings of a recipe; values that no plan has filled in take their defaults."""
    method, head = recipe.method, head_modules(model)
    rank, variant = method.rank or DEFAULT_RANK, method.variant or "plain"
    alpha = method.alpha or default_alpha(variant, rank)
    targets = find_targets(model, method.targets or "all-linear")
    patterns = _rank_patterns(model, targets, method.rank_pattern)
    # The output of an adapter keeps its scale, alpha / rank, where the rank differs; rsLoRA has its own rule for that.
    alphas = {} if variant == "rslora" else {key: alpha * inner / rank for key, inner in patterns.items()}
    revision: dict[str, Any] = {"revision": recipe.model.revision} if recipe.model.revision else {}
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=method.dropout or 0.0,
        target_modules=targets,
        rank_pattern=patterns,
        alpha_pattern=alphas,
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
        init_lora_weights="pissa" if variant == "pissa" else True,
        trainable_token_indices=token_rows(model, recipe, tokenizer) or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        bias="none",
        task_type=PEFT_TASKS[head_of(model)],
        # A head that starts at random would make nonsense of what the adapters learn.
        modules_to_save=head or None,
        exclude_modules=rf"({'|'.join(map(re.escape, head))})(\..*)?" if head else None,
        **revision,
    )


def _rank_patterns(model: PreTrainedModel, targets: list[str], ranks: Mapping[str, int]) -> dict[str, int]:
    """Return the ranks of single layers as PEFT matches them, by the end of a name."""
    adapted = matching_layers(model, targets)
    for name in ranks:
        if not any(layer == name or layer.endswith(f".{name}") for layer in adapted):
            endings = ", ".join(dict.fromkeys(layer.rsplit(".", 1)[-1] for layer in adapted))
            message = f"method.rank_pattern names {clean_line(name, max_chars=60)}, and no adapter sits there."
            problem = Problem(
                "method.unknown_pattern", message, f"Layers with an adapter are {endings}.", "method.rank_pattern"
            )
            raise ProblemError(problem)
    return {re.escape(name): rank for name, rank in ranks.items()}


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and add adapters, which learn in float32.

    Args:
        model: From `load_model`, with rows for new tokens.
        recipe: `method` and `model.new_tokens` are read.
        tokenizer: With the new tokens; None takes the last rows for theirs.

    Raises:
        ProblemError: A target that matches no layer, or one that takes no adapter.
    """
    model.requires_grad_(False)
    config = lora_config(model, recipe, tokenizer)
    if recipe.method.variant == "pissa":
        check_narrowest(model, config)
    try:
        adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise _refused(str(error), config) from error
    if recipe.method.variant == "pissa":
        keep_initial(adapted)
    _complete_output(adapted)
    return adapted


def _complete_output(model: PeftModel) -> None:
    """Give an output layer whose new rows learn the bias that it hides: the fused loss of TRL asks the layer for it."""
    output: Any = model.get_output_embeddings()
    if isinstance(output, TrainableTokensWrapper):
        output.bias = getattr(output.original_module, "bias", None)


def rate_factors(model: torch.nn.Module, recipe: Recipe) -> dict[str, float]:
    """Return `{parameter name: times the learning rate}` of what learns at another rate (LoRA+).

    Source: Hayou et al., https://arxiv.org/abs/2402.12354.
    """
    ratio = recipe.method.lora_plus_ratio or 1.0
    if ratio == 1.0:
        return {}
    return {name: ratio for name, _ in model.named_parameters() if ".lora_B." in name}


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
