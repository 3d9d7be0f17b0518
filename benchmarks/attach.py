"""Measure what attaching to a long run costs: with the side-car, without it, and one poll.

    python benchmarks/attach.py [--events 200000]

Times are CPU seconds of this process, the best of several rounds; ratios are within one run, so that they can be
compared between machines. The log is made in a temporary folder: steps with every eighth line about memory.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engine.runs.directory import RunDirectory
from engine.runs.events import Event, EventReader, EventWriter, encode_event
from engine.runs.picture import PictureWriter, follow, open_picture


def make_log(run: RunDirectory, num_events: int) -> None:
    """Write a log as a worker would have, without its pace."""
    total_steps = num_events
    opening = [
        Event(1, 0.0, "run.created", {"run_id": "bench", "name": "bench", "objective": "chat", "base": "-"}),
        Event(2, 0.0, "worker.started", {"pid": 1, "host": "-", "device": "cpu", "attempt": 1, "resumed_from": None}),
        Event(3, 0.0, "training.started", {"total_steps": total_steps, "start_step": 0, "micro_batch": 1}),
    ]
    with run.events_file.open("wb") as log:
        for event in opening:
            log.write(encode_event(event))
        for seq in range(4, num_events + 1):
            log.write(encode_event(_memory(seq) if seq % 8 == 0 else _step(seq, total_steps)))


def _step(seq: int, total_steps: int) -> Event:
    payload = {
        "step": seq,
        "total_steps": total_steps,
        "epoch": round(seq / total_steps * 3, 4),
        "loss": 4 * math.exp(-seq / 4e4) + 0.1 * math.sin(seq),
        "learning_rate": 2e-4 * (1 - seq / total_steps),
        "grad_norm": 1 + 0.3 * math.cos(seq / 3),
        "num_tokens": seq * 4096,
        "tokens_per_s": 40960.5,
        "elapsed_s": seq * 0.1,
    }
    return Event(seq, seq * 0.1, "step.logged", payload)


def _memory(seq: int) -> Event:
    return Event(seq, seq * 0.1, "memory.sampled", {"rss_bytes": 2 * 10**9 + seq, "peak_rss_bytes": 3 * 10**9})


def best_cpu_s(work: Callable[[], object], rounds: int) -> float:
    """Return the least CPU time of several rounds."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def poll_cpu_s(run: RunDirectory, rounds: int = 50) -> float:
    """Return the median CPU time of a poll that finds ten new events."""
    picture, reader = open_picture(run)
    writer = EventWriter(run.events_file)
    times = []
    for _ in range(rounds):
        for _ in range(10):
            writer.write("step.logged", **_step(writer.seq + 1, 10**6).payload)
        started = time.process_time()
        picture = follow(picture, reader)
        times.append(time.process_time() - started)
    writer.close()
    return statistics.median(times)


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder))
        make_log(run, options.events)
        read_s = best_cpu_s(lambda: run.events_file.read_bytes(), options.rounds)
        decode_s = best_cpu_s(lambda: len(EventReader(run.events_file).poll()), options.rounds)
        naive_s = best_cpu_s(lambda: [json.loads(line) for line in run.events_file.open("rb")], options.rounds)
        replay_s = best_cpu_s(lambda: open_picture(run), options.rounds)
        PictureWriter(run).close()
        sidecar_s = best_cpu_s(lambda: open_picture(run), options.rounds)
        figures = {
            "events": options.events,
            "log_bytes": run.events_file.stat().st_size,
            "sidecar_bytes": run.picture_file.stat().st_size,
            "read_s": read_s,
            "json_per_line_s": naive_s,
            "decode_s": decode_s,
            "attach_without_sidecar_s": replay_s,
            "attach_with_sidecar_s": sidecar_s,
            "poll_10_events_s": poll_cpu_s(run),
            "without_sidecar_to_json_per_line": replay_s / naive_s,
            "with_to_without_sidecar": sidecar_s / replay_s,
        }
    print(json.dumps({name: round(value, 6) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
