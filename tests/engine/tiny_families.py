"""One tiny random model of each family, built without files."""

from typing import Any

import transformers
from transformers import PreTrainedModel, set_seed

_SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_BART = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24} | {
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 64, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": 2,
}  # fmt: skip
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 64} | {
    "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip
_DISTILBERT = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "vocab_size": 64, "pad_token_id": 0}
_GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64, "vocab_size": 64, "bos_token_id": 1} | {
    "eos_token_id": 2
}
_OWN: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "distilbert": _DISTILBERT,
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 2},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
    | {"position_biased_input": False},
    "t5": _T5,
    "bart": _BART,
    "mamba": {"state_size": 4},
    "mixtral": {"num_local_experts": 4, "num_key_value_heads": 2},
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "phi3": {"num_key_value_heads": 2},
}
_ALONE = frozenset({"gpt2", "distilbert", "t5", "bart"})
"""Families whose configuration calls its sizes otherwise."""


def tiny(family: str, head: str = "CausalLM", *, seed: int = 3, **overrides: Any) -> PreTrainedModel:
    """Return a model of a family.

    Args:
        family: As in `model_type`.
        head: End of the class of transformers: `CausalLM`, `SequenceClassification`, `ConditionalGeneration`, ...
    """
    sizes = {} if family in _ALONE else _SIZES
    config = transformers.AutoConfig.for_model(family, **(sizes | _OWN.get(family, {}) | overrides))
    classes = {
        "CausalLM": transformers.AutoModelForCausalLM,
        "MaskedLM": transformers.AutoModelForMaskedLM,
        "SequenceClassification": transformers.AutoModelForSequenceClassification,
        "TokenClassification": transformers.AutoModelForTokenClassification,
        "ConditionalGeneration": transformers.AutoModelForSeq2SeqLM,
    }
    set_seed(seed)
    model: PreTrainedModel = classes[head].from_config(config)
    model.config.use_cache = False
    return model.eval()
