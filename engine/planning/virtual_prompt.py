"""Virtual tokens in the plan: how many there are, and what they leave of the context. Light."""

from engine.planning.profiles import ModelProfile
from engine.recipe.schema import MethodSection

DEFAULT_TOKENS = 20
MAX_ENCODER_WIDTH = 1024


def default_encoder_width(hidden_size: int) -> int:
    """Return the inner width of the network that makes the virtual tokens of p-tuning."""
    return max(8, min(hidden_size, MAX_ENCODER_WIDTH))


def num_virtual_tokens(method: MethodSection) -> int:
    """Return how many virtual tokens stand in front of every text; 0 for methods without them."""
    return (method.virtual_tokens or DEFAULT_TOKENS) if method.name and method.facts.adds_tokens else 0


def text_context(model: ModelProfile, method: MethodSection) -> int:
    """Return how many tokens of text a model reads: what virtual tokens leave of its context."""
    return max(1, model.context_length - num_virtual_tokens(method))


def for_text(model: ModelProfile, method: MethodSection) -> ModelProfile:
    """Return a model whose context is what virtual tokens leave of it."""
    return model.model_copy(update={"context_length": text_context(model, method)})
