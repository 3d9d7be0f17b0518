"""Bottleneck adapters: small layers behind attention and feed-forward network, through which the stream passes.

Houlsby places one behind both halves of a block, Pfeiffer one behind the feed-forward half alone.
"""

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from engine.methods.blocks import block_modules
from engine.methods.bottleneck_tuner import BottleneckConfig, out_features
from engine.methods.targets import ATTENTION_PARTS, STATE_SPACE_PARTS
from engine.models.heads import PEFT_TASKS, head_modules, head_of
from engine.planning.depth import default_width
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and add adapters, which learn in float32.

    Args:
        model: From `load_model`, quantised or not.
        recipe: `method.width`, `method.placement` and `method.activation` are read.
        tokenizer: Not read; every method has the same signature.

    Raises:
        ProblemError: No block, or no projection in a block, was found.
    """
    model.requires_grad_(False)
    method, head = recipe.method, head_modules(model)
    revision: dict[str, Any] = {"revision": recipe.model.revision} if recipe.model.revision else {}
    config = BottleneckConfig(
        width=method.width or default_width(_hidden_size(model)),
        activation=method.activation or "gelu",
        target_modules=set(output_projections(model, feed_forward_only=method.placement == "pfeiffer")),
        modules_to_save=head or None,
        task_type=PEFT_TASKS[head_of(model)],
        **revision,
    )
    adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    return adapted


def output_projections(model: PreTrainedModel, *, feed_forward_only: bool) -> list[str]:
    """Return the full names of the layers whose results are added to the residual stream.

    In each block those are, of the linear layers that give out as many numbers as the stream has, the last one of each
    attention module and the last one outside of attention.

    Args:
        model: The base model.
        feed_forward_only: Leave attention out.

    Raises:
        ProblemError: A block has none; the message says what was looked for.
    """
    width = _hidden_size(model)
    found: list[str] = []
    for path, block in block_modules(model).items():
        last: dict[str, str] = {}
        for name, module in block.named_modules():
            if isinstance(module, (torch.nn.Linear, Conv1D)) and out_features(module) == width and not _is_mixer(name):
                last[_attention_of(name)] = name
        halves = {bool(attention) for attention in last}
        if halves != {True, False} and not (feed_forward_only and False in halves):
            raise _not_found(model, path, width)
        found += [f"{path}.{name}" for attention, name in last.items() if not (attention and feed_forward_only)]
    return found


def _is_mixer(name: str) -> bool:
    """Whether a layer belongs to a state space, whose kernels read some weights past an adapter."""
    return any(part in parent.lower() for parent in name.split(".")[:-1] for part in STATE_SPACE_PARTS)


def _attention_of(name: str) -> str:
    """Return the outermost attention module that a layer of a block belongs to; empty when to none."""
    return next(_prefixes_in_attention(name), "")


def _prefixes_in_attention(name: str) -> Iterator[str]:
    parents = name.split(".")[:-1]
    for length, parent in enumerate(parents, start=1):
        if any(part in parent.lower() for part in ATTENTION_PARTS):
            yield ".".join(parents[:length])


def _hidden_size(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)


def _not_found(model: PreTrainedModel, path: str, width: int) -> ProblemError:
    return ProblemError(
        Problem(
            "method.no_projection",
            f"No place for bottleneck adapters was found in {clean_line(path, max_chars=80)} of "
            f"{clean_line(type(model).__name__, max_chars=60)}: looked for linear layers of attention and of the "
            f"feed-forward network that give out {width} numbers, as many as the residual stream has.",
            "Choose the method lora.",
            path="method.name",
        )
    )
