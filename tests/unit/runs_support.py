"""Runs made for tests, and waiting without sleeping blindly."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.runs.directory import RunDirectory, create_run
from engine.runs.events import Event, EventWriter
from engine.runs.home import HomeFolders, home_folders


def wait_for(predicate: Callable[[], Any], deadline_s: float = 20.0) -> Any:
    """Return the first true value of a predicate; fail when it never comes."""
    ends = time.monotonic() + deadline_s
    while time.monotonic() < ends:
        value = predicate()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{predicate} stayed false for {deadline_s} s")


def home_in(folder: Path) -> HomeFolders:
    return home_folders({"FTWIZARD_HOME": str(folder / "home")})


def made_plan(name: str | None = "a run") -> Any:
    """Return what `create_run` reads of a plan."""
    recipe = SimpleNamespace(
        name=name, objective="chat", model=SimpleNamespace(base="org/base"), method=SimpleNamespace(name="lora")
    )
    return SimpleNamespace(recipe=recipe, model_dump_json=lambda indent=None: "{}")


def made_run(folder: Path, name: str = "a run") -> RunDirectory:
    return create_run(home_in(folder), "objective: chat\n", made_plan(name))


def step_payload(step: int, total_steps: int = 100, loss: float | None = None) -> dict[str, Any]:
    return {
        "step": step,
        "total_steps": total_steps,
        "epoch": step / 10,
        "loss": 1 / step if loss is None else loss,
        "learning_rate": 1e-4,
        "grad_norm": 0.5 + step % 3,
        "num_tokens": step * 100,
        "tokens_per_s": 1000.0,
        "elapsed_s": step * 0.5,
    }


def write_steps(writer: EventWriter, steps: range, total_steps: int = 100) -> None:
    for step in steps:
        writer.write("step.logged", **step_payload(step, total_steps))


def events_of(*items: tuple[str, dict[str, Any]], first_seq: int = 1) -> list[Event]:
    return [Event(first_seq + index, 1000.0 + index, kind, payload) for index, (kind, payload) in enumerate(items)]
