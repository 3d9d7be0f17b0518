"""Sizes of models with an encoder and a decoder, one reader per family, as transformers 5 builds them."""

from engine.catalog.objectives import ModelKind
from engine.planning.architecture import Architecture, HeadSizes, LinearShape
from engine.planning.config_sizes import Config, optional_size, size
from engine.planning.layer_sums import (
    architecture,
    biased,
    drops,
    linear,
    named_head,
    square_attention,
    ties,
    weights_of,
)


def seq2seq_heads(vocab: int, hidden: int, *, tied: bool) -> HeadSizes:
    return {
        "seq2seq-lm": (0 if tied else vocab * hidden, 0),
        "sequence-classification": (linear(hidden, hidden), hidden + 1),
    }


def read_t5(config: Config) -> Architecture:
    """Return the sizes of T5 and mT5, of either feed-forward layer."""
    vocab, hidden, inner = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "d_ff")
    encoders, heads, head_dim = size(config, "num_layers"), size(config, "num_heads"), size(config, "d_kv")
    decoders = optional_size(config, "num_decoder_layers") or encoders
    width = heads * head_dim
    attention = [("q", hidden, width), ("k", hidden, width), ("v", hidden, width), ("o", width, hidden)]
    gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
    names = ("wi_0", "wi_1") if gated else ("wi",)
    mlp = [*((name, hidden, inner) for name in names), ("wo", inner, hidden)]
    per_encoder, per_decoder = weights_of(attention + mlp), weights_of(2 * attention + mlp)
    buckets = optional_size(config, "relative_attention_num_buckets") or 32
    tied = ties(config)
    body = vocab * hidden + encoders * (per_encoder + 2 * hidden) + decoders * (per_decoder + 3 * hidden)
    body += 2 * buckets * heads + 2 * hidden
    sizes = seq2seq_heads(vocab, hidden, tied=tied)
    return architecture(
        config,
        kind="encoder-decoder",
        hidden=hidden,
        layers=encoders + decoders,
        heads=heads,
        inner=inner,
        shapes=2 * attention + mlp,
        num_params=body + named_head(config, sizes),
        quantizable=encoders * per_encoder + decoders * per_decoder,
        vocab=vocab,
        context=optional_size(config, "n_positions") or 512,
        tied=tied,
        head_dim=head_dim,
        body=body,
        head_sizes=sizes,
        relative=True,
        encoder=(encoders, attention + mlp),
        attention_dropout=drops(config, "dropout_rate", 0.1),
    )


def two_stacks(config: Config, hidden: int) -> tuple[list[LinearShape], list[LinearShape], int, int]:
    """Return the linear layers of an encoder block and of a decoder block, and the number of either."""
    attention = square_attention(hidden, ("q_proj", "k_proj", "v_proj", "out_proj"))
    encoder_inner, decoder_inner = size(config, "encoder_ffn_dim"), size(config, "decoder_ffn_dim")
    encoder = [*attention, ("fc1", hidden, encoder_inner), ("fc2", encoder_inner, hidden)]
    decoder = [*attention, *attention, ("fc1", hidden, decoder_inner), ("fc2", decoder_inner, hidden)]
    return encoder, decoder, size(config, "encoder_layers"), size(config, "decoder_layers")


def of_two_stacks(
    config: Config,
    kind: ModelKind,
    num_params: int,
    *,
    vocab: int,
    hidden: int,
    context: int,
    body: int = 0,
    sizes: HeadSizes | None = None,
) -> Architecture:
    """Return the architecture of an encoder and a decoder of the BART kind, once its weights are counted."""
    encoder, decoder, encoders, decoders = two_stacks(config, hidden)
    return architecture(
        config,
        kind=kind,
        hidden=hidden,
        layers=encoders + decoders,
        heads=size(config, "encoder_attention_heads"),
        inner=size(config, "decoder_ffn_dim"),
        shapes=decoder,
        num_params=num_params,
        quantizable=encoders * weights_of(encoder) + decoders * weights_of(decoder),
        vocab=vocab,
        context=context,
        tied=ties(config),
        body=body,
        head_sizes=sizes,
        encoder=(encoders, encoder),
        attention_dropout=drops(config, "attention_dropout", 0.0),
    )


def read_bart(config: Config) -> Architecture:
    """Return the sizes of BART and mBART."""
    vocab, hidden = size(config, "vocab_size"), size(config, "d_model")
    context = size(config, "max_position_embeddings")
    encoder, decoder, encoders, decoders = two_stacks(config, hidden)
    # mBART has a norm after each stack as well.
    norms = 8 if config.get("model_type") == "mbart" else 4
    body = vocab * hidden + 2 * (context + 2) * hidden + norms * hidden
    body += encoders * (biased(encoder) + 4 * hidden) + decoders * (biased(decoder) + 6 * hidden)
    sizes = seq2seq_heads(vocab, hidden, tied=ties(config))
    return of_two_stacks(
        config,
        "encoder-decoder",
        body + named_head(config, sizes),
        vocab=vocab,
        hidden=hidden,
        context=context,
        body=body,
        sizes=sizes,
    )
