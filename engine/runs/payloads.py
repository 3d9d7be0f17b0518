"""Payloads of events as the picture of a run keeps them."""

from typing import Any

MAX_SAMPLE_CHARS = 4000


def with_steps(payload: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a payload whose steps are whole numbers and whose values are numbers; raises for what is neither."""
    values = {name: float(payload[name]) for name in payload if name.endswith("value") and payload[name] is not None}
    return payload | values | {name: int(payload[name]) for name in names}


def with_sizes(payload: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return a payload whose sizes are whole numbers of bytes; raises for what is none, such as infinity."""
    return payload | {name: int(payload[name]) for name in names if payload.get(name) is not None}


def keep_newest(items: list[dict[str, Any]], item: dict[str, Any], limit: int, *, keep_first: bool = False) -> None:
    """Append an item and forget the oldest beyond a limit, or the second where the first is kept."""
    items.append(item)
    if len(items) > limit:
        del items[1 if keep_first else 0]


def of_base(item: dict[str, Any]) -> bool:
    """Return whether a measurement is of the base model, which no attempt changes."""
    return bool(item["phase"] in ("before", "few_shot", "test_before"))


def same_measurement(item: dict[str, Any], phase: str, step: int) -> bool:
    """Return whether a new measurement takes an older one's place: there is one before and one after."""
    return bool(item["phase"] == phase and (phase != "during" or item["step"] == step))


def clipped(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample whose texts are cut to what a screen shows."""
    return {key: value[:MAX_SAMPLE_CHARS] if isinstance(value, str) else value for key, value in sample.items()}
