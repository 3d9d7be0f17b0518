"""Put the bottleneck adapters of this folder on their base model. Needs torch, transformers and safetensors.

    base = AutoModelForCausalLM.from_pretrained("the base model")
    model = load_adapter(base, "this folder")

Written by ftwizard beside adapters that the library peft does not know; it stands alone, so that it can be copied.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

PREFIX = "base_model.model."
ACTIVATIONS = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU}


class Bottleneck(torch.nn.Module):
    """A layer with an adapter behind it: `y + up(activation(down(y)))`."""

    def __init__(self, layer: torch.nn.Module, features: int, width: int, activation: str) -> None:
        super().__init__()
        self.layer = layer
        self.bottleneck_down = torch.nn.Linear(features, width)
        self.bottleneck_up = torch.nn.Linear(width, features)
        self.activation = ACTIVATIONS[activation]()

    @property
    def weight(self) -> torch.Tensor | torch.nn.Module:
        """The layer's own weight; some models look at its number format."""
        return self.layer.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the result of the layer with what the adapter adds; the adapter computes in its own number format."""
        result: torch.Tensor = self.layer(hidden)
        inner = self.activation(self.bottleneck_down(result.to(self.bottleneck_down.weight.dtype)))
        added: torch.Tensor = self.bottleneck_up(inner)
        return result + added.to(result.dtype)


def load_adapter(base: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Return the base model with the adapters in place, ready to be asked; the model is changed.

    Args:
        base: The model that the adapters were trained on.
        folder: With `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
        ValueError: The folder holds other adapters.
        AttributeError: A layer of the adapters is not in the model: it is another base model.
        RuntimeError: Its shape differs.
    """
    config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    if config["peft_type"] != "BOTTLENECK":
        raise ValueError(f"{folder} holds {config['peft_type']} adapters, which the library peft loads")
    weights = {name.removeprefix(PREFIX): value for name, value in load_file(_weights_file(folder)).items()}
    for name in [name for name in weights if name.endswith(".bottleneck_down.weight")]:
        _put_adapter(base, name.removesuffix(".bottleneck_down.weight"), config)
    embeddings = base.get_input_embeddings().weight
    for name, value in weights.items():
        if base.get_parameter(name) is embeddings and value.shape[0] != embeddings.shape[0]:
            base.resize_token_embeddings(value.shape[0], mean_resizing=False)
    with torch.no_grad():
        for name, value in weights.items():
            own = base.get_parameter(name)
            if own.shape != value.shape:
                raise RuntimeError(f"{name} is {tuple(value.shape)} in {folder} and {tuple(own.shape)} in the model")
            own.copy_(value)
    return base.eval()


def _weights_file(folder: str | Path) -> Path:
    return Path(folder) / "adapter_model.safetensors"


def _put_adapter(base: PreTrainedModel, path: str, config: dict[str, str | int]) -> None:
    layer = base.get_submodule(path)
    if not isinstance(layer, (torch.nn.Linear, Conv1D)):
        raise ValueError(f"{path} is no linear layer")
    features = int(layer.nf) if isinstance(layer, Conv1D) else layer.out_features
    adapter = Bottleneck(layer, features, int(config["width"]), str(config["activation"]))
    parent, _, name = path.rpartition(".")
    setattr(base.get_submodule(parent), name, adapter.to(layer.weight.device))
