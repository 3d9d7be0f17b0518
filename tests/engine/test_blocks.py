"""Parts of a model and places for adapters are found by structure, in every family, or not at all with a reason."""

import pytest
import torch
from transformers import PreTrainedModel

from engine.methods.blocks import block_modules, find_parts
from engine.methods.bottleneck import output_projections
from engine.recipe.problems import ProblemError
from tests.engine.tiny_families import tiny

# family, head, what stands above the blocks (ends of names), whether that is more than norms, last parts of the layers
# that adapters stand behind in the top block
CASES = [
    ("llama", "CausalLM", {"norm", "lm_head"}, True, ["o_proj", "down_proj"]),
    ("qwen3", "CausalLM", {"norm", "lm_head"}, True, ["o_proj", "down_proj"]),
    ("phi3", "CausalLM", {"norm", "lm_head"}, True, ["o_proj", "down_proj"]),
    ("gpt2", "CausalLM", {"ln_f"}, False, ["attn.c_proj", "mlp.c_proj"]),
    ("gpt_neox", "CausalLM", {"final_layer_norm", "lm_head"}, True, ["attention.dense", "dense_4h_to_h"]),
    ("opt", "CausalLM", {"final_layer_norm"}, False, ["out_proj", "fc2"]),
    ("bert", "MaskedLM", {"predictions", "dense", "LayerNorm"}, True, ["attention.output.dense", "2.output.dense"]),
    ("bert", "SequenceClassification", {"dense", "classifier"}, True, ["attention.output.dense", "2.output.dense"]),
    ("xlm-roberta", "TokenClassification", {"classifier"}, True, ["attention.output.dense", "2.output.dense"]),
    ("distilbert", "SequenceClassification", {"pre_classifier", "classifier"}, True, ["out_lin", "lin2"]),
    ("modernbert", "SequenceClassification", {"final_norm", "dense", "norm", "classifier"}, True,
     ["attn.Wo", "mlp.Wo"]),
    ("deberta-v2", "SequenceClassification", {"dense", "classifier"}, True,
     ["attention.output.dense", "2.output.dense"]),
    ("t5", "ConditionalGeneration", {"final_layer_norm"}, False,
     ["SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"]),
    ("bart", "ConditionalGeneration", set(), False, ["self_attn.out_proj", "encoder_attn.out_proj", "fc2"]),
]  # fmt: skip


def layer_of(name: str) -> str:
    return name.split(".")[-2]


@pytest.mark.parametrize(("family", "head", "above", "has_matrix", "projections"), CASES)
def test_parts_and_places_of_every_family(family, head, above, has_matrix, projections):
    model = tiny(family, head)
    parts = find_parts(model)
    names = [name for name, _ in model.named_parameters()]
    assert sorted(parts.names) == sorted(names)
    assert {layer_of(name) for name in parts.head.names} == above
    assert parts.head_has_matrix is has_matrix
    assert len(parts.blocks) == (4 if model.config.is_encoder_decoder else 3)
    assert all("embed" in name or name.endswith(("wte.weight", "wpe.weight", "shared.weight", "LayerNorm.weight",
               "LayerNorm.bias", "embed_in.weight")) for name in parts.embeddings.names)  # fmt: skip
    assert id(model.get_input_embeddings().weight) in {
        id(dict(model.named_parameters())[name]) for name in parts.embeddings.names
    }
    (*_, top) = block_modules(model)
    found = output_projections(model, feed_forward_only=False)
    assert [name for name in found if name.startswith(f"{top}.")] == [
        next(name for name in found if name.startswith(f"{top}.") and f".{name}".endswith(f".{end}"))
        for end in projections
    ]
    below = output_projections(model, feed_forward_only=True)
    assert len(below) == len(parts.blocks)
    assert set(below) < set(found)
    assert f".{below[-1]}".endswith(f".{projections[-1]}")


def test_what_ends_the_encoder_belongs_to_its_last_block_and_the_decoder_comes_first():
    parts = find_parts(tiny("t5", "ConditionalGeneration"))
    assert [block.title for block in parts.blocks] == [
        "decoder block 2", "decoder block 1", "encoder block 2", "encoder block 1",
    ]  # fmt: skip
    assert "encoder.final_layer_norm.weight" in parts.blocks[2].names


def test_an_output_layer_that_is_tied_belongs_to_the_embeddings():
    untied, tied = (find_parts(tiny("llama", tie_word_embeddings=each)) for each in (False, True))
    assert untied.head_has_matrix
    assert not tied.head_has_matrix
    assert tied.head.names == ("model.norm.weight",)


def test_a_model_without_blocks_is_an_error_that_says_what_was_looked_for():
    model = tiny("llama")
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ProblemError, match=r"LlamaForCausalLM were not found.*at least 2 matrices.*has one.*are 0"):
        find_parts(model)


def test_two_stacks_where_one_is_expected_are_an_error():
    model: PreTrainedModel = tiny("llama")
    model.model.more = torch.nn.ModuleList(list(tiny("llama").model.layers))
    with pytest.raises(ProblemError, match=r"there are 2 \(model.layers, model.more\)"):
        find_parts(model)


@pytest.mark.parametrize("family", ["mixtral", "mamba"])
def test_blocks_without_a_place_for_adapters_are_an_error(family):
    with pytest.raises(ProblemError, match="16 numbers, as many as the residual stream has") as caught:
        output_projections(tiny(family), feed_forward_only=True)
    assert caught.value.problems[0].code == "method.no_projection"
