"""How a large JSONL file streams and is prepared: first findings, rows and bytes a second, peak resident memory.

python benchmarks/inspect_data.py [--megabytes 200] [--kind jsonl|json|csv]

The file is made in a scratch folder and removed afterwards. A process of its own reads it, so that its peak is the
reader's; the same bytes go through bare `json.loads` line by line in another one, as a yardstick of the same run.
`prepared` reads, checks, cleans and splits all of it, with an empty cache folder; `again` finds it there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SMALL_WORDS = (
    "the",
    "of",
    "and",
    "to",
    "is",
    "that",
    "for",
    "it",
    "with",
    "was",
    "you",
    "are",
    "this",
    "have",
    "be",
    "not",
)
ACCENTED = ("naïve", "Straße", "garçon", "señor", "Übung", "façade", "crème", "año")
CHINESE = "写文章的时候不要忘记标点符号因为读者需要它们才能明白意思"
NUM_WORDS = 8000
CHUNK_ROWS = 2000
SEED = 7


def write_file(path: Path, kind: str, num_bytes: int) -> None:
    """Write rows of 5 to 360 words until the file is large enough; no two rows are equal.

    Seven rows of ten are ASCII, three of them with numbers; two have accented letters, one has Chinese characters.
    Frequent words are frequent, as in any text.
    """
    draw = np.random.default_rng(SEED)
    words = _words(draw)
    written = 0
    with path.open("wb") as file:
        file.write({"json": b"[\n", "csv": b"prompt,completion\n", "jsonl": b""}[kind])
        while written < num_bytes:
            separator = b",\n" if kind == "json" and written else b""
            written += file.write(separator + _block(draw, words, kind))
        file.write(b"\n]\n" if kind == "json" else b"")


def _words(draw: np.random.Generator) -> npt.NDArray[Any]:
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    made = ["".join(draw.choice(letters, draw.integers(3, 11))) for _ in range(NUM_WORDS)]
    return np.array([*SMALL_WORDS, *made], dtype=object)


def _text(draw: np.random.Generator, words: npt.NDArray[Any], num_words: int, script: int) -> str:
    # A power of a uniform number takes the first words far more often than the last ones.
    picked: list[str] = words[(draw.random(num_words) ** 4 * len(words)).astype(np.int64)].tolist()
    if script == 0:
        picked[:: num_words // 2 + 1] = [CHINESE[at : at + 12] for at in (0, 9)][: len(picked[:: num_words // 2 + 1])]
    elif script <= 2:
        picked[-1] = ACCENTED[num_words % len(ACCENTED)]
    elif script <= 5:
        picked[0], picked[-1] = f"{num_words}:", f"(in {1900 + num_words})"
    return f"{' '.join(picked)}."


def _block(draw: np.random.Generator, words: npt.NDArray[Any], kind: str) -> bytes:
    rows = []
    for prompt_words, completion_words, script in draw.integers((5, 5, 0), (120, 240, 10), (CHUNK_ROWS, 3)).tolist():
        prompt = _text(draw, words, prompt_words, script)
        rows.append({"prompt": prompt, "completion": _text(draw, words, completion_words, script)})
    if kind == "csv":
        return "".join(f'"{row["prompt"]}","{row["completion"]}"\n' for row in rows).encode()
    joint = ",\n" if kind == "json" else "\n"
    return (joint.join(json.dumps(row, ensure_ascii=False) for row in rows) + ("" if kind == "json" else "\n")).encode()


def read_streamed(path: Path) -> dict[str, float]:
    """Read every row with our reader and return what was measured."""
    started = time.perf_counter()
    from engine.data.readers import open_source

    first_s = 0.0
    with open_source(path) as source:
        for _ in source:
            first_s = first_s or time.perf_counter() - started
        rows, hashed = source.num_rows, bool(source.sha256)
    return _measured(started, rows, first_s) | {"hashed": hashed}


def read_barely(path: Path) -> dict[str, float]:
    """Read the lines with `json.loads` and nothing else."""
    started = time.perf_counter()
    first_s, rows = 0.0, 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)
            rows += 1
            first_s = first_s or time.perf_counter() - started
    return _measured(started, rows, first_s)


def prepare_all(path: Path) -> dict[str, float]:
    """Prepare the file with every check, beside a cache folder, and return what was measured."""
    started = time.perf_counter()
    from engine.data.pipeline import prepare
    from engine.data.progress import Progress, WorkWatch
    from engine.recipe.schema import Recipe

    found_s: list[float] = []

    def tell(progress: Progress) -> None:
        if progress.found:
            found_s.append(time.perf_counter() - started)

    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(path)}}
    data = prepare(Recipe.model_validate(tree), cache=path.parent / "cache", watch=WorkWatch(tell))
    first_s = found_s[0] if found_s else time.perf_counter() - started
    return _measured(started, data.profile.num_rows, first_s)


def _measured(started: float, rows: int, first_s: float) -> dict[str, float]:
    elapsed_s = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"rows": rows, "first_s": first_s, "elapsed_s": elapsed_s, "peak_mib": peak_kib / 1024}


def in_process(way: str, path: Path) -> dict[str, float]:
    """Run one way of reading in a fresh process."""
    command = [sys.executable, __file__, "--way", way, "--path", str(path)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def main() -> None:
    """Make the file, read it both ways, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--kind", choices=("jsonl", "json", "csv"), default="jsonl")
    parser.add_argument("--way", choices=("streamed", "barely", "prepared", "again"))
    parser.add_argument("--path", type=Path)
    options = parser.parse_args()
    if options.way:
        ways = {"streamed": read_streamed, "barely": read_barely, "prepared": prepare_all, "again": prepare_all}
        print(json.dumps(ways[options.way](options.path)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{options.kind}"
        write_file(path, options.kind, options.megabytes * 10**6)
        size = path.stat().st_size
        print(f"{options.kind}, {size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
        for way in ("streamed", "barely", "prepared", "again") if options.kind == "jsonl" else ("streamed",):
            seen = in_process(way, path)
            print(
                f"{way:9} first {seen['first_s'] * 1000:6.0f} ms   {seen['elapsed_s']:6.1f} s   "
                f"{seen['rows'] / seen['elapsed_s']:9.0f} rows/s   {size / 1e6 / seen['elapsed_s']:6.1f} MB/s   "
                f"peak {seen['peak_mib']:5.0f} MiB"
            )


if __name__ == "__main__":
    main()
