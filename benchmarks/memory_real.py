"""Real runs of the memory benchmark: what was predicted, and what happened."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.memory_cases import BOUNDARY_FACTORS, Case, Workshop, plan_for
from benchmarks.memory_predict import Predictor, Results, formula_tensors, of_training, share_off
from engine.hardware.devices import Hardware
from engine.helper import InspectionHelper
from engine.planning.plan import Plan
from engine.planning.profiles import DataProfile
from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory, create_run

RUNNER = Path(__file__).resolve().parent / "memory_run.py"
TIMEOUT_S = 1800


@dataclass(slots=True)
class RealRuns:
    """Carries out cases one by one, each in processes of its own.

    Attributes:
        hardware: The machine that the plans are made for.
        worker: Also run the real worker and read its peak of resident memory.
    """

    shop: Workshop
    hardware: Hardware
    predictor: Predictor
    helper: InspectionHelper
    worker: bool = True

    def model_folder(self, model: str, dtype: str) -> Path:
        """Return a folder with a model of random content; the models made before are thrown away, they are large."""
        folder = self.shop.folder / "models" / f"{model}-{dtype}"
        if not (folder / "config.json").exists():
            for old in (self.shop.folder / "models").glob("*"):
                subprocess.run(["rm", "-r", str(old)], check=True)
            config = self.shop.config_folder(model)
            _child("make", str(config), str(folder), dtype)
        return folder

    def plan(self, case: Case) -> Plan:
        """Return the engine's plan for a case, from its real rows."""
        base = self.model_folder(case.model, "float32" if self.on_cpu else "bfloat16")
        source = self.shop.rows(case)
        data = self.helper.call_blocking("profile_data", recipe=case.tree(base, source), folder=str(base))
        profile = DataProfile.model_validate(data)
        plan = plan_for(case, base, self.hardware, profile, source, self.shop.home)
        if plan.blocked:
            errors = [finding.message for finding in plan.findings if finding.severity == "error"]
            raise RuntimeError(f"the plan of {case.name} is blocked: {' '.join(errors)}")
        return plan

    @property
    def on_cpu(self) -> bool:
        """Whether plans of this machine compute on the processor."""
        return not list(self.hardware.devices())

    def run(self, case: Case, earlier: dict[str, Any]) -> dict[str, Any]:
        """Return what is predicted now and what was measured of one case; what was measured earlier is not repeated."""
        plan = self.plan(case)
        measured = earlier.get("measured") or self.measure(plan)
        record: dict[str, Any] = {"case": case.facts(), "measured": measured}
        record["formula_bytes"] = formula_tensors(plan.memory, with_saving=True)
        record |= self.predictor.rehearsed(plan)
        # A run writes its last checkpoint inside training: the measured peak is of both.
        rehearsed = of_training(record.get("rehearsal", {}).get("peaks", {}), with_saving=True)
        predicted = {"formula": record["formula_bytes"], "rehearsal": rehearsed}
        training = measured["peaks"].get("training")
        record["errors"] = {name: share_off(num_bytes, training) for name, num_bytes in predicted.items()}
        if self.worker:
            resident = earlier.get("peak_rss_bytes") or self.peak_rss(plan)
            record |= {"peak_rss_bytes": resident, "ranges": self.predictor.ranges(plan)}
        return record

    def measure(self, plan: Plan, limit_bytes: int | None = None) -> dict[str, Any]:
        """Carry a run through in a process of its own and return its peaks."""
        run = self._new_run(plan)
        limits = [] if limit_bytes is None else [str(limit_bytes)]
        measured: dict[str, Any] = json.loads(_child("measure", str(run.path), *limits))
        return measured

    def peak_rss(self, plan: Plan) -> int:
        """Run the worker itself and return the peak of its resident memory in bytes."""
        run = self._new_run(plan)
        command = [sys.executable, "-P", "-m", "engine.worker", str(run.path)]
        with run.log_file.open("wb") as log:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            _, status, usage = os.wait4(worker.pid, 0)
            worker.returncode = os.waitstatus_to_exitcode(status)
        if worker.returncode:
            raise RuntimeError(f"the worker of {run.path} ended with {worker.returncode}")
        return int(usage.ru_maxrss) * 1024

    def boundary(self, plan: Plan) -> Iterator[dict[str, Any]]:
        """Run a case with little memory, at fixed shares of what the plan asks for, and yield what happened.

        A processor sets no limit that PyTorch would heed: there the limits are made and nothing is run.
        """
        demand = self.predictor.demand(plan)
        for factor in BOUNDARY_FACTORS:
            limit = round(factor * demand)
            verdict = {"factor": factor, "limit_bytes": limit, "says_fits": demand <= limit}
            yield verdict if self.on_cpu else verdict | {"ran_out_in": self.measure(plan, limit)["ran_out_in"]}

    def _new_run(self, plan: Plan) -> RunDirectory:
        recipe = yaml.safe_dump(plan.recipe.model_dump(mode="json", exclude_none=True))
        return create_run(self.shop.home, recipe, plan)


def _child(*arguments: str) -> str:
    """Run `memory_run.py` and return what it printed.

    Raises:
        RuntimeError: It failed; with the end of what it wrote to stderr.
    """
    done = subprocess.run(
        [sys.executable, str(RUNNER), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"memory_run.py {arguments[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def run_all(runs: RealRuns, cases: Iterable[Case], results: Results, *, boundary: bool) -> None:
    """Predict all cases and run those that were not run before; a failure is a result too."""
    for case in cases:
        earlier = results.rows.get(case.name, {})
        try:
            record = runs.run(case, earlier)
            if boundary:
                record["boundary"] = earlier.get("boundary") or list(runs.boundary(runs.plan(case)))
        except (RuntimeError, ProblemError, subprocess.TimeoutExpired) as error:
            record = earlier | {"case": case.facts(), "failed": str(error)[-600:]}
        if "measured" in record:
            record["measured"].setdefault("commit", results.conditions["commit"])
        results.add(case.name, record)
        print(f"{case.name}: {record.get('failed', 'done')[:100]}", flush=True)
