"""The training section of a recipe: how long, how fast, how carefully. See `engine.recipe.schema`."""

from typing import Literal

from pydantic import Field

from engine.catalog.optimizers import OptimizerName
from engine.recipe.section import Section, why

RUN = "Length of the run"
BATCH = "Batch"
RATE = "Learning rate"
OPTIMIZER = "Optimizer"
FIT = "Against learning by heart"
ARITHMETIC = "Arithmetic"
CARE = "Checks and checkpoints"

BestBy = Literal[
    "loss", "perplexity", "token_accuracy", "masked_perplexity", "masked_accuracy", "general_perplexity",
    "general_masked_perplexity", "exact_match", "rouge1", "rougeL", "bleu", "chrf", "wer", "cer", "json_valid",
    "json_schema", "regex", "own_score", "own_error", "accuracy", "f1_macro", "f1_micro", "entity_f1",
    "entity_precision", "entity_recall", "reward_accuracy", "reward_margin", "win_rate",
    "reward", "solved_rate", "last",
]  # fmt: skip
"""Metrics of the catalogue that have a better direction, and `last`, which compares nothing."""


class TrainingSection(Section):
    """How it learns."""

    epochs: float = Field(
        3.0,
        title="Epochs",
        gt=0,
        le=1000,
        description="How many times the model sees all training rows.",
        json_schema_extra=why("Three passes suit a few thousand rows; use one or two for more.", group=RUN),
    )
    max_steps: int | None = Field(
        None,
        title="Step limit",
        ge=1,
        description="Stop after this many optimizer steps, whatever the number of epochs.",
        json_schema_extra=why("The epochs decide.", level="advanced", group=RUN),
    )
    early_stopping: int | None = Field(
        None,
        title="Early stopping",
        ge=0,
        le=1000,
        description="Evaluations in a row without a new best after which training ends; 0: never.",
        json_schema_extra=why(
            "Half of the evaluations of a run: a pause in progress is shorter, learning by heart is not.", group=RUN
        ),
    )
    best_by: BestBy | None = Field(
        None,
        title="Best checkpoint by",
        description="Held-out metric that says which step was best; its weights are the result. last: no comparison.",
        json_schema_extra=why(
            "The loss: it is always measured, and moves before any other.", level="advanced", group=RUN
        ),
    )
    effective_batch: int = Field(
        16,
        title="Effective batch",
        ge=1,
        le=65536,
        description="Rows that one optimizer step learns from; the machine decides how they are cut up.",
        json_schema_extra=why("16 rows give a steady gradient with few rows of data.", group=BATCH),
    )
    micro_batch: int | None = Field(
        None,
        title="Micro-batch",
        ge=1,
        description="Rows in memory at once; must divide the effective batch.",
        json_schema_extra=why("The largest that fits the memory.", level="advanced", group=BATCH),
    )
    num_gpus: int | None = Field(
        None,
        title="GPUs",
        ge=1,
        le=64,
        description="GPUs that share every step; each holds the whole model.",
        json_schema_extra=why("As many of one kind as make the run faster.", level="advanced", group=BATCH),
    )
    max_length: int | None = Field(
        None,
        title="Sequence length",
        ge=8,
        description="Longest row in tokens; longer rows are cut and counted.",
        json_schema_extra=why("The shortest length that cuts at most 1 % of the rows and fits the model.", group=BATCH),
    )
    packing: bool | None = Field(
        None,
        title="Packing",
        description="Fill each sequence with several rows, kept apart by the attention mask.",
        json_schema_extra=why("On for plain text, off for conversations.", level="advanced", group=BATCH),
    )
    learning_rate: float | None = Field(
        None,
        title="Learning rate",
        gt=0,
        lt=1,
        description="Size of each step at its peak.",
        json_schema_extra=why(
            "2e-4 for LoRA and QLoRA, 2e-5 for full fine-tuning, more for very small models.", group=RATE
        ),
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine",
        title="Schedule",
        description="How the learning rate moves after the warm-up; wsd holds it and lets it fall over the last fifth.",
        json_schema_extra=why("Cosine ends gently and needs no tuning.", group=RATE),
    )
    warmup: float = Field(
        0.03,
        title="Warm-up",
        ge=0,
        lt=1,
        description="Share of the steps over which the learning rate rises to its full value.",
        json_schema_extra=why("A short rise keeps the first steps from breaking the base model.", group=RATE),
    )
    min_rate: float = Field(
        0.0,
        title="Lowest rate",
        ge=0,
        lt=1,
        description="Share of the learning rate that is left at the end of the schedule.",
        json_schema_extra=why("0: the last steps settle what was learned.", level="advanced", group=RATE),
    )
    optimizer: OptimizerName | None = Field(
        None,
        title="Optimizer",
        description="adamw keeps two 32-bit states per weight, the 8-bit ones a quarter, adafactor and lion_8bit less.",
        json_schema_extra=why("adamw; paged_adamw_8bit with QLoRA on a GPU.", level="advanced", group=OPTIMIZER),
    )
    weight_decay: float = Field(
        0.0,
        title="Weight decay",
        ge=0,
        le=1,
        description="Pull of each weight towards zero per step, times the learning rate.",
        json_schema_extra=why(
            "0: a short fine-tune should not shrink what the base model knows.", level="advanced", group=OPTIMIZER
        ),
    )
    max_grad_norm: float = Field(
        1.0,
        title="Gradient clip",
        gt=0,
        description="Gradients longer than this are shortened to it.",
        json_schema_extra=why(
            "1.0 stops single bad batches and leaves normal ones alone.", level="advanced", group=OPTIMIZER
        ),
    )
    dropout: float | None = Field(
        None,
        title="Dropout",
        ge=0,
        lt=1,
        description="Share of activations of the base model dropped at random while training, at its own places.",
        json_schema_extra=why("As the model's configuration says; most new models say 0.", level="advanced", group=FIT),
    )
    label_smoothing: float = Field(
        0.0,
        title="Label smoothing",
        ge=0,
        lt=1,
        description="Share of each target that is spread over all other tokens or labels: the model gets less sure.",
        json_schema_extra=why(
            "0: the loss stays that of the data. 0.1 suits noisy labels.", level="advanced", group=FIT
        ),
    )
    neftune_alpha: float | None = Field(
        None,
        title="NEFTune noise",
        gt=0,
        le=100,
        description="Noise on the embeddings while training; 5 is usual. Longer rows get less, evaluations none.",
        json_schema_extra=why("None; 5 to 15 can help chat models with few rows.", level="advanced", group=FIT),
    )
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        title="Precision",
        description="Number format of the arithmetic.",
        json_schema_extra=why(
            "bfloat16 where the hardware is fast at it, else float32.", level="advanced", group=ARITHMETIC
        ),
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = Field(
        None,
        title="Attention",
        description="How attention is computed: sdpa (torch), flash_attention_2 (needs flash-attn), eager (plain).",
        json_schema_extra=why(
            "sdpa: as fast as anything else in most runs, and always there.", level="advanced", group=ARITHMETIC
        ),
    )
    activation_checkpointing: bool | None = Field(
        None,
        title="Activation checkpointing",
        description="Recompute activations in the backward pass: less memory, about a third slower.",
        json_schema_extra=why("Only when the run does not fit without it.", level="advanced", group=ARITHMETIC),
    )
    probe: Literal["auto", "always", "never"] = Field(
        "auto",
        title="Memory probe",
        description="Run the longest batch on the device before the first step, in a process of its own, to measure.",
        json_schema_extra=why(
            "On a GPU when memory may be tight or nothing was measured there yet.", level="advanced", group=CARE
        ),
    )
    preflight: Literal["auto", "full", "off"] = Field(
        "auto",
        title="Preflight",
        description="Checks with the model before the first step; full takes more time, off leaves them out.",
        json_schema_extra=why(
            "Seconds find runs that would train for nothing; files and tokens are always checked.",
            level="advanced",
            group=CARE,
        ),
    )
    evaluate_every: int | None = Field(
        None,
        title="Evaluate every",
        ge=1,
        description="Optimizer steps between evaluations.",
        json_schema_extra=why("About eight evaluations in a run.", level="advanced", group=CARE),
    )
    checkpoint_every: int | None = Field(
        None,
        title="Checkpoint every",
        ge=1,
        description="Optimizer steps between checkpoints.",
        json_schema_extra=why("About ten checkpoints in a run.", level="advanced", group=CARE),
    )
    keep_checkpoints: int = Field(
        2,
        title="Checkpoints kept",
        ge=2,
        description="Newest whole checkpoints that stay on the disk.",
        json_schema_extra=why("Two: the newest may be the one a fault hits.", level="advanced", group=CARE),
    )
    seed: int = Field(
        17,
        title="Seed",
        ge=0,
        lt=2**32,
        description="Starts every random choice: split, order, initial adapters, dropout.",
        json_schema_extra=why("Fixed, so that the same recipe gives the same run.", level="advanced", group=CARE),
    )
