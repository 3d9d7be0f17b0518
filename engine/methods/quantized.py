"""What methods on quantised base models ask of them."""

from transformers import PreTrainedModel

from engine.catalog.methods import Method
from engine.recipe.problems import Problem, ProblemError


def require_quantized(model: PreTrainedModel, method: Method) -> None:
    """Raise when a base model is not held in the bits of a method that has some.

    Raises:
        ProblemError: None of its layers is.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    layer = Linear4bit if method.bits == 4 else Linear8bitLt
    if any(isinstance(module, layer) for module in model.modules()):
        return
    message = f"{method.title} needs a base model that was loaded in {method.bits} bits, and this one was not."
    fix = f"Load it with bits={method.bits}, or choose the method lora."
    raise ProblemError(Problem("method.not_quantized", message, fix, path="method.name"))
