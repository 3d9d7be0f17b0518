"""One door to all methods, and a look at what they did to the model."""

from collections.abc import Set
from dataclasses import dataclass
from types import ModuleType

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.methods import Method, MethodName
from engine.methods import (
    bottleneck,
    feature_extraction,
    full,
    gradual_unfreezing,
    ia3,
    lora,
    lora_8bit,
    p_tuning,
    prefix_tuning,
    prompt_tuning,
    qlora,
)
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe

METHODS: dict[MethodName, ModuleType] = {
    "full": full,
    "lora": lora,
    "qlora": qlora,
    "lora-8bit": lora_8bit,
    "ia3": ia3,
    "prompt-tuning": prompt_tuning,
    "prefix-tuning": prefix_tuning,
    "p-tuning": p_tuning,
    "bottleneck": bottleneck,
    "feature-extraction": feature_extraction,
    "gradual-unfreezing": gradual_unfreezing,
}


@dataclass(frozen=True, slots=True)
class TrainableSummary:
    """What learns.

    Attributes:
        num_params: All weights; a 4-bit weight counts as one.
        trainable_params: Weights that learn.
        num_tensors: Tensors that learn.
        dtypes: Number formats of the tensors that learn.
    """

    num_params: int
    trainable_params: int
    num_tensors: int
    dtypes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the weights that learn, from 0 to 1."""
        return self.trainable_params / max(1, self.num_params)


def apply_method(
    model: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase | None = None
) -> PreTrainedModel | PeftModel:
    """Make the weights that the recipe's method trains trainable, and freeze the others.

    Args:
        model: From `engine.models.loading.load_model`, with rows for new tokens (`add_token_rows`).
        recipe: With `method.name` filled in.
        tokenizer: With the recipe's new tokens; None for a model without words, such as that of a rehearsal.

    Raises:
        ProblemError: The method cannot be applied, or would train nothing or too much.
    """
    name = recipe.method.name
    if name is None:
        raise _problem("method.missing", "The recipe names no method.", "Set method.name, for example to lora.")
    own = {id(parameter) for parameter in model.parameters()}
    adapted: PreTrainedModel | PeftModel = METHODS[name].apply(model, recipe, tokenizer)
    if recipe.training.activation_checkpointing and recipe.method.facts.makes_adapter:
        # Nothing before the first adapter learns, so a checkpointed block would see inputs without gradients.
        model.enable_input_require_grads()
    _check(adapted, recipe.method.facts, own)
    return adapted


def rate_factors(model: PreTrainedModel | PeftModel, recipe: Recipe) -> dict[str, float]:
    """Return `{parameter name: times the learning rate}` of what learns at a rate of its own."""
    if recipe.method.facts.staged:
        return gradual_unfreezing.rate_factors(model, recipe)
    return lora.rate_factors(model, recipe) if "method.lora_plus_ratio" in recipe.method.facts.settings else {}


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(code, message, fix, path="method.name"))


def _check(model: PreTrainedModel | PeftModel, method: Method, own: Set[int]) -> None:
    """Refuse a model of which something else learns than the method says; `own` are the ids of the base's weights."""
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise _problem("method.nothing_learns", f"With {method.name} no weight would learn.", "Choose another method.")
    wrong = [key for key, parameter in trained.items() if parameter.dtype != torch.float32]
    if wrong:
        raise _problem(
            "method.narrow_weights",
            f"{wrong[0]} would learn in {_name(trained[wrong[0]].dtype)}, too narrow for small steps.",
            "Load the model in float32 to train all of its weights.",
        )
    frozen = [key for key, parameter in model.named_parameters() if not parameter.requires_grad]
    if method.trains_whole and frozen:
        raise _problem("method.frozen", f"{frozen[0]} would stay frozen.", "Choose the method lora.")
    strays = [key for key, parameter in trained.items() if id(parameter) in own]
    if method.makes_adapter and strays:
        raise _problem(
            "method.base_learns", f"{strays[0]} of the base model would learn too.", "Choose the method full."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def trainable_summary(model: PreTrainedModel | PeftModel) -> TrainableSummary:
    """Return how much of a model learns."""
    total = trainable = tensors = 0
    dtypes: set[str] = set()
    for parameter in model.parameters():
        count = _num_weights(parameter)
        total += count
        if parameter.requires_grad:
            trainable += count
            tensors += 1
            dtypes.add(_name(parameter.dtype))
    return TrainableSummary(total, trainable, tensors, tuple(sorted(dtypes)))


def _num_weights(parameter: torch.nn.Parameter) -> int:
    # A 4-bit tensor is stored as bytes with two weights each; its own shape is kept beside it.
    state = getattr(parameter, "quant_state", None)
    return int(torch.Size(state.shape).numel()) if state is not None else parameter.numel()
