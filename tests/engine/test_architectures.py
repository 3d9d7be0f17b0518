"""Weights counted from config.json against real models, built on the meta device from odd configurations."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.planning.architectures import COUNTED_FAMILIES, read_architecture
from engine.planning.known_classes import has_head
from engine.planning.layer_sums import head_of_class, head_weights

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
    "smollm3": "SmolLM3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
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
    if family in ("llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gpt_neox", "olmo2"):
        sizes["attention_bias"] = draw(st.booleans())
    if family in ("llama", "smollm3", "granite"):
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
        case "roberta" | "xlm-roberta" | "camembert":
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
        case "deberta-v2":
            return {
                **bert_sizes(draw),
                "type_vocab_size": draw(st.integers(0, 2)),
                "relative_attention": draw(st.booleans()),
                "position_biased_input": draw(st.booleans()),
                "position_buckets": draw(st.sampled_from([-1, 6])),
                "pos_att_type": draw(st.sampled_from([["p2c", "c2p"], ["c2p"], []])),
                "share_att_key": draw(st.booleans()),
                "norm_rel_ebd": draw(st.sampled_from(["none", "layer_norm"])),
                "conv_kernel_size": draw(st.sampled_from([0, 3])),
            }
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
        case "t5" | "mt5":
            return {
                "vocab_size": draw(st.integers(40, 200)),
                "d_model": 16,
                "d_kv": draw(st.sampled_from([4, 12])),
                "d_ff": draw(st.integers(8, 60)),
                "num_layers": draw(st.integers(1, 3)),
                "num_decoder_layers": draw(st.integers(1, 3)),
                "num_heads": 2,
                "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu"])),
                "num_labels": draw(st.integers(2, 5)),
            }
        case "bart" | "mbart":
            return {
                **two_stacks(draw),
                "num_labels": draw(st.integers(2, 5)),
                "max_position_embeddings": draw(st.integers(20, 60)),
                "forced_eos_token_id": 1,
            }
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


def heads_of(prefix: str, *heads: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{head}" for head in heads)


ENCODER_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
SEQ2SEQ_HEADS = ("Model", "ForConditionalGeneration", "ForSequenceClassification")
OTHERS: dict[str, tuple[str, ...]] = {
    "bert": heads_of("Bert", *ENCODER_HEADS, "ForPreTraining"),
    "roberta": heads_of("Roberta", *ENCODER_HEADS),
    "xlm-roberta": heads_of("XLMRoberta", *ENCODER_HEADS),
    "camembert": heads_of("Camembert", *ENCODER_HEADS),
    "distilbert": heads_of("DistilBert", *ENCODER_HEADS),
    "modernbert": heads_of("ModernBert", *ENCODER_HEADS),
    "deberta-v2": heads_of("DebertaV2", *ENCODER_HEADS),
    "t5": heads_of("T5", *SEQ2SEQ_HEADS),
    "mt5": heads_of("MT5", *SEQ2SEQ_HEADS),
    "bart": heads_of("Bart", *SEQ2SEQ_HEADS),
    "mbart": heads_of("MBart", *SEQ2SEQ_HEADS),
    "whisper": ("WhisperModel", "WhisperForConditionalGeneration"),
    "vit": ("ViTModel", "ViTForImageClassification"),
    "resnet": ("ResNetModel", "ResNetForImageClassification"),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2ForCTC"),
}


NO_TEXT = ("whisper", "vit", "resnet", "wav2vec2")


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


@pytest.mark.parametrize("family", sorted(DECODERS))
@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
def test_a_decoder_with_a_new_head_counts_as_it_is_built(family: str, head: str) -> None:
    stem = DECODERS[family].removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    name = f"{stem}{'Text' if stem == 'Gemma3' else ''}For{head}"
    kind = "sequence-classification" if head.startswith("Sequence") else "token-classification"
    assert has_head(family, kind) == hasattr(transformers, name)
    if not has_head(family, kind):
        return
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
    sizes |= {"intermediate_size": 40} if family != "gpt2" else {}
    sizes |= {"num_key_value_heads": 2} if family not in ("gpt2", "gpt_neox") else {}
    config = AutoConfig.for_model(family, **sizes, num_labels=5)
    found = read_architecture(stored(config, DECODERS[family]))
    assert found.body_params + head_weights(found.heads, kind, 5) == num_weights(built(config, name))


@pytest.mark.parametrize("family", sorted(family for family in OTHERS if family not in NO_TEXT))
def test_every_head_that_a_reader_names_counts_as_it_is_built(family: str) -> None:
    config = AutoConfig.for_model(family, **other_sizes(family, find_smallest))
    found = read_architecture(stored(config, OTHERS[family][0]))
    for class_name in OTHERS[family][1:]:
        head = head_of_class(class_name)
        if head is not None and not class_name.endswith("ForPreTraining"):
            expected = found.body_params + head_weights(found.heads, head, config.num_labels)
            assert expected == num_weights(built(config, class_name)), class_name


def find_smallest(strategy: st.SearchStrategy[Any]) -> Any:
    return find(strategy, lambda _: True)


def test_every_counted_family_is_held_against_real_models() -> None:
    assert set(DECODERS) | set(OTHERS) == COUNTED_FAMILIES
