"""Sizes of text encoders, one reader per family, as transformers 5 builds them.

The head is the one of the class that the configuration names; where it names none, the bare model is counted.
"""

from engine.planning.architecture import Architecture, HeadSizes, LinearShape
from engine.planning.config_sizes import Config, count, flag, optional_size, size
from engine.planning.layer_sums import (
    architecture,
    biased,
    class_of,
    drops,
    linear,
    named_head,
    square_attention,
    ties,
    weights_of,
)

_POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose positions are counted from the number of the padding token on."""


def read_bert(config: Config) -> Architecture:
    """Return the sizes of BERT, RoBERTa, XLM-RoBERTa or CamemBERT."""
    vocab, hidden = size(config, "vocab_size"), size(config, "hidden_size")
    layers, inner = size(config, "num_hidden_layers"), size(config, "intermediate_size")
    positions = size(config, "max_position_embeddings")
    types = optional_size(config, "type_vocab_size") or 2
    shapes = [
        *square_attention(hidden, ("query", "key", "value", "attention.output.dense")),
        ("intermediate.dense", hidden, inner),
        ("output.dense", inner, hidden),
    ]
    tied = ties(config)
    body = (vocab + positions + types) * hidden + 2 * hidden + layers * (biased(shapes) + 4 * hidden)
    sizes = pooled_heads(vocab, hidden, tied=tied)
    total = body + named_head(config, sizes, bare=linear(hidden, hidden))
    if class_of(config).endswith("ForPreTraining"):
        total += linear(hidden, hidden) + linear(hidden, 2)  # pooler, and whether one sentence follows another
    return architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=total,
        quantizable=layers * weights_of(shapes),
        vocab=vocab,
        context=positions - _positions_lost(config),
        tied=tied,
        body=body,
        head_sizes=sizes,
        attention_dropout=drops(config, "attention_probs_dropout_prob", 0.1),
    )


def _positions_lost(config: Config) -> int:
    if config.get("model_type") not in _POSITIONS_AFTER_PADDING:
        return 0
    padding = config.get("pad_token_id")
    return (padding if type(padding) is int and 0 <= padding < 8 else 1) + 1


def pooled_heads(vocab: int, hidden: int, *, tied: bool) -> HeadSizes:
    """Return the heads of the BERT kind: a square layer before what tells words or classes apart."""
    square = linear(hidden, hidden)
    return {
        "masked-lm": (square + 2 * hidden + vocab + (0 if tied else vocab * hidden), 0),
        "sequence-classification": (square, hidden + 1),
        "token-classification": (0, hidden + 1),
    }


def read_distilbert(config: Config) -> Architecture:
    """Return the sizes of DistilBERT."""
    vocab, hidden, layers = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "num_hidden_layers")
    inner = optional_size(config, "hidden_dim") or 4 * hidden
    context = size(config, "max_position_embeddings")
    shapes = [
        *square_attention(hidden, ("q_lin", "k_lin", "v_lin", "out_lin")),
        ("lin1", hidden, inner),
        ("lin2", inner, hidden),
    ]
    tied = ties(config)
    body = (vocab + context) * hidden + 2 * hidden + layers * (biased(shapes) + 4 * hidden)
    sizes = pooled_heads(vocab, hidden, tied=tied)
    return architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=body + named_head(config, sizes),
        quantizable=layers * weights_of(shapes),
        vocab=vocab,
        context=context,
        tied=tied,
        body=body,
        head_sizes=sizes,
        attention_dropout=drops(config, "attention_dropout", 0.1),
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
    body = vocab * hidden + layers * (weights_of(shapes) + attention + mlp + 2 * norm) + norm
    tied = ties(config)
    head = linear(hidden, hidden, bias=flag(config, "classifier_bias", False)) + norm
    words = (vocab if flag(config, "decoder_bias", True) else 0) + (0 if tied else vocab * hidden)
    sizes: HeadSizes = {
        "masked-lm": (head + words, 0),
        "sequence-classification": (head, hidden + 1),
        "token-classification": (head, hidden + 1),
    }
    every = optional_size(config, "global_attn_every_n_layers") or 3
    window = optional_size(config, "local_attention") or optional_size(config, "sliding_window") or 0
    return architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=shapes,
        num_params=body + named_head(config, sizes),
        quantizable=layers * weights_of(shapes),
        vocab=vocab,
        context=optional_size(config, "max_position_embeddings") or 8192,
        tied=tied,
        window=(window, layers - -(-layers // every)) if window else (0, 0),
        body=body,
        head_sizes=sizes,
        attention_dropout=drops(config, "attention_dropout", 0.0),
    )


def read_deberta(config: Config) -> Architecture:
    """Return the sizes of DeBERTa v2 and v3."""
    vocab, hidden, layers = size(config, "vocab_size"), size(config, "hidden_size"), size(config, "num_hidden_layers")
    inner, positions = size(config, "intermediate_size"), size(config, "max_position_embeddings")
    shapes = [
        *square_attention(hidden, ("query_proj", "key_proj", "value_proj", "attention.output.dense")),
        ("intermediate.dense", hidden, inner),
        ("output.dense", inner, hidden),
    ]
    blocks = shapes + _distance_projections(config, hidden)
    embedding = optional_size(config, "embedding_size") or hidden
    absolute = flag(config, "position_biased_input", True)
    body = (vocab + count(config, "type_vocab_size") + (positions if absolute else 0)) * embedding
    body += (embedding * hidden if embedding != hidden else 0) + 2 * hidden
    body += layers * (biased(blocks) + 4 * hidden) + _distances(config, hidden, positions)
    tied = ties(config)
    sizes = pooled_heads(vocab, hidden, tied=tied)
    # The word head answers in the width of the embeddings.
    words = linear(hidden, embedding) + 2 * embedding + vocab + (0 if tied else vocab * embedding)
    sizes["masked-lm"] = (words if flag(config, "legacy", True) else linear(hidden, hidden) + 2 * hidden + vocab, 0)
    return architecture(
        config,
        kind="encoder",
        hidden=hidden,
        layers=layers,
        heads=size(config, "num_attention_heads"),
        inner=inner,
        shapes=blocks,
        num_params=body + named_head(config, sizes),
        quantizable=layers * weights_of(blocks),
        vocab=vocab,
        context=positions,
        tied=tied,
        body=body,
        head_sizes=sizes,
        attention_dropout=drops(config, "attention_probs_dropout_prob", 0.1),
        distance_buckets=_buckets(config, positions),
        relative=not absolute,
    )


def _distance_projections(config: Config, hidden: int) -> list[LinearShape]:
    """Return the projections of distances that each block has of its own; v3 shares those of the words."""
    if not flag(config, "relative_attention", False) or flag(config, "share_att_key", False):
        return []
    kinds = config.get("pos_att_type") or ()
    named = kinds.split("|") if isinstance(kinds, str) else kinds
    found = [("pos_key_proj", "c2p"), ("pos_query_proj", "p2c")]
    return [(name, hidden, hidden) for name, kind in found if kind in named]


def _buckets(config: Config, positions: int) -> int:
    """Return how many distances are told apart, to both sides."""
    if not flag(config, "relative_attention", False):
        return 0
    farthest, buckets = config.get("max_relative_positions"), config.get("position_buckets")
    reach = farthest if type(farthest) is int and farthest > 0 else positions
    return 2 * (buckets if type(buckets) is int and buckets > 0 else reach)


def _distances(config: Config, hidden: int, positions: int) -> int:
    """Return the weights of the embeddings of distances, of their norm and of the convolution beside the blocks."""
    total = _buckets(config, positions) * hidden
    if "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower():
        total += 2 * hidden
    kernel = count(config, "conv_kernel_size")
    if kernel:
        groups = optional_size(config, "conv_groups") or 1
        total += hidden * hidden // groups * kernel + hidden + 2 * hidden
    return total
