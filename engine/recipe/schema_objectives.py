"""The sections of a recipe that single objectives read. See `engine.recipe.schema`."""

from typing import Literal

from pydantic import Field

from engine.catalog.preference_losses import PreferenceLossName
from engine.catalog.rewards import RewardName
from engine.recipe.section import Section, why


class DomainAdaptationSection(Section):
    """How plain text is read."""

    masked_share: float = Field(
        0.15,
        title="Hidden words",
        ge=0.01,
        le=0.6,
        description="Share of the words that an encoder has to guess, drawn anew at each step. Encoders only.",
        json_schema_extra=why(
            "0.15, as BERT was made; 0.3 suits ModernBERT, which was made with it.", level="advanced"
        ),
    )


class TextToTextSection(Section):
    """How one text is turned into another."""

    prefix: str | None = Field(
        None,
        title="Prefix",
        max_length=2000,
        description='Words put in front of each text, such as "summarize: ", with the blank that parts them.',
        json_schema_extra=why("None: the examples show what is wanted. T5 gets the words that it learnt summaries by."),
    )
    max_target_length: int | None = Field(
        None,
        title="Result length",
        ge=2,
        description="Longest text to learn to write, in tokens; longer ones are cut and counted. Encoder-decoder only.",
        json_schema_extra=why("The shortest length that cuts at most 1 % of the texts to write."),
    )
    num_beams: int = Field(
        1,
        title="Beams",
        ge=1,
        le=16,
        description="Drafts kept while a text is written, in evaluations and by the finished model; 1 keeps the best.",
        json_schema_extra=why(
            "1 is quickest; 4 often score a little higher, for four times the work.", level="advanced"
        ),
    )


class TokenClassificationSection(Section):
    """How words are tagged."""

    tag_names: list[str] | None = Field(
        None,
        title="Names of tags",
        description="Names of tags that the data writes as numbers, in the order of the numbers, such as O, B-PER.",
        json_schema_extra=why("The data's own tags: names, or numbers as they are.", level="advanced"),
    )


class ClassificationSection(Section):
    """How classes are learnt."""

    class_weights: Literal["none", "balanced"] = Field(
        "none",
        title="Class weights",
        description="balanced makes every class count the same in the loss, however rare it is.",
        json_schema_extra=why("What is rare in your data is often rare where it is used.", level="advanced"),
    )
    focal_gamma: float = Field(
        0.0,
        title="Focal loss",
        ge=0,
        le=5,
        description="Above 0, rows that the model is right and sure about count less; 2 is usual.",
        json_schema_extra=why("0, plain cross entropy: right unless easy rows drown the others.", level="advanced"),
    )


def _usual_rewards() -> list[RewardName]:
    return ["last_line"]


class ReinforcementSection(Section):
    """How a model learns from rewards for what it writes."""

    algorithm: Literal["grpo", "rloo"] = Field(
        "grpo",
        title="Algorithm",
        description="grpo or rloo: how an answer's reward is held against those of the other answers to its prompt.",
        json_schema_extra=why("The better known one; both need no second network that guesses rewards."),
    )
    rewards: list[RewardName] = Field(
        default_factory=_usual_rewards,
        title="Rewards",
        description="What judges an answer: rules such as last_line or number, a reward model, or a file of your own.",
        json_schema_extra=why("Answers that end with the result are the most common task with a rule."),
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        title="Reward weights",
        description="How much a reward counts in the sum, such as format: 0.2; a negative one is a penalty.",
        json_schema_extra=why("Each counts 1.", level="advanced"),
    )
    pattern: str | None = Field(
        None,
        title="Pattern",
        min_length=1,
        description="Regular expression that the reward format looks for in an answer.",
        json_schema_extra=why("Only the reward format reads it.", level="advanced"),
    )
    wished_length: int | None = Field(
        None,
        title="Wished length",
        ge=1,
        le=8192,
        description="Tokens that the reward length asks for.",
        json_schema_extra=why("Only the reward length reads it.", level="advanced"),
    )
    reward_model: str | None = Field(
        None,
        title="Reward model",
        min_length=1,
        description="Folder of a reward model, or run:ID of a finished run that trained one.",
        json_schema_extra=why("Only the reward model reads it."),
    )
    reward_file: str | None = Field(
        None,
        title="Reward file",
        min_length=1,
        description="Python file with a function reward(prompt, completion, answer); FILE.py:NAME for another name.",
        json_schema_extra=why("Only the reward file reads it.", level="advanced"),
    )
    trust_reward_code: bool = Field(
        False,
        title="Run the reward file",
        description="Allow the Python code of the reward file to run on this machine.",
        json_schema_extra=why("Code can do anything that you can do.", level="advanced"),
    )
    num_generations: int = Field(
        8,
        title="Answers per prompt",
        ge=2,
        le=256,
        description="Answers written to each prompt and compared with each other; must divide the effective batch.",
        json_schema_extra=why("8 answers mostly hold both better and worse ones."),
    )
    temperature: float = Field(
        1.0,
        title="Temperature",
        ge=0.05,
        le=2,
        description="How freely answers are drawn while training: below 1 more alike, above 1 more different.",
        json_schema_extra=why("1 draws from the model as it is.", level="advanced"),
    )
    top_p: float = Field(
        1.0,
        title="Top-p",
        gt=0,
        le=1,
        description="Draw only from the likeliest tokens that together have this probability.",
        json_schema_extra=why("1, all tokens: what is never drawn is never learned.", level="advanced"),
    )
    max_completion: int | None = Field(
        None,
        title="Longest answer",
        ge=1,
        le=8192,
        description="Tokens after which an answer is cut off while training; most of the time goes into writing them.",
        json_schema_extra=why("The longest answer in the data and a tenth, at most 256."),
    )
    beta: float | None = Field(
        None,
        title="KL weight",
        ge=0,
        le=10,
        description="Pull back to the base model; 0 sets it free and spares a copy of the weights that learn.",
        json_schema_extra=why("0.04 for grpo and 0.05 for rloo: keeps the language whole while the reward is learned."),
    )
    scale_rewards: Literal["group", "batch", "none"] | None = Field(
        None,
        title="Scale rewards",
        description="Divide by the spread of the rewards to one prompt (group), of the step (batch), or not at all.",
        json_schema_extra=why("group for grpo, none for rloo, as their papers have it.", level="advanced"),
    )
    token_mean: Literal["step", "answer", "limit"] | None = Field(
        None,
        title="Mean over tokens",
        description="grpo averages over the tokens of the step (DAPO), of each answer, or of the limit (Dr. GRPO).",
        json_schema_extra=why("step: every token counts the same, long answers are not spared.", level="advanced"),
    )


class PreferenceSection(Section):
    """How better and worse answers are learnt."""

    loss: PreferenceLossName = Field(
        "dpo",
        title="Loss",
        description="How answers are compared: dpo, ipo, kto (also answers that are only good or bad), orpo or simpo.",
        json_schema_extra=why("The best known one for pairs; take kto for answers that are only good or bad."),
    )
    beta: float | None = Field(
        None,
        title="Beta",
        gt=0,
        le=20,
        description="How much a difference counts; with dpo, ipo and kto a higher one stays closer to the base model.",
        json_schema_extra=why("0.1 with dpo, kto and orpo, 1 with ipo, 2 with simpo."),
    )
    label_smoothing: float = Field(
        0.0,
        title="Wrong labels",
        ge=0,
        lt=0.5,
        description="Share of pairs that are taken to be the wrong way round; read by dpo and simpo.",
        json_schema_extra=why("0, every pair is believed; 0.1 suits pairs judged by several people.", level="advanced"),
    )
    simpo_gamma: float = Field(
        1.0,
        title="SimPO margin",
        ge=0,
        le=10,
        description="How far the chosen answer must be ahead, in the units of beta times nats a token; read by simpo.",
        json_schema_extra=why("Half of SimPO's beta, as its paper advises.", level="advanced"),
    )
    desirable_weight: float = Field(
        1.0,
        title="Weight of good answers",
        gt=0,
        le=100,
        description="How much a good answer counts in the loss; read by kto.",
        json_schema_extra=why("1; raise it where good answers are rare.", level="advanced"),
    )
    undesirable_weight: float = Field(
        1.0,
        title="Weight of bad answers",
        gt=0,
        le=100,
        description="How much a bad answer counts in the loss; read by kto.",
        json_schema_extra=why("1; raise it where bad answers are rare.", level="advanced"),
    )
    judge: str | None = Field(
        None,
        title="Judge",
        min_length=1,
        description="Folder of a reward model, or of its run: it compares written answers with the base model's.",
        json_schema_extra=why("Without a judge nobody says which of two answers wins.", level="advanced"),
    )


class RewardModelSection(Section):
    """How a reward is learnt."""

    centering: float = Field(
        0.0,
        title="Centering",
        ge=0,
        le=1,
        description="Above 0, rewards that are far from 0 count against the model; 0.01 is usual.",
        json_schema_extra=why(
            "0: only differences of rewards mean something, unless they are compared across runs.", level="advanced"
        ),
    )
