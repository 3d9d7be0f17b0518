"""The base models as numbered lines: what suits the objective and fits this machine first, and why others do not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.text import clean_line, human_bytes, human_count
from tui.backend import ModelOffer
from tui.engine_backend import EngineBackend, hub_answer

if TYPE_CHECKING:
    from engine.helper import InspectionHelper

STARTER = "builtin:starter"
SEARCH = "search "
"""How an answer begins that searches the hub instead of naming a model."""


def suited_offers(objective: str | None) -> tuple[list[ModelOffer], int]:
    """Return the base models that an objective trains and this machine can, and how many it cannot.

    Where none fits, all are returned.
    """
    backend = EngineBackend()
    suited = [offer for offer in backend.model_offers(backend.machine(), objective) if not offer.unsuited]
    fitting = [offer for offer in suited if not offer.blocked] or suited
    return fitting, len(suited) - len(fitting)


def first_choice(offers: Sequence[ModelOffer]) -> str:
    """Return what an empty line takes: the starter model where it suits, else the first that fits."""
    names = [offer.reference for offer in offers]
    return STARTER if STARTER in names else names[0]


def offer_summary(offer: ModelOffer) -> str:
    """Return size, licence and fit of a model in one line."""
    facts = [f"{human_count(offer.num_params)} weights" if offer.num_params else ""]
    facts.append(f"{human_bytes(offer.weights_bytes)} {offer.where}" if offer.weights_bytes else offer.where)
    facts.append(f"{offer.licence}, gated" if offer.gated else offer.licence)
    facts.append(offer.fit)
    return "; ".join(fact for fact in facts if fact) + "."


def offer_details(offer: ModelOffer) -> str:
    """Return what a question mark tells: what it is, how much it reads, and why it does not fit."""
    reads = f"Reads {offer.context_length:,} tokens. Languages: {offer.languages}." if offer.context_length else ""
    account = "Its licence must be accepted on the hub first." if offer.gated else ""
    return " ".join(part for part in (offer.summary, reads, account, offer.blocked) if part)


def search_hub(words: str, objective: str, helper: "InspectionHelper") -> list[ModelOffer]:
    """Return what the model hub finds for words, as offers.

    Raises:
        ProblemError: The hub is switched off or did not answer.
    """
    answer = hub_answer(helper.call_blocking("search_hub", words=words, objective=objective))
    return [
        ModelOffer(
            model.reference,
            clean_line(model.reference),
            f"{human_count(model.downloads)} downloads in a month.",
            num_params=model.num_params,
            licence=clean_line(model.licence or "no licence"),
            where="on the hub",
            gated=model.gated,
            languages=clean_line(model.languages),
        )
        for model in answer.models
    ]
