"""Which linear layers get an adapter."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.models.heads import head_modules, is_of_head
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

Targets = Literal["all-linear", "attention", "mlp"] | list[str]
ATTENTION_PARTS = ("attn", "attention")
STATE_SPACE_PARTS = ("mixer", "mamba", "ssm")
_ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
_STATE_SPACE_MODELS = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
_READ_PAST_ADAPTERS = "out_proj"
"""Layer whose weights the kernels of those models read themselves, past an adapter; PEFT refuses it there too."""


def linear_layers(model: PreTrainedModel) -> Iterator[str]:
    """Yield the full names of the linear layers inside the model, the output layer left out.

    An adapter on the output layer would have to be merged into the embeddings where the two are tied. A new head learns
    as a whole, so that it needs none.
    """
    output = model.get_output_embeddings()
    new = head_modules(model)
    adapters: list[str] = []
    for name, module in model.named_modules():
        if name.startswith(tuple(adapters)) or is_of_head(name, new):
            continue
        if module is output:
            adapters.append(f"{name}.")
        if isinstance(module, BaseTunerLayer):
            # What an adapter adds is no layer of the model; the layer that it wraps is.
            adapters += [f"{name}.{part}." for part in module.adapter_layer_names]
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not output:
            yield name


def find_targets(model: PreTrainedModel, targets: Targets) -> list[str]:
    """Return the last parts of the names of the layers that get an adapter.

    Args:
        model: The base model.
        targets: `all-linear`, `attention`, `mlp` (the feed-forward layers), or names such as `q_proj` or `mlp.up_proj`.

    Raises:
        ProblemError: A name that matches no layer, with the names that do.
    """
    layers = list(linear_layers(model))
    if not layers:
        raise _problem("no_linear_layers", "The model has no linear layers for adapters.", "Choose the method full.")
    if isinstance(targets, list):
        return _named(layers, targets)
    if targets == "all-linear":
        return _last_parts([name for name in layers if not _reads_past_adapters(model, name)])
    belongs = _in_attention if targets == "attention" else _in_feed_forward
    chosen = [name for name in layers if belongs(name)]
    if not chosen:
        part = "attention" if targets == "attention" else "a feed-forward network"
        raise _problem(
            f"no_{targets}_layers",
            f"No layer of the model is named as part of {part}.",
            f"Set method.targets to all-linear, or to names among {', '.join(_last_parts(layers))}.",
        )
    return shortest_endings(chosen, layers)


def matching_layers(model: PreTrainedModel, endings: Iterable[str]) -> list[str]:
    """Return the full names of the linear layers whose names end so."""
    wanted = tuple(endings)
    return [name for name in linear_layers(model) if any(name == end or name.endswith(f".{end}") for end in wanted)]


def _named(layers: Sequence[str], targets: Sequence[str]) -> list[str]:
    if not targets:
        raise _problem("no_targets", "method.targets is an empty list.", "Write all-linear, or name layers.")
    candidates = _last_parts(layers)
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            near = get_close_matches(target, candidates, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise _problem(
                "unknown_target",
                f"The model has no linear layer called {target!r}.",
                f"{hint}Layers are {', '.join(candidates)}.",
            )
    return list(dict.fromkeys(targets))


def _reads_past_adapters(model: PreTrainedModel, name: str) -> bool:
    return model.config.model_type in _STATE_SPACE_MODELS and name.rsplit(".", 1)[-1] == _READ_PAST_ADAPTERS


def _in_attention(name: str) -> bool:
    *parents, _ = name.split(".")
    return any(part in parent.lower() for parent in parents for part in ATTENTION_PARTS)


def _in_feed_forward(name: str) -> bool:
    """Whether a layer is the rest of a block: neither attention, nor a state space, nor what chooses experts."""
    *parents, last = name.split(".")
    other = any(part in parent.lower() for parent in parents for part in STATE_SPACE_PARTS)
    return any(parent.isdigit() for parent in parents) and not (_in_attention(name) or other or last in _ROUTERS)


def _last_parts(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))


def feed_forward_layers(layers: Iterable[str]) -> list[str]:
    """Return those of some full names that belong to the feed-forward half of a block."""
    return [name for name in layers if _in_feed_forward(name)]


def shortest_endings(chosen: Sequence[str], layers: Sequence[str]) -> list[str]:
    """Return the shortest name endings that match the chosen layers and no other (GPT-2 has two `c_proj`)."""
    others = [name for name in layers if name not in set(chosen)]
    endings: dict[str, None] = {}
    for name in chosen:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            ending = ".".join(parts[-length:])
            if not any(other == ending or other.endswith(f".{ending}") for other in others):
                endings[ending] = None
                break
    return list(endings)


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"method.{code}", clean_line(message), clean_line(fix), path="method.targets"))
