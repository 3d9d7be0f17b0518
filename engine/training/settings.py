"""The recipe in the trainers' own words."""

from typing import TYPE_CHECKING, Any

from trl import SFTConfig

from engine.catalog.optimizers import find_optimizer

if TYPE_CHECKING:
    from engine.objectives.parts import TrainerParts

# transformers 5.17 knows activation checkpointing by its old name only; 5.23 warns about that one.
CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in SFTConfig.__dataclass_fields__
    else "gradient_checkpointing"
)


def shared_settings(parts: "TrainerParts") -> dict[str, Any]:
    """Return the settings that the trainers of all objectives take, for their `TrainingArguments`.

    Everything that writes, prints, cuts, reorders or hides is switched off: events, checkpoints, rendering and the
    order of rows are ours. So is the learning rate's schedule (`engine.training.schedule`).

    Args:
        parts: What the trainer is made of.
    """
    training = parts.recipe.training
    checkpointing = bool(training.activation_checkpointing)
    return {
        "output_dir": str(parts.folder),
        "use_cpu": parts.device.kind == "cpu",
        "seed": training.seed,
        "per_device_train_batch_size": parts.batching.micro_batch,
        "gradient_accumulation_steps": parts.batching.accumulation,
        "max_steps": parts.total_steps,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": find_optimizer(training.optimizer or "adamw").library_name,
        "bf16": training.precision == "bfloat16",
        "fp16": training.precision == "float16",
        CHECKPOINTING: checkpointing,
        f"{CHECKPOINTING}_kwargs": {"use_reentrant": False} if checkpointing else None,
        **_QUIET,
    }


def supervised_settings(parts: "TrainerParts") -> SFTConfig:
    """Return the settings of TRL's supervised trainer for rows that are rendered already."""
    return SFTConfig(
        **shared_settings(parts), dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False
    )


_QUIET: dict[str, Any] = {
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
