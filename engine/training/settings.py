"""The recipe in the trainer's own words."""

from pathlib import Path
from typing import Any

from trl import SFTConfig

from engine.planning.plan import Device
from engine.recipe.schema import Recipe
from engine.training.batching import Batching

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def trainer_settings(
    recipe: Recipe, device: Device, batching: Batching, *, total_steps: int, folder: Path
) -> SFTConfig:
    """Return the settings of TRL's trainer for a recipe with every value filled in.

    Everything that writes, prints, cuts, reorders or hides is switched off: events, checkpoints, rendering and the
    order of rows are ours.

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
        lr_scheduler_type=SCHEDULES[training.schedule],
        warmup_steps=warmup_steps(training.warmup, total_steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim=OPTIMIZERS[training.optimizer or "adamw"],
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",
        # The name that TRL overrides (to on); transformers keeps it as an alias until its version 6.
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        **_QUIET,
    )


def warmup_steps(share: float, total_steps: int) -> int:
    """Return the steps of the warm-up: the share, rounded up, but never the whole run."""
    return min(-int(-share * total_steps // 1), max(total_steps - 1, 0))


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
