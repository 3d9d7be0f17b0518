"""Evaluate without a trace: training continues as if nobody had looked."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode without gradients, and restore everything that training depends on.

    Restored are the train/eval flag of every module on its own (frozen parts may have been in evaluation mode while
    the rest trained) and the random states of Python, NumPy, torch and the CUDA devices in use.

    `no_grad` and not `inference_mode`: buffers that a model caches inside it, such as rotary tables, would later be
    refused by the backward pass.
    """
    modes = [(module, module.training) for module in model.modules()]
    states = _random_states()
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        _restore(states)


_States = tuple[object, object, torch.Tensor, list[torch.Tensor]]


def _random_states() -> _States:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda


def _restore(states: _States) -> None:
    python_state, numpy_state, torch_state, cuda_states = states
    random.setstate(python_state)  # type: ignore[arg-type]
    numpy.random.set_state(numpy_state)  # type: ignore[arg-type]
    torch.set_rng_state(torch_state)
    if cuda_states:
        torch.cuda.set_rng_state_all(cuda_states)
