"""The engine's model without its weights: built from the configuration alone, each parameter hollow."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.quantizers.auto import AutoHfQuantizer

from engine.catalog.methods import Bits, Method
from engine.models.encoder_decoder import settle_encoder_decoder
from engine.models.heads import AUTO_CLASSES, head_modules, head_settings
from engine.models.loading import attention_of, quantization, settle, weights_dtype
from engine.planning.plan import Plan
from engine.planning.profiles import ModelProfile
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.rehearsal.hollow import HollowMode
from engine.text import clean_line

MODEL_WEIGHTS = "model weights"
ADAPTER = "adapter"
CONSTANTS = "quantisation constants"


def model_config(profile: ModelProfile) -> PretrainedConfig:
    """Return the configuration of a model: its `config.json`, or what the catalogue says of one that is not here.

    Raises:
        ProblemError: The configuration is of no family that is installed, or wants code of its own.
    """
    try:
        if profile.folder is not None and (Path(profile.folder) / "config.json").is_file():
            config = AutoConfig.from_pretrained(profile.folder, local_files_only=True, trust_remote_code=False)
        else:
            config = AutoConfig.for_model(profile.model_type, **_facts(profile))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ProblemError(_unknown(profile, error)) from error
    loaded: PretrainedConfig = config
    return loaded


def _facts(profile: ModelProfile) -> dict[str, Any]:
    return {
        "vocab_size": profile.vocab_size,
        "hidden_size": profile.hidden_size,
        "intermediate_size": profile.intermediate_size,
        "num_hidden_layers": profile.num_layers,
        "num_attention_heads": profile.num_heads,
        "num_key_value_heads": profile.num_kv_heads,
        "head_dim": profile.head_dim,
        "max_position_embeddings": profile.context_length,
        "tie_word_embeddings": profile.tied_embeddings,
        "pad_token_id": None,
    }


def _unknown(profile: ModelProfile, error: Exception) -> Problem:
    return Problem(
        "rehearsal.model_unknown",
        f"The model {clean_line(profile.base)} cannot be built from its configuration: "
        f"{clean_line(error, max_chars=200)}",
        "The estimate is the formula's; start with a small micro-batch.",
        "model.base",
    )


def build_model(plan: Plan, config: PretrainedConfig, mode: HollowMode) -> PreTrainedModel:
    """Return the model of a plan as `engine.models.loading.load_model` would, its weights hollow.

    Must be called inside `mode`.

    Args:
        plan: `recipe.method`, `training.precision` and `training.attention` are read.
        config: Of the model, with as many blocks as are rehearsed.
        mode: Makes the weights.
    """
    recipe, task = plan.recipe, plan.task
    bits = recipe.method.facts.bits
    # The configuration serves other models of the same rehearsal.
    config = copy.deepcopy(config)
    for name, value in head_settings(task).items():
        setattr(config, name, value)
    with torch.utils._python_dispatch._disable_current_modes(), torch.device("meta"):
        model: PreTrainedModel = AUTO_CLASSES[task.head].from_config(
            config, dtype=weights_dtype(recipe), attn_implementation=attention_of(recipe)
        )
        new = head_modules(model)
        for name in new:
            model.get_submodule(name).float()
        quantizer = None if bits is None else _quantize(model, recipe, bits, new)
    _give_weights(model, mode)
    model.tie_weights()
    if quantizer is not None:
        model.hf_quantizer = quantizer
        quantizer.postprocess_model(model)
    settle(model, bits=bits)
    if task.head == "seq2seq-lm":
        settle_encoder_decoder(model, recipe)
    return model


def _quantize(model: PreTrainedModel, recipe: Recipe, bits: Bits, whole: list[str]) -> Any:
    quantizer = AutoHfQuantizer.from_config(quantization(recipe, bits, whole), pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    return quantizer


def _give_weights(model: PreTrainedModel, mode: HollowMode) -> None:
    """Replace each meta tensor by a hollow one, as files would be read: one after the other, quantised at once."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                made[id(parameter)] = _hollow_parameter(parameter, mode)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def _hollow_parameter(parameter: torch.nn.Parameter, mode: HollowMode) -> torch.nn.Parameter:
    value = mode.hollow(parameter.shape, parameter.dtype)
    if type(parameter) is torch.nn.Parameter:
        return torch.nn.Parameter(value, requires_grad=parameter.requires_grad)
    # bitsandbytes' 4-bit parameter: quantises when it is moved, as transformers does while it loads.
    facts = {name: item for name, item in vars(parameter).items() if not name.startswith("_")}
    unquantized: Any = type(parameter)(value, requires_grad=False, **facts)
    quantized: torch.nn.Parameter = unquantized.to("cpu")
    return quantized


def weight_components(model: torch.nn.Module, method: Method) -> dict[str, list[torch.Tensor]]:
    """Return the standing tensors of a model with its method applied, by component."""
    components: dict[str, list[torch.Tensor]] = {MODEL_WEIGHTS: list(model.buffers()), ADAPTER: [], CONSTANTS: []}
    for parameter in model.parameters():
        added = method.makes_adapter and parameter.requires_grad
        components[ADAPTER if added else MODEL_WEIGHTS].append(parameter)
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            components[CONSTANTS] += _constants(state)
    return components


def _constants(state: Any) -> list[torch.Tensor]:
    found = [state.absmax, state.code]
    if state.nested:
        found += [state.offset, state.state2.absmax, state.state2.code]
    return found


def stand_in_tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer of a few words: the trainer insists on one, and no text is read."""
    # Hiding words takes a mask, and a word that is no special token to stand in for another.
    words = {"<pad>": 0, "<end>": 1, "<mask>": 2, "word": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="word"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", mask_token="<mask>")
