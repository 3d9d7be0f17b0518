"""The helper's answers about the X-ray, as the screens know them."""

from collections.abc import Mapping
from typing import Any

from engine.recipe.problems import Problem
from tui.backend import XrayPage, XraySequence, XrayToken


def xray_page(answer: Mapping[str, Any]) -> XrayPage:
    """Return the helper's answer to `xray`."""
    return XrayPage(
        sequences=tuple(_sequence(sequence) for sequence in answer["sequences"]),
        start=answer["start"],
        total=answer["total"],
        num_sequences=answer["num_sequences"],
        num_cut=answer["num_cut"],
        num_odd=answer["num_odd"],
        num_dropped=answer["num_dropped"],
        trained_share=answer["trained_share"],
        all_trained=answer["all_trained"],
        num_rows=answer["num_rows"],
        num_ended=answer["num_ended"],
        max_length=answer["max_length"],
        length_from=answer["length_from"],
        packed=answer["packed"],
        learnt=answer["learnt"],
        answers=answer["answers"],
        problems=tuple(Problem(**problem) for problem in answer["problems"]),
    )


def _sequence(answer: Mapping[str, Any]) -> XraySequence:
    tokens = tuple(
        XrayToken(token["text"], token["trained"], token["special"], token["padding"], token["segment"])
        for token in answer["tokens"]
    )
    return XraySequence(
        number=answer["number"],
        row_ids=tuple(answer["row_ids"]),
        tokens=tokens,
        num_tokens=answer["num_tokens"],
        num_trained=answer["num_trained"],
        num_padding=answer["num_padding"],
        num_lost=answer["num_lost"],
        reasons=tuple(answer["reasons"]),
        learns=answer["learns"],
    )
