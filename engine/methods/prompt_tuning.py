"""Prompt tuning: learned embeddings in front of the text (Lester et al., https://arxiv.org/abs/2104.08691)."""

from typing import Any

import torch
from peft import PeftModel, PromptTuningConfig, PromptTuningInit, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.methods.virtual_tokens import DEFAULT_TOKENS, encoder_of, shared_settings
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe


def apply(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None) -> PeftModel:
    """Freeze the model and put virtual tokens in front of every text; they learn in float32.

    They start from tokens drawn from the vocabulary, or from those of `method.initial_text`.

    Args:
        model: From `load_model`.
        recipe: `method.virtual_tokens` and `method.initial_text` are read.
        tokenizer: Cuts the initial text; None leaves it out, for a model without words.

    Raises:
        ProblemError: The initial text has no tokens.
    """
    model.requires_grad_(False)
    config = PromptTuningConfig(
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        num_virtual_tokens=recipe.method.virtual_tokens or DEFAULT_TOKENS,
        **shared_settings(model, recipe),
    )
    adapted: PeftModel = get_peft_model(model, config)
    if recipe.method.initial_text is not None and tokenizer is not None:
        _start_from(adapted, recipe.method.initial_text, tokenizer)
    return adapted


def _start_from(model: PeftModel, text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        message = "method.initial_text has no tokens that virtual tokens could start from."
        problem = Problem("method.initial_text_empty", message, "Write some words.", "method.initial_text")
        raise ProblemError(problem)
    encoder: Any = encoder_of(model)
    count = encoder.embedding.weight.shape[0]
    repeated = torch.tensor((ids * (count // len(ids) + 1))[:count])
    words = model.get_base_model().get_input_embeddings()
    with torch.no_grad():
        encoder.embedding.weight.copy_(words(repeated.to(words.weight.device)))
