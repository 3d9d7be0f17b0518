"""What the same operations do on a GPU: the kernels that PyTorch, TRL and bitsandbytes would choose there.

Hollow tensors are CPU tensors, so that autograd and autocast work; on a GPU, some operations take other paths that
keep other memory. Each of them is replaced here for as long as a rehearsal lasts. Sources: `ATen/native/transformers/
attention.cpp`, `cuda/sdp_utils.cpp` and `autocast_mode.h` of torch 2.13; `trl/kernels/chunked_logprob.py` of TRL 1.16;
`bitsandbytes/backends/cuda/ops.py` of bitsandbytes 0.50.

Legend of shape suffixes: B rows, H query heads, G key heads, S positions, D head width.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import trl.kernels.chunked_logprob
import trl.trainer.utils
from packaging.version import Version
from torch.nn import functional

from engine.planning.plan import Plan
from engine.rehearsal.autocast import cuda_autocast_lists
from engine.rehearsal.tracer import Tracer

FLASH_MAX_HEAD = 256
_FLASH_ALIGNMENT = 8
_MASK_ALIGNMENT = 16
_EFFICIENT_SHARES_HEADS = Version(torch.__version__) >= Version("2.14")
"""Before, only flash attention knows grouped queries; the others fall back to plain matrix products."""
PAGED_MIN_ELEMENTS = 100_000
"""bitsandbytes pages optimizer states of at least so many elements (`Optimizer8bit.get_state_buffer`)."""
CUBLAS_BYTES = 8_519_680
"""Workspace of one cuBLAS handle and stream (`:4096:2:16:8`)."""
CUBLAS_BYTES_HOPPER = 32 * 2**20
_HANDLES = 2
"""One in the main thread, one in autograd's."""
_HOPPER_OR_NEWER = re.compile(r"\b(H100|H200|H800|H20|GH200|B100|B200|B300|GB200|GB300)\b")
_ATEN = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def as_on_cuda(plan: Plan, tracer: Tracer) -> Iterator[None]:
    """Let operations take the paths that they take on a GPU."""
    # Flash attention needs compute capability 8.0; the plan takes float16 below it, where bfloat16 is missing.
    attention = _Attention(flash=plan.recipe.training.precision != "float16")
    with ExitStack() as replaced:
        replaced.enter_context(_replace(functional, "scaled_dot_product_attention", attention))
        replaced.enter_context(_replace(functional, "dropout", _dropout))
        replaced.enter_context(_fused_head())
        replaced.enter_context(cuda_autocast_lists())
        replaced.enter_context(_paged_states(tracer))
        workspace = CUBLAS_BYTES_HOPPER if _HOPPER_OR_NEWER.search(plan.device.name) else CUBLAS_BYTES
        for _ in range(_HANDLES):
            tracer.standing(workspace, "cuBLAS workspace")
        yield


@contextmanager
def _replace(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Attention:
    """`torch.nn.functional.scaled_dot_product_attention` as PyTorch dispatches it on a GPU."""

    def __init__(self, *, flash: bool) -> None:
        self._flash = flash

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """Return the output [B, H, S, D]; the mask is boolean or additive, [B or 1, 1 or H, S, S]."""
        query, key, value, mask = _autocast(query, key, value, attn_mask)
        mask = _additive(mask, query.dtype)
        if self._takes_flash(query, value, mask):
            return _flash(query, key, value, dropout_p, is_causal, scale)
        shares_heads = enable_gqa and query.shape[1] != key.shape[1]
        if self._takes_efficient(query) and (_EFFICIENT_SHARES_HEADS or not shares_heads):
            needs_gradient = torch.is_grad_enabled() and any(item.requires_grad for item in (query, key, value))
            bias = None if mask is None else _aligned(mask, query, key)
            return _ATEN._scaled_dot_product_efficient_attention(
                query, key, value, bias, needs_gradient, dropout_p, is_causal, scale=scale
            )[0]
        return _ATEN._scaled_dot_product_attention_math(
            query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]

    def _takes_flash(self, query: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> bool:
        wide = query.shape[-1] > FLASH_MAX_HEAD or query.shape[-1] != value.shape[-1]
        return self._flash and mask is None and query.dtype in _HALF and not wide

    def _takes_efficient(self, query: torch.Tensor) -> bool:
        return query.shape[-1] % (8 if query.dtype in _HALF else 4) == 0


def _autocast(*tensors: torch.Tensor | None) -> list[Any]:
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    dtype = torch.get_autocast_dtype("cpu")
    return [item.to(dtype) if item is not None and item.is_floating_point() else item for item in tensors]


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Return a boolean mask as numbers to add: each call makes its own, and the backward pass keeps it."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=dtype))


def _aligned(mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    width = mask.shape[-1]
    if width % _MASK_ALIGNMENT:
        mask = functional.pad(mask, (0, _MASK_ALIGNMENT - width % _MASK_ALIGNMENT))[..., :width]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, causal: bool, scale: float | None
) -> torch.Tensor:
    width = query.shape[-1]
    missing = -width % _FLASH_ALIGNMENT
    if missing:
        query, key, value = (functional.pad(item, (0, missing)) for item in (query, key, value))
    output: torch.Tensor = _ATEN._scaled_dot_product_flash_attention(
        query, key, value, dropout, causal, False, scale=scale if scale is not None else width**-0.5
    )[0]
    return output[..., :width] if missing else output


def _dropout(tensor: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Keep a boolean mask, as the fused kernel does; the processor's keeps the noise in the tensor's own format."""
    if not training or p == 0.0:
        return tensor
    result: torch.Tensor = torch.native_dropout(tensor, p, True)[0]
    return result


class _NoKernel:
    """A Triton kernel that reads and writes what it was given and allocates nothing."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **settings: None


@contextmanager
def _fused_head() -> Iterator[None]:
    """Let TRL's output layer take its Triton kernels and its matrix product into float32."""
    kernels = trl.kernels.chunked_logprob
    with ExitStack() as replaced:
        for owner, name, value in (
            (kernels, "_use_triton", lambda device: True),
            (trl.trainer.utils, "_use_triton", lambda device: True),
            (kernels, "_forward_kernel", _NoKernel()),
            (kernels, "_backward_kernel", _NoKernel()),
            (kernels, "_addmm_fp32", lambda accumulated, left, right: None),
        ):
            replaced.enter_context(_replace(owner, name, value))
        if "triton" not in vars(kernels):
            kernels.triton = SimpleNamespace(cdiv=lambda amount, block: -(-amount // block))
            replaced.callback(delattr, kernels, "triton")
        yield


@contextmanager
def _paged_states(tracer: Tracer) -> Iterator[None]:
    """Keep paged optimizer states out of the trace: they are in memory that the driver moves to the host when asked."""
    from bitsandbytes.optim.optimizer import Optimizer8bit

    def get_state_buffer(self: Any, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if not self.is_paged or p.numel() < PAGED_MIN_ELEMENTS:
            return torch.zeros_like(p, dtype=dtype)
        with tracer.aside():
            return torch.zeros_like(p, dtype=dtype)

    with _replace(Optimizer8bit, "get_state_buffer", get_state_buffer):
        yield
