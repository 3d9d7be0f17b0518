"""Plans and run directories made by hand, for tests of what comes after training."""

import json
import math
from pathlib import Path

from engine.planning.plan import Device, DiskEstimate, MemoryEstimate, Plan, Steps, ValueSource
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.schema import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.events import EventWriter


def made_plan(base="made/base", *, folder=None, method="lora", recipe=None, **model) -> Plan:
    """Return a plan for a tiny Llama; `recipe` is laid over a small chat recipe."""
    tree = {
        "objective": "chat",
        "model": {"base": str(base)},
        "method": {"name": method},
        "data": {"source": "/home/somebody/private/rows.jsonl"},
        "training": {"micro_batch": 2, "max_length": 128, "precision": "float32", "effective_batch": 4},
        "evaluation": {"max_rows": 20, "generate_rows": 6, "max_new_tokens": 12},
    }
    for section, values in (recipe or {}).items():
        tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
    facts = {
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "num_params": 30_000,
        "vocab_size": 384,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 2,
        "head_dim": 16,
        "intermediate_size": 64,
        "context_length": 256,
        "tied_embeddings": True,
    }
    return Plan(
        recipe=Recipe.model_validate(tree),
        sources={
            "training.micro_batch": ValueSource(kind="derived", detail="the largest that fits"),
            "model.base": ValueSource(kind="you"),
        },
        device=Device(kind="cpu", name="CPU, 2 cores"),
        model=ModelProfile(base=str(base), folder=str(folder) if folder else None, **(facts | model)),
        data=DataProfile(format="messages", num_rows=120, num_train=100, num_held_out=20, sha256="ab" * 32),
        memory=MemoryEstimate(
            components={"weights": 100 << 20, "activations": 80 << 20},
            expected_bytes=180 << 20,
            low_bytes=160 << 20,
            high_bytes=230 << 20,
            available_bytes=4 << 30,
            where="host RAM",
        ),
        steps=Steps(
            micro_batch=2, accumulation=2, steps_per_epoch=25, total_steps=75, evaluate_every=10, checkpoint_every=10
        ),
        disk=DiskEstimate(checkpoints_bytes=1 << 20, export_bytes=1 << 20, total_bytes=2 << 20),
    )


def made_run(folder: Path, plan: Plan) -> RunDirectory:
    """Write the directory of a run that was created and is about to do something."""
    folder.mkdir(mode=0o700)
    run = RunDirectory(folder)
    run.plan_file.write_text(plan.model_dump_json())
    environment = {"python": "3.11.7", "libraries": {"torch": "2.13.0", "peft": "0.21.2"}}
    run.environment_file.write_text(json.dumps(environment))
    EventWriter(run.events_file).write(
        "run.created",
        run_id=folder.name,
        name=plan.recipe.name or "made run",
        objective=plan.recipe.objective,
        base=plan.model.base,
        method=plan.recipe.method.name,
    )
    return run


def write_story(run: RunDirectory, *, steps=75) -> None:
    """Append the events of a run that learned: losses, memory, evaluations, and a repeated stretch after a crash."""
    log = EventWriter(run.events_file)
    log.write("worker.started", pid=1, host="h", device="cpu", attempt=1, resumed_from=None, standby=False)
    mib = 1 << 20
    log.write(
        "memory.predicted",
        low_bytes=170 * mib, expected_bytes=190 * mib, high_bytes=220 * mib, depth="simulated", basis="rehearsal",
        where="host RAM", available_bytes=4096 * mib, components={"weights": 110 * mib, "activations": 80 * mib},
        peaks={"training": 190 * mib}, confidence="normal", micro_batch=2,
    )  # fmt: skip
    log.write("model.loaded", num_params=30_000, trainable_params=1_024, dtype="float32", choices=[])
    log.write("data.prepared", num_train=100, num_held_out=20, dropped={}, trained_token_share=0.4)
    log.write("training.started", total_steps=steps, start_step=0, micro_batch=2, accumulation=2, steps_per_epoch=25)
    for step in range(1, steps + 1):
        share = step / steps
        log.write(
            "step.logged",
            step=step,
            total_steps=steps,
            epoch=3 * share,
            loss=0.4 + 5.6 * math.exp(-5 * share) + 0.35 * math.sin(step * 1.7) * math.exp(-3 * share),
            learning_rate=2e-4 * min(1.0, step / 8) * 0.5 * (1 + math.cos(math.pi * share)),
            grad_norm=1.0,
            num_tokens=step * 700,
            tokens_per_s=9_000.0,
            elapsed_s=step * 1.1,
        )
        if step % 10 == 0:
            loss = 0.5 + 5.5 * math.exp(-4.5 * share) + max(0.0, share - 0.7)
            log.write(
                "evaluation.completed", phase="during", step=step, metrics={"loss": loss}, num_rows=20, elapsed_s=1.0
            )
        if step % 5 == 0:
            resident = (180 + step // 5) * mib
            for phase, peak in (("training", resident + 3 * mib), ("evaluation", resident - 20 * mib)):
                log.write(
                    "memory.sampled", phase=phase, peak_bytes=peak, peak_kind="rss", rss_bytes=resident,
                    peak_rss_bytes=resident + 3 * mib,
                )  # fmt: skip
    log.close()
