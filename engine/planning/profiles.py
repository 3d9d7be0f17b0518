"""What the plan knows of a model and of data: measured facts, no opinions. Plain data, JSON in and out."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.catalog.objectives import Head, ModelKind, RowFormat


class Profile(BaseModel):
    """Base of the documents around a plan: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(Profile):
    """A `engine.recipe.problems.Problem` inside a JSON document."""

    code: str
    message: str
    fix: str = ""
    path: str = ""
    severity: Literal["error", "warning", "note"] = "error"


class CheckResult(Profile):
    """What one check of the rows found, also when that is nothing.

    Attributes:
        name: Its switch in `data.cleaning`.
        action: What the recipe said to do.
        count: Rows concerned.
        dropped: Rows that it took out.
        changed: Rows whose text it changed.
        places: The first hundred of them, each `file:line`, or `file:line like file:line`.
        message: The sentence; empty when nothing was found.
    """

    name: str
    action: str
    count: int = 0
    dropped: int = 0
    changed: int = 0
    places: list[str] = Field(default_factory=list)
    message: str = ""


class ModelProfile(Profile):
    """Facts of a base model, read from its `config.json`, tokenizer files and weight headers.

    Attributes:
        base: What the recipe says: folder, hub id or `builtin:starter`.
        folder: Local folder with its files, or with the small ones while the weights are to be downloaded; None when
            nothing of the model is on this machine.
        revision: 40-digit commit of a hub model, None for folders.
        from_run: Id of the run that has left this model; empty for all others.
        architecture: Class name from the configuration, such as `LlamaForCausalLM`.
        model_type: Family name from the configuration, such as `llama`.
        num_params: Number of weights; tied weights count once.
        context_length: Longest sequence that the model was built for, in tokens.
        weights_bytes: Size of the safetensors files, here or on the hub; 0 when nobody has told.
        download_bytes: Those of them that the run has to download first.
        download_folder: Where downloads are kept; None when there is nothing to download.
        weights_dtype: Number format of the stored weights.
        linear_shapes: Per transformer block `(in, out)` of each linear layer, for adapters and memory.
        kind: What kind of model it is; models that read text can be trained.
        counted: Whether the family's number of weights and shapes are known exactly.
        num_experts: Experts of a block; 0 for models without.
        experts_per_token: Experts that one token passes; `intermediate_size` is their width together.
        expert_params: Weights of all experts, which 4-bit loading leaves as they are.
        quantizable_params: Weights that 4-bit loading covers; 0 takes the linear layers of all blocks.
        sliding_window: Tokens that windowed blocks look back; 0 when none does.
        windowed_layers: Blocks that look through that window.
        body_params: Weights without any head; 0 when that is not known.
        heads: `{head: (weights of the head itself, weights of each label)}` of the heads that the family has.
        head: The head that the plan gives it; None until an objective asks for one.
        num_labels: Classes that a classification head tells apart.
        relative_positions: Positions are distances, so that longer texts than those of the pre-training can be read.
        encoder_layers: Blocks of the encoder, where there is a decoder too; they have the `encoder_shapes`.
        attention_dropout: Whether attention scores are dropped in training; None when nobody looked.
        distance_buckets: Distances that a separate product of each head scores, as DeBERTa does; 0 for others.
        cls_token: Token in front of a text that an encoder reads.
        sep_token: Token after it.
        mask_token: Token that stands for a hidden word.
        findings: What is wrong with the folder (no weights, pickle only, no tokenizer, ...).
    """

    base: str
    folder: str | None = None
    revision: str | None = None
    from_run: str = ""
    architecture: str
    model_type: str
    num_params: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    tied_embeddings: bool
    weights_bytes: int = 0
    download_bytes: int = 0
    download_folder: str | None = None
    weights_dtype: str = "float32"
    linear_shapes: list[tuple[str, int, int]] = Field(default_factory=list)
    kind: ModelKind = "decoder"
    counted: bool = True
    num_experts: int = 0
    experts_per_token: int = 0
    expert_params: int = 0
    quantizable_params: int = 0
    sliding_window: int = 0
    windowed_layers: int = 0
    has_chat_template: bool = False
    eos_token: str | None = None
    pad_token: str | None = None
    bos_token: str | None = None
    body_params: int = 0
    heads: dict[Head, tuple[int, int]] = Field(default_factory=dict)
    head: Head | None = None
    num_labels: int = 2
    relative_positions: bool = False
    encoder_layers: int = 0
    encoder_shapes: list[tuple[str, int, int]] = Field(default_factory=list)
    attention_dropout: bool | None = None
    distance_buckets: int = 0
    cls_token: str | None = None
    sep_token: str | None = None
    mask_token: str | None = None
    findings: list[Finding] = Field(default_factory=list)


class LengthProfile(Profile):
    """Lengths of rows in tokens (or estimated from characters when no tokenizer was at hand).

    Attributes:
        total: Tokens of all rows.
        covered: `[(length, rows that are at most so long)]`, lengths growing by about a fifth up to the longest row;
            empty when only the quantiles are known.
    """

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    total: int
    estimated: bool = False
    covered: list[tuple[int, int]] = Field(default_factory=list)


class LengthCut(Profile):
    """What one sequence length would take from the rows.

    Attributes:
        length: Sequence length in tokens.
        num_cut: Sequences that are longer; plain text is never cut, it goes on in the next window.
        num_answers_cut: Sequences that lose a part of what is trained, or all of it.
        num_answers_lost: Sequences that lose all of it.
        lost_tokens: Tokens beyond the length.
        num_sequences: Sequences in all; 0 when nobody counted.
        num_kept: Sequences that are cut and trained; None when nobody counted.
        num_left_out: Rows that the run leaves out because of this length: nothing is left to learn of a row, or of one
            of its answers where they are compared, or no room for one; None when nobody counted.
        sampled: The numbers are scaled up from a sample of the rows.
    """

    length: int
    num_cut: int
    num_answers_cut: int
    num_answers_lost: int
    lost_tokens: int
    num_sequences: int = 0
    num_kept: int | None = None
    num_left_out: int | None = None
    sampled: bool = False


class PreflightCheck(Profile):
    """One check that is made before the first step, also when it found nothing.

    Attributes:
        id: Number in docs/preflight.md, such as `P7`.
        title: What is checked, as people say it.
        status: `blocked` forbids the start; `skipped` says in `message` why nothing was checked.
        message: What was found, with numbers.
        fix: The next action, where something was found.
        rows: Rows concerned, each `file:line`, the first twenty.
        measured: Named figures behind the verdict.
        elapsed_s: Time that the check took.
    """

    id: str
    title: str
    status: Literal["passed", "warning", "blocked", "skipped"]
    message: str = ""
    fix: str = ""
    rows: list[str] = Field(default_factory=list)
    measured: dict[str, float] = Field(default_factory=dict)
    elapsed_s: float = 0.0


class DataTraits(Profile):
    """What the words of the rows look like, as shares from 0 to 1 of the rows looked at; answers are last answers.

    Attributes:
        num_rows: Rows looked at.
        questions: Prompts that ask for something: a question mark, or a question word in front.
        short_answers: Answers of at most six words.
        distinct_answers: Different answers per row.
        rare_words: Words of an answer that at most two answers have; names and numbers that no rule produces.
        answers_in_prompt: Answers that stand in their prompt word for word.
        dated: Answers with a day, a price or a stock level, which will be different later.
        mean_prompt_words: Mean number of words of a prompt.
        mean_answer_words: Mean number of words of an answer; 0 when nobody counted.
    """

    num_rows: int
    questions: float = 0.0
    short_answers: float = 0.0
    distinct_answers: float = 0.0
    rare_words: float = 0.0
    answers_in_prompt: float = 0.0
    dated: float = 0.0
    mean_prompt_words: float = 0.0
    mean_answer_words: float = 0.0


class DataProfile(Profile):
    """Facts of the data after reading, cleaning and splitting.

    Attributes:
        format: Detected or chosen shape of the rows.
        mapping: `{role: column}` in use.
        evidence: One sentence that says why this shape was taken.
        columns: Columns found, in order.
        num_rows: Rows read, before anything was dropped.
        num_train: Training rows after cleaning and split.
        num_held_out: Held-out rows after cleaning and split.
        dropped: `{reason: count}` of rows that are not used.
        lengths: Lengths of whole training rows in tokens, before cutting.
        answer_lengths: Lengths of the trained part of the rows in tokens; None for plain text.
        source_lengths: Lengths of what an encoder reads of each row, its decoder writing the rest; None for others.
        traits: What the words of conversations look like; None for plain text, or when nobody looked.
        sha256: Hash over the files read.
        commits: `{reference: the same with its commit}` of the hub data sets read, so that the run reads the same.
        examples: Up to five rows as they will be used: `{"prompt": ..., "completion": ...}` or `{"text": ...}`.
        num_test: Rows put aside for a last test.
        num_divided: Rows that the split divided, before weights repeat any; 0 when nobody counted.
        num_to_hold_out: Rows that the split aimed at; whole groups and classes may give a few less.
        checks: What each check of the rows found.
        cuts: What a few sequence lengths would take from the training rows; empty without a tokenizer.
        preflight: What the checks of the rendered rows found; empty without a tokenizer.
        labels: Names of the classes, or of the tags of words, in the order of their numbers; empty for other rows.
        label_counts: Training rows, or words in them, with each.
        multi_label: A row can have several classes.
        findings: What is wrong, with file and line.
    """

    format: RowFormat | None
    mapping: dict[str, str] = Field(default_factory=dict)
    evidence: str = ""
    columns: list[str] = Field(default_factory=list)
    num_rows: int = 0
    num_train: int = 0
    num_held_out: int = 0
    num_test: int = 0
    num_divided: int = 0
    num_to_hold_out: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    lengths: LengthProfile | None = None
    answer_lengths: LengthProfile | None = None
    source_lengths: LengthProfile | None = None
    held_out_answer_longest: int = 0
    traits: DataTraits | None = None
    sha256: str = ""
    commits: dict[str, str] = Field(default_factory=dict)
    bytes: int = 0
    examples: list[dict[str, Any]] = Field(default_factory=list)
    checks: list[CheckResult] = Field(default_factory=list)
    cuts: list[LengthCut] = Field(default_factory=list)
    preflight: list[PreflightCheck] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)
    label_counts: dict[str, int] = Field(default_factory=dict)
    multi_label: bool = False
    findings: list[Finding] = Field(default_factory=list)

    @property
    def compared(self) -> bool:
        """Whether each length is that of an answer with its prompt: those of a pair, or one marked good or bad."""
        return self.format in ("preference", "unpaired_preference")

    def cut_at(self, max_length: int) -> LengthCut | None:
        """Return what was counted of a sequence length; None where nobody counted just this one."""
        return next((cut for cut in self.cuts if cut.length == max_length), None)

    @property
    def cut_lengths(self) -> LengthProfile | None:
        """Lengths that the sequence length cuts: of whole rows, or of sources where targets have a length of theirs."""
        return self.lengths if self.source_lengths is None else self.source_lengths
