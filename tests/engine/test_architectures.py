"""Weights counted from config.json against real models, built on the meta device from odd configurations."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.planning.architectures import COUNTED_FAMILIES, read_architecture

EXAMPLES = 6
Draw = Callable[[st.SearchStrategy[Any]], Any]


def built(config: Any, class_name: str) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = getattr(transformers, class_name)(config)
    model.tie_weights()
    return model


def stored(config: Any, class_name: str) -> dict[str, Any]:
    """Return the configuration as `save_pretrained` writes it."""
    config.architectures = [class_name]
    tree: dict[str, Any] = json.loads(config.to_json_string())
    return tree


def num_weights(model: PreTrainedModel) -> int:
    return sum({id(weight): weight.numel() for weight in model.parameters()}.values())


def linear_weights(model: PreTrainedModel) -> int:
    """Return the weights of linear layers inside the blocks."""
    named = ((name, module) for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D)))
    return sum(
        module.weight.numel()
        for name, module in named
        if any(part in f".{name}." for part in (".layers.", ".h.", ".layer.", ".block.")) and "feature" not in name
    )


DECODERS: dict[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


@st.composite
def decoder_sizes(draw: Draw, family: str) -> dict[str, Any]:
    heads = draw(st.sampled_from([2, 4, 6]))
    head_dim = draw(st.sampled_from([8, 16]))
    sizes = {
        "vocab_size": draw(st.integers(40, 300)),
        "hidden_size": heads * head_dim,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([size for size in (1, 2, heads) if heads % size == 0])),
        "intermediate_size": draw(st.integers(8, 90)),
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": 0,
    }
    if family in ("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "mistral", "llama"):
        sizes["head_dim"] = draw(st.sampled_from([8, 24]))
    if family in ("llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gpt_neox"):
        sizes["attention_bias"] = draw(st.booleans())
    if family == "llama":
        sizes["mlp_bias"] = draw(st.booleans())
    if family == "phi":
        sizes["qk_layernorm"] = draw(st.booleans())
    if family == "gpt2":
        sizes["n_inner"] = draw(st.sampled_from([None, sizes.pop("intermediate_size")]))
        sizes["n_positions"] = draw(st.integers(16, 64))
    if family in ("mixtral", "qwen2_moe", "qwen3_moe"):
        sizes |= {"num_local_experts" if family == "mixtral" else "num_experts": draw(st.integers(2, 5))}
        sizes["num_experts_per_tok"] = draw(st.integers(1, 2))
    if family in ("qwen2_moe", "qwen3_moe"):
        sizes["moe_intermediate_size"] = draw(st.integers(8, 40))
        sizes["decoder_sparse_step"] = draw(st.integers(1, 2))
        sizes["mlp_only_layers"] = draw(st.sampled_from([[], [0]]))
    if family == "qwen2_moe":
        sizes |= {"shared_expert_intermediate_size": draw(st.integers(8, 40)), "qkv_bias": draw(st.booleans())}
    return sizes


@pytest.mark.parametrize("family", sorted(DECODERS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_decoders_count_as_they_are_built(family: str, data: st.DataObject) -> None:
    config = AutoConfig.for_model(family, **data.draw(decoder_sizes(family)))
    model = built(config, DECODERS[family])
    found = read_architecture(stored(config, DECODERS[family]))
    assert found.counted
    assert found.kind == "decoder"
    assert found.num_params == num_weights(model)
    assert found.quantizable_params == linear_weights(model)
    experts = sum(weight.numel() for name, weight in model.named_parameters() if ".experts." in name)
    assert found.expert_params == experts


def bert_sizes(draw: Draw) -> dict[str, Any]:
    heads = draw(st.sampled_from([2, 4]))
    return {
        "vocab_size": draw(st.integers(40, 200)),
        "hidden_size": heads * 8,
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(8, 60)),
        "max_position_embeddings": draw(st.integers(20, 60)),
        "num_labels": draw(st.integers(2, 5)),
        "pad_token_id": 0,
    }


def two_stacks(draw: Draw) -> dict[str, Any]:
    return {
        "vocab_size": draw(st.integers(60, 200)),
        "d_model": 16,
        "encoder_layers": draw(st.integers(1, 2)),
        "decoder_layers": draw(st.integers(1, 3)),
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": draw(st.integers(8, 40)),
        "decoder_ffn_dim": draw(st.integers(8, 40)),
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
    }


def other_sizes(family: str, draw: Draw) -> dict[str, Any]:
    match family:
        case "bert":
            return {**bert_sizes(draw), "type_vocab_size": draw(st.integers(1, 3))}
        case "roberta":
            return {
                **bert_sizes(draw),
                "type_vocab_size": draw(st.integers(1, 3)),
                "bos_token_id": 1,
                "eos_token_id": 2,
            }
        case "modernbert":
            tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
            biases = {name: draw(st.booleans()) for name in ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias")}
            return {**bert_sizes(draw), **tokens, **biases}
        case "distilbert":
            sizes = bert_sizes(draw)
            return {
                "vocab_size": sizes["vocab_size"],
                "dim": sizes["hidden_size"],
                "n_layers": sizes["num_hidden_layers"],
                "n_heads": sizes["num_attention_heads"],
                "hidden_dim": sizes["intermediate_size"],
                "max_position_embeddings": sizes["max_position_embeddings"],
                "num_labels": sizes["num_labels"],
            }
        case "t5":
            return {
                "vocab_size": draw(st.integers(40, 200)),
                "d_model": 16,
                "d_kv": draw(st.sampled_from([4, 12])),
                "d_ff": draw(st.integers(8, 60)),
                "num_layers": draw(st.integers(1, 3)),
                "num_decoder_layers": draw(st.integers(1, 3)),
                "num_heads": 2,
                "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu"])),
                "tie_word_embeddings": draw(st.booleans()),
            }
        case "bart":
            return {**two_stacks(draw), "max_position_embeddings": draw(st.integers(20, 60)), "forced_eos_token_id": 1}
        case "whisper":
            return {
                **two_stacks(draw),
                "num_mel_bins": draw(st.sampled_from([8, 16])),
                "max_source_positions": draw(st.integers(20, 60)),
                "max_target_positions": draw(st.integers(20, 60)),
                "suppress_tokens": None,
                "begin_suppress_tokens": None,
            }
        case "vit":
            sizes = {key: value for key, value in bert_sizes(draw).items() if key not in ("vocab_size", "pad_token_id")}
            sizes.pop("max_position_embeddings")
            return {
                **sizes,
                "image_size": 32,
                "patch_size": draw(st.sampled_from([4, 8])),
                "qkv_bias": draw(st.booleans()),
            }
        case "resnet":
            return {
                "embedding_size": draw(st.sampled_from([8, 16])),
                "hidden_sizes": draw(st.sampled_from([[16, 32], [16, 32, 64], [8, 8]])),
                "depths": [1, 2, 1],
                "layer_type": draw(st.sampled_from(["basic", "bottleneck"])),
                "downsample_in_first_stage": draw(st.booleans()),
                "num_labels": draw(st.integers(2, 5)),
            }
        case _:
            sizes = bert_sizes(draw)
            sizes.pop("max_position_embeddings")
            return {
                **sizes,
                "conv_dim": (16, 8, 8),
                "conv_kernel": (10, 3, 2),
                "conv_stride": (5, 2, 2),
                "num_feat_extract_layers": 3,
                "feat_extract_norm": draw(st.sampled_from(["group", "layer"])),
                "conv_bias": draw(st.booleans()),
                "do_stable_layer_norm": draw(st.booleans()),
                "num_conv_pos_embeddings": 8,
                "num_conv_pos_embedding_groups": 2,
                "mask_time_prob": draw(st.sampled_from([0.0, 0.05])),
            }


OTHERS: dict[str, tuple[str, ...]] = {
    "bert": ("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification"),
    "roberta": ("RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"),
    "distilbert": ("DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification"),
    "modernbert": ("ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"),
    "t5": ("T5Model", "T5ForConditionalGeneration"),
    "bart": ("BartModel", "BartForConditionalGeneration", "BartForSequenceClassification"),
    "whisper": ("WhisperModel", "WhisperForConditionalGeneration"),
    "vit": ("ViTModel", "ViTForImageClassification"),
    "resnet": ("ResNetModel", "ResNetForImageClassification"),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2ForCTC"),
}


@pytest.mark.parametrize("family", sorted(OTHERS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_other_kinds_count_as_they_are_built(family: str, data: st.DataObject) -> None:
    sizes = other_sizes(family, data.draw)
    if family == "resnet":
        sizes["depths"] = sizes["depths"][: len(sizes["hidden_sizes"])]
    class_name = data.draw(st.sampled_from(OTHERS[family]))
    config = AutoConfig.for_model(family, **sizes)
    model = built(config, class_name)
    found = read_architecture(stored(config, class_name))
    assert found.counted
    assert found.kind != "decoder"
    assert found.num_params == num_weights(model), class_name


def test_every_counted_family_is_held_against_real_models() -> None:
    assert set(DECODERS) | set(OTHERS) == COUNTED_FAMILIES
