"""Which tokens end an answer: the tokenizer's, the model's and the chat template's end of turn."""

from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MARK = "ftw0answer0end"


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the special token that the chat template writes after an assistant's answer: a list of one or none.

    Templates are programs, so the token is found by rendering one exchange and reading what follows the answer.
    """
    if not tokenizer.chat_template:
        return []
    exchange = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    try:
        text = tokenizer.apply_chat_template(exchange, tokenize=False)
    except (TemplateError, TypeError, ValueError):
        # A template that refuses a plain exchange gives no end of turn; the end-of-text token still stops the model.
        return []
    _, found, rest = str(text).rpartition(_MARK)
    if not found or not rest:
        return []
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [token for token in tokenizer.encode(rest, add_special_tokens=False) if token in special][:1]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Return every token that ends an answer, sorted: end of turn, end of text, and those the model names itself."""
    found: set[int] = set(end_of_turn_ids(tokenizer))
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    found.update(as_ids(model.generation_config.eos_token_id if model.generation_config else None))
    found.update(as_ids(model.config.eos_token_id))
    return sorted(found)


def as_ids(value: Any) -> list[int]:
    """Return a configuration's end-of-text entry, which may be missing, one id or a list, as a list."""
    if value is None:
        return []
    return [int(token) for token in value] if isinstance(value, (list, tuple)) else [int(value)]
