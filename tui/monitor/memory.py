"""The memory panel: what the GPUs or the host hold now, against what the plan expected."""

from dataclasses import dataclass

from textual.content import Content

from engine.hardware.devices import Gpu, Host
from engine.hardware.probe import GpuSampler, process_memory
from engine.hardware.readings import known, shown
from engine.planning.plan import MemoryEstimate
from engine.runs.picture import Picture
from engine.text import clean_line, human_bytes
from tui.widgets.labels import muted

_BAR_MOST, _BAR_LEAST = 30, 8
_LABEL_CELLS, _FACT_CELLS = 13, 24


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


def usage_bar(used: float, total: float, expected: float | None, width: int) -> Content:
    """Return a bar of used against total with a tick where the plan expected the peak."""
    filled = round(min(1.0, max(0.0, used / total)) * width) if total > 0 else 0
    tick = round(min(1.0, expected / total) * (width - 1)) if expected is not None and total > 0 else None
    style = "$success" if total <= 0 or used / total < 0.85 else "$warning" if used / total < 0.95 else "$error"
    parts: list[tuple[str, str]] = []
    for cell in range(width):
        if cell == tick:
            parts.append(("┃", "bold $accent"))
        else:
            parts.append(("█", style) if cell < filled else ("░", "$text-disabled"))
    return Content.assemble(*parts)


def memory_lines(
    picture: Picture, reading: MemoryReading | None, estimate: MemoryEstimate | None, width: int
) -> list[Content]:
    """Return the lines of the panel: GPUs if there are any, the worker's RAM, the host, and the plan's estimate.

    Args:
        picture: What is known of the run.
        reading: Newest look at the memory; None before the first.
        estimate: What the plan expects.
        width: Columns; the bars shrink to fit.
    """
    if reading is None:
        return [muted("Reading the memory ...")]
    cells = max(_BAR_LEAST, min(_BAR_MOST, width - _LABEL_CELLS - _FACT_CELLS))
    on_gpu = bool(reading.gpus) and picture.latest.get("gpu_peak_bytes") is not None
    expected = float(estimate.expected_bytes) if estimate is not None else None
    lines: list[Content] = []
    for gpu in reading.gpus:
        lines += _gpu_lines(gpu, expected if on_gpu else None, cells)
    lines.append(_worker_line(picture, reading, None if on_gpu else expected, cells))
    if on_gpu:
        lines.append(_labelled("this run", f"{human_bytes(picture.latest['gpu_peak_bytes'])} on the GPU at its peak"))
    available = shown(reading.host.ram_available_bytes, human_bytes)
    total = shown(reading.host.ram_total_bytes, human_bytes)
    lines.append(_labelled("host RAM", f"{available} free of {total}"))
    if estimate is not None:
        span = f"{human_bytes(estimate.low_bytes)} to {human_bytes(estimate.high_bytes)}"
        text = f"{human_bytes(estimate.expected_bytes)} expected, {span}"
        basis = f" ({clean_line(estimate.basis)})"
        text += basis if len(text) + len(basis) + _LABEL_CELLS <= width else ""
        lines.append(Content.assemble(("┃ ", "bold $accent"), ("plan       ", "$text-muted"), (text, "")))
    return lines


def _gpu_lines(gpu: Gpu, expected: float | None, cells: int) -> list[Content]:
    name = clean_line(shown(gpu.name), max_chars=28)
    used, total = known(gpu.used_bytes), known(gpu.total_bytes)
    if used is None or total is None:
        return [_labelled(f"GPU {gpu.index}", f"{name}, memory {shown(gpu.used_bytes)}")]
    facts = f" {human_bytes(used)} of {human_bytes(total)}"
    gauges = (
        f"{name}   busy {shown(gpu.utilization_percent, lambda share: f'{share} %')}"
        f"   {shown(gpu.temperature_c, lambda degrees: f'{degrees} °C')}"
        f"   {shown(gpu.power_w, lambda watts: f'{watts:.0f} W')}"
    )
    return [
        Content("").join(
            [muted(f"  {f'GPU {gpu.index}':<11}"), usage_bar(used, total, expected, cells), Content(facts)]
        ),
        _labelled("", gauges),
    ]


def _worker_line(picture: Picture, reading: MemoryReading, expected: float | None, cells: int) -> Content:
    peak = picture.latest.get("peak_rss_bytes")
    total = known(reading.host.ram_total_bytes)
    if reading.rss_bytes is None or total is None:
        return _labelled("worker", f"ended; {human_bytes(peak)} RAM at its peak" if peak else "not running")
    # Against all RAM a small run's bar would stay empty: scale to what the run itself may need.
    scale = min(float(total), 1.5 * max(expected or 0.0, float(peak or 0), float(reading.rss_bytes)))
    facts = f" {human_bytes(reading.rss_bytes)}, peak {human_bytes(peak)}"
    return Content("").join(
        [muted(f"  {'worker RAM':<11}"), usage_bar(reading.rss_bytes, scale, expected, cells), Content(facts)]
    )


def _labelled(label: str, text: str) -> Content:
    return Content.assemble((f"  {label:<11}", "$text-muted"), (clean_line(text), ""))
