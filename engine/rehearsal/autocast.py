"""Autocast's lists of a GPU on a processor: which operations a GPU carries out in float32 and a processor does not.

Autocast is a table of operations per device. Both devices share the list of narrow operations (matrix products,
attention); a GPU also widens the ones below (`autocast_mode.h`, `AT_FORALL_FP32` and `AT_FORALL_FP32_SET_OPT_DTYPE`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import library

_WIDE = (
    "layer_norm",
    "native_layer_norm",
    "group_norm",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "pow.Scalar",
    "rsqrt",
    "exp",
    "log",
    "log1p",
    "softplus",
    "reciprocal",
    "logsumexp",
)
_WIDE_UNLESS_TOLD = ("softmax.int", "log_softmax.int", "cumsum", "sum", "sum.dim_IntList", "prod")
"""Operations with a `dtype` argument: float32 is passed where the caller asks for nothing."""
_NARROW = (torch.float16, torch.bfloat16)
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextmanager
def cuda_autocast_lists() -> Iterator[None]:
    """Let autocast on the processor follow the lists of a GPU."""
    overrides = library.Library("aten", "IMPL")
    try:
        for name in _WIDE:
            overrides.impl(name, _widened(_operation(name)), "AutocastCPU", allow_override=True)
        for name in _WIDE_UNLESS_TOLD:
            overrides.impl(name, _widened_unless_told(_operation(name)), "AutocastCPU", allow_override=True)
        yield
    finally:
        overrides._destroy()


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _wide(value: Any) -> Any:
    narrow = isinstance(value, torch.Tensor) and value.dtype in _NARROW
    return value.to(torch.float32) if narrow else value


def _widened(operation: Any) -> Callable[..., Any]:
    def carry_out(*arguments: Any, **keywords: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            return operation(*map(_wide, arguments), **keywords)

    return carry_out


def _widened_unless_told(operation: Any) -> Callable[..., Any]:
    names = [argument.name for argument in operation._schema.arguments]
    place = names.index("dtype")

    def carry_out(*arguments: Any, **keywords: Any) -> Any:
        told = arguments[place] if place < len(arguments) else keywords.get("dtype")
        narrow = isinstance(arguments[0], torch.Tensor) and arguments[0].dtype in _NARROW
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            if told is not None or not narrow:
                return operation(*arguments, **keywords)
            return operation(*arguments[:place], **{**keywords, "dtype": torch.float32})

    return carry_out
