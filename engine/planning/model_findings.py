"""Whether a base model and an objective fit together, and what the model's own files say that this recipe minds."""

from collections.abc import Iterator

from engine.catalog.matrix import KIND_WORDS, reason_against_kind
from engine.catalog.objectives import OBJECTIVES, Objective, find_objective
from engine.planning.heads import with_head
from engine.planning.known_classes import has_head
from engine.planning.layer_sums import head_of_class
from engine.planning.profiles import Finding, ModelProfile
from engine.text import clean_line

_NEW_HEADS = frozenset({"sequence-classification", "token-classification"})
"""Heads that nearly every base model starts without."""
_NAMED = 2


def model_findings(model: ModelProfile, objective: str, *, trusted: bool = False) -> Iterator[Finding]:
    """Yield what the model's files say that an objective minds, and whether the two fit together.

    Args:
        model: Facts of the base model.
        objective: A name of the catalogue.
        trusted: The person lets the model's own Python files run; `check_rules` says what that means.
    """
    entry = find_objective(objective)
    headed = model if model.head else with_head(model, objective)
    for finding in model.findings:
        if finding.code == "model.remote_code" and trusted:
            continue
        if finding.code == "model.no_chat_template" and not entry.converses:
            continue
        if finding.code == "model.no_mask_token":
            if headed.head == "masked-lm":
                yield finding.model_copy(update={"severity": "error"})
            continue
        yield finding
    yield from _kind_findings(entry, headed)


def _kind_findings(objective: Objective, model: ModelProfile) -> Iterator[Finding]:
    if reason := reason_against_kind(objective.name, model.kind):
        base = clean_line(model.base, max_chars=80)
        yield _error("model.kind_unsuited", f"{base} does not suit: {reason}.", _way_out(objective, model))
        return
    if model.head is None:
        return
    # What a model's own code builds, only that code knows.
    own_code = any(finding.code == "model.remote_code" for finding in model.findings)
    if not own_code and not has_head(model.model_type, model.head):
        yield _error(
            "model.no_such_head",
            f"The installed transformers has no {clean_line(model.model_type, max_chars=40)} model for "
            f"{model.head.replace('-', ' ')}, which {objective.title.lower()} needs.",
            f"Choose {_others(objective, model)}.",
        )
        return
    yield from _untrained_head(model)


def _untrained_head(model: ModelProfile) -> Iterator[Finding]:
    """Yield that what must write or guess words was never trained: the files hold another head, or none."""
    own = head_of_class(model.architecture)
    if model.head is None or model.head in _NEW_HEADS or own == model.head or not model.architecture:
        return
    named = clean_line(model.architecture, max_chars=60)
    if model.head == "masked-lm":
        yield Finding(
            code="model.head_is_new",
            message=f"{named} brings no head that guesses hidden words; it starts from random numbers.",
            fix="Choose the model that was pre-trained with it, such as one whose architecture ends in ForMaskedLM.",
            path="model.base",
            severity="warning",
        )
    elif own in _NEW_HEADS and not model.tied_embeddings:
        yield _error(
            "model.head_is_new",
            f"{named} tells classes apart and brings no output layer for words, which would start from random numbers.",
            "Choose the language model that it was made from.",
        )


def _way_out(objective: Objective, model: ModelProfile) -> str:
    """Return what to do: a model that the objective trains, or an objective that trains this model."""
    fitting = [one.title for one in OBJECTIVES if model.kind in one.kinds]
    instead = (
        f"; or an objective that trains {KIND_WORDS[model.kind].split(',')[0]}: {', '.join(fitting)}" if fitting else ""
    )
    return f"Choose {_others(objective, model)}{instead}."


def _others(objective: Objective, model: ModelProfile) -> str:
    """Return the catalogue's models for an objective whose size is nearest."""
    from engine.catalog.base_models import models_for

    cards = [card for card in models_for(objective.name) if not card.builtin and not card.gated]
    able = [card for card in cards if card.architecture and card.architecture.model_type != model.model_type]
    nearest = sorted(able, key=lambda card: abs((card.num_params or 0) - model.num_params))[:_NAMED]
    return " or ".join(card.name for card in nearest) or "another base model"


def _error(code: str, message: str, fix: str) -> Finding:
    return Finding(code=code, message=message, fix=fix, path="model.base")
