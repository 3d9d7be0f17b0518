"""Which tokens end an answer: the tokenizer's, the model's and the chat template's end of turn."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.data.rendering import Renderer
from engine.recipe.problems import ProblemError

_ANY_LENGTH = 8


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Return every token that ends an answer, sorted: end of turn, end of text, and those the model names itself."""
    found = as_ids(model.generation_config.eos_token_id if model.generation_config else None)
    found += as_ids(model.config.get_text_config().eos_token_id)
    return sorted({*found, *_tokenizer_stops(tokenizer)})


def _tokenizer_stops(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that training put at the end of answers; a model from elsewhere may lack them."""
    if tokenizer.eos_token_id is None:
        return []
    try:
        return Renderer(tokenizer, _ANY_LENGTH).stop_token_ids
    except ProblemError:
        # A chat template that works for no conversation is reported where conversations are rendered.
        return [int(tokenizer.eos_token_id)]


def as_ids(value: Any) -> list[int]:
    """Return a configuration's end-of-text entry, which may be missing, one id or a list, as a list."""
    if value is None:
        return []
    return [int(token) for token in value] if isinstance(value, (list, tuple)) else [int(value)]
