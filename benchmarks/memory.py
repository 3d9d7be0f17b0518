"""How wrong our predictions of memory are: `python benchmarks/memory.py [--published] [--cpu] [--gpu]`.

Three parts, all of them without an option. `--published`: figures that others measured on GPUs, against what we
predict for the nearest configuration that our engine can express. `--cpu`: real training runs on this machine. `--gpu`:
40 configurations fixed in advance, and 200 runs with about as much memory as the plan asks for; only where there is a
GPU. Results go to `benchmarks/data/` after each row; what was measured once is kept, predictions are made anew.
`--report` prints the tables of what is there, `--docs` puts them into the documentation.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.memory_cases import CPU_CASES, DATA, GPU_CASES, SMOKE_CASES, Case, Workshop  # noqa: E402
from benchmarks.memory_docs import write_page  # noqa: E402
from benchmarks.memory_predict import Predictor, Results  # noqa: E402
from benchmarks.memory_published import compare_published  # noqa: E402
from benchmarks.memory_real import RealRuns, run_all  # noqa: E402
from benchmarks.memory_table import print_published, print_real  # noqa: E402
from engine.hardware.probe import read_hardware  # noqa: E402
from engine.helper import InspectionHelper  # noqa: E402

NO_GPU = "not run: no GPU here"
REHEARSAL_S = 1800.0
"""A rehearsal takes seconds of computing; a benchmark on a busy machine may wait for them."""


def options() -> argparse.Namespace:
    """Return what the person asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("published", "cpu", "gpu"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--report", action="store_true", help="print the tables of what was measured before")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/memory-accuracy.md")
    parser.add_argument("--formula-only", action="store_true", help="no rehearsals")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results of these parts")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="with --gpu: cpu tries its code")
    parser.add_argument("--smoke", action="store_true", help="with --gpu: two tiny configurations, nothing is kept")
    parser.add_argument("--only", default="", help="names of cases must contain this")
    parser.add_argument("--folder", type=Path, help="work folder, kept; a temporary one otherwise")
    return parser.parse_args()


def main() -> None:
    """Run the parts that were asked for and print their tables."""
    chosen = options()
    if chosen.docs:
        write_page(Results.read(DATA / "memory-published.json"), Results.read(DATA / "memory-cpu.json"))
        return
    parts = [part for part in ("published", "cpu", "gpu") if getattr(chosen, part)] or ["published", "cpu", "gpu"]
    with tempfile.TemporaryDirectory() as temporary:
        shop = Workshop(chosen.folder or Path(temporary))
        for part in parts:
            print(f"\n== {part}", flush=True)
            PARTS[part](shop, chosen)


def published(shop: Workshop, chosen: argparse.Namespace) -> None:
    """Compare with figures of others."""
    results = _results("published", chosen)
    if not chosen.report:
        compare_published(shop, predictor(shop, chosen), results, only=chosen.only)
    print_published(results)


def cpu(shop: Workshop, chosen: argparse.Namespace) -> None:
    """Run on the processor."""
    results = _results("cpu", chosen)
    if not chosen.report:
        _run(shop, chosen, CPU_CASES, results, cuda=False)
    print_real(results)


def gpu(shop: Workshop, chosen: argparse.Namespace) -> None:
    """Run on the GPU, where there is one."""
    cuda = chosen.device == "cuda"
    if cuda and not list(read_hardware(patient=True).devices()) and not chosen.report:
        print(NO_GPU)
        return
    file = shop.folder / "memory-gpu-smoke.json" if chosen.smoke else DATA / "memory-gpu.json"
    if chosen.report and not file.exists():
        print(NO_GPU)
        return
    results = Results.read(file) if chosen.report else Results.open(file, fresh=chosen.fresh)
    if not chosen.report:
        _run(shop, chosen, SMOKE_CASES if chosen.smoke else GPU_CASES, results, cuda=cuda, boundary=True)
    print_real(results)


PARTS = {"published": published, "cpu": cpu, "gpu": gpu}


def _results(part: str, chosen: argparse.Namespace) -> Results:
    file = DATA / f"memory-{part}.json"
    return Results.read(file) if chosen.report else Results.open(file, fresh=chosen.fresh)


def _run(
    shop: Workshop,
    chosen: argparse.Namespace,
    cases: Sequence[Case],
    results: Results,
    *,
    cuda: bool,
    boundary: bool = False,
) -> None:
    hardware = read_hardware(patient=True)
    if not cuda:
        hardware = replace(hardware, gpus=[])
    helper = InspectionHelper(log_file=shop.folder / "inspection.log")
    runs = RealRuns(shop, hardware, predictor(shop, chosen), helper, worker=not cuda)
    try:
        run_all(runs, [case for case in cases if chosen.only in case.name], results, boundary=boundary)
    finally:
        helper.close()


def predictor(shop: Workshop, chosen: argparse.Namespace) -> Predictor:
    """Return what predicts: with rehearsals unless they are unwanted."""
    if chosen.formula_only:
        return Predictor()
    from engine.planning.rehearse import Rehearsals

    return Predictor(Rehearsals(shop.home.cache, timeout_s=REHEARSAL_S))


if __name__ == "__main__":
    main()
