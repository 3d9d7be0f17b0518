"""A run directory as a worker would leave it, made of events alone: for screens that only read.

`python -m tests.tui.fake_run FOLDER --live` writes one that goes on, for looking at the monitor by hand.
"""

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

from engine.planning.plan import Device, DiskEstimate, MemoryEstimate, Plan, Steps, ValueSource
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.schema import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.events import EventWriter
from engine.runs.liveness import write_exit

TOTAL_STEPS = 400
EVALUATE_EVERY = 50
MIB = 1024**2

PROMPTS = [
    ("Please dim the lamp in the study to 30 percent", "light.set room=study level=30"),
    ("Wake me at half past six", "alarm.set time=06:30"),
    ("Add oat milk to the shopping list", "list.add list=shopping item=oat-milk"),
]


def fake_plan() -> Plan:
    """Return a plan with plausible numbers."""
    recipe = Recipe.model_validate(
        {"objective": "chat", "model": {"base": "builtin:starter"}, "data": {"source": "builtin:commands"}}
    )
    model = ModelProfile(
        base="builtin:starter", architecture="LlamaForCausalLM", model_type="llama", num_params=1_000_000,
        vocab_size=2048, hidden_size=128, num_layers=4, num_heads=4, num_kv_heads=4, head_dim=32, intermediate_size=384,
        context_length=512, tied_embeddings=True,
    )  # fmt: skip
    memory = MemoryEstimate(
        components={"process": 520 * MIB, "weights": 4 * MIB, "activations": 60 * MIB}, expected_bytes=584 * MIB,
        low_bytes=500 * MIB, high_bytes=800 * MIB, available_bytes=20_000 * MIB, where="host RAM",
    )  # fmt: skip
    return Plan(
        recipe=recipe, sources={"objective": ValueSource(kind="you")}, device=Device(kind="cpu"), model=model,
        data=DataProfile(format="messages", num_rows=900, num_train=810, num_held_out=90), memory=memory,
        steps=Steps(micro_batch=8, accumulation=2, steps_per_epoch=50, total_steps=TOTAL_STEPS,
                    evaluate_every=EVALUATE_EVERY, checkpoint_every=EVALUATE_EVERY),
        disk=DiskEstimate(checkpoints_bytes=10 * MIB, export_bytes=8 * MIB, total_bytes=18 * MIB),
    )  # fmt: skip


def loss_at(step: int, noise: random.Random) -> float:
    """Return a loss that falls as losses do."""
    return 0.15 + 3.2 * math.exp(-step / 70) + noise.gauss(0, 0.06) * math.exp(-step / 300)


class FakeRun:
    """Writes the events of a run, step by step.

    Args:
        folder: Parent of the run directory.
        name: Folder name of the run.
    """

    def __init__(self, folder: Path, name: str = "20261120-143055-commands-lora-k3f9") -> None:
        self.run = RunDirectory(folder / name)
        self.run.path.mkdir(parents=True)
        self.run.plan_file.write_text(fake_plan().model_dump_json())
        self._events = EventWriter(self.run.events_file)
        self._noise = random.Random(7)
        self.write("run.created", run_id=name, name="commands", objective="chat", base="builtin:starter", method="lora")

    def write(self, event_type: str, **payload: Any) -> None:
        """Append one event."""
        self._events.write(event_type, **payload)

    def start(self) -> None:
        """Write everything up to the first step."""
        self.write("worker.started", pid=1, host="box", device="cpu", attempt=1, resumed_from=None, standby=False)
        self.write("state.changed", state="preparing", reason="")
        self.predict()
        self.write("data.prepared", num_train=810, num_held_out=90, dropped={}, trained_token_share=0.4)
        self.write("model.loaded", num_params=1_000_000, trainable_params=50_000, dtype="float32", choices=[])
        self.write("state.changed", state="evaluating", reason="before training")
        self.evaluate("before", 0)
        self.write("state.changed", state="training", reason="")
        self.write(
            "training.started", total_steps=TOTAL_STEPS, start_step=0, micro_batch=8, accumulation=2, steps_per_epoch=50
        )

    def predict(self) -> None:
        """Write what the worker predicted: the plan's estimate."""
        memory = fake_plan().memory.model_dump()
        names = ("low_bytes", "expected_bytes", "high_bytes", "depth", "basis", "where", "available_bytes")
        facts = {name: memory[name] for name in (*names, "components", "peaks", "confidence")}
        self.write("memory.predicted", **facts, micro_batch=8)

    def step(self, step: int) -> None:
        """Write one optimizer step."""
        self.write(
            "step.logged", step=step, total_steps=TOTAL_STEPS, epoch=step / 50, loss=loss_at(step, self._noise),
            learning_rate=2e-3 * (1 - step / TOTAL_STEPS), grad_norm=0.8 + 0.1 * math.sin(step), num_tokens=step * 1000,
            tokens_per_s=9000 + 300 * math.sin(step / 9), elapsed_s=step * 0.11,
        )  # fmt: skip
        if step % 9 == 0:
            rss = int(560 * MIB + 10 * MIB * math.sin(step))
            self.write(
                "memory.sampled", phase="training", peak_bytes=rss + 8 * MIB, peak_kind="rss", rss_bytes=rss,
                peak_rss_bytes=580 * MIB, gpu_allocated_bytes=None, gpu_reserved_bytes=None, gpu_peak_bytes=None,
                gpu_process_bytes=None, gpu_used_bytes=None,
            )  # fmt: skip
        if step % EVALUATE_EVERY == 0:
            self.evaluate("during", step)
            self.write(
                "checkpoint.committed", step=step, folder=f"checkpoints/step-{step:06d}", bytes=MIB, elapsed_s=0.1
            )

    def evaluate(self, phase: str, step: int, texts: list[str] | None = None) -> None:
        """Write one evaluation with its samples."""
        loss = 0.2 + 3.3 * math.exp(-step / 70)
        metrics = {"loss": loss, "perplexity": math.exp(loss), "token_accuracy": 1 - 0.9 * math.exp(-step / 80)}
        if phase != "during":
            metrics |= {
                "exact_match": 0.0 if phase == "before" else 0.97,
                "rougeL": 0.05 if phase == "before" else 0.99,
            }
        answers = texts or [(expected if step > 150 else "The lamp was happy.") for _, expected in PROMPTS]
        self.write("evaluation.started", phase=phase, step=step, num_rows=90)
        self.write("evaluation.completed", phase=phase, step=step, metrics=metrics, num_rows=90, elapsed_s=1.5)
        samples = [
            {"prompt": prompt, "expected": expected, "text": text}
            for (prompt, expected), text in zip(PROMPTS, answers, strict=True)
        ]
        self.write("samples.generated", phase=phase, step=step, samples=samples)

    def finish(self, state: str = "finished", exit_code: int = 0) -> None:
        """Write the end and the exit status."""
        if state == "finished":
            self.evaluate("after", TOTAL_STEPS)
            self.write("export.completed", kind="merged", folder="model/merged", bytes=4 * MIB, elapsed_s=0.5)
        self.write("run.ended", state=state, exit_code=exit_code)
        write_exit(self.run, state, exit_code)

    def close(self) -> None:
        """Close the log."""
        self._events.close()


def main() -> None:
    """Write a run by hand."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--live", action="store_true", help="ten steps a second instead of all at once")
    options = arguments.parse_args()
    fake = FakeRun(options.folder)
    from engine.runs.liveness import acquire

    with acquire(fake.run):
        fake.start()
        for step in range(1, TOTAL_STEPS + 1):
            fake.step(step)
            if options.live:
                time.sleep(0.1)
        fake.finish()


if __name__ == "__main__":
    main()
