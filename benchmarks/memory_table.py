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
            print(f"{source:<12} {prediction:<10} {summary(_of(rows, prediction))}")


def _errors(errors: dict[str, float]) -> str:
    return " ".join(f"{name} {100 * errors[name]:+7.1f} %" for name in PREDICTIONS if errors.get(name) is not None)


def _of(rows: Iterable[dict[str, Any]], prediction: str) -> list[float]:
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
        errors = [row[f"{prediction}_error"] for row in done.values() if row.get(f"{prediction}_error") is not None]
        print(f"tensors, {prediction:<10} {summary(errors)}")
        inside = list(_inside(done.values(), prediction))
        if inside:
            print(f"process, {prediction:<10} {sum(inside)} of {len(inside)} peaks inside the range")
    verdicts = [verdict for row in done.values() for verdict in row.get("boundary", ())]
    if verdicts:
        print(boundary_summary(verdicts))


def _line(name: str, row: dict[str, Any]) -> str:
    peak = row["measured"]["peaks"].get("training", 0) / 2**20
    errors = {key: row[f"{key}_error"] for key in PREDICTIONS if row.get(f"{key}_error") is not None}
    text = f"{name:<44} {peak:9.1f} MiB {_errors(errors)}"
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


def boundary_summary(verdicts: list[dict[str, Any]]) -> str:
    """Return how often the plan's verdict was wrong at the edge of the memory."""
    false_fits = sum(verdict["says_fits"] and verdict["ran_out_in"] is not None for verdict in verdicts)
    false_noes = sum(not verdict["says_fits"] and verdict["ran_out_in"] is None for verdict in verdicts)
    return f"boundary: {len(verdicts)} runs, {false_fits} false fits, {false_noes} ran although the plan said no"
