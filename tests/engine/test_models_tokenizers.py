"""Tokenizers are read as their files say, and what they lack is filled by a stated choice."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from engine.data.rendering import Renderer
from engine.deployment.weights import check_stored_tokenizer
from engine.models.tokenizers import chatml, faithful_tokenizer, load_tokenizer
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine.chat_templates import byte_level_tokenizer, sentencepiece_tokenizer
from tests.engine.tiny_models import CHATML, tiny_tokenizer

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
STORIES = ASSETS / "models/tinystories-656k"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def recipe(objective: str = "chat", **model) -> Recipe:
    return Recipe.model_validate(
        {"objective": objective, "model": {"base": "m", **model}, "data": {"source": "rows.jsonl"}}
    )


def saved(folder: Path, tokenizer: PreTrainedTokenizerFast, *without: str) -> Path:
    """Save a tokenizer, some of its special tokens left out of its settings."""
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in without:
        settings.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_whole_tokenizer_needs_no_choice(tmp_path):
    loaded = load_tokenizer(saved(tmp_path, tiny_tokenizer()), recipe())
    assert loaded.choices == []
    assert loaded.tokenizer.chat_template == CHATML


def of_family(config: PreTrainedConfig, folder: Path) -> Path:
    """Make a folder one of a model family by its config.json."""
    config.save_pretrained(folder)
    return folder


def splitting_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE that splits text otherwise than Qwen2's own class does."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    raw.train_from_iterator(["hello 12345 and\n\n  more"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="</s>", pad_token="<unk>")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, which a byte-level class cannot read."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "hello": 3, "world": 4}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="</s>", pad_token="<unk>")


class TestFaithful:
    def test_rebuilding_loader_is_not_trusted(self, tmp_path):
        folder = saved(tmp_path, sentencepiece_tokenizer(CHATML))
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "LlamaTokenizer"}))
        text = "What is the answer é to this?"
        file_ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
        loaded = load_tokenizer(folder, recipe())
        assert loaded.tokenizer(text, add_special_tokens=False)["input_ids"] == file_ids

    @pytest.mark.assets
    @needs_assets
    def test_unknown_characters_do_not_vanish(self):
        rebuilt = AutoTokenizer.from_pretrained(STORIES)
        loaded = load_tokenizer(STORIES, recipe("domain-adaptation"))
        unknown = loaded.tokenizer.unk_token_id
        assert unknown not in rebuilt("café {x}")["input_ids"], "the trap is gone; load_tokenizer can be simplified"
        assert loaded.tokenizer("café {x}")["input_ids"].count(unknown) == 3
        assert "straight from tokenizer.json" in loaded.choices[0]

    def test_a_class_that_everyone_uses_is_followed(self, tmp_path):
        folder = of_family(Qwen2Config(), saved(tmp_path, splitting_tokenizer()))
        loaded = load_tokenizer(folder, recipe())
        text = "12345 and\n\n  more"
        assert loaded.tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
        assert "not as tokenizer.json says" in loaded.choices[0]
        written = tmp_path / "written"
        loaded.tokenizer.save_pretrained(written)
        assert check_stored_tokenizer(loaded.tokenizer, of_family(Qwen2Config(), written), [[5, 6]]) == "AutoTokenizer"

    def test_a_class_that_loses_text_is_not_followed(self, tmp_path):
        folder = of_family(Qwen2Config(), saved(tmp_path, word_tokenizer()))
        loaded = load_tokenizer(folder, recipe())
        assert loaded.tokenizer("hello world")["input_ids"] == [3, 4]
        written = of_family(Qwen2Config(), tmp_path / "written")
        loaded.tokenizer.save_pretrained(written)
        assert check_stored_tokenizer(loaded.tokenizer, written, [[3, 4]]) == "PreTrainedTokenizerFast"
        assert faithful_tokenizer(written, [], trust=False)("hello world")["input_ids"] == [3, 4]

    def test_a_written_tokenizer_that_nothing_reads_right_is_refused(self, tmp_path):
        other = saved(tmp_path, word_tokenizer())
        with pytest.raises(ProblemError, match="differs from the one in training"):
            check_stored_tokenizer(splitting_tokenizer(), other, [[40, 41, 42]])

    @pytest.mark.assets
    @needs_assets
    def test_what_is_saved_loads_as_it_was_trained(self, tmp_path):
        loaded = load_tokenizer(STORIES, recipe())
        loaded.tokenizer.save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        text = "café {x} <|end_story|>\nOnce upon"
        assert again(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]
        assert again.chat_template == loaded.tokenizer.chat_template

    @pytest.mark.assets
    @needs_assets
    def test_end_of_turn_is_one_token_although_the_file_normalises_it(self):
        tokenizer = load_tokenizer(STORIES, recipe()).tokenizer
        ids = tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False)
        assert ids.count(tokenizer.eos_token_id) == 2
        assert ids.count(tokenizer.bos_token_id) == 1


class TestEnd:
    def test_is_taken_from_the_usual_names(self, tmp_path):
        loaded = load_tokenizer(saved(tmp_path, tiny_tokenizer(), "eos_token"), recipe())
        assert loaded.tokenizer.eos_token == "<|im_end|>"
        assert loaded.choices == ["The tokenizer names no end-of-text token; <|im_end|> is taken."]

    def test_follows_the_generation_config(self, tmp_path):
        folder = saved(tmp_path, byte_level_tokenizer(CHATML), "eos_token")
        tokenizer = byte_level_tokenizer(CHATML)
        (folder / "generation_config.json").write_text(
            json.dumps({"eos_token_id": [tokenizer.convert_tokens_to_ids("<|eot_id|>")]})
        )
        assert load_tokenizer(folder, recipe()).tokenizer.eos_token == "<|eot_id|>"

    @pytest.mark.parametrize(("special", "ends_with"), [({"pad_token": "<pad>"}, "<pad>"), ({}, "Ċ")])
    def test_another_token_ends_texts_where_none_is_meant_for_it_and_the_choice_is_said(
        self, tmp_path, special, ends_with
    ):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=list(special.values()))
        backend.train_from_iterator(["user says hi", "assistant says hello"], trainer)
        PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(tmp_path)
        loaded = load_tokenizer(tmp_path, recipe())
        assert loaded.tokenizer.eos_token == ends_with
        assert any("no token that ends a text" in choice for choice in loaded.choices)
        sequence = Renderer(loaded.tokenizer, 128).render({"id": "1", "messages": TALK})
        last = max(i for i, trained in enumerate(sequence.trained_mask) if trained)
        assert sequence.input_ids[last] == loaded.tokenizer.eos_token_id

    def test_is_refused_where_nothing_can_end_a_text(self, tmp_path):
        backend = Tokenizer(models.WordLevel({"hi": 0, "?": 1}, unk_token="?"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?").save_pretrained(tmp_path)
        with pytest.raises(ProblemError, match="no token that ends a text"):
            load_tokenizer(tmp_path, recipe())


class TestPad:
    def test_own_token_is_kept(self, tmp_path):
        assert load_tokenizer(saved(tmp_path, tiny_tokenizer()), recipe()).tokenizer.pad_token == "<|pad|>"

    def test_existing_token_is_taken_and_none_is_added(self, tmp_path):
        tokenizer = tiny_tokenizer()
        loaded = load_tokenizer(saved(tmp_path, tokenizer, "pad_token"), recipe())
        assert loaded.tokenizer.pad_token == "<|pad|>"
        assert len(loaded.tokenizer) == len(tokenizer)
        assert loaded.choices == ["The tokenizer has no padding token; <|pad|> is taken."]

    def test_end_of_text_as_padding_is_replaced(self, tmp_path):
        tokenizer = tiny_tokenizer()
        tokenizer.pad_token = tokenizer.eos_token
        loaded = load_tokenizer(saved(tmp_path, tokenizer), recipe())
        assert loaded.tokenizer.pad_token == "<|pad|>"
        assert "uses its end-of-text token for padding" in loaded.choices[0]

    def test_end_of_text_is_the_last_resort_and_stated(self, tmp_path):
        from tokenizers import AddedToken, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.train_from_iterator(
            ["abc"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        )
        backend.add_special_tokens([AddedToken("<|end|>", special=True)])
        PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(tmp_path)
        loaded = load_tokenizer(tmp_path, recipe())
        assert loaded.tokenizer.pad_token == "<|end|>"
        assert "masked by position" in loaded.choices[0]
        sequence = Renderer(loaded.tokenizer, 256).render({"id": "r:1", "messages": TALK})
        assert sequence.trained_mask[-2:] == [1, 0]
        assert sequence.input_ids[-2] == loaded.tokenizer.eos_token_id


class TestTemplate:
    def test_chatml_with_its_own_tokens(self, tmp_path):
        loaded = load_tokenizer(saved(tmp_path, tiny_tokenizer(chat_template=None)), recipe())
        assert loaded.tokenizer.apply_chat_template(TALK, tokenize=False) == (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        )
        assert loaded.choices == ["The tokenizer has no chat template; ChatML is taken, with its own tokens."]

    def test_chatml_as_text_ends_turns_with_the_end_of_text(self, tmp_path):
        from tokenizers import AddedToken, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.train_from_iterator(
            ["user assistant"],
            trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
        )
        backend.add_special_tokens([AddedToken(token, special=True) for token in ("</s>", "<pad>")])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
        size = len(tokenizer)
        loaded = load_tokenizer(saved(tmp_path, tokenizer), recipe())
        assert "headers as text" in loaded.choices[0]
        assert len(loaded.tokenizer) == size
        ids = loaded.tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False)
        assert ids.count(loaded.tokenizer.eos_token_id) == 2

    def test_first_token_is_written_where_the_tokenizer_would(self):
        tokenizer = byte_level_tokenizer(None)
        assert "bos_token" not in chatml(tokenizer)[0]
        tokenizer.add_bos_token = True
        tokenizer.update_post_processor()
        assert chatml(tokenizer)[0].startswith("{{ bos_token }}")

    def test_words_replace_headers_that_cannot_be_written(self, tmp_path):
        from tokenizers import AddedToken, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.train_from_iterator(
            ["user assistant:\n yes"] * 3, trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False)
        )
        backend.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
        loaded = load_tokenizer(saved(tmp_path, tokenizer), recipe())
        assert any("plain words" in choice for choice in loaded.choices)
        assert "<|im_start|>" not in loaded.tokenizer.apply_chat_template(TALK, tokenize=False)

    def test_recipe_may_ask_for_chatml_or_a_file(self, tmp_path):
        folder = saved(tmp_path / "model", tiny_tokenizer(chat_template="{{ 'own' }}"))
        file = tmp_path / "mine.jinja"
        file.write_text("{{ 'mine' }}")
        assert load_tokenizer(folder, recipe()).tokenizer.chat_template == "{{ 'own' }}"
        asked = load_tokenizer(folder, recipe(chat_template="chatml"))
        assert "im_start" in asked.tokenizer.chat_template
        assert asked.choices == ["ChatML is taken in place of the tokenizer's own chat template, with its own tokens."]
        assert load_tokenizer(folder, recipe(chat_template=str(file))).tokenizer.chat_template == "{{ 'mine' }}"

    def test_chatml_that_the_plan_chose_is_not_told_as_a_wish_of_the_person(self, tmp_path):
        folder = saved(tmp_path / "model", tiny_tokenizer(chat_template=None))
        planned, chosen_here = (load_tokenizer(folder, recipe(chat_template=asked)) for asked in ("chatml", None))
        assert planned.choices == chosen_here.choices
        assert any("has no chat template; ChatML is taken" in choice for choice in planned.choices)

    def test_missing_template_file(self, tmp_path):
        folder = saved(tmp_path / "model", tiny_tokenizer())
        with pytest.raises(ProblemError, match="cannot be read") as caught:
            load_tokenizer(folder, recipe(chat_template=str(tmp_path / "none.jinja")))
        assert caught.value.problems[0].path == "model.chat_template"

    def test_plain_text_needs_none(self, tmp_path):
        folder = saved(tmp_path, tiny_tokenizer(chat_template=None))
        assert load_tokenizer(folder, recipe("domain-adaptation")).tokenizer.chat_template is None


class TestDamage:
    def test_no_tokenizer(self, tmp_path):
        with pytest.raises(ProblemError, match="holds no tokenizer"):
            load_tokenizer(tmp_path, recipe())

    @pytest.mark.parametrize("content", ["", "{", '{"model": {"type": "Unheard"}}', "[]"])
    def test_broken_file(self, tmp_path, content):
        folder = saved(tmp_path, tiny_tokenizer())
        (folder / "tokenizer.json").write_text(content)
        with pytest.raises(ProblemError, match="cannot be loaded"):
            load_tokenizer(folder, recipe())

    def test_code_is_not_run_without_consent(self, tmp_path):
        folder = saved(tmp_path, tiny_tokenizer())
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        canary = tmp_path / "canary"
        (folder / "own.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Own: pass\n")
        with contextlib.suppress(ProblemError):
            load_tokenizer(folder, recipe())
        assert not canary.exists()
