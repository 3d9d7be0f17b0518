"""Search on the model hub: models of text with safetensors weights, by words, for an objective.

Nothing is searched unless a person asks; what the hub answers is hostile text until it was looked at.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from engine.catalog.objectives import Objective, find_objective
from engine.models.hub_errors import reason_of
from engine.models.hub_listing import ASK_TIMEOUT_S, ASK_WAITS_S, BUSY
from engine.planning.known_classes import has_head, kind_of, reads_text
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MOST_ASKED = 60
MOST_FOUND = 30
MAX_WORDS = 100
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_ASKED_FOR = ("safetensors", "config", "downloads", "gated", "tags", "cardData", "pipeline_tag")
_LICENCE = "license:"
_MOST_PARAMS = 10**14
_MANY_LANGUAGES = 3


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model that the hub named.

    Attributes:
        reference: Hub id.
        num_params: Elements of its tensors; 0 when the hub did not count.
        licence: Licence as its card spells it; empty when it names none.
        languages: In a word or two; empty when its card names none.
        gated: The hub asks for an account that accepted the licence.
        downloads: In the last month.
    """

    reference: str
    num_params: int
    licence: str
    languages: str
    gated: bool
    downloads: int


def search_hub(words: str, objective: str) -> dict[str, Any]:
    """Return the models of the hub that fit words and an objective, most downloaded first, as JSON.

    Args:
        words: Part of a name, or several words.
        objective: A name of the catalogue; what it does not train is left out.

    Returns:
        `models`, each as `FoundModel`; `left_out`, how many of those named do not suit the objective.

    Raises:
        ProblemError: The hub is switched off, did not answer or answered nonsense.
    """
    wanted = clean_line(words, max_chars=MAX_WORDS).strip()
    entry = find_objective(objective)
    try:
        named = _asked(wanted, entry)
    except OfflineModeIsEnabled:
        fix = "Unset HF_HUB_OFFLINE, or type a folder or the id of a model that is already here."
        raise _problem("search_offline", "The model hub is switched off, so it cannot be searched.", fix) from None
    except (HTTPError, HfHubHTTPError, OSError, ValueError) as error:
        fix = "Check the connection and search again; or type a folder, or an id as owner/name."
        raise _problem("search_failed", f"The model hub could not be searched: {reason_of(error)}.", fix) from error
    found = list(_suited(named, entry))
    return {"models": [asdict(model) for model in found[:MOST_FOUND]], "left_out": len(named) - len(found)}


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"model.{code}", clean_line(message, max_chars=300), fix, "model.base"))


def _asked(words: str, objective: Objective) -> list[Mapping[str, Any]]:
    """Return the entries of the hub's answer that are objects.

    Raises:
        ValueError: What answers is no model hub.
    """
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled
    params: dict[str, Any] = {
        "filter": ["safetensors", "transformers"],
        "sort": "downloads",
        "limit": MOST_ASKED,
        "expand": list(_ASKED_FOR),
    }
    if words:
        params["search"] = words
    if objective.kinds == ("decoder",):
        params["pipeline_tag"] = "text-generation"
    answer = _page(params)
    if not isinstance(answer, list):
        raise ValueError("what answers is no model hub")
    return [entry for entry in answer if isinstance(entry, Mapping)]


def _page(params: Mapping[str, Any]) -> Any:
    for wait_s in (*ASK_WAITS_S, None):
        address = f"{constants.ENDPOINT}/api/models"
        response = get_session().get(address, params=params, headers=build_hf_headers(), timeout=ASK_TIMEOUT_S)
        if response.status_code not in BUSY or wait_s is None:
            break
        time.sleep(wait_s)
    hf_raise_for_status(response)
    return response.json()


def _suited(named: list[Mapping[str, Any]], objective: Objective) -> Iterator[FoundModel]:
    for entry in named:
        reference, config = entry.get("id"), entry.get("config")
        if not isinstance(reference, str) or not _HUB_ID.fullmatch(reference) or not isinstance(config, Mapping):
            continue
        if _trained_by(config, objective):
            yield _model(reference, entry)


def _trained_by(config: Mapping[str, Any], objective: Objective) -> bool:
    """Return whether an objective can start from the model of a configuration."""
    family, classes = config.get("model_type"), config.get("architectures")
    named = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else ""
    if not isinstance(family, str) or "quantization_config" in config or not reads_text(named, family):
        return False
    kind = kind_of(named, family)
    return kind in objective.kinds and has_head(family, objective.head_of(kind))


def _model(reference: str, entry: Mapping[str, Any]) -> FoundModel:
    tags = entry.get("tags")
    names = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    licence = next((tag.removeprefix(_LICENCE) for tag in names if tag.startswith(_LICENCE)), "")
    weights = entry.get("safetensors")
    return FoundModel(
        reference=reference,
        num_params=_count(weights.get("total")) if isinstance(weights, Mapping) else 0,
        licence=clean_line(licence, max_chars=24),
        languages=_languages(entry.get("cardData")),
        gated=entry.get("gated") not in (None, False),
        downloads=_count(entry.get("downloads")),
    )


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MOST_PARAMS else 0


def _languages(card: Any) -> str:
    named = card.get("language") if isinstance(card, Mapping) else None
    listed = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    names = [clean_line(name, max_chars=16) for name in listed if isinstance(name, str) and name]
    return ", ".join(names) if len(names) <= _MANY_LANGUAGES else f"{len(names)} languages"
