"""Sizes of a model from its `config.json`: shapes of the linear layers and the number of weights.

Counts follow the module definitions of transformers 5; tests hold those of `COUNTED_FAMILIES` against real models.
Every other family is read as a Llama with the biases that its configuration names; its count is then an estimate, and
weight headers overrule it where there are weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.catalog.objectives import ModelKind
from engine.planning import encoder_decoders, encoders, vision_audio
from engine.planning.architecture import Architecture, HeadSizes, LinearShape
from engine.planning.block_traits import traits_of
from engine.planning.config_sizes import (
    MOST_PARAMS,
    Config,
    check_division,
    count,
    flag,
    optional_size,
    refuse,
    size,
)
from engine.planning.known_classes import kind_of
from engine.planning.layer_sums import class_of, head_of_class, named_head

DECODERS = frozenset(
    {
        *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt2", "gpt_neox"),
        *("mixtral", "qwen2_moe", "qwen3_moe", "smollm3", "granite", "olmo2"),
    }
)
_OTHERS: dict[str, Callable[[Config], Architecture]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), encoders.read_bert),
    "distilbert": encoders.read_distilbert,
    "modernbert": encoders.read_modernbert,
    "deberta-v2": encoders.read_deberta,
    **dict.fromkeys(("t5", "mt5"), encoder_decoders.read_t5),
    **dict.fromkeys(("bart", "mbart"), encoder_decoders.read_bart),
    "whisper": vision_audio.read_whisper,
    "vit": vision_audio.read_vit,
    "resnet": vision_audio.read_resnet,
    "wav2vec2": vision_audio.read_wav2vec2,
}
COUNTED_FAMILIES = DECODERS | frozenset(_OTHERS)
_TIED_BY_DEFAULT = frozenset({"gpt2", "gemma", "gemma2", "gemma3_text", "cohere", "cohere2", "smollm3"})
_HEAD_DIMS = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}
_EXPERTS = ("num_local_experts", "num_experts")
LEAST_CONTEXT = 8
"""Tokens; no recipe may ask for shorter sequences."""
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """Return the sizes that a `config.json` gives; of a model with several parts, those of its language model.

    Args:
        config: The parsed file.

    Raises:
        ProblemError: A size is missing, no positive whole number, or cannot be true beside the others.
    """
    nested = config.get("text_config")
    if isinstance(nested, Mapping) and "hidden_size" not in config:
        outer = {key: config[key] for key in ("tie_word_embeddings", "architectures") if key in config}
        # Images or sound pass through parts that are not counted.
        found = replace(_read({**nested, **outer}), counted=False)
    else:
        found = _read(config)
    if found.num_params > MOST_PARAMS:
        refuse("config.json describes more than a hundred trillion weights; its sizes cannot all be true.")
    # What reads no words is refused by its kind; the numbers of its plan must be possible all the same.
    return found if found.context_length >= LEAST_CONTEXT else replace(found, context_length=LEAST_CONTEXT)


def _read(config: Config) -> Architecture:
    family = str(config.get("model_type", ""))
    if family in _OTHERS:
        return _OTHERS[family](config)
    found = _read_decoder(config, family)
    kind = "decoder" if family in DECODERS else kind_of(found.class_name, family)
    return found if kind == "decoder" else replace(found, kind=kind, heads=_heads_of_kind(found, kind))


def _heads_of_kind(found: Architecture, kind: ModelKind) -> HeadSizes:
    """Return the heads of a family without a reader, taken for those of BERT or of BART."""
    size_of = encoders.pooled_heads if kind == "encoder" else encoder_decoders.seq2seq_heads
    return size_of(found.vocab_size, found.hidden_size, tied=found.tied_embeddings)


def _context(config: Config) -> int:
    """Return the longest sequence in tokens.

    Raises:
        ProblemError: It is no plausible size, or so short that no row can be learnt from.
    """
    context = optional_size(config, "max_position_embeddings") or 2048
    if context < LEAST_CONTEXT:
        refuse(f"config.json describes a model that reads at most {context} tokens; no row can be learnt from so few.")
    return context


def _read_decoder(config: Config, family: str) -> Architecture:
    vocab, hidden = size(config, "vocab_size"), size(config, "hidden_size")
    layers, heads = size(config, "num_hidden_layers"), size(config, "num_attention_heads")
    kv_heads = heads if family in ("gpt2", "gpt_neox") else optional_size(config, "num_key_value_heads") or heads
    head_dim = _head_dim(config, family, hidden, heads)
    check_division(config, heads, kv_heads, "attention heads", "groups of keys and values")
    context = _context(config)
    inner = optional_size(config, "n_inner" if family == "gpt2" else "intermediate_size") or 4 * hidden
    tied = flag(config, "tie_word_embeddings", family in _TIED_BY_DEFAULT)
    shapes = _linear_shapes(family, hidden, heads * head_dim, kv_heads * head_dim, inner)
    experts = _read_experts(config, family, hidden, inner, layers)
    dense = sum(rows * columns for _, rows, columns in shapes)
    widths = (heads * head_dim, kv_heads * head_dim)
    per_block = dense + _biases(config, family, shapes) + _norms(config, family, hidden, head_dim, widths)
    quantizable = layers * dense
    if experts is not None:
        mlp = 3 * hidden * inner
        quantizable += experts.sparse_layers * (experts.shared_params - mlp)
        shapes = _shapes_beside_experts(shapes, experts, hidden)
    total = layers * per_block + _outside(family, vocab, hidden, context, tied=tied)
    if experts is not None:
        per_sparse = experts.params + experts.router_params + experts.shared_params - 3 * hidden * inner
        total += experts.sparse_layers * per_sparse
    window, windowed = _windows(config, family, layers)
    sizes = _heads(family, vocab, hidden, tied=tied)
    body = total - sizes["causal-lm"][0]
    head = head_of_class(class_of(config))
    return Architecture(
        model_type=family,
        class_name=class_of(config),
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=inner if experts is None else experts.active,
        context_length=context,
        tied_embeddings=tied,
        linear_shapes=shapes,
        num_params=body + named_head(config, sizes) if head in sizes else total,
        counted=family in DECODERS,
        num_experts=0 if experts is None else experts.number,
        experts_per_token=0 if experts is None else experts.per_token,
        expert_params=0 if experts is None else experts.sparse_layers * experts.params,
        quantizable_params=quantizable,
        sliding_window=window,
        windowed_layers=windowed,
        body_params=body,
        heads=sizes,
    )


def _heads(family: str, vocab: int, hidden: int, *, tied: bool) -> HeadSizes:
    """Return the heads of a decoder: its output layer, or a layer without that for classes or a reward."""
    words = (0 if tied else vocab * hidden) + (vocab if family == "phi" else 0)
    return {
        "causal-lm": (words, 0),
        "sequence-classification": (0, hidden),
        "token-classification": (0, hidden + 1),
    }


def _head_dim(config: Config, family: str, hidden: int, heads: int) -> int:
    given = optional_size(config, "head_dim") if family not in ("gpt2", "gpt_neox", "phi", "phi3") else None
    if given is not None:
        return given
    if family in _HEAD_DIMS:
        return _HEAD_DIMS[family]
    check_division(config, hidden, heads, "a width", "attention heads")
    return hidden // heads


@dataclass(frozen=True, slots=True)
class _Experts:
    """Experts of one block.

    Attributes:
        number: How many there are.
        per_token: How many a token passes.
        params: Weights of all of them.
        router_params: Weights that choose among them.
        shared_params: Weights of the linear layers that every token passes beside them.
        shared: Width of the shared expert; 0 without one.
        active: Width of the feed-forward layers that a token passes together.
        sparse_layers: Blocks that have experts.
    """

    number: int
    per_token: int
    params: int
    router_params: int
    shared_params: int
    shared: int
    active: int
    sparse_layers: int


def _read_experts(config: Config, family: str, hidden: int, inner: int, layers: int) -> _Experts | None:
    """Return the experts; transformers 5 keeps them as three-dimensional parameters.

    Neither bitsandbytes quantises those nor `all-linear` adapts them, so they are not among the linear layers.
    """
    number = next((found for key in _EXPERTS if (found := count(config, key))), 0)
    if number < 2:
        return None
    width = optional_size(config, "moe_intermediate_size") or inner
    per_token = optional_size(config, "num_experts_per_tok") or 2
    if per_token > number:
        refuse(f"config.json sends each token to {per_token} of {number} experts.")
    shared = optional_size(config, "shared_expert_intermediate_size") or 0 if family == "qwen2_moe" else 0
    return _Experts(
        number=number,
        per_token=per_token,
        params=number * 3 * hidden * width,
        # The shared expert's own gate is a linear layer with one output.
        router_params=number * hidden,
        shared_params=3 * hidden * shared + (hidden if shared else 0),
        shared=shared,
        active=per_token * width + shared,
        sparse_layers=_sparse_layers(config, layers),
    )


def _sparse_layers(config: Config, layers: int) -> int:
    step = optional_size(config, "decoder_sparse_step") or 1
    dense = config.get("mlp_only_layers")
    excepted = set(dense) if isinstance(dense, list) and all(type(layer) is int for layer in dense) else set()
    return sum(1 for layer in range(layers) if layer not in excepted and (layer + 1) % step == 0)


def _shapes_beside_experts(shapes: list[LinearShape], experts: _Experts, hidden: int) -> list[LinearShape]:
    attention = [shape for shape in shapes if shape[0] not in _FEED_FORWARD]
    if not experts.shared:
        return attention
    return [
        *attention,
        ("gate_proj", hidden, experts.shared),
        ("up_proj", hidden, experts.shared),
        ("down_proj", experts.shared, hidden),
    ]


def _windows(config: Config, family: str, layers: int) -> tuple[int, int]:
    """Return the sliding window and how many blocks look through it; nothing where it is switched off."""
    if config.get("sliding_window") is None or config.get("use_sliding_window") is False:
        return 0, 0
    window = optional_size(config, "sliding_window") or 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return window, sum(kind == "sliding_attention" for kind in kinds[:layers])
    if family == "gemma2":
        return window, (layers + 1) // 2
    if family == "gemma3_text":
        pattern = optional_size(config, "sliding_window_pattern") or 6
        return window, layers - layers // pattern
    return window, layers


def _linear_shapes(family: str, hidden: int, query: int, key_value: int, inner: int) -> list[LinearShape]:
    match family:
        case "gpt2":
            attention = [("c_attn", hidden, 3 * hidden), ("c_proj", hidden, hidden)]
        case "gpt_neox":
            attention = [("query_key_value", hidden, 3 * hidden), ("dense", hidden, hidden)]
        case "phi3":
            attention = [("qkv_proj", hidden, query + 2 * key_value), ("o_proj", query, hidden)]
        case _:
            output = "dense" if family == "phi" else "o_proj"
            attention = [
                ("q_proj", hidden, query),
                ("k_proj", hidden, key_value),
                ("v_proj", hidden, key_value),
                (output, query, hidden),
            ]
    return attention + _mlp_shapes(family, hidden, inner)


def _mlp_shapes(family: str, hidden: int, inner: int) -> list[LinearShape]:
    match family:
        case "gpt2":
            return [("c_fc", hidden, inner), ("c_proj", inner, hidden)]
        case "gpt_neox":
            return [("dense_h_to_4h", hidden, inner), ("dense_4h_to_h", inner, hidden)]
        case "phi3":
            return [("gate_up_proj", hidden, 2 * inner), ("down_proj", inner, hidden)]
        case _ if not traits_of(family).gated:
            return [("fc1", hidden, inner), ("fc2", inner, hidden)]
        case _:
            return [("gate_proj", hidden, inner), ("up_proj", hidden, inner), ("down_proj", inner, hidden)]


def _biases(config: Config, family: str, shapes: list[LinearShape]) -> int:
    outputs = {name: out for name, _, out in shapes}
    queries = ("q_proj", "k_proj", "v_proj")
    if family in ("gpt2", "phi"):
        return sum(out for _, _, out in shapes)
    if family == "gpt_neox":
        attention = flag(config, "attention_bias", True)
        return sum(out for name, _, out in shapes if attention or name not in ("query_key_value", "dense"))
    total = 0
    if family == "qwen2" or (family == "qwen2_moe" and flag(config, "qkv_bias", True)):
        total += sum(outputs[name] for name in queries)
    elif flag(config, "attention_bias", False) and family not in ("qwen2_moe", "mistral", "mixtral", "phi3"):
        total += sum(outputs.get(name, 0) for name in (*queries, "o_proj"))
    if flag(config, "mlp_bias", False) and (family in ("llama", "smollm3", "granite") or family not in DECODERS):
        total += sum(outputs.get(name, 0) for name in _FEED_FORWARD)
    return total


def _norms(config: Config, family: str, hidden: int, head_dim: int, widths: tuple[int, int]) -> int:
    """Return the weights of the norms of a block; `widths` are those of all queries and of all keys."""
    match family:
        case "olmo2":
            return 2 * hidden + sum(widths)
        case "gpt2" | "gpt_neox":
            return 4 * hidden
        case "phi":
            return 2 * hidden + (4 * head_dim if flag(config, "qk_layernorm", False) else 0)
        case "gemma2":
            return 4 * hidden
        case "gemma3_text":
            return 4 * hidden + 2 * head_dim
        case "qwen3" | "qwen3_moe":
            return 2 * hidden + 2 * head_dim
        case _:
            return 2 * hidden


def _outside(family: str, vocab: int, hidden: int, context: int, *, tied: bool) -> int:
    """Return the weights outside the blocks: embeddings, positions, last norm, output layer."""
    total = vocab * hidden * (1 if tied else 2) + hidden
    if family in ("gpt2", "gpt_neox", "phi"):
        total += hidden  # the last norm has a bias
    if family == "gpt2":
        total += context * hidden
    if family == "phi":
        total += vocab  # the output layer has a bias
    return total
