"""Sizes of models that read images or sound, one reader per family, as transformers 5 builds them."""

from engine.planning.architecture import Architecture
from engine.planning.config_sizes import (
    MOST_LAYERS,
    Config,
    check_division,
    count,
    flag,
    num_labels,
    optional_size,
    refuse,
    size,
    sizes,
)
from engine.planning.encoder_decoders import of_two_stacks, two_stacks
from engine.planning.layer_sums import architecture, biased, class_of, linear, square_attention, ties, weights_of


def read_whisper(config: Config) -> Architecture:
    """Return the sizes of Whisper."""
    vocab, hidden = size(config, "vocab_size"), size(config, "d_model")
    bins = size(config, "num_mel_bins")
    sources, targets = size(config, "max_source_positions"), size(config, "max_target_positions")
    encoder, decoder, encoders, decoders = two_stacks(config, hidden)
    total = 3 * bins * hidden + hidden + 3 * hidden * hidden + hidden + sources * hidden + 2 * hidden
    total += (vocab + targets) * hidden + 2 * hidden
    # The layers that make keys have no bias.
    total += encoders * (biased(encoder) - hidden + 4 * hidden) + decoders * (biased(decoder) - 2 * hidden + 6 * hidden)
    if class_of(config).endswith("ForConditionalGeneration") and not ties(config):
        total += vocab * hidden
    return of_two_stacks(config, "audio", total, vocab=vocab, hidden=hidden, context=targets)


def read_vit(config: Config) -> Architecture:
    """Return the sizes of a vision transformer."""
    hidden, layers, inner = (
        size(config, "hidden_size"),
        size(config, "num_hidden_layers"),
        size(config, "intermediate_size"),
    )
    image, patch = size(config, "image_size"), size(config, "patch_size")
    if patch > image:
        refuse(f"config.json cuts images of {image} pixels into patches of {patch}.")
    channels = optional_size(config, "num_channels") or 3
    patches = (image // patch) ** 2
    shapes = [
        *square_attention(hidden, ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("fc1", hidden, inner),
        ("fc2", inner, hidden),
    ]
    biases = 0 if flag(config, "qkv_bias", True) else -3 * hidden
    total = linear(channels * patch * patch, hidden) + hidden + (patches + 1) * hidden + 2 * hidden
    total += layers * (biased(shapes) + biases + 4 * hidden)
    if class_of(config).endswith("ForImageClassification"):
        total += linear(hidden, num_labels(config))
    else:
        total += linear(hidden, optional_size(config, "pooler_output_size") or hidden)
    return architecture(
        config,
        kind="vision",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * weights_of(shapes),
        context=patches + 1,
    )


def read_resnet(config: Config) -> Architecture:
    """Return the sizes of a residual convolution network; it has no linear layers but the last one."""
    widths, depths = sizes(config, "hidden_sizes"), sizes(config, "depths")
    if len(widths) != len(depths):
        refuse(f"config.json gives {len(widths)} widths for {len(depths)} stages.")
    if sum(depths) > MOST_LAYERS:
        refuse(f"config.json gives depths that make {sum(depths):,} layers; no model has more than {MOST_LAYERS:,}.")
    start = size(config, "embedding_size")
    bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
    total = _convolution(optional_size(config, "num_channels") or 3, start, 7)
    before = start
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        halved = stage > 0 or flag(config, "downsample_in_first_stage", False)
        for layer in range(depth):
            shortcut = before != width or (layer == 0 and halved)
            total += _residual_layer(before, width, bottleneck=bottleneck) + (
                _convolution(before, width, 1) if shortcut else 0
            )
            before = width
    if class_of(config).endswith("ForImageClassification"):
        total += linear(widths[-1], num_labels(config))
    return architecture(
        config,
        kind="vision",
        hidden=widths[-1],
        layers=sum(depths),
        heads=1,
        inner=widths[-1],
        shapes=[],
        num_params=total,
        quantizable=0,
    )


def _convolution(channels_in: int, channels_out: int, kernel: int) -> int:
    return channels_in * channels_out * kernel * kernel + 2 * channels_out


def _residual_layer(before: int, width: int, *, bottleneck: bool) -> int:
    if not bottleneck:
        return _convolution(before, width, 3) + _convolution(width, width, 3)
    inner = width // 4
    return _convolution(before, inner, 1) + _convolution(inner, inner, 3) + _convolution(inner, width, 1)


def read_wav2vec2(config: Config) -> Architecture:
    """Return the sizes of wav2vec 2.0."""
    hidden, layers, inner = (
        size(config, "hidden_size"),
        size(config, "num_hidden_layers"),
        size(config, "intermediate_size"),
    )
    shapes = [
        *square_attention(hidden, ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("intermediate_dense", hidden, inner),
        ("output_dense", inner, hidden),
    ]
    channels = sizes(config, "conv_dim")
    kernel, groups = size(config, "num_conv_pos_embeddings"), size(config, "num_conv_pos_embedding_groups")
    check_division(config, hidden, groups, "a width", "groups of the positional convolution")
    # Weight normalisation keeps one length per place of the kernel beside the direction.
    positions = hidden * (hidden // groups) * kernel + hidden + kernel
    total = _sound_stem(config, channels) + 2 * channels[-1] + linear(channels[-1], hidden)
    total += positions + 2 * hidden + layers * (biased(shapes) + 4 * hidden)
    if config.get("mask_time_prob", 0.05) or config.get("mask_feature_prob", 0.0):
        total += hidden
    if class_of(config).endswith("ForCTC"):
        total += linear(hidden, size(config, "vocab_size"))
    return architecture(
        config,
        kind="audio",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * weights_of(shapes),
        vocab=count(config, "vocab_size"),
    )


def _sound_stem(config: Config, channels: list[int]) -> int:
    """Return the weights of the convolutions over the sound wave and of their norms."""
    kernels = sizes(config, "conv_kernel")
    if len(kernels) != len(channels):
        refuse(f"config.json gives {len(kernels)} kernels for {len(channels)} convolutions.")
    biased = flag(config, "conv_bias", False)
    normed = len(channels) if config.get("feat_extract_norm", "group") == "layer" else 1
    total, before = 0, 1
    for number, (width, kernel) in enumerate(zip(channels, kernels, strict=True)):
        total += before * width * kernel + (width if biased else 0) + (2 * width if number < normed else 0)
        before = width
    return total
