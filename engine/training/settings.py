"""The recipe in the trainer's own words."""

from pathlib import Path
from typing import Any

from trl import SFTConfig

from engine.planning.plan import Device
from engine.recipe.schema import Recipe
from engine.training.batching import Batching

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}
# transformers 5.17 knows activation checkpointing by its old name only; 5.23 warns about that one.
CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in SFTConfig.__dataclass_fields__
    else "gradient_checkpointing"
)


def trainer_settings(
    recipe: Recipe, device: Device, batching: Batching, *, total_steps: int, folder: Path
) -> SFTConfig:
    """Return the settings of TRL's trainer for a recipe with every value filled in.

    Everything that writes, prints, cuts, reorders or hides is switched off: events, checkpoints, rendering and the
    order of rows are ours. So is the learning rate's schedule (`engine.training.schedule`).

    Args:
        recipe: Recipe with every value filled in.
        device: Where the run computes.
        batching: Micro-batch and accumulation.
        total_steps: Optimizer steps of the whole run.
        folder: Existing folder for what the trainer insists on having; nothing is written there.
    """
    training = recipe.training
    checkpointing = bool(training.activation_checkpointing)
    return SFTConfig(
        output_dir=str(folder),
        use_cpu=device.kind == "cpu",
        seed=training.seed,
        per_device_train_batch_size=batching.micro_batch,
        gradient_accumulation_steps=batching.accumulation,
        max_steps=total_steps,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim=OPTIMIZERS[training.optimizer or "adamw"],
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",
        **{
            CHECKPOINTING: checkpointing,
            f"{CHECKPOINTING}_kwargs": {"use_reentrant": False} if checkpointing else None,
            **_QUIET,
        },
    )


_QUIET: dict[str, Any] = {
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "max_length": None,
    "packing": False,
    "remove_unused_columns": False,
    "dataloader_num_workers": 0,
    "save_strategy": "no",
    "eval_strategy": "no",
    "logging_strategy": "steps",
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "report_to": "none",
    "disable_tqdm": True,
    "push_to_hub": False,
}
