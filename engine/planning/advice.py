"""Ways that fit, for a plan that does not: each is planned before it is offered."""

from collections.abc import Callable, Iterator

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
        smaller: Returns base models of the catalogue to fall back on.
    """
    ways: list[str] = []
    for way in _ways(space, can_quantize=can_quantize, smaller=smaller):
        ways.append(way)
        if len(ways) == NUM_WAYS:
            break
    return ways


def _ways(space: Space, *, can_quantize: bool, smaller: Callable[[], list[ModelProfile]]) -> Iterator[str]:
    if True not in space.checkpointing:
        yield from _offer("training.activation_checkpointing=true", space.changed(checkpointing=(True,)))
    if 1 not in space.micro_batches:
        yield from _offer("training.micro_batch=1", space.changed(micro_batches=(1,)))
    if space.methods == ("full",):
        yield from _offer("method.name=lora", space.changed(methods=("lora",), optimizers=None))
    if "qlora" not in space.methods and can_quantize:
        yield from _offer("method.name=qlora", space.changed(methods=("qlora",), optimizers=None))
    if length := _longest_that_fits(space):
        yield from _offer(f"training.max_length={length}", space.changed(max_length=length))
    for model in smaller():
        choice = find_setup(space.changed(model=model))
        if choice.fits:
            yield f"model.base={model.base} ({_need(choice)})"
            break
    loose = space.changed(
        methods=("qlora",) if can_quantize else ("lora",),
        checkpointing=(True,),
        micro_batches=(1,),
        optimizers=None,
        max_length=min(space.max_length, 256),
    )
    method = loose.methods[0]
    yield from _offer(
        f"method.name={method} with training.micro_batch=1, training.activation_checkpointing=true "
        f"and training.max_length={loose.max_length}",
        loose,
    )


def _offer(change: str, space: Space) -> Iterator[str]:
    choice = find_setup(space)
    if choice.fits:
        yield f"{change} ({_need(choice)})"


def _need(choice: Choice) -> str:
    return f"needs up to {human_bytes(choice.memory.high_bytes)}"


def _longest_that_fits(space: Space) -> int | None:
    """Return the longest power-of-two length below the present one that fits."""
    length = 1 << (space.max_length - 1).bit_length() - 1
    while length >= MIN_OFFERED_LENGTH:
        if find_setup(space.changed(max_length=length)).fits:
            return length
        length //= 2
    return None
