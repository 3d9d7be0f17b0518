"""The memory part of the report: predicted, probed and measured as small pictures, and the same in words."""

from collections.abc import Mapping
from typing import Any

from engine.evaluation.charts import Line, Scale, legend, line_chart, round_ticks, tick_text
from engine.evaluation.markup import escape_html
from engine.runs.curves import Curve
from engine.runs.measured_memory import DEPTH_WORDS, PHASE_TITLES
from engine.text import clean_line, human_bytes

_UNITS = (("GiB", 1024**3), ("MiB", 1024**2))
_WIDTH, _LEFT, _RIGHT = 760, 128, 24
_ROW, _BAR, _TOP, _BOTTOM = 30, 14, 22, 44
_BADGES = {"inside": ("better", "✓ inside the prediction"), "above": ("worse", "✗ above the prediction"),
           "below": ("same", "below the prediction")}  # fmt: skip


def memory_section(memory: Mapping[str, Any], curves: Mapping[str, Curve]) -> str:
    """Return the section as HTML.

    Args:
        memory: The `memory` part of `report.json`.
        curves: The picture's curves.
    """
    badge = _BADGES.get(str(memory["verdict"]))
    mark = f'<span class="verdict {badge[0]}">{escape_html(badge[1])}</span> ' if badge else ""
    words = f"<p>{mark}{escape_html(memory_words(memory))}</p>"
    cards = [f'<div class="card">{words}{range_chart(memory)}{_keys(memory)}</div>', _over_time(memory, curves)]
    cards.append(_components(memory["predicted"].get("components") or {}))
    return "<h2>Memory</h2>\n" + "\n".join(card for card in cards if card)


def memory_words(memory: Mapping[str, Any]) -> str:
    """Return predicted and measured memory as sentences."""
    predicted = memory["predicted"]
    depth = DEPTH_WORDS.get(str(predicted.get("depth")), "")
    sentence = str(memory["sentence"])
    sentences = [f"{sentence[:1].upper()}{sentence[1:]}." if sentence else "Nothing was predicted."]
    expected = f"{human_bytes(predicted.get('expected_bytes'))} of {clean_line(memory['where'])} were expected"
    error = memory["error_percent"]
    more = "more" if isinstance(error, int | float) and error > 0 else "less"
    off = f", {abs(error):.1f} % {more} than was used" if isinstance(error, int | float) else ""
    sentences.append(f"{expected}{off}" + (f" ({depth})." if depth else "."))
    probed = memory["probed"]
    if probed and probed.get("peak_bytes"):
        sentences.append(f"The probe before the first step measured {human_bytes(probed['peak_bytes'])}.")
    return " ".join([*sentences, *(str(caveat) for caveat in memory["caveats"])])


def range_chart(memory: Mapping[str, Any]) -> str:
    """Return the predicted range, what was probed, and the measured peak of each phase on one axis, as `<svg>`."""
    predicted, rows = memory["predicted"], _rows(memory)
    high = predicted.get("high_bytes")
    if not high:
        return ""
    largest = max(high, *(size for _, size, _ in rows), 1)
    free = memory["available_bytes"] or 0
    # A limit far away would squeeze everything else into a corner.
    full = max(1.05 * largest, 1.04 * free if free <= 2.5 * largest else 0.0)
    unit, unit_bytes = _unit(full)
    ticks = [tick for tick in round_ticks(0.0, full / unit_bytes, 6) if tick * unit_bytes <= full]
    scale = Scale(0.0, full, _LEFT, _WIDTH - _RIGHT)
    height = _TOP + _ROW * (len(rows) + 1) + _BOTTOM
    foot = height - _BOTTOM
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Predicted and measured memory">',
        *(_tick(scale(tick * unit_bytes), tick_text(tick, ticks), foot) for tick in ticks),
        _range_row(predicted, scale),
        *(_row(index + 1, row, scale) for index, row in enumerate(rows)),
        _free_mark(free, scale, foot) if 0 < free <= full else "",
        f'<text class="axis" x="{(_WIDTH + _LEFT - _RIGHT) / 2:.0f}" y="{height - 4}" text-anchor="middle">'
        f"{unit}</text>",
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _rows(memory: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Return title, bytes and style of each bar below the range."""
    rows: list[tuple[str, int, str]] = []
    probed, measured = memory["probed"], memory["measured"]
    if probed and probed.get("peak_bytes"):
        rows.append(("Probed", int(probed["peak_bytes"]), "probed"))
    phases = measured.get("phases") or {}
    for phase, title in PHASE_TITLES.items():
        if phases.get(phase):
            rows.append((title, int(phases[phase]), "peak" if phase == measured.get("phase") else "phase"))
    if not phases and memory["measured_bytes"]:
        rows.append(("Measured", int(memory["measured_bytes"]), "peak"))
    return rows


def _range_row(predicted: Mapping[str, Any], scale: Scale) -> str:
    low, expected, high = (float(predicted[name]) for name in ("low_bytes", "expected_bytes", "high_bytes"))
    top = _TOP + (_ROW - _BAR) / 2
    words = f"Predicted: {human_bytes(low)} to {human_bytes(high)}, {human_bytes(expected)} expected"
    return (
        f'<text class="tick" x="{_LEFT - 12}" y="{top + 11:.0f}" text-anchor="end">Predicted</text>'
        f'<rect class="mem range" x="{scale(low):.1f}" y="{top:.0f}" width="{max(2.0, scale(high) - scale(low)):.1f}" '
        f'height="{_BAR}" rx="4"><title>{words}</title></rect>'
        f'<line class="mem expected" x1="{scale(expected):.1f}" x2="{scale(expected):.1f}" '
        f'y1="{top - 3:.0f}" y2="{top + _BAR + 3:.0f}"/>'
    )


def _row(index: int, row: tuple[str, int, str], scale: Scale) -> str:
    title, size, style = row
    top = _TOP + index * _ROW + (_ROW - _BAR) / 2
    width = scale(size) - _LEFT
    # Beside the bar where there is room for it, else inside.
    inside = width > _WIDTH - _LEFT - _RIGHT - 90
    place, anchor = (_LEFT + width - 8, "end") if inside else (_LEFT + width + 8, "start")
    return (
        f'<text class="tick" x="{_LEFT - 12}" y="{top + 11:.0f}" text-anchor="end">{title}</text>'
        f'<rect class="mem {style}" x="{_LEFT}" y="{top:.0f}" width="{width:.1f}" height="{_BAR}" rx="3"/>'
        f'<text class="tick {"inside" if inside else ""}" x="{place:.1f}" y="{top + 11:.0f}" '
        f'text-anchor="{anchor}">{human_bytes(size)}</text>'
    )


def _tick(x: float, text: str, foot: float) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}"/>'
        f'<text class="tick" x="{x:.1f}" y="{foot + 18}" text-anchor="middle">{text}</text>'
    )


def _unit(most_bytes: float) -> tuple[str, int]:
    """Return the unit of an axis that ends at so many bytes, and its size."""
    return next((unit for unit in _UNITS if most_bytes >= unit[1]), _UNITS[-1])


def _free_mark(free: float, scale: Scale, foot: float) -> str:
    x = scale(free)
    return (
        f'<line class="mem limit" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{foot}"/>'
        f'<text class="tick" x="{x:.1f}" y="{_TOP - 9}" text-anchor="end">{human_bytes(free)} were free</text>'
    )


def _keys(memory: Mapping[str, Any]) -> str:
    keys = [("range", "predicted range"), ("expected", "expected"), ("peak", "highest measured")]
    if any(style == "phase" for _, _, style in _rows(memory)):
        keys.append(("phase", "measured in other phases"))
    items = "".join(f'<span class="key mem-{style}"><i></i>{words}</span>' for style, words in keys)
    return f'<p class="legend">{items}</p>'


def _over_time(memory: Mapping[str, Any], curves: Mapping[str, Curve]) -> str:
    """Return measured memory by step over the predicted range; empty for runs with hardly a sample."""
    name, title = ("gpu_reserved_bytes", "Held by PyTorch on the GPU")
    if name not in curves:
        name, title = ("rss_bytes", "RAM of the worker")
    curve = curves.get(name)
    if curve is None or len(curve) < 3:
        return ""
    predicted = memory["predicted"]
    low, expected, high = (float(predicted.get(key) or 0) for key in ("low_bytes", "expected_bytes", "high_bytes"))
    unit, size = _unit(max(high, (curve.bounds() or (0.0, 0.0))[1]))
    points = [(bucket.x, bucket.mean / size) for bucket in curve.points()]
    ends = (points[0][0], points[-1][0])
    lines = [
        Line(
            "predicted",
            "held-out",
            [(x, expected / size) for x in ends],
            band=[(x, low / size, high / size) for x in ends],
        ),
        Line(title, "rate", points),
    ]
    chart = line_chart("Measured memory by step", lines, x_name="step", y_name=unit, height=220)
    return f'<div class="card"><h3>Over the run</h3>{legend(lines)}{chart}</div>'


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "&lt;1 %"


def _components(components: Mapping[str, Any]) -> str:
    """Return what the prediction is made of, largest first."""
    sizes = {str(name): int(size) for name, size in components.items() if isinstance(size, int | float) and size > 0}
    total = sum(sizes.values())
    if not total:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape_html(clean_line(name).replace('_', ' '))}</td>"
        f'<td class="number">{human_bytes(size)}</td><td class="number">{_share(size / total)}</td>'
        f'<td class="bars"><div class="bar after"><i style="width:{100 * size / total:.1f}%"></i></div></td></tr>'
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
    )
    head = '<tr><th>Predicted for</th><th class="number">Size</th><th class="number">Share</th><th></th></tr>'
    return f'<div class="card table"><table class="dense"><thead>{head}</thead><tbody>\n{rows}\n</tbody></table></div>'
