"""Dropout of the base model: set at the places where the model has it, and nowhere in its configuration.

The configuration stays as it is because it goes into what is exported, where another training would find it.
"""

from torch import nn
from transformers import PreTrainedModel

from engine.catalog.dropouts import no_place
from engine.recipe.problems import ProblemError


def set_dropout(model: PreTrainedModel, share: float) -> int:
    """Drop a share of the activations at every place that a model has for it, and return the number of places.

    Families of transformers hold the share in dropout modules (BERT, T5, GPT-2) or as a number of the module that
    drops (`attention_dropout` of Llama and its relatives, `dropout` of BART); both are set.

    Args:
        model: Without adapters, whose dropout is their own.
        share: From 0 to below 1.

    Raises:
        ProblemError: The model has no such place.
    """
    places = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
            places += 1
            continue
        numbers = [name for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]
        for name in numbers:
            setattr(module, name, share)
        places += len(numbers)
    if not places:
        raise ProblemError(no_place(model.config.model_type))
    return places
