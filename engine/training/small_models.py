"""Small random models of the same kind as a base model: its configuration with fewer blocks, no weights read.

They cost seconds and show how far a rehearsal is off on this device, before any weight is there.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, set_seed
from transformers.quantizers.auto import AutoHfQuantizer

from engine.methods.apply import apply_method
from engine.methods.new_tokens import add_token_rows
from engine.models.loading import attention_of, quantization, settle, weights_dtype
from engine.planning.plan import Plan
from engine.recipe.schema import Recipe

_DEPTH_NAMES = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_PER_LAYER_LISTS = ("layer_types", "mlp_layer_types", "no_rope_layers")


def small_config(document: dict[str, Any], layers: int) -> dict[str, Any]:
    """Return the content of a `config.json` with fewer blocks, nested text configurations included.

    Args:
        document: Content of the file.
        layers: Blocks to keep, from the first on.
    """
    small: dict[str, Any] = {}
    for name, value in document.items():
        if name in _DEPTH_NAMES and isinstance(value, int):
            small[name] = min(value, layers)
        elif name in _PER_LAYER_LISTS and isinstance(value, list):
            small[name] = value[:layers]
        elif name == "text_config" and isinstance(value, dict):
            small[name] = small_config(value, layers)
        else:
            small[name] = value
    return small


def save_small_config(folder: Path, layers: int, target: Path) -> Path:
    """Write the configuration of a small model into a new folder and return that."""
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    target.mkdir(parents=True, mode=0o700)
    (target / "config.json").write_text(json.dumps(small_config(document, layers)), encoding="utf-8")
    return target


def small_recipe(recipe: Recipe, layers: int) -> Recipe:
    """Return the recipe for a model of fewer blocks: not more of them can learn than there are."""
    wanted = recipe.method.layers
    if wanted is None or wanted <= layers:
        return recipe
    return recipe.model_copy(update={"method": recipe.method.model_copy(update={"layers": layers})})


def small_learner(folder: Path, plan: Plan, layers: int) -> PreTrainedModel:
    """Return a small random model with the run's method applied, on the run's device.

    Args:
        folder: Folder of the base model.
        plan: Method, number format, attention and device are read.
        layers: Transformer blocks.
    """
    recipe = small_recipe(plan.recipe, layers)
    device = torch.device("cuda:0" if plan.device.kind == "cuda" else "cpu")
    bits = recipe.method.facts.bits
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = AutoConfig.for_model(**small_config(document, layers))
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=weights_dtype(recipe), attn_implementation=attention_of(recipe)
        )
        quantizer = (
            None if bits is None else AutoHfQuantizer.from_config(quantization(recipe, bits), pre_quantized=False)
        )
        if quantizer is not None:
            quantizer.preprocess_model(model=model, device_map={"": str(device)})
    set_seed(recipe.training.seed)
    _give_random_weights(model, device)
    model.tie_weights()
    if quantizer is not None:
        model.hf_quantizer = quantizer
        quantizer.postprocess_model(model)
    settle(model, bits=bits)
    add_token_rows(model, recipe, None)
    return apply_method(model, recipe)


def _give_random_weights(model: PreTrainedModel, device: torch.device) -> None:
    """Replace each meta tensor by a real one, one after the other, so that nothing is there twice."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in made:
                made[id(parameter)] = _random_parameter(parameter, device)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                # Rotary tables: their values do not matter here.
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)


def _random_parameter(parameter: torch.nn.Parameter, device: torch.device) -> torch.nn.Parameter:
    value = torch.empty(parameter.shape, dtype=parameter.dtype, device=device).normal_(std=0.02)
    if type(parameter) is torch.nn.Parameter:
        return torch.nn.Parameter(value, requires_grad=parameter.requires_grad)
    # bitsandbytes' 4-bit parameter quantises when it is moved to its device.
    facts = {name: item for name, item in vars(parameter).items() if not name.startswith("_")}
    kind: Any = type(parameter)
    quantized: torch.nn.Parameter = kind(value, requires_grad=False, **facts).to(device)
    return quantized
