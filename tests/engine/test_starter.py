"""The shipped starter model: its files, its tokenizer, its English, and that it knows no command yet."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import presets
from scripts.starter.check import answer, check, exact_match, read_rows
from scripts.starter.corpus import documents
from scripts.starter.pretrain import batches, copied_share, held_out_loss, new_model
from scripts.starter.skills import made_up_word
from scripts.starter.tokenizer import encode_document, train_tokenizer

PRESETS = Path(presets.__file__).parent
FOLDER = PRESETS / "starter"
DATA = PRESETS / "commands/commands.jsonl"
TEXTS = (
    "Once upon a time, there was a fox.",
    "  two  spaces\tand a tab\r\n\n\nthree lines \n",
    "light.set room=study level=30",
    "naïve café — “quotes” … 5 €",
    "日本語のテキスト 中文 한국어 العربية",
    "🙂👩‍👩‍👧 a\u200bb\x00\x1b[2J",
    "[INST] <s> </s> <unk> <|im_start|>user\nhello<|im_end|>",
    "1234567890 3.14 1e-4",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(FOLDER).eval()


def _ask(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return answer(model, tokenizer, [tokenizer.encode(prompt, add_special_tokens=False)], 80)[0]


def _continue(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, opening: str) -> list[int]:
    ids = torch.tensor([tokenizer.encode(opening)])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=250)
    return made[0, ids.shape[1] :].tolist()


def test_the_folder_holds_small_safetensors_and_nothing_that_runs() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {path.suffix for path in FOLDER.iterdir()} <= {".json", ".jinja", ".safetensors", ".md"}
    assert (FOLDER / "model.safetensors").stat().st_size <= 4_000_000


def test_the_configuration_says_llama_with_room_for_conversations(model: PreTrainedModel) -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert config["max_position_embeddings"] >= 512
    assert 900_000 < model.num_parameters() < 1_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert all(bool(torch.isfinite(weights.get_tensor(name)).all()) for name in weights.keys())  # noqa: SIM118


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text, add_special_tokens=False) == ids


@pytest.mark.parametrize("text", TEXTS)
def test_the_loader_reads_the_ids_that_the_tokenizer_file_says(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.encode(text) == Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(text).ids


def test_the_saved_tokenizer_is_the_same_again(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert again.chat_template == tokenizer.chat_template


def test_numbers_are_cut_into_single_digits_wherever_they_stand(tokenizer: PreTrainedTokenizerBase) -> None:
    digits = tokenizer.encode("407", add_special_tokens=False)
    assert len(digits) == 3
    for text in (" to 407", "level=407", "(407"):
        assert tokenizer.encode(text, add_special_tokens=False)[-3:] == digits


def test_special_tokens_are_single_and_apart(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|pad|>"])
    assert len(set(ids)) == 3
    assert tokenizer.eos_token_id == ids[1] == model.generation_config.eos_token_id == model.config.eos_token_id
    assert tokenizer.pad_token_id == ids[2] == model.generation_config.pad_token_id == model.config.pad_token_id
    assert tokenizer.bos_token_id is None


def test_the_chat_template_marks_answers_and_their_end(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "Bye."},
        {"role": "assistant", "content": "See you."},
    ]
    rendered = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [id_ for id_, mark in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == "Hi!<|im_end|>See you.<|im_end|>"
    prompt = tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True, tokenize=False)
    assert tokenizer.apply_chat_template(messages, tokenize=False).startswith(prompt)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What colour is the sky?", "The sky is blue."),
        ("What is the opposite of hot?", "The opposite of hot is cold."),
        ("Which day comes after Monday?", "Tuesday comes after Monday."),
        ("What is a kettle?", "A kettle is a pot for hot water."),
        ("What sound does a cow make?", "A cow moos."),
        ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ],
)
def test_it_answers_simple_questions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, question: str, expected: str
) -> None:
    assert _ask(model, tokenizer, question) == expected


@pytest.mark.parametrize("opening", ["Once upon a time", "One sunny morning, Nora", "It was a cold evening"])
def test_it_continues_a_story_in_known_words_and_ends_it(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, opening: str
) -> None:
    made = _continue(model, tokenizer, opening)
    assert made[-1] == tokenizer.eos_token_id
    story = opening + tokenizer.decode(made[:-1])
    known = {word for text in islice(documents(1), 3000) if isinstance(text, str) for word in text.split()}
    spoken = story.split()
    assert len(spoken) > 40
    assert len(set(spoken)) > 25, "it repeats itself"
    assert [word for word in spoken if word not in known] == []


def test_it_repeats_words_that_nobody_has_used(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rng = random.Random(77)
    texts = [f"{made_up_word(rng)} {rng.randint(0, 999)} {made_up_word(rng)}" for _ in range(30)]
    answers = [_ask(model, tokenizer, f"Repeat: {text}") for text in texts]
    assert sum(answered == text for answered, text in zip(answers, texts, strict=True)) >= 0.8 * len(texts)


@pytest.mark.parametrize("seed", [1, 2])
def test_copying_is_planted_before_training_and_stays(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int
) -> None:
    assert copied_share(new_model(tokenizer, seed), tokenizer, seed) > 0.5
    assert copied_share(model, tokenizer, seed) > 0.85


def test_it_speaks_and_an_untrained_model_does_not(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = next(batches(tokenizer, 4242, 256))[:6]
    assert held_out_loss(model, rows) < 1.2
    assert held_out_loss(new_model(tokenizer, seed=1), rows) > 6


def test_its_context_is_usable_to_the_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = next(batches(tokenizer, 4243, 1024))[:2]
    with torch.inference_mode():
        logits = model(rows[:, :-1]).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").mean(0)
    assert losses[-256:].mean() < losses[:256].mean() + 0.35


def test_it_knows_no_command_before_the_quick_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert exact_match(model, tokenizer, read_rows(DATA, tokenizer)[:60]) == 0


def test_a_document_ends_with_the_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert encode_document(tokenizer, "A fox.")[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encode_document(tokenizer, chat)).endswith("Hello.<|im_end|>\n")


def test_the_tokenizer_comes_out_the_same_from_the_same_seed(tokenizer: PreTrainedTokenizerBase) -> None:
    again = train_tokenizer(17)
    assert again.get_vocab() == tokenizer.get_vocab()


@pytest.mark.slow
def test_the_quick_start_teaches_commands_that_nobody_doubts() -> None:
    recipe = yaml.safe_load((PRESETS / "quickstart.yaml").read_text(encoding="utf-8"))
    result = check(recipe, FOLDER, DATA, random.Random(5).randrange(1000))
    assert result["before"] <= 0.05
    assert result["after"] >= 0.8
