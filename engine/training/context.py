"""What the stages of a run share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.rendered import RenderedRows
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.objectives.references import References
from engine.objectives.rewarding import Rewarding
from engine.planning.plan import Plan
from engine.recipe.schema import Recipe
from engine.runs.checkpoints import Checkpoint, CheckpointStore
from engine.runs.directory import RunDirectory
from engine.training.batching import Batching
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt
from engine.training.memory import MemorySampler
from engine.training.order import StepOrder
from engine.training.ranks import Ranks
from engine.training.requests import RequestDesk
from engine.training.stopwatch import Stopwatch


@dataclass(slots=True)
class RunContext:
    """One run between its preparation and its report.

    Attributes:
        run: The run directory.
        plan: What was decided before the start; `plan.recipe` has every value filled in.
        events: The run's event log.
        interrupt: Where signals arrive.
        desk: Where requests of viewers arrive.
        batching: Micro-batch and accumulation in use.
        tokenizer: With chat template, pad and eos token.
        renderer: Of the tokenizer and the recipe.
        held_out_rows: Canonical rows to be judged on.
        test_rows: Rows put aside for a last test; no choice of the run sees them.
        examples: Training rows that the few-shot baseline shows; empty when it is off.
        rendered: Training rows as token ids and masks.
        checkpoint: Where this attempt goes on from; None at the start.
        store: The run's checkpoints.
        model: The model with its method applied, on its device.
        stopwatch: Training time over all attempts.
        steps_done: Optimizer steps finished.
        order: Which rows each step reads; None before training.
        ranks: The other processes of a run on several GPUs; None on one.
        rewarding: Who judges answers, and the model as it was at the start; None where nothing is learnt from rewards.
        references: What the untouched model makes of the rows; None where no loss compares with it.
        memory: Follows the memory of this process; stages tell it their phase.
    """

    run: RunDirectory
    plan: Plan
    events: EventLog
    interrupt: Interrupt
    desk: RequestDesk
    batching: Batching
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    rendered: RenderedRows
    held_out_rows: Sequence[Row]
    checkpoint: Checkpoint | None
    store: CheckpointStore
    model: PreTrainedModel
    test_rows: Sequence[Row] = ()
    examples: list[dict[str, Any]] = field(default_factory=list)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    steps_done: int = 0
    order: StepOrder | None = None
    ranks: Ranks | None = None
    rewarding: Rewarding | None = None
    references: References | None = None
    memory: MemorySampler = field(init=False)

    def __post_init__(self) -> None:
        self.memory = MemorySampler(self.events, self.plan.device)

    @property
    def recipe(self) -> Recipe:
        """The recipe with every value filled in."""
        return self.plan.recipe

    @property
    def task(self) -> Task:
        """What the model is asked to give out."""
        return self.renderer.task

    @property
    def on_gpu(self) -> bool:
        """Whether the run computes on a GPU."""
        return self.plan.device.kind == "cuda"

    def notice(self, severity: Literal["note", "warning", "error"], code: str, message: str) -> None:
        """Tell whoever watches."""
        self.events.write("notice.raised", severity=severity, code=code, message=message)
