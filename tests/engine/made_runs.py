"""Run directories made by hand, as the front end would leave them, for tests of the worker and its stages."""

import json
from pathlib import Path

from engine.planning.plan import Device, DiskEstimate, MemoryEstimate, Plan, Steps
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.schema import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.events import EventReader, EventWriter

DEFAULTS: dict = {
    "objective": "chat",
    "method": {"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"},
    "training": {
        "epochs": 1.0,
        "max_steps": None,
        "effective_batch": 4,
        "micro_batch": 4,
        "max_length": 64,
        "learning_rate": 5e-3,
        "schedule": "cosine",
        "warmup": 0.1,
        "optimizer": "adamw",
        "precision": "float32",
        "activation_checkpointing": False,
        "packing": False,
        "evaluate_every": 1000,
        "checkpoint_every": 1000,
        "keep_checkpoints": 2,
        "seed": 17,
    },
    "evaluation": {"metrics": ["perplexity"], "max_rows": 4, "generate_rows": 2, "max_new_tokens": 8},
    "delivery": {"merge": False},
}


def made_recipe(model_folder: Path | str, data_file: Path | str, **sections) -> Recipe:
    """Return a recipe with every value filled in; `training={...}` and so on override the defaults."""
    tree = json.loads(json.dumps(DEFAULTS))
    for name, value in sections.items():
        tree[name] = {**tree[name], **value} if isinstance(tree.get(name), dict) else value
    tree["model"] = {"base": str(model_folder)}
    tree["data"] = {"source": str(data_file), **sections.get("data", {})}
    return Recipe.model_validate(tree)


def made_plan(recipe: Recipe, *, total_steps: int = 8, num_gpus: int = 1) -> Plan:
    """Return a plan for the CPU that agrees with the recipe; its estimates are made up.

    With several "GPUs" as many processes share the work on the CPU, which no plan chooses by itself.
    """
    training = recipe.training
    steps = Steps(
        micro_batch=training.micro_batch,
        accumulation=training.effective_batch // (training.micro_batch * num_gpus),
        num_gpus=num_gpus,
        steps_per_epoch=total_steps,
        total_steps=total_steps,
        evaluate_every=training.evaluate_every,
        checkpoint_every=training.checkpoint_every,
    )
    profile = ModelProfile(
        base=recipe.model.base,
        folder=recipe.model.base,
        architecture="LlamaForCausalLM",
        model_type="llama",
        num_params=31680,
        vocab_size=345,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=16,
        intermediate_size=64,
        context_length=256,
        tied_embeddings=True,
        weights_bytes=126720,
        weights_dtype="float32",
        has_chat_template=True,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
    )
    return Plan(
        recipe=recipe,
        sources={},
        device=Device(kind="cpu"),
        model=profile,
        data=DataProfile(format="messages" if recipe.objective == "chat" else "text"),
        memory=MemoryEstimate(components={}, expected_bytes=1, low_bytes=1, high_bytes=1, where="host RAM"),
        steps=steps,
        disk=DiskEstimate(checkpoints_bytes=1, export_bytes=1, total_bytes=2),
    )


def make_run(folder: Path, recipe: Recipe, *, total_steps: int = 8, num_gpus: int = 1) -> RunDirectory:
    """Write a run directory that waits for its worker."""
    folder.mkdir(parents=True, mode=0o700)
    run = RunDirectory(folder)
    run.plan_file.write_text(
        made_plan(recipe, total_steps=total_steps, num_gpus=num_gpus).model_dump_json(), encoding="utf-8"
    )
    run.recipe_file.write_text("objective: chat\n", encoding="utf-8")
    writer = EventWriter(run.events_file)
    writer.write(
        "run.created",
        run_id=folder.name,
        name=folder.name,
        objective=recipe.objective,
        base=recipe.model.base,
        method=recipe.method.name,
    )
    writer.close()
    return run


def write_rows(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSONL, without the ids that the engine gives them."""
    lines = [json.dumps({key: value for key, value in row.items() if key != "id"}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def events_of(run: RunDirectory, event_type: str | None = None) -> list[dict]:
    """Return the payloads of a run's events, of one type or of all."""
    return [
        {"type": event.type, **event.payload}
        for event in EventReader(run.events_file).poll()
        if event_type in (None, event.type)
    ]


def loss_curve(run: RunDirectory) -> dict[int, float]:
    """Return `{step: loss}` with the newest value of each step."""
    return {event["step"]: event["loss"] for event in events_of(run, "step.logged")}
