"""A measured value, or the reason why there is none. Nothing unknown is ever shown as zero."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.text import clean_line

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A value that could not be read, with the reason as a short phrase such as `not supported`."""

    reason: str

    def __str__(self) -> str:
        return f"n/a ({clean_line(self.reason, max_chars=120)})"


def known(reading: T | Unavailable) -> T | None:
    """Return the value of a reading, or None where there is none."""
    return None if isinstance(reading, Unavailable) else reading


def shown(reading: T | Unavailable, form: Callable[[T], str] = str) -> str:
    """Return a reading as text for a person: the value through `form`, or `n/a (reason)`."""
    return str(reading) if isinstance(reading, Unavailable) else form(reading)


def within(value: float, low: float, high: float, what: str) -> Unavailable | None:
    """Return why a number cannot be true, or None when it lies in `[low, high]`.

    Drivers report unset fields as 2^64 - 1 and broken sensors as anything; both would draw nonsense.
    """
    if value != value or not low <= value <= high:
        return Unavailable(f"the driver reports an impossible {what}")
    return None


def json_ready(value: Any) -> Any:
    """Return a reading as JSON: the value, or `{"unavailable": reason}`."""
    return {"unavailable": value.reason} if isinstance(value, Unavailable) else value
