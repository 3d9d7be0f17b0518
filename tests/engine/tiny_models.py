"""Tiny real models and tokenizers, made from scratch in a test: nothing is downloaded and nothing is mocked."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    set_seed,
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COLOURS = ("red", "green", "blue", "amber", "violet", "white", "black", "silver")
THINGS = ("lamp", "door", "fan", "radio", "heater", "gate", "pump", "screen")
VERBS = (("turn on", "on"), ("turn off", "off"), ("check", "state"))


def command_rows(count: int) -> list[dict]:
    """Return `count` canonical chat rows: a plain request and the structured command that answers it."""
    rows = []
    for index in range(count):
        colour = COLOURS[index % len(COLOURS)]
        thing = THINGS[(index // len(COLOURS)) % len(THINGS)]
        verb, word = VERBS[(index // 3) % len(VERBS)]
        padding = " please" * (index % 4)
        rows.append(
            {
                "id": f"made.jsonl:{index + 1}",
                "messages": [
                    {"role": "user", "content": f"{verb} the {colour} {thing}{padding}"},
                    {"role": "assistant", "content": f"{word}({colour}_{thing})"},
                ],
            }
        )
    return rows


def text_rows(count: int) -> list[dict]:
    """Return `count` canonical text rows of different lengths."""
    return [
        {
            "id": f"made.txt:{row + 1}",
            "text": " ".join(f"the {COLOURS[(row + i) % 8]} {THINGS[i % 8]}" for i in range(2 + row % 7)),
        }
        for row in range(count)
    ]


def training_texts() -> Iterable[str]:
    """Yield the text that tiny tokenizers are trained on."""
    for row in command_rows(192):
        yield from (message["content"] for message in row["messages"])


def tiny_tokenizer(*, vocab_size: int = 384, chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with pad, end-of-text and ChatML tokens."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(training_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>")
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_llama(
    vocab_size: int, *, seed: int = 7, hidden_size: int = 32, num_layers: int = 2, **overrides
) -> LlamaForCausalLM:
    """Return a randomly initialised Llama with two heads and `num_layers` blocks, in float32."""
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "bos_token_id": None,
    }
    set_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(settings | overrides)))


def save_tiny_model(folder: Path, *, seed: int = 7, **overrides) -> Path:
    """Write a tiny model with its tokenizer into `folder`, as a hub snapshot would look."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer), seed=seed, **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_judge(folder: Path, *, seed: int = 7) -> Path:
    """Write a tiny reward model with its tokenizer into `folder`: one number for a whole conversation."""
    tokenizer = tiny_tokenizer()
    config = tiny_llama(len(tokenizer)).config
    config.num_labels = 1
    set_seed(seed)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
