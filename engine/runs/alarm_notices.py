"""Alarms on a run's curve as notices in the event log: their codes, and which of them are not over."""

from collections.abc import Mapping
from typing import Any

_AREA, _OVER = "alarm.", "_over"


def alarm_code(kind: str, *, over: bool) -> str:
    """Return the code of the notice that tells when an alarm begins, or is over."""
    return f"{_AREA}{kind}{_OVER if over else ''}"


def is_alarm(code: object) -> bool:
    """Return whether a notice tells when an alarm begins or ends."""
    return str(code).startswith(_AREA)


def after_notice(alarms: dict[str, dict[str, Any]], notice: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{kind: {step, message}}` of the alarms that are not over after a notice.

    Raises:
        KeyError, TypeError, ValueError: The notice is of an alarm and lacks a part.
    """
    code = notice.get("code")
    if not is_alarm(code):
        return alarms
    kind = str(code).removeprefix(_AREA)
    others = {name: alarm for name, alarm in alarms.items() if name != kind.removesuffix(_OVER)}
    if kind.endswith(_OVER):
        return others
    return {**others, kind: {"step": int(notice["step"]), "message": str(notice["message"])}}
