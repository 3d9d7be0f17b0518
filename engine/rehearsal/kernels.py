"""Memory that kernels take for themselves while they run: PyTorch's dispatcher does not see it, the allocator does."""

from typing import Any

import bitsandbytes  # noqa: F401 - registers its operations
import torch

from engine.rehearsal.hollow import HollowMode, Special
from engine.rehearsal.tracer import Tracer

_FLASH_BLOCK = 128
_FLASH_WIDTH = 32
_DIRECT_ROWS = 4
"""Rows up to which bitsandbytes' GPU kernel reads 4-bit weights directly; more of them are multiplied unpacked."""
_ATEN = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


def own_memory(tracer: Tracer, *, on_cuda: bool) -> dict[Any, Special]:
    """Return the operations to be carried out with their kernels' own memory."""
    special: dict[Any, Special] = {
        torch.ops.bitsandbytes.gemm_4bit.default: _Unpacking(tracer, on_cuda=on_cuda),
        torch.ops.bitsandbytes.int8_vectorwise_quant.default: _round_inputs,
        torch.ops.bitsandbytes.int8_mixed_scaled_mm.default: _multiply_rounded,
    }
    if on_cuda:
        special[_ATEN._scaled_dot_product_flash_attention_backward.default] = _FlashBackward(tracer)
        special[_ATEN._scaled_dot_product_efficient_attention_backward.default] = _EfficientBackward(tracer)
    return special


def _round_inputs(mode: HollowMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Round inputs to 8 bits; the columns with large numbers, which stay whole, are few, and depend on the content."""
    return mode.by_shape(func, (args[0], 0.0), {})


def _multiply_rounded(mode: HollowMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Multiply rounded inputs with 8-bit weights, without the columns that stay whole."""
    inputs, rounded, weight, row_scales, column_scales = args[:5]
    product = torch.ops.bitsandbytes.int8_scaled_mm.default
    return mode.by_shape(product, (rounded, weight, row_scales, column_scales, None, inputs.dtype), {}), None


class _Unpacking:
    """A product with 4-bit weights: the weight is unpacked to the format of the input first."""

    def __init__(self, tracer: Tracer, *, on_cuda: bool) -> None:
        self._tracer = tracer
        self._direct_rows = _DIRECT_ROWS if on_cuda else 0

    def __call__(self, mode: HollowMode, func: Any, args: Any, kwargs: Any) -> Any:
        inputs, shape, blocksize = args[0], args[2], args[4]
        if inputs.numel() // inputs.shape[-1] <= self._direct_rows:
            return mode.by_shape(func, args, kwargs)
        num_weights = shape[0] * shape[1]
        # Scales are quantised themselves; they are unpacked to float32 before.
        with self._tracer.held(num_weights * inputs.element_size() + 4 * -(-num_weights // blocksize)):
            return mode.by_shape(func, args, kwargs)


class _FlashBackward:
    """Float32 sums of the query's gradient, a number per position, and key gradients for each query head."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, mode: HollowMode, func: Any, args: Any, kwargs: Any) -> Any:
        query, key = args[1], args[2]
        rows, heads, length, width = query.shape
        padded = -(-length // _FLASH_BLOCK) * _FLASH_BLOCK
        own = 4 * rows * heads * padded * (-(-width // _FLASH_WIDTH) * _FLASH_WIDTH + 1)
        if key.shape[1] != heads:
            own += 2 * rows * heads * key.shape[2] * width * key.element_size()
        with self._tracer.held(own):
            return mode.by_shape(func, args, kwargs)


class _EfficientBackward:
    """A number per position, and float32 sums where the gradient is narrower."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __call__(self, mode: HollowMode, func: Any, args: Any, kwargs: Any) -> Any:
        rows, heads, length, width = args[1].shape
        sums = width if args[1].dtype in _HALF else 0
        with self._tracer.held(4 * rows * heads * length * (sums + 1)):
            return mode.by_shape(func, args, kwargs)
