"""The base models that the wizard lists: what suits the objective first, of that what fits this machine."""

from typing import TYPE_CHECKING

from engine.recipe.problems import ProblemError
from engine.text import human_bytes
from tui.backend import Machine, ModelOffer

if TYPE_CHECKING:
    from engine.catalog.base_model_card import BaseModelCard
    from engine.planning.profiles import ModelProfile

SHORT_ROWS = "fits short rows"
TOO_LARGE = "does not fit"


def model_offers(machine: Machine | None, objective: str | None) -> list[ModelOffer]:
    """Return the catalogue in the order of a list: models that suit and fit first, of those the usual kind first.

    Args:
        machine: The machine; None while it was not read.
        objective: A name of the catalogue; None judges no model unsuited.
    """
    from engine.catalog.base_models import BASE_MODELS

    offers = [(_offer(card, machine, objective), _place(card, objective)) for card in BASE_MODELS]
    return [offer for offer, _ in sorted(offers, key=lambda each: (_rank(each[0]), each[1]))]


def _place(card: "BaseModelCard", objective: str | None) -> int:
    """Return how usual the kind of a model is for an objective, from 0."""
    from engine.catalog.objectives import find_objective

    kinds = () if objective is None else find_objective(objective).kinds
    return kinds.index(card.kind) if card.kind in kinds else len(kinds)


def _rank(offer: ModelOffer) -> int:
    """Return the group of an offer; within one, the order of the catalogue stays."""
    if offer.unsuited:
        return 3
    return 2 if offer.blocked else 1 if offer.fit == SHORT_ROWS else 0


def unsuited(card: "BaseModelCard", objective: str | None) -> str:
    """Return why a model of the catalogue is not offered for an objective; empty when it is."""
    from engine.catalog.matrix import reason_against_kind
    from engine.catalog.objectives import find_objective

    if objective is None:
        return ""
    if reason := reason_against_kind(objective, card.kind):
        return f"{reason}."
    if objective in card.objectives:
        return ""
    return f"Others serve better for {find_objective(objective).title.lower()}. {card.when_not}"


def _offer(card: "BaseModelCard", machine: Machine | None, objective: str | None) -> ModelOffer:
    from engine.planning.model_profile import read_model_profile

    try:
        profile = read_model_profile(card.name)
    except ProblemError as error:
        return ModelOffer(card.name, card.title, card.summary, fit="not available", blocked=str(error))
    reason = unsuited(card, objective)
    fit, blocked = ("", "") if reason else _first_look(profile, machine, objective)
    return ModelOffer(
        reference=card.name,
        title=card.title,
        summary=f"{card.summary} {card.when}",
        num_params=profile.num_params,
        weights_bytes=profile.weights_bytes or card.download_bytes,
        licence=card.license,
        where="built in" if card.builtin else "on this machine" if profile.weights_bytes else "download",
        fit=fit,
        blocked=blocked,
        gated=card.gated,
        unsuited=reason,
        context_length=profile.context_length,
        languages=card.languages,
    )


def _first_look(profile: "ModelProfile", machine: Machine | None, objective: str | None) -> tuple[str, str]:
    """Return which methods probably fit and why none does; the plan decides later with the real data."""
    from engine.catalog.methods import find_method
    from engine.planning.first_look import look
    from engine.planning.heads import with_head

    if machine is None or machine.hardware is None:
        return "", ""
    headed = profile if objective is None else with_head(profile, objective)
    found = look(headed, machine.hardware)
    if found is None:
        return "", ""
    if found.method is not None:
        method = find_method(found.method)
        return "fits, even full" if method.trains_whole else f"fits with {method.brief}", ""
    if not found.hopeless:
        return SHORT_ROWS, ""
    need, free = human_bytes(found.memory.low_bytes), human_bytes(found.free_bytes)
    return TOO_LARGE, f"Needs {need} or more in the leanest way; {free} of {found.memory.where} is free."
