"""Words that become tokens of their own: rows of the embeddings that are made for them and learn."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.recipe.schema import Recipe


def add_token_rows(model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Give the model rows for the recipe's new tokens, each the mean of the rows that are there.

    Many models hold more rows than their tokenizer has tokens; those are used up first.

    Args:
        model: The base model, before a method is applied; changed in place.
        recipe: `model.new_tokens` is read.
        tokenizer: With the new tokens; None, for a model without words, adds rows at the end.
    """
    if not recipe.model.new_tokens:
        return
    known = model.get_input_embeddings().weight.shape[0]
    ids = _token_ids(recipe, tokenizer, known + len(recipe.model.new_tokens))
    kept = min(known, min(ids))
    if max(ids) >= known:
        # The library would draw the new rows around the mean; equal for everyone is easier to reason about.
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    _set_all_to_mean(model, kept, ids)


def make_room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a base model rows for tokens that a finished run has added; the mean of the rows that are there."""
    known = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > known:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        _set_all_to_mean(model, known, range(known, len(tokenizer)))


def _set_all_to_mean(model: PreTrainedModel, kept: int, ids: Sequence[int]) -> None:
    for layer in {id(found): found for found in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
        if layer is not None:
            _set_to_mean(layer, kept, ids)


def _set_to_mean(layer: torch.nn.Module, kept: int, ids: Sequence[int]) -> None:
    """Set rows of weight and bias to the mean of the first `kept` ones."""
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            mean = parameter[:kept].float().mean(dim=0)
            parameter[torch.tensor(ids, device=parameter.device)] = mean.to(parameter.dtype)


def _token_ids(recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None, num_rows: int) -> list[int]:
    tokens = recipe.model.new_tokens
    if tokenizer is None:
        return list(range(num_rows - len(tokens), num_rows))
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(tokens))
    return ids


def token_rows(
    model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, list[int]]:
    """Return `{name of an embedding layer: rows of new tokens}`, as PEFT takes it; empty without new tokens.

    The output layer has rows of its own where it is not tied to the embeddings.
    """
    if not recipe.model.new_tokens:
        return {}
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    ids = _token_ids(recipe, tokenizer, embeddings.weight.shape[0])
    tied = output is None or output.weight is embeddings.weight
    layers = [embeddings] if tied else [embeddings, output]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: ids for layer in layers}
