"""Bottleneck adapters as a PEFT tuner: PEFT has none of its own.

An adapter stands behind an output projection of a block, in front of the sum with the residual stream, and adds to its
result: `y + up(activation(down(y)))`. `up` starts at zero, so that the model says at first what it said before.

Sources: Houlsby et al., https://arxiv.org/abs/1902.00751; Pfeiffer et al., https://arxiv.org/abs/2005.00052.

PEFT's enumeration of tuners is closed. `_extend` adds a member by the enumeration's own tables, which no version
promises to keep; `tests/engine/test_bottleneck_peft.py` fails when PEFT's minor version or those tables change.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType, register_peft_method
from transformers.pytorch_utils import Conv1D

NAME = "bottleneck"
TYPE_NAME = NAME.upper()
ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}


@dataclass
class BottleneckConfig(PeftConfig):
    """Settings of bottleneck adapters, as they lie in `adapter_config.json`.

    Attributes:
        width: Inner width of each adapter.
        activation: A name of `ACTIVATIONS`.
        target_modules: Full names of the layers that adapters stand behind.
        exclude_modules: Read by PEFT when it matches targets.
        modules_to_save: Modules that learn as a whole and are saved with the adapter, such as a new head.
    """

    width: int = 64
    activation: str = "gelu"
    target_modules: set[str] | None = None
    exclude_modules: set[str] | None = None
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type; names that were read from a file come as a list."""
        super().__post_init__()
        self.peft_type = PeftType[TYPE_NAME]
        self.target_modules = set(self.target_modules or ())


class BottleneckLayer(torch.nn.Module, BaseTunerLayer):
    """A layer with adapters behind it.

    Args:
        base_layer: Linear layer, quantised or not.
        adapter_name: Of the first adapter.
        config: Its settings.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    # PEFT is not typed; without these its names would be read as submodules.
    active_adapters: Any
    set_adapter: Any
    _cast_input_dtype: Any
    _move_adapter_to_device_of_base_layer: Any

    def __init__(self, base_layer: torch.nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = torch.nn.ModuleDict()
        self.bottleneck_up = torch.nn.ModuleDict()
        self._activation = ACTIVATIONS[config.activation]()
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that changes nothing yet."""
        features = out_features(self.base_layer)
        down, up = torch.nn.Linear(features, config.width), torch.nn.Linear(config.width, features)
        # A bias of its own could hold a unit below zero whatever the text, where the model's own numbers are small.
        for start in (down.bias, up.weight, up.bias):
            torch.nn.init.zeros_(start)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters)

    def forward(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """Return the result of the layer with what the active adapters add to it."""
        result: torch.Tensor = self.base_layer(*arguments, **keywords)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = self.bottleneck_down[name], self.bottleneck_up[name]
                inner = self._activation(down(self._cast_input_dtype(result, down.weight.dtype)))
                result = result + up(inner).to(result.dtype)
        return result


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters."""

    prefix = f"{NAME}_"
    tuner_layer_cls = BottleneckLayer
    # Targets are found by structure before PEFT is asked.
    target_module_mapping: dict[str, list[str]] = {}

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: torch.nn.Module,
        target_name: str,
        parent: torch.nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.add(adapter_name, peft_config)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _check_merge_allowed(self) -> None:
        raise ValueError("Bottleneck adapters hold an activation, so no weight of the base model can take them in.")


def out_features(layer: torch.nn.Module) -> int:
    """Return the width of what a linear layer gives out.

    Raises:
        ValueError: It is no linear layer.
    """
    if isinstance(layer, torch.nn.Linear):
        return layer.out_features
    if isinstance(layer, Conv1D):
        return int(layer.nf)
    raise ValueError(f"{type(layer).__name__} is no linear layer")


def register() -> None:
    """Make PEFT know bottleneck adapters; nothing happens the second time."""
    if TYPE_NAME not in PeftType.__members__:
        _extend()
    if PeftType[TYPE_NAME] not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=NAME, config_cls=BottleneckConfig, model_cls=BottleneckModel)


def _extend() -> None:
    """Add a member to PEFT's closed enumeration."""
    member = str.__new__(PeftType, TYPE_NAME)
    member._name_ = TYPE_NAME
    member._value_ = TYPE_NAME
    # The enumeration refuses new attributes of its class; up to Python 3.11 it finds members by its table alone.
    type.__setattr__(PeftType, TYPE_NAME, member)
    PeftType._member_names_.append(TYPE_NAME)
    PeftType._member_map_[TYPE_NAME] = member
    PeftType._value2member_map_[TYPE_NAME] = member


register()
