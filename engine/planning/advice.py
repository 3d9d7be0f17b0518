"""Ways that fit, for a plan that does not: each is planned before it is offered."""

import itertools
from collections.abc import Callable, Iterator

from engine.planning.memory import Method
from engine.planning.profiles import ModelProfile
from engine.planning.search import Choice, Space, find_setup
from engine.text import human_bytes

MIN_OFFERED_LENGTH = 64
NUM_WAYS = 3


def ways_that_fit(space: Space, *, can_quantize: bool, smaller: Callable[[], list[ModelProfile]]) -> list[str]:
    """Return up to three changes that make the run fit, as phrases, the least costly first.

    Args:
        space: The space in which nothing fits.
        can_quantize: Whether bitsandbytes is installed.
        smaller: Returns base models of the catalogue to fall back on, the largest first.
    """
    ways: dict[str, None] = {}
    for way in _ways(space, can_quantize=can_quantize, smaller=smaller):
        ways[way] = None
        if len(ways) == NUM_WAYS:
            break
    return list(ways)


def _ways(space: Space, *, can_quantize: bool, smaller: Callable[[], list[ModelProfile]]) -> Iterator[str]:
    others = _other_methods(space, can_quantize=can_quantize)
    if True not in space.checkpointing:
        yield from _offer("training.activation_checkpointing=true", space.changed(checkpointing=(True,)))
    if 1 not in space.micro_batches:
        yield from _offer("training.micro_batch=1", space.changed(micro_batches=(1,)))
    for method in others:
        yield from _offer(f"method.name={method}", _with_method(space, method))
    yield from _shorter(space)
    for method in others:
        yield from _shorter(_loose(_with_method(space, method)), f"method.name={method} with ")
    models = smaller()
    yield from _smaller_base(space, models)
    for method in reversed(others):
        yield from _smaller_base(_loose(_with_method(space, method)), models, f" and method.name={method}")
    yield from _smaller_base(space, models, most=NUM_WAYS)


def _other_methods(space: Space, *, can_quantize: bool) -> list[Method]:
    """Return the methods that need less memory than those tried, the most capable first."""
    cheaper: list[Method] = ["lora"] if space.methods == ("full",) else []
    if "qlora" not in space.methods and can_quantize:
        cheaper.append("qlora")
    return cheaper


def _with_method(space: Space, method: Method) -> Space:
    return space.changed(methods=(method,), optimizers=None)


def _loose(space: Space) -> Space:
    """Return the space with everything free that costs time only."""
    return space.changed(checkpointing=(False, True), micro_batches=tuple(dict.fromkeys((*space.micro_batches, 1))))


def _offer(change: str, space: Space) -> Iterator[str]:
    choice = find_setup(space)
    if choice.fits:
        yield _way(change, choice)


def _way(change: str, choice: Choice) -> str:
    return f"{change} (needs up to {human_bytes(choice.memory.high_bytes)})"


def _shorter(space: Space, before: str = "") -> Iterator[str]:
    """Yield the longest power-of-two length below the present one that fits."""
    length = 1 << (space.max_length - 1).bit_length() - 1
    while length >= MIN_OFFERED_LENGTH:
        choice = find_setup(space.changed(max_length=length))
        if choice.fits:
            yield _way(f"{before}training.max_length={length}", choice)
            return
        length //= 2


def _smaller_base(space: Space, models: list[ModelProfile], after: str = "", *, most: int = 1) -> Iterator[str]:
    """Yield the largest models that fit, at most `most`."""
    fitting = ((model, choice) for model in models if (choice := find_setup(space.changed(model=model))).fits)
    for model, choice in itertools.islice(fitting, most):
        yield _way(f"model.base={model.base}{after}", choice)
