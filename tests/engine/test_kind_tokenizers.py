"""What a tokenizer must bring depends on the model: encoders frame texts and hide words, T5 ends them."""

import json

import pytest
from transformers import AutoConfig

from engine.models.tokenizers import load_tokenizer
from engine.planning.tokenizer_facts import read_tokenizer_facts
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine.kind_tokenizers import byte_level, unigram, wordpiece


def recipe(objective: str = "classification") -> Recipe:
    return Recipe.model_validate({"objective": objective, "model": {"base": "m"}, "data": {"source": "rows.jsonl"}})


def ids_of(tokenizer, text):
    return tokenizer(text)["input_ids"]


def test_bert_frames_texts_and_needs_nothing(tmp_path):
    loaded = load_tokenizer(wordpiece(tmp_path), recipe())
    tokenizer = loaded.tokenizer
    assert loaded.choices == []
    ids = ids_of(tokenizer, "turn on the red lamp")
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "turn on the red lamp"
    assert tokenizer.pad_token == "[PAD]"
    assert not tokenizer.chat_template
    # A text of an encoder ends where its separator stands.
    assert tokenizer.eos_token == "[SEP]"


def test_roberta_and_t5_need_nothing(tmp_path):
    for name, make in (("roberta", byte_level), ("t5", unigram)):
        loaded = load_tokenizer(make(tmp_path / name), recipe("classification"))
        assert loaded.tokenizer.eos_token == "</s>"
        assert loaded.tokenizer.pad_token == "<pad>"
        assert not loaded.tokenizer.chat_template
        # The class of T5 brings a normaliser that these files lack; nothing else is chosen.
        assert all("read straight from tokenizer.json" in choice for choice in loaded.choices), name
        ids = ids_of(loaded.tokenizer, "turn on the red lamp")
        assert ids[-1] == loaded.tokenizer.eos_token_id
        assert loaded.tokenizer.decode(ids, skip_special_tokens=True).strip() == "turn on the red lamp"


def test_t5_pieces_are_those_of_its_file(tmp_path):
    tokenizer = load_tokenizer(unigram(tmp_path), recipe()).tokenizer
    assert tokenizer.unk_token_id not in ids_of(tokenizer, "check the violet heater please")


def test_a_mask_is_needed_where_words_are_hidden_only(tmp_path, monkeypatch):
    folder = wordpiece(tmp_path, "mask_token", family="modernbert")
    assert load_tokenizer(folder, recipe()).tokenizer.mask_token is None
    monkeypatch.setattr(type(recipe().goal), "head_of", lambda self, kind: "masked-lm")
    loaded = load_tokenizer(folder, recipe())
    assert loaded.tokenizer.mask_token == "[MASK]"
    assert any("[MASK] is taken" in choice for choice in loaded.choices)


def test_a_vocabulary_without_a_mask_is_refused_where_words_are_hidden(tmp_path, monkeypatch):
    folder = unigram(tmp_path)
    AutoConfig.for_model(
        "bert", vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    ).save_pretrained(folder)
    monkeypatch.setattr(type(recipe().goal), "head_of", lambda self, kind: "masked-lm")
    with pytest.raises(ProblemError, match="hidden word"):
        load_tokenizer(folder, recipe())


def test_a_text_without_a_frame_is_told(tmp_path):
    folder = wordpiece(tmp_path, family="modernbert")
    assert load_tokenizer(folder, recipe()).choices == []
    file = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**file, "post_processor": None}))
    choices = load_tokenizer(folder, recipe()).choices
    assert any("first word" in choice for choice in choices)


@pytest.mark.parametrize(("make", "tokens"), [(wordpiece, ("[CLS]", "[SEP]", "[MASK]")), (unigram, (None, None, None))])
def test_the_plan_reads_the_same_tokens_from_the_files(tmp_path, make, tokens):
    folder = make(tmp_path)
    facts = read_tokenizer_facts(folder, {})
    assert (facts.cls_token, facts.sep_token, facts.mask_token) == tokens
