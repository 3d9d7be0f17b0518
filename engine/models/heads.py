"""What stands on a base model: the head that a task needs, its configuration, and which of its modules are new."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from engine.catalog.objectives import Head
from engine.catalog.tasks import Task

AUTO_CLASSES: dict[Head, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}
PEFT_TASKS: dict[Head, str | None] = {
    "causal-lm": "CAUSAL_LM",
    # PEFT has no name for it; without one it changes nothing of how the model is called.
    "masked-lm": None,
    "seq2seq-lm": "SEQ_2_SEQ_LM",
    "sequence-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
}
_NEW: frozenset[Head] = frozenset({"sequence-classification", "token-classification"})
_CLASS_ENDINGS: tuple[tuple[str, Head], ...] = (
    ("ForSequenceClassification", "sequence-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForMaskedLM", "masked-lm"),
    ("ForConditionalGeneration", "seq2seq-lm"),
)


def head_of(model: PreTrainedModel) -> Head:
    """Return the head of a loaded model, by the class that transformers built."""
    return head_named(type(model).__name__, writes_anew=bool(model.config.is_encoder_decoder))


def head_named(class_name: str, *, writes_anew: bool) -> Head:
    """Return the head of a class of transformers.

    Args:
        class_name: Its name.
        writes_anew: The model is an encoder with a decoder; some decoders that also read images are named alike.
    """
    head: Head = next((head for ending, head in _CLASS_ENDINGS if class_name.endswith(ending)), "causal-lm")
    return "causal-lm" if head == "seq2seq-lm" and not writes_anew else head


def writes(model: PreTrainedModel) -> bool:
    """Return whether a loaded model writes text."""
    return head_of(model) in ("causal-lm", "seq2seq-lm")


def is_new(head: Head) -> bool:
    """Return whether a head is no part of what base models bring, so that it starts at random and always learns."""
    return head in _NEW


def head_settings(task: Task) -> dict[str, Any]:
    """Return what the configuration of a model says of its head, for `from_pretrained` and `AutoConfig`."""
    if not is_new(task.head):
        return {}
    names = list(task.labels) or ["reward"]
    settings: dict[str, Any] = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if task.head == "sequence-classification":
        kind = "multi_label_classification" if task.multi_label else "single_label_classification"
        settings["problem_type"] = "regression" if task.signal == "rewards" else kind
    return settings


def head_modules(model: PreTrainedModel) -> list[str]:
    """Return the full names of the modules that make up a new head; nothing for heads that base models bring.

    They are what stands beside the base model, and its pooler, which checkpoints of masked models lack.
    """
    if not is_new(head_of(model)):
        return []
    prefix = model.base_model_prefix
    beside = [name for name, module in model.named_children() if name != prefix and _has_weights(module)]
    poolers = [f"{prefix}.{name}" for name, _ in model.base_model.named_children() if name == "pooler"]
    return [*beside, *poolers]


def keeps_brought_head(folder: Path, task: Task, *, trust: bool) -> bool:
    """Return whether a head in the files of a model is for this task: the same names for the same numbers.

    As many classes are not the same classes: a head for moods would start a run on topics with what it knows of moods.
    A reward has no names.
    """
    if not task.labels:
        return True
    config: PretrainedConfig = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust)
    names = {int(number): str(name).casefold() for number, name in (config.id2label or {}).items()}
    return names == {number: label.casefold() for number, label in enumerate(task.labels)}


def start_head_anew(model: PreTrainedModel) -> None:
    """Give a loaded model's new head random weights by its own rule; its pooler, which pre-training gave, is kept."""
    for module in (part for name in head_beside(model) for part in model.get_submodule(name).modules()):
        # transformers leaves alone what is marked as loaded.
        for owner in (module, *module.parameters(recurse=False)):
            owner._is_hf_initialized = False
        with torch.no_grad():
            model._init_weights(module)


def head_beside(model: PreTrainedModel) -> list[str]:
    """Return those of `head_modules` that no base model brings: all but its pooler."""
    return [name for name in head_modules(model) if not name.startswith(f"{model.base_model_prefix}.")]


def _has_weights(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters())


def new_modules_of(folder: str, task: Task, *, trust: bool) -> list[str]:
    """Return `head_modules` of the model in a folder without loading a weight."""
    config: PretrainedConfig = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trust, **head_settings(task)
    )
    with torch.device("meta"):
        model = AUTO_CLASSES[task.head].from_config(config, trust_remote_code=trust)
    return head_modules(model)


def is_of_head(name: str, modules: list[str]) -> bool:
    """Return whether a weight of this name belongs to one of the head's modules."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def stray_of_another_head(name: str, model: PreTrainedModel) -> bool:
    """Return whether a weight in a checkpoint is of a head that is not wanted, such as that of a language model."""
    prefix = f"{model.base_model_prefix}."
    return not name.startswith(prefix) or name.startswith(f"{prefix}pooler.")
