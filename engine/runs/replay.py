"""Replay a long log fast: nearly all of its lines are steps, and their numbers are cut out by one pattern.

Parsing 200,000 steps as JSON costs more than a second of CPU; cut out as columns they cost a third. The pattern is made
from the first step line of a piece, so that it follows whatever keys the worker writes; lines that it does not fit,
such as a loss that is not a number, are parsed as usual, in their place.
"""

import json
import operator
import re

from engine.runs.events import Event, decode_chunk, decode_lines
from engine.runs.reducer import EXTRA_CURVE, MAX_EXTRAS, STEP_CURVES, Picture

_STEP_MARK = b'"type":"step.logged"'
_RESTART_MARK = b'"type":"training.started"'
_MIN_CHUNK_BYTES = 32 * 1024
_CAPTURED = ("seq", "step", "elapsed_s", *STEP_CURVES)
_NUMBER = r"-?\d[\d.eE+-]*+"
_WHOLE_NUMBER = r"\d++"


def replay_chunk(picture: Picture, chunk: bytes) -> int:
    """Apply a piece of a log to a picture and return how many of its lines were bad.

    Args:
        picture: Picture of the events before the piece.
        chunk: Whole lines.
    """
    if len(chunk) >= _MIN_CHUNK_BYTES and _replay_columns(picture, chunk):
        return 0
    events, bad = decode_chunk(chunk)
    picture.apply_all(events)
    return bad


def _replay_columns(picture: Picture, chunk: bytes) -> bool:
    """Apply a piece by columns; False, with the picture untouched, when it is not plain enough for that."""
    names, pattern = _step_pattern(chunk)
    if pattern is None:
        return False
    # Splitting gives what lies between steps, the captured values of a step, and so on in turn.
    try:
        pieces = pattern.split(chunk.decode())
        width = 1 + len(names)
        cut = {name: pieces[index::width] for index, name in enumerate(names, start=1)}
        seqs, steps = list(map(int, cut.pop("seq"))), list(map(int, cut.pop("step")))
        columns = {name: list(map(float, column)) for name, column in cut.items()}
    except ValueError:
        # Bytes that are no text, or digits that are no number: a damaged line.
        return False
    between = [(index, text) for index, text in enumerate(pieces[::width]) if text and text != "\n"]
    lines = [[line.encode() for line in text.split("\n") if line] for _, text in between]
    events, bad = decode_lines([line for group in lines for line in group])
    if bad or not seqs or seqs[0] <= picture.seq or not all(map(operator.lt, seqs, seqs[1:])):
        return False
    with picture.replaying():
        done = taken = 0
        for (index, _), group in zip(between, lines, strict=True):
            _apply_steps(picture, seqs, steps, columns, done, index)
            done = index
            for event in events[taken : taken + len(group)]:
                picture.apply(event)
            taken += len(group)
        _apply_steps(picture, seqs, steps, columns, done, len(seqs))
    _apply_latest(picture, chunk)
    return True


def _apply_steps(
    picture: Picture, seqs: list[int], steps: list[int], columns: dict[str, list[float]], start: int, end: int
) -> None:
    if end > start and seqs[end - 1] > picture.seq:
        part = {name: column[start:end] for name, column in columns.items()}
        picture.apply_steps(seqs[end - 1], steps[start:end], part)


def _apply_latest(picture: Picture, chunk: bytes) -> None:
    """Take the newest values from the last step line, as `apply` would have left them."""
    mark = chunk.rfind(_STEP_MARK)
    start = chunk.rfind(b"\n", 0, mark) + 1
    events, _ = decode_lines([chunk[start : chunk.index(b"\n", mark)]])
    for event in events:
        picture.latest.update(event.payload)
        if event.seq == picture.seq:
            picture.time = event.time
        total_steps = event.payload.get("total_steps")
        if total_steps is not None and chunk.rfind(_RESTART_MARK) < mark:
            picture.total_steps = total_steps


def _step_pattern(chunk: bytes) -> tuple[list[str], re.Pattern[str] | None]:
    """Return the captured keys in order and the pattern of the step lines of a piece; None when they have none."""
    event = _first_step(chunk)
    if event is None:
        return [], None
    numbers = {"seq": event.seq, "time": event.time, "type": None, **event.payload}
    parts: list[str] = []
    names: list[str] = []
    for key, value in numbers.items():
        if key == "type":
            parts.append('"type":"step\\.logged"')
        elif key == "extra" and _plain_table(value):
            inner = ",".join(f"{re.escape(json.dumps(name))}:({_NUMBER})" for name in value)
            parts.append(f'"extra":\\{{{inner}\\}}')
            names += [f"{EXTRA_CURVE}{name}" for name in value]
        elif type(value) in (int, float):
            number = _WHOLE_NUMBER if key in ("seq", "step") else _NUMBER
            parts.append(f"{re.escape(json.dumps(key))}:" + (f"({number})" if key in _CAPTURED else number))
            names += [key] if key in _CAPTURED else []
        else:
            return [], None
    if "step" not in names:
        return [], None
    return names, re.compile(r"^\{" + ",".join(parts) + r"\}\n", re.MULTILINE)


def _plain_table(value: object) -> bool:
    """Return whether a table holds numbers alone, and no more of them than are drawn."""
    return (
        isinstance(value, dict)
        and 0 < len(value) <= MAX_EXTRAS
        and all(type(one) in (int, float) for one in value.values())
    )


def _first_step(chunk: bytes) -> Event | None:
    mark = chunk.find(_STEP_MARK)
    if mark < 0:
        return None
    start = chunk.rfind(b"\n", 0, mark) + 1
    events, _ = decode_lines([chunk[start : chunk.index(b"\n", mark)]])
    return events[0] if events else None
