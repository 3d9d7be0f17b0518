"""The recipe: what the person wants, declared once.

The form of the wizard, the `--set` option, the plain prompts, the docs page and the JSON Schema are generated from
these fields: type, default, bounds, title and description. A field whose default is `None` is derived by the plan
from the model, the data and the machine; the plan says from what.

`json_schema_extra` carries what a form needs beyond JSON Schema:
    `level`: `basic` (always shown) or `advanced` (folded away); `basic` when absent.
    `why`: why the default is what it is, one sentence.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.catalog.methods import Method, MethodName, find_method
from engine.catalog.objectives import Objective, find_objective
from engine.recipe.schema_data import DataSection
from engine.recipe.schema_objectives import ClassificationSection, TokenClassificationSection
from engine.recipe.section import Section, why


class ModelSection(Section):
    """The model to start from."""

    base: str = Field(
        title="Base model",
        min_length=1,
        description="A folder with safetensors weights, a hub id such as Qwen/Qwen3-0.6B, or builtin:starter.",
    )
    revision: str | None = Field(
        None,
        title="Revision",
        description="Branch, tag or commit of a hub model; the plan pins it to a commit.",
        json_schema_extra=why("The newest commit of the main branch is pinned by the plan.", level="advanced"),
    )
    chat_template: str | None = Field(
        None,
        title="Chat template",
        description="chatml, or a Jinja file, to use instead of the template that the tokenizer brings.",
        json_schema_extra=why("The model's own template; ChatML where it has none.", level="advanced"),
    )
    new_tokens: list[str] = Field(
        default_factory=list,
        title="New tokens",
        max_length=256,
        description="Words that become tokens of their own, such as <tool>; with adapters only their rows learn.",
        json_schema_extra=why("None: the vocabulary of the model covers most text.", level="advanced"),
    )
    trust_remote_code: bool = Field(
        False,
        title="Run code from the model",
        description="Allow Python files shipped with this model to run on this machine.",
        json_schema_extra=why("Code from a model can do anything that you can do.", level="advanced"),
    )


class MethodSection(Section):
    """Which weights learn."""

    name: MethodName | None = Field(
        None,
        title="Method",
        description="Which weights learn: all, those at the top, or matrices, layers, scales or tokens that are added.",
        json_schema_extra=why("The most capable method that fits the machine."),
    )
    rank: int | None = Field(
        None,
        title="LoRA rank",
        ge=1,
        le=1024,
        description="Inner width of the added matrices; higher learns more and needs more memory.",
        json_schema_extra=why("16 is enough for most tasks; quality rarely grows past 64."),
    )
    alpha: float | None = Field(
        None,
        title="LoRA alpha",
        gt=0,
        description="Scale of the added matrices; their output is multiplied by alpha / rank.",
        json_schema_extra=why("Twice the rank, so that a change of rank keeps the scale.", level="advanced"),
    )
    dropout: float | None = Field(
        None,
        title="LoRA dropout",
        ge=0,
        lt=1,
        description="Share of adapter inputs dropped at random while training.",
        json_schema_extra=why("0: short fine-tunes gain nothing from it.", level="advanced"),
    )
    targets: Literal["all-linear", "attention", "mlp"] | list[str] | None = Field(
        None,
        title="LoRA targets",
        description="Layers that get an adapter: all-linear, attention, mlp, or a list of module names.",
        json_schema_extra=why("all-linear comes closest to full fine-tuning.", level="advanced"),
    )
    width: int | None = Field(
        None,
        title="Bottleneck width",
        ge=1,
        le=4096,
        description="Inner width of each bottleneck adapter; wider learns more and needs more memory.",
        json_schema_extra=why("A sixteenth of the model's width, as published, and at least 32."),
    )
    placement: Literal["houlsby", "pfeiffer"] | None = Field(
        None,
        title="Bottleneck placement",
        description="houlsby: behind attention and feed-forward network of each block; pfeiffer: behind the latter.",
        json_schema_extra=why("houlsby: learns more; pfeiffer has half the weights and is a little faster."),
    )
    activation: Literal["gelu", "relu", "silu"] | None = Field(
        None,
        title="Bottleneck activation",
        description="What stands between the two layers of each bottleneck adapter.",
        json_schema_extra=why("gelu: no unit falls silent for good, as with relu.", level="advanced"),
    )
    layers: int | None = Field(
        None,
        title="Blocks that learn",
        ge=0,
        le=1024,
        description="Last blocks that learn with the output layer; 0: the output layer alone.",
        json_schema_extra=why("0 below a new head, else a quarter of the blocks."),
    )
    unfreeze_every: int | None = Field(
        None,
        title="Steps per stage",
        ge=1,
        description="Optimizer steps until the next stage below begins to learn.",
        json_schema_extra=why("All stages are open after half of the run."),
    )
    layers_per_stage: int | None = Field(
        None,
        title="Blocks per stage",
        ge=1,
        le=1024,
        description="Blocks that begin to learn together.",
        json_schema_extra=why("As many as make at most six stages of blocks.", level="advanced"),
    )
    rate_decay: float | None = Field(
        None,
        title="Rate decay per block",
        gt=0,
        le=1,
        description="Each block learns at this times the rate of the one above; 1: all at the same rate.",
        json_schema_extra=why(
            "1: one rate for all; 0.95 is common, 0.38 was published for three blocks.", level="advanced"
        ),
    )
    variant: Literal["plain", "rslora", "dora", "pissa"] | None = Field(
        None,
        title="LoRA variant",
        description="plain; rslora suits high ranks; dora learns lengths apart; pissa starts as a part of the weights.",
        json_schema_extra=why("plain: the fastest, and the others rarely differ by much.", level="advanced"),
    )
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=dict,
        title="Ranks of some layers",
        description="Another rank for layers whose name ends so, such as {down_proj: 32}.",
        json_schema_extra=why("None: one rank for all layers.", level="advanced"),
    )
    lora_plus_ratio: float | None = Field(
        None,
        title="LoRA+ ratio",
        ge=1,
        le=64,
        description="How many times faster the second matrix of each adapter learns than the first.",
        json_schema_extra=why("1: both learn at one rate; 16 can save steps in long runs.", level="advanced"),
    )
    virtual_tokens: int | None = Field(
        None,
        title="Virtual tokens",
        ge=1,
        le=1024,
        description="Learned tokens in front of every text; they take as much room of the context.",
        json_schema_extra=why("20 suit most tasks; more learn more slowly."),
    )
    initial_text: str | None = Field(
        None,
        title="First words",
        min_length=1,
        max_length=2000,
        description="Text whose tokens the virtual tokens start from, repeated or cut to their number.",
        json_schema_extra=why("Tokens drawn from the vocabulary.", level="advanced"),
    )
    encoder_width: int | None = Field(
        None,
        title="Prompt encoder width",
        ge=8,
        le=16384,
        description="Inner width of the small network that makes the virtual tokens of p-tuning.",
        json_schema_extra=why("The width of the model, at most 1024.", level="advanced"),
    )

    @property
    def facts(self) -> Method:
        """Facts of the method; of LoRA while none is named."""
        return find_method(self.name or "lora")


class TrainingSection(Section):
    """How it learns."""

    epochs: float = Field(
        3.0,
        title="Epochs",
        gt=0,
        le=1000,
        description="How many times the model sees all training rows.",
        json_schema_extra=why("Three passes suit a few thousand rows; use one or two for more."),
    )
    max_steps: int | None = Field(
        None,
        title="Step limit",
        ge=1,
        description="Stop after this many optimizer steps, whatever the number of epochs.",
        json_schema_extra=why("The epochs decide.", level="advanced"),
    )
    effective_batch: int = Field(
        16,
        title="Effective batch",
        ge=1,
        le=65536,
        description="Rows that one optimizer step learns from; the machine decides how they are cut up.",
        json_schema_extra=why("16 rows give a steady gradient with few rows of data."),
    )
    micro_batch: int | None = Field(
        None,
        title="Micro-batch",
        ge=1,
        description="Rows in memory at once; must divide the effective batch.",
        json_schema_extra=why("The largest that fits the memory.", level="advanced"),
    )
    num_gpus: int | None = Field(
        None,
        title="GPUs",
        ge=1,
        le=64,
        description="GPUs that share every step; each holds the whole model.",
        json_schema_extra=why("As many of one kind as make the run faster.", level="advanced"),
    )
    max_length: int | None = Field(
        None,
        title="Sequence length",
        ge=8,
        description="Longest row in tokens; longer rows are cut and counted.",
        json_schema_extra=why("The shortest length that cuts at most 1 % of the rows and fits the model."),
    )
    learning_rate: float | None = Field(
        None,
        title="Learning rate",
        gt=0,
        lt=1,
        description="Size of each step at its peak.",
        json_schema_extra=why("2e-4 for LoRA and QLoRA, 2e-5 for full fine-tuning, more for very small models."),
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine",
        title="Schedule",
        description="How the learning rate moves after the warm-up.",
        json_schema_extra=why("Cosine ends gently and needs no tuning.", level="advanced"),
    )
    warmup: float = Field(
        0.03,
        title="Warm-up",
        ge=0,
        lt=1,
        description="Share of the steps over which the learning rate rises to its full value.",
        json_schema_extra=why("A short rise keeps the first steps from breaking the base model.", level="advanced"),
    )
    weight_decay: float = Field(
        0.0,
        title="Weight decay",
        ge=0,
        le=1,
        description="Pull of each weight towards zero per step, times the learning rate.",
        json_schema_extra=why("0: a short fine-tune should not shrink what the base model knows.", level="advanced"),
    )
    max_grad_norm: float = Field(
        1.0,
        title="Gradient clip",
        gt=0,
        description="Gradients longer than this are shortened to it.",
        json_schema_extra=why("1.0 stops single bad batches and leaves normal ones alone.", level="advanced"),
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] | None = Field(
        None,
        title="Optimizer",
        description="adamw keeps 32-bit states, the 8-bit ones need a quarter of that memory.",
        json_schema_extra=why("adamw; paged_adamw_8bit with QLoRA on a GPU.", level="advanced"),
    )
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        title="Precision",
        description="Number format of the arithmetic.",
        json_schema_extra=why("bfloat16 where the hardware is fast at it, else float32.", level="advanced"),
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = Field(
        None,
        title="Attention",
        description="How attention is computed: sdpa (torch), flash_attention_2 (needs flash-attn), eager (plain).",
        json_schema_extra=why("sdpa: as fast as anything else in most runs, and always there.", level="advanced"),
    )
    activation_checkpointing: bool | None = Field(
        None,
        title="Activation checkpointing",
        description="Recompute activations in the backward pass: less memory, about a third slower.",
        json_schema_extra=why("Only when the run does not fit without it.", level="advanced"),
    )
    packing: bool | None = Field(
        None,
        title="Packing",
        description="Fill each sequence with several rows, kept apart by the attention mask.",
        json_schema_extra=why("On for plain text, off for conversations.", level="advanced"),
    )
    probe: Literal["auto", "always", "never"] = Field(
        "auto",
        title="Memory probe",
        description="Run the longest batch on the device before the first step, in a process of its own, to measure.",
        json_schema_extra=why("On a GPU when memory may be tight or nothing was measured there yet.", level="advanced"),
    )
    preflight: Literal["auto", "full", "off"] = Field(
        "auto",
        title="Preflight",
        description="Checks with the model before the first step; full takes more time, off leaves them out.",
        json_schema_extra=why(
            "Seconds find runs that would train for nothing; files and tokens are always checked.", level="advanced"
        ),
    )
    evaluate_every: int | None = Field(
        None,
        title="Evaluate every",
        ge=1,
        description="Optimizer steps between evaluations.",
        json_schema_extra=why("About eight evaluations in a run.", level="advanced"),
    )
    checkpoint_every: int | None = Field(
        None,
        title="Checkpoint every",
        ge=1,
        description="Optimizer steps between checkpoints.",
        json_schema_extra=why("About ten checkpoints in a run.", level="advanced"),
    )
    keep_checkpoints: int = Field(
        2,
        title="Checkpoints kept",
        ge=2,
        description="Newest whole checkpoints that stay on the disk.",
        json_schema_extra=why("Two: the newest may be the one a fault hits.", level="advanced"),
    )
    seed: int = Field(
        17,
        title="Seed",
        ge=0,
        lt=2**32,
        description="Starts every random choice: split, order, initial adapters, dropout.",
        json_schema_extra=why("Fixed, so that the same recipe gives the same run.", level="advanced"),
    )


MetricChoice = Literal[
    "perplexity", "token_accuracy", "exact_match", "rouge", "bleu", "chrf",
    "accuracy", "f1_macro", "f1_micro", "entity_f1", "reward_accuracy", "reward_margin", "win_rate",
    "reward", "solved_rate", "kl", "completion_length",
]  # fmt: skip


class EvaluationSection(Section):
    """How it is judged, fixed before training."""

    metrics: list[MetricChoice] | None = Field(
        None,
        title="Metrics",
        description="What is measured on held-out rows before and after training; each objective has its own.",
        json_schema_extra=why("All that fit the objective."),
    )
    max_rows: int = Field(
        200,
        title="Rows for the loss",
        ge=1,
        description="Held-out rows used for perplexity and token accuracy.",
        json_schema_extra=why("200 rows settle the second digit and cost little.", level="advanced"),
    )
    generate_rows: int = Field(
        50,
        title="Rows for generation",
        ge=1,
        description="Held-out rows answered by the model for exact match and ROUGE.",
        json_schema_extra=why("Generating is slow; 50 answers show a clear change.", level="advanced"),
    )
    max_new_tokens: int | None = Field(
        None,
        title="Answer length",
        ge=1,
        le=8192,
        description="Longest generated answer in tokens.",
        json_schema_extra=why("The longest held-out answer and a tenth, at most 256.", level="advanced"),
    )
    few_shot: int | None = Field(
        None,
        title="Few-shot baseline",
        ge=0,
        le=32,
        description="Training rows shown in the prompt of the untouched base model, measured before training; 0: off.",
        json_schema_extra=why(
            "3 for conversations where that costs little: shows whether a prompt would do as well.", level="advanced"
        ),
    )
    sample_prompts: list[str] | None = Field(
        None,
        title="Sample prompts",
        description="Prompts answered at each evaluation, shown in the monitor.",
        json_schema_extra=why("The first three held-out rows.", level="advanced"),
    )


class DeliverySection(Section):
    """What is left in your hands."""

    merge: bool = Field(
        True,
        title="Merge the adapter",
        description="Also write the base model with the adapter merged in, ready for any runtime.",
        json_schema_extra=why("A merged model loads anywhere without peft."),
    )
    formats: list[Literal["gguf", "onnx"]] = Field(
        default_factory=list,
        title="Must convert to",
        description="Formats that the result must be convertible to: gguf, onnx; checked before training.",
        json_schema_extra=why("None: safetensors are read by most programs.", level="advanced"),
    )
    output: str | None = Field(
        None,
        title="Output folder",
        description="New folder that the finished model is copied to.",
        json_schema_extra=why("The model stays in the run directory.", level="advanced"),
    )


class Recipe(Section):
    """What the person wants. Every key is optional but objective, model and data."""

    name: str | None = Field(
        None,
        title="Name",
        max_length=80,
        description="Title of the run in lists.",
        json_schema_extra=why("Made from the model and the data."),
    )
    objective: Literal["chat", "domain-adaptation", "classification", "token-classification"] = Field(
        title="Objective",
        description="What the model learns, such as chat (answers from examples) or classification (labels of texts).",
    )
    model: ModelSection = Field(title="Model", description="The model to start from.")
    method: MethodSection = Field(default_factory=MethodSection, title="Method", description="Which weights learn.")
    data: DataSection = Field(title="Data", description="What the model learns from.")
    training: TrainingSection = Field(default_factory=TrainingSection, title="Training", description="How it learns.")
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, title="Evaluation", description="How it is judged."
    )
    classification: ClassificationSection = Field(
        default_factory=ClassificationSection, title="Classification", description="How classes are learnt."
    )
    token_classification: TokenClassificationSection = Field(
        default_factory=TokenClassificationSection, title="Token classification", description="How words are tagged."
    )
    delivery: DeliverySection = Field(
        default_factory=DeliverySection, title="Delivery", description="What is left in your hands."
    )

    @property
    def goal(self) -> Objective:
        """The objective's entry in the catalogue."""
        return find_objective(self.objective)


RECIPE_SECTIONS: tuple[str, ...] = (
    "model",
    "method",
    "data",
    "data.cleaning",
    "data.split",
    "training",
    "evaluation",
    "classification",
    "token_classification",
    "delivery",
)
