"""Virtual tokens: read and written behind them, whatever the batch; never part of what is measured before training."""

from pathlib import Path

import pytest
import torch

from engine.deployment.adapter import with_adapter
from engine.deployment.parity import prompt_logits
from engine.evaluation.generation import Answerer, context_length
from engine.evaluation.scoring import TokenRow, TokenScorer
from engine.methods.apply import apply_method
from engine.methods.virtual_tokens import num_virtual_tokens, start_cache, without_virtual_tokens
from engine.models.loading import load_model
from engine.models.tokenizers import load_tokenizer
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

PROMPTED = ("prompt-tuning", "prefix-tuning", "p-tuning")
IDS = [7, 31, 4, 90, 55, 23, 118, 9]
COUNT = 5


def recipe(folder: Path, name: str, **method: object) -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder)},
            "method": {"name": name, "virtual_tokens": COUNT, **method},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": "float32"},
        }
    )


def learner(folder: Path, name: str, **method: object):
    """Return a model whose virtual tokens have moved far enough to be heard."""
    chosen = recipe(folder, name, **method)
    torch.manual_seed(5)
    model = apply_method(load_model(chosen, "cpu", bits=None), chosen)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model.eval()


def plain_logits(model, ids: list[int]) -> torch.Tensor:
    """Return the logits of the library's own forward pass, which training takes too."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -len(ids) :]


@pytest.mark.parametrize("name", PROMPTED)
def test_scores_logits_and_answers_are_those_of_the_model_that_trained(name, tiny_model_folder):
    model = learner(tiny_model_folder, name)
    expected = plain_logits(model, IDS)
    base = plain_logits(model.get_base_model(), IDS)
    assert (expected - base).abs().max() > 0.1, "the virtual tokens say nothing"
    (found,) = prompt_logits(model, [IDS])
    assert torch.allclose(found, expected, atol=1e-5)
    score = TokenScorer(model).score([TokenRow(IDS, [1] * len(IDS))])[0]
    losses = torch.nn.functional.cross_entropy(expected[:-1], torch.tensor(IDS[1:]), reduction="sum")
    assert score.loss == pytest.approx(losses.item(), rel=1e-5)
    answerer = Answerer(model, _tokenizer(tiny_model_folder, name), max_new_tokens=5, micro_batch_tokens=500)
    written = list(IDS)
    for _ in range(5):
        written.append(int(plain_logits(model, written)[-1].argmax()))
    tokenizer = _tokenizer(tiny_model_folder, name)
    assert answerer.answer([IDS], lambda _: None) == [tokenizer.decode(written[len(IDS) :], skip_special_tokens=True)]


def _tokenizer(folder: Path, name: str):
    return load_tokenizer(folder, recipe(folder, name)).tokenizer


@pytest.mark.parametrize("name", PROMPTED)
def test_padding_on_either_side_changes_nothing(name, tiny_model_folder):
    model = learner(tiny_model_folder, name)
    short = IDS[:3]
    scorer = TokenScorer(model)
    together = scorer.score([TokenRow(IDS, [1] * len(IDS)), TokenRow(short, [1] * 3)])
    assert together[1].loss == pytest.approx(scorer.score([TokenRow(short, [1] * 3)])[0].loss, rel=1e-5)
    answerer = Answerer(model, _tokenizer(tiny_model_folder, name), max_new_tokens=6, micro_batch_tokens=5000)
    both = answerer.answer([IDS, short], lambda _: None)
    assert both == answerer.answer([IDS], lambda _: None) + answerer.answer([short], lambda _: None)


@pytest.mark.parametrize("name", PROMPTED)
def test_they_can_be_switched_off_and_take_their_part_of_the_context(name, tiny_model_folder):
    model = learner(tiny_model_folder, name)
    whole = context_length(model.get_base_model())
    assert (num_virtual_tokens(model), context_length(model)) == (COUNT, whole - COUNT)
    base = plain_logits(model.get_base_model(), IDS)
    with without_virtual_tokens(model):
        assert (num_virtual_tokens(model), context_length(model)) == (0, whole)
        assert start_cache(model, 2) is None
        assert torch.equal(prompt_logits(model, [IDS])[0], base)
    assert not torch.equal(prompt_logits(model, [IDS])[0], base)


def test_other_models_have_none(tiny_model_folder):
    chosen = Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(tiny_model_folder)},
            "method": {"name": "lora"},
            "data": {"source": "rows.jsonl"},
        }
    )
    model = apply_method(load_model(chosen, "cpu", bits=None), chosen)
    assert num_virtual_tokens(model) == 0
    assert start_cache(model, 1) is None


def test_they_start_from_the_words_that_were_asked_for(tiny_model_folder):
    chosen = recipe(tiny_model_folder, "prompt-tuning", initial_text="turn on the lamp")
    tokenizer = load_tokenizer(tiny_model_folder, chosen).tokenizer
    model = apply_method(load_model(chosen, "cpu", bits=None), chosen, tokenizer)
    ids = (tokenizer("turn on the lamp", add_special_tokens=False)["input_ids"] * COUNT)[:COUNT]
    words = model.get_base_model().get_input_embeddings().weight[ids]
    assert torch.equal(model.prompt_encoder["default"].embedding.weight, words)


def test_the_network_of_p_tuning_stays_behind(tiny_model_folder, tmp_path):
    model = learner(tiny_model_folder, "p-tuning", encoder_width=16)
    expected = prompt_logits(model, [IDS])
    model.save_pretrained(str(tmp_path))
    chosen = recipe(tiny_model_folder, "p-tuning")
    again = with_adapter(load_model(chosen, "cpu", bits=None), _tokenizer(tiny_model_folder, "p-tuning"), tmp_path)
    assert sum(p.numel() for p in again.prompt_encoder.parameters()) == COUNT * 32
    assert torch.allclose(prompt_logits(again, [IDS])[0], expected[0], atol=1e-5)


def test_models_that_do_not_go_on_with_a_text_are_refused():
    from transformers import BertConfig, BertForMaskedLM

    settings = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(**settings, intermediate_size=16))
    with pytest.raises(ProblemError) as caught:
        apply_method(model, recipe(Path("m"), "prompt-tuning"))
    assert caught.value.problems[0].code == "method.virtual_tokens_head"
