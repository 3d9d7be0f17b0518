"""The tables of `docs/memory-accuracy.md`, made from the committed results."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.memory_predict import Results
from benchmarks.memory_table import PREDICTIONS, errors_of

PAGE = Path(__file__).resolve().parent.parent / "docs/memory-accuracy.md"
BEGIN, END = "<!-- tables: python benchmarks/memory.py --docs -->", "<!-- end of tables -->"
MIB, GIB = 2**20, 2**30
METHODS = ("full", "lora", "qlora")
_METRICS = {"allocated": "allocated", "reserved": "reserved", "card": "smallest card"}


def write_page(published: Results, cpu: Results) -> None:
    """Put fresh tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), published, cpu), encoding="utf-8")


def filled(page: str, published: Results, cpu: Results) -> str:
    """Return the page with the tables of these results between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(published, cpu)}\n{END}{after}"


def tables(published: Results, cpu: Results) -> str:
    """Return all tables as Markdown."""
    parts = (
        "### Real runs on a processor: what tensors occupy at the peak of training",
        _conditions(cpu),
        "\n".join(_tensors_by_method(cpu)),
        "\n".join(_runs(cpu)),
        "### Real runs on a processor: peak of the process",
        "\n".join(_processes(cpu)),
        "### Figures that others published",
        _conditions(published),
        "\n".join(_by_source(published)),
        "\n".join(_published_rows(published)),
        "\n".join(_not_expressed(published)),
    )
    return "\n\n".join(part for part in parts if part)


def _conditions(results: Results) -> str:
    facts = results.conditions
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    return f"Seen on {facts['date']} at {facts['commit']}: {facts['machine']}, Python {facts['python']}, {libraries}."


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(head)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a signed share in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:+.{digits}f} %"


def _spread(errors: list[float], digits: int) -> str:
    if not errors:
        return "–"
    sizes = [abs(error) for error in errors]
    return f"{100 * statistics.median(sizes):.{digits}f} / {100 * max(sizes):.{digits}f} %"


def _measured(cpu: Results) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in cpu.rows.items() if "measured" in row}


def _tensors_by_method(cpu: Results) -> Iterator[str]:
    rows = _measured(cpu)
    lines = []
    for method in (*METHODS, "all"):
        chosen = [row for row in rows.values() if method in ("all", row["case"]["method"])]
        errors = [errors_of(chosen, name) for name in PREDICTIONS]
        lines.append([method, str(len(chosen)), _spread(errors[0], 1), _spread(errors[1], 3)])
    yield from _table(["method", "runs", "formula, median / largest error", "rehearsal, median / largest error"], lines)


def _runs(cpu: Results) -> Iterator[str]:
    lines = [
        [
            name,
            f"{row['measured']['peaks']['training'] / MIB:.1f} MiB",
            percent(row["errors"].get("formula")),
            percent(row["errors"].get("rehearsal"), 3),
        ]
        for name, row in _measured(cpu).items()
    ]
    yield from _table(["run", "measured", "formula", "rehearsal"], lines)
    failed = [f"{name} ({row['failed'].splitlines()[-1][:120]})" for name, row in cpu.rows.items() if "failed" in row]
    if failed:
        yield ""
        yield f"Failed: {'; '.join(failed)}."


def _processes(cpu: Results) -> Iterator[str]:
    rows = [row for row in cpu.rows.values() if "ranges" in row]
    lines = []
    for name in PREDICTIONS:
        found = [(row["peak_rss_bytes"], *row["ranges"][name]) for row in rows if name in row["ranges"]]
        if not found:
            continue
        inside = sum(low <= peak <= high for peak, low, _, high in found)
        above = sum(peak > high for peak, _, _, high in found)
        off = _spread([expected / peak - 1 for peak, _, expected, _ in found], 1)
        width = statistics.median((high - low) / expected for _, low, expected, high in found)
        lines.append([name, str(len(found)), str(inside), str(above), off, f"{100 * width:.0f} %"])
    head = [
        "range of the",
        "runs",
        "peak inside",
        "peak above",
        "expected value, median / largest error",
        "width, median",
    ]
    yield from _table(head, lines)


def _expressed(published: Results) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in published.rows.items() if "errors" in row}


def _by_source(published: Results) -> Iterator[str]:
    rows = _expressed(published)
    lines = []
    for source in dict.fromkeys(name.partition("/")[0] for name in published.rows):
        chosen = [row for name, row in rows.items() if name.startswith(f"{source}/")]
        total = sum(name.startswith(f"{source}/") for name in published.rows)
        errors = [errors_of(chosen, name) for name in PREDICTIONS]
        lines.append([source, str(total), str(len(chosen)), _spread(errors[0], 1), _spread(errors[1], 1)])
    head = ["source", "rows", "expressed", "formula, median / largest error", "rehearsal, median / largest error"]
    yield from _table(head, lines)


def _published_rows(published: Results) -> Iterator[str]:
    lines = [
        [
            name.replace("|", "/"),
            f"{row['published_bytes'] / GIB:.2f} GiB {_METRICS[row['metric']]}",
            percent(row["errors"].get("formula")),
            percent(row["errors"].get("rehearsal")),
            row["differs"],
        ]
        for name, row in _expressed(published).items()
    ]
    yield from _table(["row", "published", "formula", "rehearsal", "what was different there"], lines)


def _not_expressed(published: Results) -> Iterator[str]:
    reasons = Counter(row["not_expressed"] for row in published.rows.values() if "not_expressed" in row)
    methods = sorted(reason.split()[2] for reason in reasons if reason.startswith("the method"))
    missing = sum(count for reason, count in reasons.items() if reason.startswith("the method"))
    lines = [[f"methods that the engine does not have: {', '.join(methods)}", str(missing)]]
    lines += [[reason, str(count)] for reason, count in reasons.items() if not reason.startswith("the method")]
    yield from _table(["rows that our engine cannot express, and why", "rows"], lines)
