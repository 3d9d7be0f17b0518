"""Why a method cannot be taken with the rest of a recipe: for the ranked table. `engine.catalog.matrix` says what
objectives and models rule out."""

from collections.abc import Collection

from engine.catalog.methods import Method
from engine.planning.memory_setup import scaled_shapes
from engine.planning.profiles import ModelProfile
from engine.recipe.schema import Recipe


def reason_against_method(method: Method, recipe: Recipe, model: ModelProfile, given: Collection[str]) -> str:
    """Return why a method cannot be taken, as a clause without full stop; empty when it can.

    Args:
        method: The method to take.
        recipe: With everything else as it is.
        model: Facts of the base model.
        given: Recipe paths that somebody set.
    """
    training = recipe.training
    if method.learns == "scales" and not any(scaled_shapes(model)):
        return "no layer of this model is named as one that it scales"
    if method.learns == "bottleneck" and model.num_experts:
        return "it stands behind the feed-forward network of a block, and this model has experts there"
    if recipe.model.new_tokens and not method.trains_tokens:
        return "no row of model.new_tokens would learn"
    if recipe.delivery.formats and method.makes_adapter and not method.mergeable:
        return "its result cannot be merged, and delivery.formats asks for a whole model"
    if method.bits is not None and "method.variant" in given and recipe.method.variant == "pissa":
        return "PiSSA changes weights, and it holds them rounded"
    if not method.recomputes and training.activation_checkpointing and "training.activation_checkpointing" in given:
        return "activations cannot be recomputed with it, and training.activation_checkpointing asks for that"
    if method.adds_tokens and training.packing and "training.packing" in given:
        return "it puts tokens in front of each row, and training.packing puts rows behind one another"
    return ""
