"""Tiny encoders, and encoders with a decoder, made from scratch in a test."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

from tests.engine.tiny_models import training_texts

T5, BART = "t5", "bart"


def _backend(special: list[str], vocab_size: int) -> Tokenizer:
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
    return backend


def framed_tokenizer(
    first: str | None, last: str, *, pad: str = "<pad>", mask: str | None = None, vocab_size: int = 320
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that puts `first` and `last` around every text, as encoders want it."""
    special = [token for token in (pad, first, last, mask) if token]
    backend = _backend(special, vocab_size)
    template = f"{first} $A {last}" if first else f"$A {last}"
    named = [(token, backend.token_to_id(token)) for token in (first, last) if token]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        eos_token=last,
        **({"bos_token": first, "cls_token": first, "sep_token": last} if first else {}),
        **({"mask_token": mask} if mask else {}),
    )


def tiny_t5(vocab_size: int) -> T5ForConditionalGeneration:
    """Return a random T5 of two blocks on each side."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    set_seed(5)
    return T5ForConditionalGeneration(config)


def tiny_bart(vocab_size: int) -> BartForConditionalGeneration:
    """Return a random BART of two blocks on each side."""
    config = BartConfig(
        vocab_size=vocab_size,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    set_seed(5)
    return BartForConditionalGeneration(config)


def pair_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a tiny T5, which frames a text by its end alone, or of a tiny BART."""
    return framed_tokenizer(None, "</s>") if family == T5 else framed_tokenizer("<s>", "</s>")


def save_pair_model(folder: Path, family: str = T5) -> Path:
    """Write a tiny T5 or BART with its tokenizer into `folder`."""
    tokenizer = pair_tokenizer(family)
    model: PreTrainedModel = tiny_t5(len(tokenizer)) if family == T5 else tiny_bart(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


BERT, ROBERTA, MODERNBERT = "bert", "roberta", "modernbert"
_ENCODERS = {
    BERT: (BertConfig, BertForMaskedLM, ("[CLS]", "[SEP]", "[PAD]", "[MASK]")),
    ROBERTA: (RobertaConfig, RobertaForMaskedLM, ("<s>", "</s>", "<pad>", "<mask>")),
    MODERNBERT: (ModernBertConfig, ModernBertForMaskedLM, ("[CLS]", "[SEP]", "[PAD]", "[MASK]")),
}


def masked_tokenizer(family: str = BERT) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a tiny encoder, with the special tokens of its family."""
    first, last, pad, mask = _ENCODERS[family][2]
    return framed_tokenizer(first, last, pad=pad, mask=mask)


def save_encoder(folder: Path, family: str = BERT, *, context: int = 132) -> Path:
    """Write a tiny encoder that guesses hidden words, with its tokenizer, into `folder`."""
    tokenizer = masked_tokenizer(family)
    config_class, model_class, _ = _ENCODERS[family]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    set_seed(5)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
