"""Keeping 4-bit weights as they were quantised."""

from torch import nn


def keep_4bit_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    In evaluation mode it would round the scales to bfloat16 in place, so that measuring changed the model and a resumed
    run were not the straight one; it also fails on layers whose width is no multiple of the block size, 64
    (bitsandbytes 0.50.2, `functional._convert_weight_packed_for_cpu`).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
