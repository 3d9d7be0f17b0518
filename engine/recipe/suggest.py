"""The nearest valid key: what somebody meant who wrote a key that a recipe does not have."""

from difflib import get_close_matches
from functools import cache

from engine.recipe.fields import recipe_fields, section_titles
from engine.text import clean_line

# How other trainers call what a recipe has; the words on the right are paths of ours, and a test holds them to it.
OTHER_NAMES: dict[str, str] = {
    "adam": "training.optimizer",
    "adapter": "method.name",
    "base_model": "model.base",
    "batch_size": "training.effective_batch",
    "bf16": "training.precision",
    "block_size": "training.max_length",
    "dataset": "data.source",
    "datasets": "data.source",
    "dataset_path": "data.source",
    "dtype": "training.precision",
    "eval_steps": "training.evaluate_every",
    "file": "data.source",
    "fp16": "training.precision",
    "global_batch_size": "training.effective_batch",
    "gradient_accumulation": "training.micro_batch",
    "gradient_accumulation_steps": "training.micro_batch",
    "gradient_checkpointing": "training.activation_checkpointing",
    "load_in_4bit": "method.name",
    "lora": "method.name",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_r": "method.rank",
    "lora_rank": "method.rank",
    "lora_target_modules": "method.targets",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.schedule",
    "lr_scheduler_type": "training.schedule",
    "max_seq_len": "training.max_length",
    "max_seq_length": "training.max_length",
    "max_tokens": "evaluation.max_new_tokens",
    "micro_batch_size": "training.micro_batch",
    "model_name": "model.base",
    "model_name_or_path": "model.base",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "optim": "training.optimizer",
    "output_dir": "delivery.output",
    "path": "data.source",
    "peft": "method.name",
    "per_device_train_batch_size": "training.micro_batch",
    "pretrained_model_name_or_path": "model.base",
    "qlora": "method.name",
    "r": "method.rank",
    "sample_packing": "training.packing",
    "save_steps": "training.checkpoint_every",
    "save_total_limit": "training.keep_checkpoints",
    "scheduler": "training.schedule",
    "seq_length": "training.max_length",
    "sequence_len": "training.max_length",
    "steps": "training.max_steps",
    "target_modules": "method.targets",
    "task": "objective",
    "test_size": "data.held_out",
    "tokenizer_template": "model.chat_template",
    "train": "training.epochs",
    "train_file": "data.source",
    "val_set_size": "data.held_out",
    "validation": "data.held_out",
    "warmup_ratio": "training.warmup",
    "warmup_steps": "training.warmup",
}


@cache
def keys_by_section() -> dict[str, tuple[str, ...]]:
    """Return `{section: its keys}`; the keys of the section "" are those at the top, sections among them."""
    keys: dict[str, list[str]] = {"": []}
    for field in recipe_fields():
        if field.section and field.section not in keys:
            parent, _, name = field.section.rpartition(".")
            keys[parent].append(name)
        keys.setdefault(field.section, []).append(field.key)
    return {section: tuple(names) for section, names in keys.items()}


def suggest_key(section: str, key: str) -> str:
    """Return a sentence that names the nearest valid key.

    Args:
        section: Section in which the unknown key stands; "" for the top.
        key: The key that a recipe does not have there.
    """
    here = keys_by_section()[section]
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in here:
        return f"Write {joined(section, plain)}."
    elsewhere = [field.path for field in recipe_fields() if field.key == plain]
    if elsewhere:
        return f"The key {plain} belongs elsewhere: {' or '.join(map(_place, elsewhere))}."
    if plain in section_titles():
        return f"{plain} is a section of its own; move it to the left edge."
    inside = [path for path in section_titles() if path.endswith(f".{plain}")]
    if inside:
        return f"{plain} is a section inside {inside[0].rpartition('.')[0]}; move it there."
    if plain in OTHER_NAMES:
        return f"Use {OTHER_NAMES[plain]} instead."
    return _closest(section, plain) or f"Valid here: {', '.join(here)}."


def suggest_path(path: str) -> str:
    """Return a sentence that names the nearest valid path to one such as `trainng.epochs`."""
    section, _, key = path.rpartition(".")
    if section in keys_by_section():
        return suggest_key(section, key)
    paths = {field.path: field.path for field in recipe_fields()}
    close = get_close_matches(path.lower(), paths, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else suggest_key("", path.split(".")[0])


def _closest(section: str, plain: str) -> str:
    close = get_close_matches(plain, keys_by_section()[section], n=1, cutoff=0.6)
    if close:
        return f"Did you mean {joined(section, close[0])}?"
    # A slip in a key that also stands in the wrong section.
    names = {field.key: field.path for field in recipe_fields()}
    close = get_close_matches(plain, names, n=1, cutoff=0.7)
    if close:
        return f"Did you mean {names[close[0]]}?"
    other = get_close_matches(plain, OTHER_NAMES, n=1, cutoff=0.85)
    return f"Did you mean {OTHER_NAMES[other[0]]}?" if other else ""


def joined(section: str, key: str) -> str:
    """Return the path of a key in a section; "" is the top."""
    return f"{section}.{key}" if section else key


def _place(path: str) -> str:
    section, _, _ = path.rpartition(".")
    return f"{path}, in the section {section}" if section else f"{path}, at the left edge"


def nearest_word(word: str, words: tuple[str, ...]) -> str:
    """Return a sentence with the nearest of some words; empty when none is near."""
    close = get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    return f"Did you mean {clean_line(close[0])}?" if close else ""
