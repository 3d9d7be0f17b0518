"""The recipe: what the person wants, declared once.

The form of the wizard, the `--set` option, the plain prompts, the docs page and the JSON Schema are generated from
these fields: type, default, bounds, title and description. A field whose default is `None` is derived by the plan
from the model, the data and the machine; the plan says from what.

`json_schema_extra` carries what a form needs beyond JSON Schema:
    `level`: `basic` (always shown) or `advanced` (folded away); `basic` when absent.
    `why`: why the default is what it is, one sentence.
    `group`: what the field belongs to inside its section, where a section is long.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.catalog.methods import Method, MethodName, find_method
from engine.catalog.objectives import Objective, find_objective
from engine.recipe.schema_data import DataSection
from engine.recipe.schema_objectives import (
    ClassificationSection,
    DomainAdaptationSection,
    PreferenceSection,
    ReinforcementSection,
    RewardModelSection,
    TextToTextSection,
    TokenClassificationSection,
)
from engine.recipe.schema_training import TrainingSection
from engine.recipe.section import Section, why


class ModelSection(Section):
    """The model to start from."""

    base: str = Field(
        title="Base model",
        min_length=1,
        description="A folder with safetensors weights, a hub id such as Qwen/Qwen3-0.6B, builtin:starter or run:ID.",
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


MetricChoice = Literal[
    "perplexity", "token_accuracy", "masked_perplexity", "masked_accuracy", "general_text", "exact_match", "rouge",
    "bleu", "chrf", "wer", "cer", "json_valid", "json_schema", "regex", "metric_file",
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
        description="Held-out rows read for the loss and for what needs no writing: perplexity, classes, tags.",
        json_schema_extra=why("200 rows settle the second digit and cost little.", level="advanced"),
    )
    generate_rows: int = Field(
        50,
        title="Rows for generation",
        ge=1,
        description="Held-out rows answered by the model for metrics of written answers, such as ROUGE.",
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
    json_schema: str | None = Field(
        None,
        title="JSON schema",
        min_length=1,
        description="File with a JSON Schema that written answers are held against: shows how many fit.",
        json_schema_extra=why("None: the form of answers is not looked at.", level="advanced"),
    )
    pattern: str | None = Field(
        None,
        title="Answer pattern",
        min_length=1,
        description="Regular expression looked for in written answers: shows in how many it is found.",
        json_schema_extra=why("None: the form of answers is not looked at.", level="advanced"),
    )
    metric_file: str | None = Field(
        None,
        title="Own metric",
        min_length=1,
        description="Python file with a function metric(prompt, answer, expected); FILE.py:NAME for another name.",
        json_schema_extra=why("None: no metric of your own.", level="advanced"),
    )
    trust_metric_code: bool = Field(
        False,
        title="Run the metric file",
        description="Allow the Python code of the metric file to run on this machine.",
        json_schema_extra=why("Code can do anything that you can do.", level="advanced"),
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


class TrackingSection(Section):
    """Who else is told of a run. TensorBoard files are always written; tokens belong to the libraries, not in here."""

    wandb: str | None = Field(
        None,
        title="Weights & Biases",
        min_length=1,
        max_length=120,
        description="Name of a Weights & Biases project that gets recipe and metrics, which then leave this machine.",
        json_schema_extra=why("None: nothing is sent.", level="advanced"),
    )
    mlflow: str | None = Field(
        None,
        title="MLflow",
        min_length=1,
        max_length=120,
        description="Name of an MLflow experiment that gets recipe and metrics; MLflow's settings say where.",
        json_schema_extra=why("None: nothing is sent.", level="advanced"),
    )
    trackio: str | None = Field(
        None,
        title="trackio",
        min_length=1,
        max_length=120,
        description="Name of a trackio project that gets recipe and metrics; trackio's settings say where.",
        json_schema_extra=why("None: nothing is sent.", level="advanced"),
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
    objective: Literal[
        "chat",
        "domain-adaptation",
        "text-to-text",
        "classification",
        "token-classification",
        "preference",
        "reward-model",
        "reinforcement-learning",
    ] = Field(
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
    domain_adaptation: DomainAdaptationSection = Field(
        default_factory=DomainAdaptationSection, title="Domain adaptation", description="How plain text is read."
    )
    text_to_text: TextToTextSection = Field(
        default_factory=TextToTextSection, title="Text to text", description="How one text is turned into another."
    )
    classification: ClassificationSection = Field(
        default_factory=ClassificationSection, title="Classification", description="How classes are learnt."
    )
    token_classification: TokenClassificationSection = Field(
        default_factory=TokenClassificationSection, title="Token classification", description="How words are tagged."
    )
    preference: PreferenceSection = Field(
        default_factory=PreferenceSection, title="Preference", description="How better and worse answers are learnt."
    )
    reward_model: RewardModelSection = Field(
        default_factory=RewardModelSection, title="Reward model", description="How a reward is learnt."
    )
    reinforcement: ReinforcementSection = Field(
        default_factory=ReinforcementSection, title="Reinforcement", description="How rewards are given and learnt."
    )
    tracking: TrackingSection = Field(
        default_factory=TrackingSection, title="Tracking", description="Who else is told of the run."
    )
    delivery: DeliverySection = Field(
        default_factory=DeliverySection, title="Delivery", description="What is left in your hands."
    )

    @property
    def row_tokens(self) -> int | None:
        """Most tokens of a rendered row: the sequence length, less the answer where the model writes one itself."""
        if self.training.max_length is None or self.goal.signal != "prompts":
            return self.training.max_length
        return max(1, self.training.max_length - (self.reinforcement.max_completion or 0))

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
    "domain_adaptation",
    "text_to_text",
    "classification",
    "token_classification",
    "preference",
    "reward_model",
    "reinforcement",
    "tracking",
    "delivery",
)
