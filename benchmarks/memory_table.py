"""Tables of the memory benchmark."""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.memory_predict import Results

PREDICTIONS = ("formula", "rehearsal")


def print_published(results: Results) -> None:
    """Print the errors against published figures, by source, and every row."""
    expressed = {name: row for name, row in results.rows.items() if "errors" in row}
    print(f"\n{len(expressed)} of {len(results.rows)} rows can be expressed; lengths fitted for PEFT's runs: "
          f"{results.conditions.get('fitted_lengths')}")  # fmt: skip
    for name, row in results.rows.items():
        size = f"{row['published_bytes'] / 2**30:8.2f} GiB {row['metric']:<9}"
        if "errors" in row:
            print(f"{name[:58]:<58} {size} {_errors(row['errors'])}  {row['differs']}")
        else:
            print(f"{name[:58]:<58} {size} not expressed: {row['not_expressed']}")
    for source in dict.fromkeys(name.partition("/")[0] for name in expressed):
        rows = [row for name, row in expressed.items() if name.startswith(f"{source}/")]
        for prediction in PREDICTIONS:
            print(f"{source:<12} {prediction:<10} {summary(errors_of(rows, prediction))}")


def _errors(errors: dict[str, float | None]) -> str:
    known = [(name, error) for name in PREDICTIONS if (error := errors.get(name)) is not None]
    return " ".join(f"{name} {100 * error:+8.2f} %" for name, error in known)


def errors_of(rows: Iterable[dict[str, Any]], prediction: str) -> list[float]:
    """Return the errors of one prediction in all rows that have it."""
    return [error for row in rows if (error := row["errors"].get(prediction)) is not None]


def summary(errors: list[float]) -> str:
    """Return the number of errors with median and largest size in percent."""
    if not errors:
        return "nothing"
    sizes = [100 * abs(error) for error in errors]
    return f"{len(sizes)} rows, median {statistics.median(sizes):.2f} %, largest {max(sizes):.2f} %"


def print_real(results: Results) -> None:
    """Print the errors against real runs."""
    done = {name: row for name, row in results.rows.items() if "measured" in row}
    for name, row in results.rows.items():
        print(_line(name, row) if name in done else f"{name:<44} failed: {row.get('failed', '')[:60]}")
    for prediction in PREDICTIONS:
        print(f"tensors, {prediction:<10} {summary(errors_of(done.values(), prediction))}")
        inside = list(_inside(done.values(), prediction))
        if inside:
            print(f"process, {prediction:<10} {sum(inside)} of {len(inside)} peaks inside the range")
    if any("boundary" in row for row in done.values()):
        print(boundary_summary(done.values()))


def _line(name: str, row: dict[str, Any]) -> str:
    peak = row["measured"]["peaks"].get("training", 0) / 2**20
    text = f"{name:<44} {peak:9.1f} MiB {_errors(row['errors'])}"
    if "peak_rss_bytes" not in row:
        return text
    ranges = ", ".join(
        f"{key} {low / 2**20:.0f} to {high / 2**20:.0f}" for key, (low, _, high) in row["ranges"].items()
    )
    return f"{text}; process {row['peak_rss_bytes'] / 2**20:.0f} MiB ({ranges})"


def _inside(rows: Iterable[dict[str, Any]], prediction: str) -> Iterator[bool]:
    for row in rows:
        if prediction in row.get("ranges", {}):
            low, _, high = row["ranges"][prediction]
            yield low <= row["peak_rss_bytes"] <= high


def boundary_summary(rows: Iterable[dict[str, Any]]) -> str:
    """Return how often the plan's verdict was wrong at the edge of the memory.

    A false "no" is one where the run needed at most ten elevenths of the memory: a tenth was free.
    """
    runs = false_fits = roomy = false_noes = 0
    for row in rows:
        needed = max(row["measured"].get("reserved", {}).values(), default=0)
        for verdict in row.get("boundary", ()):
            if "ran_out_in" not in verdict:
                continue
            ran_out = verdict["ran_out_in"] is not None
            runs += 1
            false_fits += verdict["says_fits"] and ran_out
            if not ran_out and 1.1 * needed <= verdict["limit_bytes"]:
                roomy += 1
                false_noes += not verdict["says_fits"]
    return f"boundary: {runs} runs, {false_fits} false fits; {false_noes} false noes of {roomy} with a tenth free"
