"""Sizes of models that are no text decoders, one reader per family, as transformers 5 builds them.

The head is the one of the class that the configuration names; where it names none, the bare model is counted.
"""

from engine.planning.architecture import Architecture, Kind, LinearShape
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


def _named(config: Config) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def _linear(rows: int, columns: int, *, bias: bool = True) -> int:
    return rows * columns + (columns if bias else 0)


def _biased(shapes: list[LinearShape]) -> int:
    return sum(_linear(rows, columns) for _, rows, columns in shapes)


def _weights(shapes: list[LinearShape]) -> int:
    return sum(rows * columns for _, rows, columns in shapes)


def _ties(config: Config) -> bool:
    """Return whether the output layer is the embedding; transformers says yes where the file says nothing."""
    return flag(config, "tie_word_embeddings", True)


def _architecture(
    config: Config,
    *,
    kind: Kind,
    hidden: int,
    layers: int,
    heads: int,
    inner: int,
    shapes: list[LinearShape],
    num_params: int,
    quantizable: int,
    vocab: int = 0,
    context: int = 0,
    tied: bool = True,
    head_dim: int | None = None,
    window: tuple[int, int] = (0, 0),
) -> Architecture:
    if head_dim is None:
        check_division(config, hidden, heads, "a width", "attention heads")
    return Architecture(
        model_type=str(config.get("model_type", "")),
        class_name=_named(config),
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads if head_dim is None else head_dim,
        intermediate_size=inner,
        context_length=context,
        tied_embeddings=tied,
        linear_shapes=shapes,
        num_params=num_params,
        counted=True,
        kind=kind,
        quantizable_params=quantizable,
        sliding_window=window[0],
        windowed_layers=window[1],
    )


def _attention(hidden: int, names: tuple[str, str, str, str]) -> list[LinearShape]:
    return [(name, hidden, hidden) for name in names]


def read_bert(config: Config) -> Architecture:
    """Return the sizes of BERT or RoBERTa."""
    vocab, hidden = size(config, "vocab_size"), size(config, "hidden_size")
    layers, inner = size(config, "num_hidden_layers"), size(config, "intermediate_size")
    context = size(config, "max_position_embeddings")
    types = optional_size(config, "type_vocab_size") or 2
    shapes = [
        *_attention(hidden, ("query", "key", "value", "attention.output.dense")),
        ("intermediate.dense", hidden, inner),
        ("output.dense", inner, hidden),
    ]
    tied = _ties(config)
    total = (vocab + context + types) * hidden + 2 * hidden + layers * (_biased(shapes) + 4 * hidden)
    return _architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total + _bert_head(config, vocab, hidden, tied=tied),
        quantizable=layers * _weights(shapes),
        vocab=vocab,
        context=context,
        tied=tied,
    )


def _bert_head(config: Config, vocab: int, hidden: int, *, tied: bool) -> int:
    name = _named(config)
    square = _linear(hidden, hidden)
    if name.endswith("ForMaskedLM"):
        return square + 2 * hidden + vocab + (0 if tied else vocab * hidden)
    if name.endswith("ForTokenClassification"):
        return _linear(hidden, num_labels(config))
    if name.endswith("ForSequenceClassification"):
        return square + _linear(hidden, num_labels(config))
    return square  # the pooler of the bare model


def read_distilbert(config: Config) -> Architecture:
    """Return the sizes of DistilBERT."""
    vocab, hidden, layers = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "num_hidden_layers")
    inner = optional_size(config, "hidden_dim") or 4 * hidden
    context = size(config, "max_position_embeddings")
    shapes = [
        *_attention(hidden, ("q_lin", "k_lin", "v_lin", "out_lin")),
        ("lin1", hidden, inner),
        ("lin2", inner, hidden),
    ]
    tied = _ties(config)
    total = (vocab + context) * hidden + 2 * hidden + layers * (_biased(shapes) + 4 * hidden)
    name = _named(config)
    if name.endswith("ForMaskedLM"):
        total += _linear(hidden, hidden) + 2 * hidden + vocab + (0 if tied else vocab * hidden)
    elif name.endswith("ForSequenceClassification"):
        total += _linear(hidden, hidden) + _linear(hidden, num_labels(config))
    return _architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * _weights(shapes),
        vocab=vocab,
        context=context,
        tied=tied,
    )


def read_modernbert(config: Config) -> Architecture:
    """Return the sizes of ModernBERT."""
    vocab, hidden, layers = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "num_hidden_layers")
    inner = size(config, "intermediate_size")
    shapes = [
        ("Wqkv", hidden, 3 * hidden),
        ("attn.Wo", hidden, hidden),
        ("Wi", hidden, 2 * inner),
        ("mlp.Wo", inner, hidden),
    ]
    norm = hidden * (2 if flag(config, "norm_bias", False) else 1)
    attention = 4 * hidden if flag(config, "attention_bias", False) else 0
    mlp = 2 * inner + hidden if flag(config, "mlp_bias", False) else 0
    # The first block has no norm before attention; one stands after the embeddings, one at the end.
    total = vocab * hidden + layers * (_weights(shapes) + attention + mlp + 2 * norm) + norm
    tied = _ties(config)
    name = _named(config)
    head = _linear(hidden, hidden, bias=flag(config, "classifier_bias", False)) + norm
    if name.endswith("ForMaskedLM"):
        total += head + (vocab if flag(config, "decoder_bias", True) else 0) + (0 if tied else vocab * hidden)
    elif name.endswith("ForSequenceClassification"):
        total += head + _linear(hidden, num_labels(config))
    every = optional_size(config, "global_attn_every_n_layers") or 3
    window = optional_size(config, "local_attention") or optional_size(config, "sliding_window") or 0
    return _architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * _weights(shapes),
        vocab=vocab,
        context=optional_size(config, "max_position_embeddings") or 8192,
        tied=tied,
        window=(window, layers - -(-layers // every)) if window else (0, 0),
    )


def read_t5(config: Config) -> Architecture:
    """Return the sizes of T5, of either feed-forward layer."""
    vocab, hidden, inner = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "d_ff")
    encoders, heads, head_dim = size(config, "num_layers"), size(config, "num_heads"), size(config, "d_kv")
    decoders = optional_size(config, "num_decoder_layers") or encoders
    width = heads * head_dim
    attention = [("q", hidden, width), ("k", hidden, width), ("v", hidden, width), ("o", width, hidden)]
    gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
    names = ("wi_0", "wi_1") if gated else ("wi",)
    mlp = [*((name, hidden, inner) for name in names), ("wo", inner, hidden)]
    per_encoder, per_decoder = _weights(attention + mlp), _weights(2 * attention + mlp)
    buckets = optional_size(config, "relative_attention_num_buckets") or 32
    tied = _ties(config)
    total = vocab * hidden + encoders * (per_encoder + 2 * hidden) + decoders * (per_decoder + 3 * hidden)
    total += 2 * buckets * heads + 2 * hidden
    if _named(config).endswith("ForConditionalGeneration") and not tied:
        total += vocab * hidden
    return _architecture(
        config,
        kind="encoder-decoder",
        hidden=hidden,
        layers=encoders + decoders,
        heads=heads,
        inner=inner,
        shapes=2 * attention + mlp,
        num_params=total,
        quantizable=encoders * per_encoder + decoders * per_decoder,
        vocab=vocab,
        context=optional_size(config, "n_positions") or 512,
        tied=tied,
        head_dim=head_dim,
    )


def _two_stacks(config: Config, hidden: int) -> tuple[list[LinearShape], list[LinearShape], int, int]:
    """Return the linear layers of an encoder block and of a decoder block, and the number of either."""
    attention = _attention(hidden, ("q_proj", "k_proj", "v_proj", "out_proj"))
    encoder_inner, decoder_inner = size(config, "encoder_ffn_dim"), size(config, "decoder_ffn_dim")
    encoder = [*attention, ("fc1", hidden, encoder_inner), ("fc2", encoder_inner, hidden)]
    decoder = [*attention, *attention, ("fc1", hidden, decoder_inner), ("fc2", decoder_inner, hidden)]
    return encoder, decoder, size(config, "encoder_layers"), size(config, "decoder_layers")


def _of_two_stacks(
    config: Config, kind: Kind, num_params: int, *, vocab: int, hidden: int, context: int
) -> Architecture:
    """Return the architecture of an encoder and a decoder of the BART kind, once its weights are counted."""
    encoder, decoder, encoders, decoders = _two_stacks(config, hidden)
    return _architecture(
        config,
        kind=kind,
        hidden=hidden,
        layers=encoders + decoders,
        heads=size(config, "encoder_attention_heads"),
        inner=size(config, "decoder_ffn_dim"),
        shapes=decoder,
        num_params=num_params,
        quantizable=encoders * _weights(encoder) + decoders * _weights(decoder),
        vocab=vocab,
        context=context,
        tied=_ties(config),
    )


def read_bart(config: Config) -> Architecture:
    """Return the sizes of BART."""
    vocab, hidden = size(config, "vocab_size"), size(config, "d_model")
    context = size(config, "max_position_embeddings")
    encoder, decoder, encoders, decoders = _two_stacks(config, hidden)
    total = vocab * hidden + 2 * (context + 2) * hidden + 4 * hidden
    total += encoders * (_biased(encoder) + 4 * hidden) + decoders * (_biased(decoder) + 6 * hidden)
    if _named(config).endswith("ForConditionalGeneration") and not _ties(config):
        total += vocab * hidden
    elif _named(config).endswith("ForSequenceClassification"):
        total += _linear(hidden, hidden) + _linear(hidden, num_labels(config))
    return _of_two_stacks(config, "encoder-decoder", total, vocab=vocab, hidden=hidden, context=context)


def read_whisper(config: Config) -> Architecture:
    """Return the sizes of Whisper."""
    vocab, hidden = size(config, "vocab_size"), size(config, "d_model")
    bins = size(config, "num_mel_bins")
    sources, targets = size(config, "max_source_positions"), size(config, "max_target_positions")
    encoder, decoder, encoders, decoders = _two_stacks(config, hidden)
    total = 3 * bins * hidden + hidden + 3 * hidden * hidden + hidden + sources * hidden + 2 * hidden
    total += (vocab + targets) * hidden + 2 * hidden
    # The layers that make keys have no bias.
    total += encoders * (_biased(encoder) - hidden + 4 * hidden) + decoders * (
        _biased(decoder) - 2 * hidden + 6 * hidden
    )
    if _named(config).endswith("ForConditionalGeneration") and not _ties(config):
        total += vocab * hidden
    return _of_two_stacks(config, "audio", total, vocab=vocab, hidden=hidden, context=targets)


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
        *_attention(hidden, ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("fc1", hidden, inner),
        ("fc2", inner, hidden),
    ]
    biases = 0 if flag(config, "qkv_bias", True) else -3 * hidden
    total = _linear(channels * patch * patch, hidden) + hidden + (patches + 1) * hidden + 2 * hidden
    total += layers * (_biased(shapes) + biases + 4 * hidden)
    if _named(config).endswith("ForImageClassification"):
        total += _linear(hidden, num_labels(config))
    else:
        total += _linear(hidden, optional_size(config, "pooler_output_size") or hidden)
    return _architecture(
        config,
        kind="vision",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * _weights(shapes),
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
    if _named(config).endswith("ForImageClassification"):
        total += _linear(widths[-1], num_labels(config))
    return _architecture(
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
        *_attention(hidden, ("q_proj", "k_proj", "v_proj", "out_proj")),
        ("intermediate_dense", hidden, inner),
        ("output_dense", inner, hidden),
    ]
    channels = sizes(config, "conv_dim")
    kernel, groups = size(config, "num_conv_pos_embeddings"), size(config, "num_conv_pos_embedding_groups")
    check_division(config, hidden, groups, "a width", "groups of the positional convolution")
    # Weight normalisation keeps one length per place of the kernel beside the direction.
    positions = hidden * (hidden // groups) * kernel + hidden + kernel
    total = _sound_stem(config, channels) + 2 * channels[-1] + _linear(channels[-1], hidden)
    total += positions + 2 * hidden + layers * (_biased(shapes) + 4 * hidden)
    if config.get("mask_time_prob", 0.05) or config.get("mask_feature_prob", 0.0):
        total += hidden
    if _named(config).endswith("ForCTC"):
        total += _linear(hidden, size(config, "vocab_size"))
    return _architecture(
        config,
        kind="audio",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * _weights(shapes),
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
