"""Sizes of a decoder from its `config.json`: shapes of the linear layers and the number of weights.

Counts follow the module definitions of transformers 5 for the Llama, Mistral, Qwen2, Qwen3, Gemma, Phi, Phi-3, GPT-2
and GPT-NeoX families. Every other family is read as a Llama with the biases that its configuration names; its count is
then an estimate, and weight headers overrule it where there are weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.recipe.problems import Problem, ProblemError

LinearShape = tuple[str, int, int]

COUNTED_FAMILIES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt2", "gpt_neox"}
)
_TIED_BY_DEFAULT = frozenset({"gpt2", "gemma", "gemma2", "gemma3_text", "cohere", "cohere2"})
_PLAIN_MLP = frozenset({"gpt2", "gpt_neox", "phi", "opt", "bloom", "gptj", "gpt_neo", "gpt_bigcode", "codegen"})
_ALIASES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "num_heads": ("num_attention_heads", "n_head", "n_heads"),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "vocab_size": ("vocab_size",),
}


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of a decoder-only language model; field names as in `ModelProfile`."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    tied_embeddings: bool
    linear_shapes: list[LinearShape]
    num_params: int
    counted: bool
    expert_params: int = 0


def read_decoder(config: Mapping[str, Any]) -> Decoder:
    """Return the sizes that a `config.json` gives.

    Args:
        config: The parsed file.

    Raises:
        ProblemError: A size is missing or is no positive whole number.
    """
    family = str(config.get("model_type", ""))
    sizes = {name: _size(config, name) for name in _ALIASES if name != "context_length"}
    hidden, heads = sizes["hidden_size"], sizes["num_heads"]
    kv_heads = _optional(config, "num_key_value_heads") or heads
    head_dim = _optional(config, "head_dim") or max(1, hidden // heads)
    intermediate = _intermediate(config, family, hidden)
    shapes = _linear_shapes(family, hidden, heads * head_dim, kv_heads * head_dim, intermediate)
    tied = config.get("tie_word_embeddings")
    tied = (family in _TIED_BY_DEFAULT) if not isinstance(tied, bool) else tied
    experts = _expert_params(config, hidden)
    if experts:
        shapes = shapes[: len(shapes) - len(_mlp_shapes(family, hidden, intermediate))]
    context = next((value for key in _ALIASES["context_length"] if (value := _optional(config, key))), 2048)
    per_layer = sum(rows * columns for _, rows, columns in shapes)
    per_layer += _biases(config, family, shapes) + _norms(config, family, hidden, head_dim) + experts
    decoder = Decoder(
        model_type=family,
        **sizes,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=_active_intermediate(config, intermediate),
        context_length=context,
        tied_embeddings=tied,
        linear_shapes=shapes,
        num_params=sizes["num_layers"] * per_layer + _outside(family, sizes["vocab_size"], hidden, context, tied=tied),
        counted=family in COUNTED_FAMILIES and not experts,
        expert_params=experts * sizes["num_layers"],
    )
    return decoder


def _optional(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _size(config: Mapping[str, Any], name: str) -> int:
    for key in _ALIASES[name]:
        value = _optional(config, key)
        if value is not None and value < 2**31:
            return value
    raise ProblemError(
        Problem(
            "model.config_incomplete",
            f"config.json names no usable {_ALIASES[name][0]}: this is no decoder language model that can be planned.",
            "Choose a model for text generation in the transformers format.",
            "model.base",
        )
    )


def _intermediate(config: Mapping[str, Any], family: str, hidden: int) -> int:
    for key in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"):
        value = _optional(config, key)
        if value is not None:
            return value
    return 4 * hidden


def _active_intermediate(config: Mapping[str, Any], intermediate: int) -> int:
    """Return the feed-forward width that one token passes; with experts, that of the chosen ones together."""
    chosen = _optional(config, "num_experts_per_tok")
    if not chosen or not _num_experts(config):
        return intermediate
    return chosen * (_optional(config, "moe_intermediate_size") or intermediate)


def _num_experts(config: Mapping[str, Any]) -> int:
    return _optional(config, "num_local_experts") or _optional(config, "num_experts") or 0


def _expert_params(config: Mapping[str, Any], hidden: int) -> int:
    """Return the weights of a block's experts and router.

    transformers 5 keeps experts as three-dimensional parameters, which neither bitsandbytes quantises nor
    `all-linear` adapts, so they are not among the linear layers.
    """
    experts = _num_experts(config)
    if experts < 2:
        return 0
    width = _optional(config, "moe_intermediate_size") or _optional(config, "intermediate_size") or 4 * hidden
    return experts * 3 * hidden * width + experts * hidden


def _linear_shapes(family: str, hidden: int, query: int, key_value: int, intermediate: int) -> list[LinearShape]:
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
    return attention + _mlp_shapes(family, hidden, intermediate)


def _mlp_shapes(family: str, hidden: int, intermediate: int) -> list[LinearShape]:
    match family:
        case "gpt2":
            return [("c_fc", hidden, intermediate), ("c_proj", intermediate, hidden)]
        case "gpt_neox":
            return [("dense_h_to_4h", hidden, intermediate), ("dense_4h_to_h", intermediate, hidden)]
        case "phi3":
            return [("gate_up_proj", hidden, 2 * intermediate), ("down_proj", intermediate, hidden)]
        case _ if family in _PLAIN_MLP:
            return [("fc1", hidden, intermediate), ("fc2", intermediate, hidden)]
        case _:
            return [
                ("gate_proj", hidden, intermediate),
                ("up_proj", hidden, intermediate),
                ("down_proj", intermediate, hidden),
            ]


def is_gated(model_type: str) -> bool:
    """Return whether the feed-forward layer multiplies by a gate (three matrices instead of two)."""
    return model_type not in _PLAIN_MLP


def _biases(config: Mapping[str, Any], family: str, shapes: list[LinearShape]) -> int:
    outputs = {name: out for name, _, out in shapes}
    if family in ("gpt2", "phi"):
        return sum(out for _, _, out in shapes)
    if family == "gpt_neox":
        attention = bool(config.get("attention_bias", True))
        return sum(out for name, _, out in shapes if attention or name not in ("query_key_value", "dense"))
    total = 0
    if family == "qwen2":
        total += sum(outputs[name] for name in ("q_proj", "k_proj", "v_proj"))
    elif config.get("attention_bias"):
        total += sum(out for name, out in outputs.items() if name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    if config.get("mlp_bias"):
        total += sum(out for name, out in outputs.items() if name in ("gate_proj", "up_proj", "down_proj"))
    return total


def _norms(config: Mapping[str, Any], family: str, hidden: int, head_dim: int) -> int:
    match family:
        case "gpt2" | "gpt_neox":
            return 4 * hidden
        case "phi":
            return 2 * hidden + (4 * head_dim if config.get("qk_layernorm") else 0)
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
