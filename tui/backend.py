"""What the screens ask of the engine, in one place: plain facts in, plain facts out.

The screens know this protocol only; `tui.engine_backend` answers it with the engine, tests answer it with fixed facts.
Calls without `async` may take a moment (they read files or ask the driver), so the screens make them in a thread.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from engine.planning.rate_curve import RatePoint
from engine.recipe.problems import Problem
from engine.recipe.sources import Layered

if TYPE_CHECKING:
    from engine.chat_client import Ending, Which

    # pydantic costs 100 ms: the first screen must not wait for it.
    from engine.hardware.devices import Hardware
    from engine.planning.plan import Plan
    from engine.planning.profiles import DataProfile, ModelProfile
    from engine.recipe.fields import RecipeField


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine in words and the memory that a plan may use.

    Attributes:
        headline: One short line, such as `CPU only: 2 cores, 3.1 of 7.6 GiB RAM free`.
        lines: One line per GPU, then the host.
        training_bytes: Free memory of the device that would train; None when unknown.
        where: `GPU 0` or `host RAM`.
        hardware: The readings behind it; None in tests. Two machines are the same when their words are.
    """

    headline: str
    lines: tuple[str, ...] = ()
    training_bytes: int | None = None
    where: str = "host RAM"
    hardware: "Hardware | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in a list. `state` is `crashed` when the worker is gone without an exit file.

    Attributes:
        loss: Newest training loss; None before the first step.
        held_out_loss: Newest loss on held-out rows.
        base: What it started from, as its plan says it.
    """

    path: Path
    run_id: str
    name: str
    state: str
    step: int | None = None
    total_steps: int | None = None
    changed_at: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None
    objective: str = ""
    method: str = ""
    base: str = ""


@dataclass(frozen=True, slots=True)
class PresetRow:
    """One preset in a list."""

    name: str
    title: str
    summary: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be chosen, in plain words.

    Attributes:
        models: Kinds of models that it takes.
    """

    name: str
    title: str
    summary: str
    when: str = ""
    when_not: str = ""
    needs: str = ""
    models: str = ""


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """One base model of the catalogue.

    Attributes:
        reference: What the recipe says: `builtin:starter`, a hub id or a folder.
        where: `built in`, `on this machine` or `download`.
        fit: How it fits this machine, in a few words, such as `fits with LoRA` or `does not fit`.
        blocked: Why it cannot be taken here; empty when it can.
        gated: The hub asks for an account that accepted the licence.
        unsuited: Why the objective does not train it; empty when it does.
        context_length: Longest text in tokens; 0 when nobody knows.
        languages: Which languages it knows, in a word or two.
    """

    reference: str
    title: str
    summary: str
    num_params: int = 0
    weights_bytes: int = 0
    licence: str = ""
    where: str = ""
    fit: str = ""
    blocked: str = ""
    gated: bool = False
    unsuited: str = ""
    context_length: int = 0
    languages: str = ""


@dataclass(frozen=True, slots=True)
class HubModel:
    """One model that a search on the hub named.

    Attributes:
        reference: Hub id.
        num_params: Number of weights; 0 when the hub did not count.
        licence: As its card spells it; empty when it names none.
        languages: In a word or two; empty when its card names none.
        gated: The hub asks for an account that accepted the licence.
        downloads: In the last month.
    """

    reference: str
    num_params: int = 0
    licence: str = ""
    languages: str = ""
    gated: bool = False
    downloads: int = 0


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """What a search on the hub found: models, and how many more do not suit the objective."""

    models: tuple[HubModel, ...] = ()
    left_out: int = 0


XrayOrder = Literal["file", "longest", "cut", "odd"]
"""Which sequences an X-ray shows first: as they come, by length, those that are cut, those that stand out."""


@dataclass(frozen=True, slots=True)
class XrayToken:
    """One token of a sequence that the trainer draws.

    Attributes:
        text: What it spells; of a special token its name.
        trained: Whether the loss counts it.
        special: Whether it is a special token of the tokenizer.
        padding: Whether it only fills the batch.
        segment: Which of several packed rows it belongs to, from 0.
    """

    text: str
    trained: bool
    special: bool = False
    padding: bool = False
    segment: int = 0


@dataclass(frozen=True, slots=True)
class XraySequence:
    """One sequence as the collator hands it to the trainer.

    Attributes:
        number: Its place among all sequences, from 0.
        row_ids: `file:line` of its rows, one for each segment.
        tokens: Its first tokens, as many as a screen can use.
        num_tokens: Tokens without padding.
        num_trained: Tokens that the loss counts.
        num_padding: Tokens that only fill the batch.
        num_lost: Tokens that were cut off at the sequence length.
        reasons: Why it stands out, as short sentences; empty for most.
        learns: What is learnt of it besides its trained tokens, such as its class; empty where that is all.
    """

    number: int
    row_ids: tuple[str, ...]
    tokens: tuple[XrayToken, ...]
    num_tokens: int
    num_trained: int
    num_padding: int = 0
    num_lost: int = 0
    reasons: tuple[str, ...] = ()
    learns: str = ""


@dataclass(frozen=True, slots=True)
class XrayPage:
    """Some sequences, and what is true of all of them.

    Attributes:
        sequences: The sequences asked for, in the order asked for.
        start: Place of the first of them in that order.
        total: Sequences in that order.
        num_sequences: All sequences of the run.
        num_cut: Those that lose tokens at the sequence length.
        num_odd: Those that stand out.
        num_dropped: Rows that give no sequence.
        trained_share: Trained tokens of all tokens, padding left out.
        all_trained: Whether every token is trained but those that begin rows, which nothing predicts.
        num_rows: Rendered rows: as many as sequences, or more where they are packed.
        num_ended: Those of them whose last trained token ends a turn.
        max_length: Sequence length in tokens.
        length_from: Where the length comes from: `you`, `preset NAME`, or the reason it was derived.
        packed: Whether several rows share a sequence.
        problems: What blocks or warns, with rows.
        learnt: What is learnt, as a sentence, where that is more than the trained tokens.
        answers: What the trained texts are called.
    """

    sequences: tuple[XraySequence, ...]
    start: int
    total: int
    num_sequences: int
    num_cut: int
    num_odd: int
    num_dropped: int
    trained_share: float
    all_trained: bool
    num_rows: int
    num_ended: int
    max_length: int
    length_from: str
    packed: bool
    problems: tuple[Problem, ...] = ()
    learnt: str = ""
    answers: str = "answers"


@dataclass(frozen=True, slots=True)
class WorkProgress:
    """How far the work in the helper process is; `total` is 0 while nobody knows, `found` is a first finding."""

    stage: str
    done: int
    total: int
    unit: Literal["bytes", "rows"] = "rows"
    found: str = ""


@dataclass(frozen=True, slots=True)
class ShapeOffer:
    """One way to read the rows.

    Attributes:
        format: Name of the shape, as `data.format` takes it.
        mapping: `{role: column}`.
        evidence: Why it could be this one, in one sentence.
        confidence: From 0 to 1; one of 0.8 or more is taken without asking.
        example: The first row read this way: `{role: text}`.
    """

    format: str
    mapping: Mapping[str, str]
    evidence: str
    confidence: float
    example: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShapeLook:
    """What the first rows look like, known long before a large file is read.

    Attributes:
        offers: Ways to read them, the surest first.
        columns: `{column: its first cell that holds something}`, in order.
        num_rows: Rows that were looked at.
    """

    offers: tuple[ShapeOffer, ...]
    columns: Mapping[str, str]
    num_rows: int


ProgressListener = Callable[[WorkProgress], None]


class RateSweep(Protocol):
    """A sweep over learning rates under way."""

    def points(self) -> Iterator[RatePoint]:
        """Yield the steps as they are taken; raises `ProblemError`."""

    def cancel(self) -> None:
        """End it now; nothing of it stays."""


class Talker(Protocol):
    """A model in a process of its own, as `engine.chat_client.ChatClient` is one. All methods but `cancel` block."""

    ending: "Ending | None"

    def wait_ready(self) -> object:
        """Wait until the model is loaded; raises `ProblemError`."""

    def reply(self, messages: Sequence[Mapping[str, str]], *, max_new_tokens: int = 256) -> Generator[str, None, None]:
        """Yield the answer to a conversation in pieces; raises `ProblemError`."""

    def cancel(self) -> None:
        """End the answer under way at the next token; from any thread."""

    def close(self) -> None:
        """End the process."""


class Backend(Protocol):
    """The engine, as the screens see it."""

    @property
    def drafts_folder(self) -> Path:
        """Where drafts are kept."""

    def machine(self) -> Machine:
        """Read the hardware."""

    def runs(self, limit: int) -> list[RunRow]:
        """Return the newest runs first."""

    def presets(self) -> list[PresetRow]:
        """Return all presets."""

    def preset_tree(self, name: str) -> dict[str, Any]:
        """Return the nested recipe dictionary of a preset; raises `ProblemError` for an unknown name."""

    def objectives(self) -> list[Choice]:
        """Return what a model can learn."""

    def methods(self) -> list[Choice]:
        """Return which weights can learn."""

    def model_offers(self, machine: Machine | None, objective: str | None = None) -> list[ModelOffer]:
        """Return the base models of the catalogue, judged for `machine` once that was read.

        Those that the objective trains come first, of these the ones that fit; the others say why they do not suit.
        """

    def builtin_data(self) -> list[Choice]:
        """Return the data sets that ship with ftwizard; `name` is what the recipe says."""

    def recent_data(self) -> list[str]:
        """Return what the newest runs learned from, without repeats."""

    def fields(self) -> "tuple[RecipeField, ...]":
        """Return every field of a recipe in order."""

    def parse(self, path: str, text: str) -> Any:
        """Return the value that a person's text means for the field at `path`; raises `ProblemError`."""

    def check(self, layered: Layered) -> list[Problem]:
        """Return what is wrong with the answers given so far; missing answers are no findings here."""

    async def model_profile(self, base: str, revision: str | None) -> "ModelProfile":
        """Return the facts of a base model; raises `ProblemError`."""

    async def search_hub(self, words: str, objective: str) -> HubAnswer:
        """Search the model hub for what an objective trains; raises `ProblemError`, also without a connection."""

    async def shape_look(self, tree: Mapping[str, Any], on_progress: ProgressListener) -> ShapeLook:
        """Look at the first rows of a recipe's data; raises `ProblemError`."""

    async def profile_data(
        self, tree: Mapping[str, Any], folder: str | None, on_progress: ProgressListener
    ) -> "DataProfile":
        """Inspect the data of a recipe with the tokenizer in `folder`; raises `ProblemError`.

        Cancelling it stops the work; `on_progress` is called in the event loop, at most ten times a second.
        """

    async def xray(
        self,
        tree: Mapping[str, Any],
        folder: str | None,
        start: int,
        count: int,
        order: XrayOrder,
        on_progress: Callable[[WorkProgress], None] | None = None,
    ) -> XrayPage:
        """Return sequences as the trainer will draw them; raises `ProblemError`.

        A problem of severity `warning` alone says why there is nothing to show, which forbids nothing.
        """

    def plan(self, layered: Layered, model: "ModelProfile", data: "DataProfile") -> "Plan":
        """Plan the run on this machine; raises `ProblemError`."""

    async def rehearse(self, plan: "Plan") -> "Plan":
        """Return the plan with the memory that a rehearsal found, and a verdict made anew; raises `ProblemError`.

        It takes seconds, in a process of its own. A newer call, or the cancellation of this one, ends it.
        """

    def sweep_rates(self, plan: "Plan") -> RateSweep:
        """Start a sweep over learning rates in a process of its own; raises `ProblemError`."""

    def recipe_text(self, tree: Mapping[str, Any]) -> str:
        """Return the recipe as YAML."""

    def warm_up(self) -> None:
        """Start a worker that imports while the person answers."""

    def cool_down(self) -> None:
        """End the warm worker, if it was not used, the inspection helper and a rehearsal."""

    def talk_to(self, folder: Path, which: "Which", name: str) -> Talker:
        """Start the process of one model of a run; `name` tells its log from those of others."""

    def win_rate(self, ids: Sequence[str], wins: Sequence[float]) -> dict[str, Any]:
        """Return the win rate of judged answers with its interval and verdict, as a report has it.

        Args:
            ids: Names of the prompts.
            wins: 1 for each that was won, 0 for each that was lost, one half for a tie.

        Raises:
            ProblemError: It cannot be computed.
        """

    def launch(self, tree: Mapping[str, Any], plan: "Plan") -> Path:
        """Create the run, start its worker and return the run directory; raises `ProblemError` or `OSError`."""


def find_choice(choices: Sequence[Choice], name: str) -> Choice | None:
    """Return the choice called `name`."""
    return next((choice for choice in choices if choice.name == name), None)
