"""PiSSA: adapters that start as a part of the weights (Meng et al., https://arxiv.org/abs/2404.02948).

What the adapter starts as is taken out of the weights, so a trained adapter fits those changed weights only. Written
down it is turned into plain LoRA of twice the rank, the trained matrices and the negative of the initial ones side by
side, which fits the base model as it was published.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from engine.methods.targets import matching_layers
from engine.recipe.problems import Problem, ProblemError

ADAPTER = "default"
_INITIAL = "pissa_initial"
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


def check_narrowest(model: PreTrainedModel, config: LoraConfig) -> None:
    """Refuse more singular values than a layer has.

    Raises:
        ProblemError: `method.rank_too_high`.
    """
    modules = dict(model.named_modules())
    weights: list[Any] = [modules[name].weight for name in matching_layers(model, config.target_modules or ())]
    narrowest = min(min(weight.shape) for weight in weights)
    highest = max([config.r, *config.rank_pattern.values()])
    if highest > narrowest:
        raise ProblemError(
            Problem(
                "method.rank_too_high",
                f"PiSSA takes {highest} singular values of each layer, and the narrowest layer has {narrowest}.",
                f"Set method.rank to at most {narrowest}, or method.variant to plain.",
                "method.rank",
            )
        )


def keep_initial(model: PeftModel) -> None:
    """Keep what was taken out of each weight beside the layer, in no file."""
    for _, layer in _lora_layers(model):
        for name in ("lora_A", "lora_B"):
            weight: torch.Tensor = getattr(layer, name)[ADAPTER].weight
            layer.register_buffer(f"{_INITIAL}_{name}", weight.detach().clone(), persistent=False)


def _lora_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
            yield name, module


def pissa_initial(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return what was taken out of the weights, by the names of an adapter file; empty for other adapters."""
    found: dict[str, torch.Tensor] = {}
    for path, layer in _lora_layers(model):
        buffers = dict(layer.named_buffers(recurse=False))
        for name in ("lora_A", "lora_B"):
            if f"{_INITIAL}_{name}" in buffers:
                found[f"{path}.{name}.weight"] = buffers[f"{_INITIAL}_{name}"].detach().cpu()
    return found


def write_as_plain_lora(folder: Path, initial: dict[str, torch.Tensor]) -> None:
    """Rewrite a saved adapter so that it fits the base model as it was published.

    Args:
        folder: With the files that PEFT has written.
        initial: From `pissa_initial`.
    """
    trained = load_file(folder / _WEIGHTS)
    for name, start in initial.items():
        # W - s B0 A0 + s B A = W + s [B, -B0] [A; A0]
        rows = name.endswith("lora_A.weight")
        parts = [trained[name], start.to(trained[name]) * (1 if rows else -1)]
        trained[name] = torch.cat(parts, dim=0 if rows else 1).contiguous()
    save_file(trained, folder / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    # Twice the rank and twice alpha leave the scale as it is.
    config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"], "init_lora_weights": True}
    for key in ("rank_pattern", "alpha_pattern"):
        config[key] = {name: 2 * value for name, value in config[key].items()}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
