"""How the blocks of a family are built, as far as memory depends on it. Read off transformers 5, one row per family."""

from dataclasses import dataclass, replace
from typing import Literal

Norm = Literal["rms", "layer"]


@dataclass(frozen=True, slots=True)
class BlockTraits:
    """What a transformer block of a family keeps for the backward pass depends on these.

    Attributes:
        norm: `rms` computes in float32 whatever its input; `layer` follows the rules of autocast.
        num_norms: Norms over the residual stream in one block.
        head_norms: Queries and keys are normalised per head.
        gated: The feed-forward layer multiplies by a gate (three matrices instead of two).
        written_out_activation: The activation is a chain of tensor operations (`gelu_new`); each keeps something.
        fused_projection: Queries, keys and values are parts of one tensor, which stays whole while one of them lives.
        rotated_apart: Rotated queries and keys are put together from parts, in another layout than they came in.
        rotary: Positions are turned into queries and keys, instead of being added to the embeddings.
        parallel: Attention and feed-forward layer read the same normalised input.
        capped_scores: Attention scores are squashed, which no fused kernel does.
        dropout: The published configurations train with dropout.
        drops_product: Dropout also falls on what the feed-forward layer multiplies out.
        written_out_attention: Attention is a chain of tensor operations, which no fused kernel replaces.
        known: Whether the family was looked at; otherwise it is taken for a Llama.
    """

    norm: Norm = "rms"
    num_norms: int = 2
    head_norms: bool = False
    gated: bool = True
    written_out_activation: bool = False
    fused_projection: bool = False
    rotated_apart: bool = False
    rotary: bool = True
    parallel: bool = False
    capped_scores: bool = False
    dropout: bool = False
    drops_product: bool = False
    written_out_attention: bool = False
    known: bool = True


_LLAMA = BlockTraits()
_ENCODER = BlockTraits(norm="layer", gated=False, rotary=False, dropout=True)
_FAMILIES: dict[str, BlockTraits] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "gemma", "mixtral", "qwen2_moe", "smollm3", "granite"), _LLAMA),
    **dict.fromkeys(("qwen3", "qwen3_moe", "olmo2"), BlockTraits(head_norms=True)),
    "gemma2": BlockTraits(num_norms=4, capped_scores=True),
    "gemma3_text": BlockTraits(num_norms=4, head_norms=True),
    "phi": BlockTraits(
        norm="layer", num_norms=1, gated=False, written_out_activation=True, rotated_apart=True, parallel=True
    ),
    "phi3": BlockTraits(fused_projection=True, rotated_apart=True),
    "gpt2": BlockTraits(
        norm="layer", gated=False, written_out_activation=True, fused_projection=True, rotary=False, dropout=True
    ),
    "gpt_neox": BlockTraits(norm="layer", gated=False, fused_projection=True, rotated_apart=True),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "distilbert"), _ENCODER),
    **dict.fromkeys(("bart", "mbart", "whisper", "vit", "wav2vec2"), _ENCODER),
    "deberta-v2": replace(_ENCODER, written_out_attention=True),
    "modernbert": BlockTraits(norm="layer", fused_projection=True),
    **dict.fromkeys(("t5", "mt5"), BlockTraits(gated=False, rotary=False, dropout=True, drops_product=True)),
}
_PLAIN = frozenset({"opt", "bloom", "gptj", "gpt_neo", "gpt_bigcode", "codegen"})
_UNKNOWN = BlockTraits(known=False)
_UNKNOWN_PLAIN = BlockTraits(norm="layer", gated=False, known=False)


def traits_of(model_type: str) -> BlockTraits:
    """Return how the blocks of a family are built; a family that was not looked at is taken for a Llama."""
    return _FAMILIES.get(model_type) or (_UNKNOWN_PLAIN if model_type in _PLAIN else _UNKNOWN)
