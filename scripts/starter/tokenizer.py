"""The starter model's tokenizer: byte-level BPE with single digits, trained on the generator's own text."""

from collections.abc import Iterator
from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scripts.starter.corpus import Document, documents, public_domain_passages

VOCAB_SIZE = 1536
CONTEXT_LENGTH = 1024
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
NUM_DOCUMENTS = 12_000

# The pieces that merges stay within, as in Qwen 2, so that other runtimes know this pre-tokenizer. Digits are single:
# numbers are then copied digit by digit, whatever stands before them.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}"
    "{{ message['content'] + '<|im_end|>' }}"
    "{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _texts(seed: int) -> Iterator[str]:
    for document in islice(documents(seed), NUM_DOCUMENTS):
        yield document if isinstance(document, str) else "\n".join(message["content"] for message in document)
    yield from public_domain_passages()


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer, trained on the generator's text.

    Every byte has a token, so that any UTF-8 text survives encoding and decoding. End of turn is the end of any
    document (eos); padding has a token of its own, so that a padded position is never taken for an end.
    """
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[START, END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )


def encode_document(tokenizer: PreTrainedTokenizerFast, document: Document) -> list[int]:
    """Return the token ids of a document, its end included: plain text ends with eos, chats as the template says."""
    if isinstance(document, str):
        return [*tokenizer.encode(document, add_special_tokens=False), tokenizer.eos_token_id]
    text = tokenizer.apply_chat_template(document, tokenize=False)
    return [*tokenizer.encode(text, add_special_tokens=False)]
