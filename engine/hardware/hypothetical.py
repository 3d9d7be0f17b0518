"""Machines that are not here: `2x24GiB`, `4x A100 80GB`, `RTX 4090`, `cpu 32GiB`. For plans, never for runs."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.hardware.cards import Card, cards_named, least_with_label, nearest_cards
from engine.hardware.devices import FACTS, Gpu, Hardware
from engine.hardware.nvml import MAX_GPUS
from engine.hardware.probe import DISK_LIMIT_S, read_this_side
from engine.hardware.readings import Unavailable
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_bytes

MIB, GIB = 2**20, 2**30
MIN_BYTES, MAX_BYTES = GIB // 4, 10 * 2**40
MAX_TEXT = 80
ASSUMED_CAPABILITY = (8, 0)
"""Of a GPU of which only the memory is known: what is sold today computes in bfloat16."""
ASSUMED_CUDA = "13.0"
EXAMPLES = "Write for example 24GiB, 2x24GiB, 8x80GB, RTX 4090, 4x A100 80GB, cpu or cpu 32GiB."

_COUNT = re.compile(r"(\d{1,9})\s*[x×*]\s*(\S.*)", re.IGNORECASE)
# `RTX 4090 x2`; the space keeps the X of `GTX 1080` out of it.
_COUNT_AFTER = re.compile(r"(\S.*?)\s+[x×*]\s*(\d{1,9})", re.IGNORECASE)
_SIZE = re.compile(
    r"(?P<rest>.*?)(?<![\d.])(?P<number>\d{1,9}(?:\.\d{1,3})?)\s*(?P<unit>[KMGT]i?B|[KMGT])", re.IGNORECASE
)
_UNITS = {"mib": MIB, "gib": GIB, "tib": 2**40, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_MADE_UP = Unavailable("a machine that is not here")


def parse_machine(text: str, folders: Iterable[Path] = ()) -> Hardware:
    """Return a machine as somebody describes it. Host, disks and libraries are those of this machine.

    The memory of a card by name is what NVML reports for it; a size in GiB is taken as it is, a size in GB as the label
    of a card. Free is what is left of it after `idle_reserve`.

    Args:
        text: Count and card, or count and memory of one GPU, or `cpu` with the RAM.
        folders: Folders that a run would write to; their disks are measured.

    Raises:
        ProblemError: The text names no machine; the nearest known cards are named.
    """
    asked = clean_line(text, max_chars=MAX_TEXT).strip()
    this = read_this_side(folders, disk_limit_s=DISK_LIMIT_S)
    made = replace(this, driver=_MADE_UP, cuda=_MADE_UP, xids=_MADE_UP, visible_devices=None, hypothetical=asked)
    words = asked.split(maxsplit=1)
    if words and words[0].lower() in ("cpu", "none"):
        return _without_gpu(made, asked, words[1] if len(words) > 1 else "")
    count, name = _count(asked)
    card = _card(asked, name)
    gpus = [_gpu(index, card) for index in range(count)]
    # As if torch were built for a GPU here: the question is whether the machine would do.
    return replace(made, gpus=gpus, cuda=ASSUMED_CUDA, torch_cuda=ASSUMED_CUDA)


def idle_reserve(total_bytes: int) -> int:
    """Return what an idle GPU is taken not to give: 2 % of it, at least 256 MiB and at most 1 GiB.

    It stands for the driver's own part; the CUDA context of a run is counted by the plan. A choice, not a measurement.
    """
    return min(GIB, max(256 * MIB, total_bytes // 50))


def _without_gpu(made: Hardware, asked: str, size: str) -> Hardware:
    machine = replace(made, torch_cuda=Unavailable("a machine without a GPU"))
    if not size:
        return machine
    found = _SIZE.fullmatch(size)
    if found is None or found["rest"]:
        raise _unknown(asked, f"{size} is not an amount of memory.", "Write for example cpu 32GiB.")
    total = _bytes(asked, found)
    # A tenth for the system and whoever is logged in.
    host = replace(made.host, ram_total_bytes=total, ram_available_bytes=total * 9 // 10, ram_limited_by="machine")
    return replace(machine, host=host)


def _count(asked: str) -> tuple[int, str]:
    if found := _COUNT.fullmatch(asked):
        number, name = found[1], found[2]
    elif found := _COUNT_AFTER.fullmatch(asked):
        name, number = found[1], found[2]
    else:
        return 1, asked
    if not 1 <= int(number) <= MAX_GPUS:
        raise _unknown(asked, f"{int(number)} GPUs cannot be planned.", f"Ask for 1 to {MAX_GPUS} of them.")
    return int(number), name


def _card(asked: str, name: str) -> Card:
    """Return the card that a name with or without memory means."""
    found = _SIZE.fullmatch(name)
    if found is None:
        return _only(asked, cards_named(name), name)
    if not found["rest"].strip():
        return _nameless(asked, found)
    kind = found["rest"].strip(" -_,(")
    cards = cards_named(kind)
    giga = found["unit"][0].upper() == "G"
    fitting = [card for card in cards if giga and card.label_gb == float(found["number"])]
    if cards and not fitting:
        sizes = " or ".join(f"{card.label_gb} GB" for card in cards)
        raise _unknown(asked, f"There is no {cards[0].name} with that memory.", f"It has {sizes}.")
    return _only(asked, fitting, kind)


def _only(asked: str, cards: list[Card], name: str) -> Card:
    if len(cards) == 1:
        return cards[0]
    if cards:
        titles = " or ".join(card.title for card in cards)
        raise _unknown(asked, f"{cards[0].name} comes with different memory.", f"Write {titles}.")
    if not name.strip():
        raise _unknown(asked, "No machine is named.", EXAMPLES)
    near = nearest_cards(name)
    fix = f"Nearest known: {', '.join(near)}. Or give its memory, such as 24GiB." if near else EXAMPLES
    raise _unknown(asked, f"{name} is not a card that is known here.", fix)


def _nameless(asked: str, found: "re.Match[str]") -> Card:
    total = _bytes(asked, found)
    if found["unit"].lower() in ("gb", "g"):
        total = least_with_label(float(found["number"])) or total
    return Card(f"GPU with {human_bytes(total)}", round(total / 10**9), total // MIB, ASSUMED_CAPABILITY)


def _bytes(asked: str, found: "re.Match[str]") -> int:
    unit = found["unit"].lower()
    scale = _UNITS.get(unit if unit.endswith("b") else f"{unit}b")
    total = int(float(found["number"]) * scale) if scale else 0
    if not MIN_BYTES <= total <= MAX_BYTES:
        least, most = human_bytes(MIN_BYTES), human_bytes(MAX_BYTES)
        raise _unknown(
            asked, f"{found['number']}{found['unit']} is no memory to train in.", f"Ask for {least} to {most}."
        )
    return total


def _unknown(asked: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem("hardware.unknown_machine", f'"{asked}": {message}', fix))


def _gpu(index: int, card: Card) -> Gpu:
    total = card.total_bytes
    facts: dict[str, Any] = dict.fromkeys(FACTS, _MADE_UP) | {
        "name": card.name,
        "compute_capability": card.compute_capability,
        "total_bytes": total,
        "free_bytes": total - idle_reserve(total),
        "used_bytes": idle_reserve(total),
        "processes": [],
        "mig": False,
    }
    return Gpu(index=index, **facts)
