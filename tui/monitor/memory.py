"""The memory panel: what the run holds and held at its peak, against what was predicted; GPUs and host beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textual.content import Content

from engine.hardware.devices import Gpu, Host
from engine.hardware.probe import GpuSampler, process_memory
from engine.hardware.readings import known, shown
from engine.planning.plan import MemoryEstimate
from engine.runs.measured_memory import DEPTH_WORDS, MemoryComparison, compare_memory
from engine.runs.picture import Picture
from engine.text import clean_line, human_bytes
from tui.widgets.labels import muted

_BAR_MOST, _BAR_LEAST = 48, 8
_LABEL_CELLS, _FACT_CELLS = 13, 21
_SPARKS = "▁▂▃▄▅▆▇█"
_VERDICTS = {"inside": ("✓", "$success"), "above": ("!", "$error"), "below": ("i", "$primary")}
_OTHERS_SHARE = 0.02
"""Less of a GPU than this is the driver's own, and not worth a word."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """One look at the memory.

    Attributes:
        gpus: Every GPU that NVML shows; empty without one.
        host: RAM of the machine.
        rss_bytes: RAM of the worker now; None when it is gone.
    """

    gpus: tuple[Gpu, ...]
    host: Host
    rss_bytes: int | None


class MemorySampler:
    """Reads memory again and again; each reading is cheap and none of them raises."""

    def __init__(self) -> None:
        self._gpus = GpuSampler()

    def sample(self, worker_pid: int | None) -> MemoryReading:
        """Return what is used now.

        Args:
            worker_pid: Process of the run; None when it has ended.
        """
        from engine.hardware.host import read_host

        rss = known(process_memory(worker_pid).rss_bytes) if worker_pid is not None else None
        return MemoryReading(tuple(self._gpus.sample()), read_host(), rss)


def usage_bar(used: float, total: float, width: int) -> Content:
    """Return a bar of used against total."""
    filled = round(min(1.0, max(0.0, used / total)) * width) if total > 0 else 0
    style = "$success" if total <= 0 or used / total < 0.85 else "$warning" if used / total < 0.95 else "$error"
    return Content.assemble(("█" * filled, style), ("░" * (width - filled), "$text-disabled"))


def prediction_bar(now_bytes: float, compared: MemoryComparison, width: int) -> Content:
    """Return one bar of measured and predicted memory.

    `█` is held now (`▓` inside the predicted range), `░` the rest of the range, `┃` what was expected, `◆` the measured
    peak. The axis begins at zero.
    """
    peak = float(compared.measured_bytes or 0)
    full = 1.06 * max(compared.high_bytes, peak, now_bytes, 1.0)

    def cell_of(size: float) -> int:
        return min(width - 1, round(size / full * width))

    low, high, filled = cell_of(compared.low_bytes), cell_of(compared.high_bytes), cell_of(now_bytes)
    marks = {cell_of(compared.expected_bytes): ("┃", "bold $accent")}
    if peak:
        marks[cell_of(peak)] = ("◆", f"bold {_VERDICTS[compared.verdict][1]}")
    cells: list[tuple[str, str]] = []
    for cell in range(width):
        in_range = low <= cell <= high
        if cell < filled:
            held = ("▓" if in_range else "█", "$primary")
        else:
            held = ("░", "$accent") if in_range else ("·", "$text-disabled")
        cells.append(marks.get(cell, held))
    return Content.assemble(*cells)


def memory_lines(
    picture: Picture, reading: MemoryReading | None, estimate: MemoryEstimate | None, width: int
) -> list[Content]:
    """Return the lines of the panel: the run against its prediction, its course, GPUs if there are any, the host.

    Args:
        picture: What is known of the run.
        reading: Newest look at the memory; None before the first.
        estimate: What the plan expects.
        width: Columns; the bars shrink to fit.
    """
    if reading is None:
        return [muted("Reading the memory ...")]
    cells = max(_BAR_LEAST, min(_BAR_MOST, width - _LABEL_CELLS - _FACT_CELLS))
    on_gpu = picture.latest.get("gpu_peak_bytes") is not None
    compared = _with_reading(compare_memory(picture, estimate), reading, on_gpu=on_gpu)
    lines = _now_lines(picture, reading, compared, cells, on_gpu=on_gpu)
    lines += [] if compared is None else _prediction_lines(picture, compared, width)
    lines += _course_line(picture, cells, on_gpu=on_gpu)
    own = _held_on_gpu(picture)
    where = str(picture.predicted.get("where") or (estimate.where if estimate is not None else ""))
    for gpu in reading.gpus:
        lines += _gpu_lines(gpu, own if where == f"GPU {gpu.label}" else None, cells)
    if on_gpu:
        lines.append(_labelled("worker RAM", _worker_words(picture, reading)))
    available = shown(reading.host.ram_available_bytes, human_bytes)
    total = shown(reading.host.ram_total_bytes, human_bytes)
    lines.append(_labelled("host RAM", f"{available} free of {total}"))
    return lines


def _with_reading(
    compared: MemoryComparison | None, reading: MemoryReading, *, on_gpu: bool
) -> MemoryComparison | None:
    """Return the comparison with what was just read, where that is above every peak that the worker has told yet."""
    now = reading.rss_bytes
    if compared is None or on_gpu or now is None or not compared.measured_bytes or now <= compared.measured_bytes:
        return compared
    return replace(compared, measured_bytes=now, phase="")


def _now_lines(
    picture: Picture, reading: MemoryReading, compared: MemoryComparison | None, cells: int, *, on_gpu: bool
) -> list[Content]:
    if compared is None:
        return [] if on_gpu else [_labelled("worker RAM", _worker_words(picture, reading))]
    ended = reading.rss_bytes is None
    held = _held_on_gpu(picture) if on_gpu else reading.rss_bytes
    now = 0 if ended or held is None else held
    facts = " ended" if ended else f" {human_bytes(now)} now"
    return [Content("").join([muted(f"  {'this run':<11}"), prediction_bar(now, compared, cells), Content(facts)])]


def _prediction_lines(picture: Picture, compared: MemoryComparison, width: int) -> list[Content]:
    """Return what was measured and predicted in words: on one line where there is room, else on two."""
    glyph, style = _VERDICTS.get(compared.verdict, ("", "$text-muted"))
    room = width - _LABEL_CELLS
    depth = DEPTH_WORDS.get(compared.depth, "")
    sentence = f"{glyph} {compared.sentence()}".strip()
    one_line = len(sentence) <= room
    if not one_line and compared.measured_bytes:
        peak = f"peak {human_bytes(compared.measured_bytes)} {compared.place}".rstrip()
        sentence = f"{glyph} {peak}: {compared.verdict_words}"
    lines = [_marked("◆" if compared.measured_bytes else " ", style, "measured", sentence, style)]
    if not one_line:
        lines.append(_marked("░", "$accent", "predicted", _fitting(compared.range_words, f" ({depth})", room)))
    expected = human_bytes(compared.expected_bytes)
    error = compared.error_percent
    if error is not None:
        expected += f", {abs(error):.1f} % {'more' if error > 0 else 'less'} than measured"
    if one_line:
        expected = _fitting(expected, f" ({depth})", room)
    lines.append(_marked("┃", "bold $accent", "expected", expected))
    probed = picture.probed.get("peak_bytes")
    if isinstance(probed, int | float):
        lines.append(_labelled("probed", f"{human_bytes(probed)} before the first step"))
    return lines + [_labelled("", caveat) for caveat in compared.caveats]


def _marked(glyph: str, style: str, label: str, text: str, text_style: str = "") -> Content:
    return Content.assemble((f"{glyph} ", style), (f"{label:<11}", "$text-muted"), (clean_line(text), text_style))


def _fitting(text: str, more: str, room: int) -> str:
    """Return text with more of it where that fits on the line."""
    return text + more if more.strip(" ()") and len(text) + len(more) <= room else text


def _course_line(picture: Picture, cells: int, *, on_gpu: bool) -> list[Content]:
    """Return the memory of the whole run as one row of small bars; nothing before there is a course."""
    curve = picture.curves.get("gpu_reserved_bytes" if on_gpu else "rss_bytes")
    if curve is None or len(curve) < 2:
        return []
    highest = [bucket.highest for bucket in curve.points()]
    low, high = curve.bounds() or (0.0, 0.0)
    facts = f" {human_bytes(low)} to {human_bytes(high)}"
    return [
        Content("").join([muted(f"  {'over time':<11}"), Content.styled(sparks(highest, cells), "$primary"), facts])
    ]


def sparks(values: Sequence[float], width: int) -> str:
    """Return values as a row of bars between their lowest and highest, at most `width`; neighbours show the higher."""
    num_cells = min(width, len(values))
    groups = [values[i * len(values) // num_cells : (i + 1) * len(values) // num_cells] for i in range(num_cells)]
    tops = [max(group) for group in groups]
    low, high = min(tops), max(tops)
    # A course that hardly moves is drawn flat, and not as hills of a few per cent.
    span = max(high - low, 0.1 * abs(high), 1.0)
    return "".join(_SPARKS[min(len(_SPARKS) - 1, int((top - low) / span * len(_SPARKS)))] for top in tops)


def _held_on_gpu(picture: Picture) -> int | None:
    """Return what the run holds on its GPU: as the driver counts it, else what PyTorch reserved."""
    for name in ("gpu_process_bytes", "gpu_reserved_bytes"):
        value = picture.latest.get(name)
        if isinstance(value, int):
            return value
    return None


def _gpu_lines(gpu: Gpu, own_bytes: int | None, cells: int) -> list[Content]:
    """Return the lines of one GPU: used against total, who uses it, and its gauges.

    Args:
        gpu: The GPU.
        own_bytes: What the run holds of it; None when the run is elsewhere or nobody knows.
        cells: Width of the bar.
    """
    name, label = clean_line(shown(gpu.name), max_chars=28), f"GPU {gpu.label}"
    used, total = known(gpu.used_bytes), known(gpu.total_bytes)
    if used is None or total is None:
        return [_labelled(label, f"{name}, memory {shown(gpu.used_bytes)}")]
    facts = f" {human_bytes(used)} of {human_bytes(total)}"
    gauges = (
        f"{name}   busy {shown(gpu.utilization_percent, lambda share: f'{share} %')}"
        f"   {shown(gpu.temperature_c, lambda degrees: f'{degrees} °C')}"
        f"   {shown(gpu.power_w, lambda watts: f'{watts:.0f} W')}"
    )
    lines = [Content("").join([muted(f"  {label:<11}"), usage_bar(used, total, cells), Content(facts)])]
    others = _others_words(gpu, used, total, own_bytes)
    return [*lines, *([_labelled("", others)] if others else []), _labelled("", gauges)]


def _others_words(gpu: Gpu, used: int, total: int, own_bytes: int | None) -> str:
    """Return what is free, and what other processes hold where that is known and worth a word."""
    free = f"{shown(gpu.free_bytes, human_bytes)} free"
    if own_bytes is None:
        processes = known(gpu.processes)
        return f"{free}; {len(processes)} processes" if processes and len(processes) > 1 else free
    others = used - own_bytes
    return f"{free}; other processes hold {human_bytes(others)}" if others > _OTHERS_SHARE * total else free


def _worker_words(picture: Picture, reading: MemoryReading) -> str:
    peak = picture.latest.get("peak_rss_bytes")
    if reading.rss_bytes is None:
        return f"ended; {human_bytes(peak)} RAM at its peak" if peak else "not running"
    return f"{human_bytes(reading.rss_bytes)}" + (f", {human_bytes(peak)} at its peak" if peak else "")


def _labelled(label: str, text: str) -> Content:
    return Content.assemble((f"  {label:<11}", "$text-muted"), (clean_line(text), ""))
