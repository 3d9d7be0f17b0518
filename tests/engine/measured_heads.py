"""Real training of encoders and of encoders with a decoder on the processor, and the memory their tensors took."""

import gc
import tempfile
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.profiler import profile
from transformers import AutoConfig, PreTrainedModel, Trainer, TrainingArguments

from engine.planning.architectures import read_architecture
from engine.planning.model_folder import describe
from engine.planning.profiles import ModelProfile
from tests.engine.measured_training import allocator_peak, standing_bytes

VOCAB = 768
LABELS = 5
_BERT = {
    "vocab_size": VOCAB,
    "hidden_size": 192,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "max_position_embeddings": 520,
    "pad_token_id": 0,
    "num_labels": LABELS,
}
SIZES: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "modernbert": _BERT | dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 1),
    "deberta-v2": _BERT
    | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 64},
    "distilbert": {
        "vocab_size": VOCAB,
        "dim": 192,
        "hidden_dim": 640,
        "n_layers": 6,
        "n_heads": 6,
        "max_position_embeddings": 512,
        "num_labels": LABELS,
    },
    "t5": {
        "vocab_size": VOCAB,
        "d_model": 192,
        "d_kv": 32,
        "d_ff": 640,
        "num_layers": 3,
        "num_heads": 6,
        "decoder_start_token_id": 0,
    },
    "bart": {
        "vocab_size": VOCAB,
        "d_model": 192,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "encoder_attention_heads": 6,
        "decoder_attention_heads": 6,
        "encoder_ffn_dim": 640,
        "decoder_ffn_dim": 640,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "decoder_start_token_id": 1,
    },
}
TARGETS = {
    "bert": ["query", "key", "value", "dense"],
    "modernbert": ["Wqkv", "Wo", "Wi"],
    "t5": ["q", "k", "v", "o", "wi", "wo"],
}


def made_model(class_name: str, family: str, **changes: Any) -> tuple[PreTrainedModel, ModelProfile]:
    """Return a tiny model of a class, and what the plan knows of it."""
    config = AutoConfig.for_model(family, **SIZES[family], **changes)
    model: PreTrainedModel = getattr(transformers, class_name)(config)
    config.architectures = [class_name]
    return model, describe(read_architecture(config.to_dict()), base="x", num_labels=LABELS)


def rows(class_name: str, count: int, length: int) -> list[dict[str, Any]]:
    """Return rows of random tokens with labels for the head of a class."""
    generator = torch.Generator().manual_seed(7)
    found: list[dict[str, Any]] = []
    for _ in range(count):
        ids = torch.randint(2, VOCAB, (length,), generator=generator)
        labels: Any = ids.clone()
        if class_name.endswith("ForSequenceClassification"):
            labels = int(ids[0]) % LABELS
        elif class_name.endswith("ForTokenClassification"):
            labels = ids % LABELS
        found.append({"input_ids": ids, "attention_mask": torch.ones(length, dtype=torch.long), "labels": labels})
    return found


def trained_peak(
    model: PreTrainedModel, class_name: str, *, micro_batch: int, length: int, accumulation: int = 1, **options: Any
) -> int:
    """Train two steps and return the peak of tensors, in bytes."""
    standing = standing_bytes(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            optim="adamw_torch",
            report_to="none",
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            logging_strategy="no",
            **options,
        )
        data: Any = rows(class_name, 2 * micro_batch * accumulation, length)
        trainer = Trainer(model=model, args=arguments, train_dataset=data)
        gc.collect()
        with profile(profile_memory=True) as profiler:
            trainer.train()
    return standing + allocator_peak(profiler)


def with_lora(model: PreTrainedModel, family: str, *, rank: int = 16) -> Any:
    """Return a model with adapters in its linear layers."""
    return get_peft_model(model, LoraConfig(r=rank, target_modules=TARGETS[family], lora_dropout=0.0))
