"""Ways that fit, for a plan that does not: different in kind, each planned before it is offered, with its price."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.catalog.methods import AUTOMATIC, MethodName, find_method
from engine.planning.capabilities import is_allowed, native_precision, quantization_of
from engine.planning.case import Case
from engine.planning.options import EIGHT_BIT, method_changes
from engine.planning.plan import Way
from engine.planning.profiles import ModelProfile
from engine.planning.search import Choice, Space, find_setup
from engine.planning.steps import rows_cut
from engine.text import human_count, human_duration

MIN_OFFERED_LENGTH = 64
NUM_WAYS = 3
_ABOUT_AS_FAST = 0.05


@dataclass(frozen=True, slots=True)
class _Offer:
    """A change before it was planned.

    Attributes:
        kinds: What sort of thing it gives up; offers of other kinds come first.
        title: What to do, in a few words.
        changes: `{recipe path: value}`.
        price: What it costs beside time, as a phrase; empty when it costs time only.
    """

    kinds: frozenset[str]
    title: str
    changes: dict[str, Any]
    space: Space
    price: str = ""


def ways_that_fit(case: Case, *, smaller: Callable[[], list[ModelProfile]]) -> list[Way]:
    """Return up to three changes that make the run fit, the least costly first.

    Args:
        case: A plan that does not fit.
        smaller: Returns base models of the catalogue to fall back on, the largest first.
    """
    found = [(offer, way) for offer in _offers(case, smaller) if (way := _planned(case, offer))]
    # What asks for more than another way needs only fills up the list, and so does a second of one kind.
    spare = [pair for pair in found if not _asks_for_more(pair[1], found)]
    ranked = [way for pairs in (_one_of_each(spare), _one_of_each(found), found) for _, way in pairs]
    kept = list(dict.fromkeys(way.title for way in ranked))[:NUM_WAYS]
    return [way for _, way in found if way.title in kept]


def _one_of_each(found: list[tuple[_Offer, Way]]) -> list[tuple[_Offer, Way]]:
    """Return the first way of every kind."""
    return list({offer.kinds: (offer, way) for offer, way in reversed(found)}.values())[::-1]


def _asks_for_more(way: Way, found: list[tuple[_Offer, Way]]) -> bool:
    """Return whether another way fits with a part of what this one changes."""
    changes = way.changes.items()
    return any(other.changes.items() < changes for _, other in found)


def _offers(case: Case, smaller: Callable[[], list[ModelProfile]]) -> Iterator[_Offer]:
    space = case.space
    others = _leaner_methods(case)
    yield _Offer(frozenset({"time"}), "", {}, space)
    yield from _precision(case)
    yield from _states(case)
    for method in others:
        yield _method(case, method)
    yield from _shorter(case, _Offer(frozenset(), "", {}, space))
    for method in others:
        yield from _shorter(case, _method(case, method))
    models = smaller()
    yield from _smaller_base(case, models, _Offer(frozenset(), "", {}, space))
    for method in reversed(others):
        yield from _smaller_base(case, models, _method(case, method))


def _leaner_methods(case: Case) -> list[MethodName]:
    """Return the methods that usually need less memory than the one taken, the most capable first."""
    taken = case.setup.method
    leaner = AUTOMATIC[AUTOMATIC.index(taken) + 1 :] if taken in AUTOMATIC else AUTOMATIC
    wanted = ((method, quantization_of(find_method(method))) for method in leaner)
    return [method for method, quantizing in wanted if quantizing is None or is_allowed(quantizing, case.surroundings)]


def _method(case: Case, method: MethodName) -> _Offer:
    facts = find_method(method)
    rounding = f"rounding the base model to {facts.bits} bits costs a little quality"
    price = "fewer weights learn" if facts.bits is None else rounding
    space = case.space.changed(methods=(method,), demand_comfort=False)
    title = f"{facts.short} instead of {case.setup.facts.short}"
    return _Offer(frozenset({"method"}), title, method_changes(case, method), space, price)


def _precision(case: Case) -> Iterator[_Offer]:
    native = native_precision(case.surroundings) if case.space.device == "cuda" else "float32"
    if "training.precision" in case.given and case.space.precision == "float32" and native != "float32":
        changes = {"training.precision": native}
        space = case.space.changed(precision=native)
        yield _Offer(
            frozenset({"precision"}), f"Compute in {native}", changes, space, "rounding that is rarely noticed"
        )


def _states(case: Case) -> Iterator[_Offer]:
    """Yield smaller optimizer states where somebody asked for whole ones."""
    optimizer = EIGHT_BIT[case.space.device]
    if case.space.optimizers == ("adamw",) and is_allowed(optimizer, case.surroundings):
        changes = {"training.optimizer": optimizer}
        space = case.space.changed(optimizers=(optimizer,))
        yield _Offer(frozenset({"states"}), "An 8-bit optimizer", changes, space, "states rounded to 8 bits")


def _shorter(case: Case, offer: _Offer) -> Iterator[_Offer]:
    """Yield the longest power-of-two length below the present one that fits."""
    length = 1 << (offer.space.max_length - 1).bit_length() - 1
    while length >= MIN_OFFERED_LENGTH:
        space = offer.space.changed(max_length=length)
        if _takes(case, find_setup(_loosened(space))):
            title = _joined(offer.title, f"rows of at most {length} tokens")
            price = _joined(offer.price, _cut(case, length), "; ")
            yield _Offer(
                offer.kinds | {"length"}, title, {**offer.changes, "training.max_length": length}, space, price
            )
            return
        length //= 2


def _cut(case: Case, length: int) -> str:
    lengths = case.plan.data.lengths
    if case.space.work.text or lengths is None:
        return "the model reads shorter pieces"
    cut = rows_cut(lengths, length)
    return f"cuts {cut / lengths.count:.1%} of the rows ({cut} of {lengths.count})" if cut else "cuts no row"


def _smaller_base(case: Case, models: list[ModelProfile], offer: _Offer) -> Iterator[_Offer]:
    """Yield the largest models of the catalogue that fit; the second and third only fill up the list."""
    found = 0
    for model in models:
        length = min(offer.space.max_length, model.context_length)
        space = offer.space.changed(model=model, max_length=length)
        if not _takes(case, find_setup(_loosened(space))):
            continue
        changes = {**offer.changes, "model.base": model.base}
        if length < offer.space.max_length and "training.max_length" in case.given:
            changes["training.max_length"] = length
        if "model.revision" in case.given:
            changes["model.revision"] = None
        before, after = human_count(case.plan.model.num_params), human_count(model.num_params)
        price = _joined(offer.price, f"{after} weights instead of {before}: usually weaker answers", "; ")
        title = _joined(offer.title, f"{model.base.rpartition('/')[2]} as the base model")
        yield _Offer(offer.kinds | {"model"}, title, changes, space, price)
        found += 1
        if found == NUM_WAYS:
            return


def _takes(case: Case, choice: Choice) -> bool:
    """Return whether a setup fits and can run: the search also takes 8-bit states, which need bitsandbytes."""
    return choice.fits and is_allowed(choice.setup.optimizer, case.surroundings)


def _loosened(space: Space) -> Space:
    """Return the space with everything free that costs time only."""
    return space.changed(micro_batch=None, checkpointing=(False, True))


def _planned(case: Case, offer: _Offer) -> Way | None:
    """Return an offer as a way when it fits, with what must be let loose for it; None when it does not."""
    space, changes = offer.space, dict(offer.changes)
    choice = find_setup(space)
    loose: list[str] = []
    if not _takes(case, choice):
        space = _loosened(space)
        choice = find_setup(space)
        if not _takes(case, choice):
            return None
        loose = _let_loose(case, choice, changes)
    if not changes:
        return None
    title = " and ".join([part for part in (offer.title, *loose) if part])
    known = [part for part in (offer.price, _slower(case, space, choice)) if part]
    price = "; ".join(known) or "what it costs in time is not known"
    return Way(
        title=f"{title[0].upper()}{title[1:]}",
        changes=changes,
        price=f"{price[0].upper()}{price[1:]}.",
        memory=choice.memory,
    )


def _let_loose(case: Case, choice: Choice, changes: dict[str, Any]) -> list[str]:
    """Add what somebody set and what must change now to the changes; return it in words."""
    words: list[str] = []
    setup, space = choice.setup, case.space
    if space.micro_batch is not None and setup.micro_batch != space.micro_batch:
        changes["training.micro_batch"] = setup.micro_batch
        words.append(f"a micro-batch of {setup.micro_batch}")
    if space.checkpointing != (False, True) and setup.activation_checkpointing != space.checkpointing[0]:
        changes["training.activation_checkpointing"] = setup.activation_checkpointing
        words.append("recomputed activations" if setup.activation_checkpointing else "no recomputation")
    return words


def _slower(case: Case, space: Space, choice: Choice) -> str:
    before = case.training_seconds(case.space, case.space.step_seconds(case.setup))
    after = case.training_seconds(space, choice.step_s)
    if not before or not after:
        return ""
    if abs(after / before - 1) < _ABOUT_AS_FAST:
        return "about as fast"
    times = f"({human_duration(after)} instead of {human_duration(before)})"
    return f"{after / before:.1f} x slower {times}" if after > before else f"{before / after:.1f} x faster {times}"


def _joined(first: str, second: str, between: str = " and ") -> str:
    return f"{first}{between}{second}" if first else second
