"""One measurement under way: what is asked of a model, and what the steps of measuring it share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.evaluation.batches import in_batches
from engine.evaluation.few_shot import FewShot
from engine.evaluation.generation import EvaluationInterrupted
from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.measurement import TEST_PHASES, Confusion, Phase, Sample
from engine.evaluation.measures import default_metrics
from engine.objectives.rewarding import Rewarding
from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.recipe.schema import Recipe

Emit = Callable[..., None]
Item = TypeVar("Item")
Result = TypeVar("Result")
DEFAULT_MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found.

    Attributes:
        metrics: As in `Measurement`.
        samples: As in `Measurement`.
        num_rows: Rows behind the metrics that need no writing.
        num_tokens: Trained tokens in those rows.
        num_generated: Rows behind the metrics of written answers.
        answers: As in `Measurement`.
        confusion: As in `Measurement`.
        rows: As in `Measurement`.
    """

    metrics: dict[str, float]
    samples: list[Sample] = field(default_factory=list)
    num_rows: int = 0
    num_tokens: int = 0
    num_generated: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)
    confusion: Confusion | None = None
    rows: list[RowGroup] = field(default_factory=list)


@dataclass
class Job:
    """One measurement under way.

    Attributes:
        model: Full, PEFT or quantised model, in evaluation mode.
        renderer: Of the tokenizer and the recipe; its `task` says what the model gives out.
        rows: Rows to be judged on, in canonical form.
        recipe: With every value filled in.
        emit: Called as `emit(type, **payload)`.
        should_stop: Asked between batches and at every generated token.
        micro_batch: Rows that training holds in memory at once.
        few_shot: Examples to put in front of every question.
        rewarding: Who judges answers, and the model as it was at the start; None where nothing is rewarded.
        references: What the untouched model makes of the rows, where the loss compares with it.
        folder: Where the run's measurements lie; None where there is none.
        remarks: Sentences on rows left out and values that are no numbers; kept in the file.
        alarms: Those of them that are told whenever they happen.
        done: Rows done, of `total`.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    rows: Sequence[Row]
    recipe: Recipe
    phase: Phase
    step: int
    emit: Emit
    should_stop: Callable[[], bool]
    micro_batch: int
    few_shot: FewShot | None = None
    rewarding: Rewarding | None = None
    references: torch.Tensor | None = None
    folder: Path | None = None
    remarks: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0

    @property
    def kind(self) -> str:
        """What the rows are called."""
        if self.phase == "apart":
            return "given"
        return "test" if self.phase in TEST_PHASES else "held-out"

    @property
    def metrics(self) -> Sequence[str]:
        """What the recipe asks for."""
        return self.recipe.evaluation.metrics or default_metrics(self.recipe.objective, self.renderer.task.head)

    @property
    def precision(self) -> torch.dtype:
        """Number format of the arithmetic."""
        dtype: torch.dtype = getattr(torch, self.recipe.training.precision or "float32")
        return dtype

    @property
    def pad_id(self) -> int:
        """A token id to fill batches with; it is masked."""
        pad_id = self.tokenizer.pad_token_id
        return int(pad_id) if pad_id is not None else 0

    @property
    def max_batch_tokens(self) -> int:
        """Tokens of one training micro-batch: what fitted with gradients fits without."""
        return self.micro_batch * (self.recipe.training.max_length or DEFAULT_MAX_LENGTH)

    def begin(self, num_rows: int, total: int) -> None:
        """Tell that measuring begins.

        Args:
            num_rows: Rows whose loss is measured.
            total: All that will be counted by `advance`.
        """
        self.total = total
        self.emit("evaluation.started", phase=self.phase, step=self.step, num_rows=num_rows)

    def advance(self, number: int) -> None:
        """Count rows as done."""
        if number:
            self.done += number
            self.emit("evaluation.progressed", phase=self.phase, done=self.done, total=self.total)

    def each(
        self, rows: Sequence[Item], length: Callable[[Item], int], work: Callable[[Sequence[Item]], list[Result]]
    ) -> list[Result]:
        """Do work on rows, batch by batch, and return the result of each in the order of the rows.

        Args:
            rows: In any order.
            length: Tokens that one row occupies.
            work: Returns one result for each row of a batch.

        Raises:
            EvaluationInterrupted: `should_stop` became true.
        """
        found: dict[int, Result] = {}

        def batch_of(numbered: Sequence[tuple[int, Item]]) -> list[Result]:
            if self.should_stop():
                raise EvaluationInterrupted
            return work([row for _, row in numbered])

        for batch, results in in_batches(
            list(enumerate(rows)), lambda each: length(each[1]), self.max_batch_tokens, batch_of, self.tell_smaller
        ):
            found.update({place: result for (place, _), result in zip(batch, results, strict=True)})
            self.advance(len(batch))
        return [found[place] for place in range(len(rows))]

    def alarm(self, sentence: str) -> None:
        """Remark on something that is told whenever it happens."""
        self.alarms.append(sentence)
        self.remarks.append(sentence)

    def unless_too_large(self, what: str, work: Callable[[], list[Any]]) -> list[Any] | None:
        """Return what work returns; None, with a remark, when memory runs out with a single row."""
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        give_back_memory()
        # All of it, and not only the rows that do not fit: before and after must be of the same rows.
        self.alarm(
            f"There was not enough memory for {what}, not even with one {self.kind} row at a time: it is left out of "
            f"the measurement {self.moment}."
        )
        return None

    def tell_smaller(self, num_rows: int, fewer: int) -> None:
        """Tell that a batch of `num_rows` did not fit, and that `fewer` are tried."""
        self.emit(
            "notice.raised",
            severity="note",
            code="evaluation.smaller_batches",
            message=f"Out of memory while {num_rows} {self.kind} rows were measured at once {self.moment}. Going on "
            f"with {fewer}; the numbers are the same.",
        )

    @property
    def moment(self) -> str:
        """Return when this is, as part of a sentence."""
        match self.phase:
            case "during":
                return f"at step {self.step}"
            case "few_shot":
                return "with examples in the prompt"
            case "apart":
                return "of these rows"
            case "test_before" | "test":
                return f"{'before' if self.phase == 'test_before' else 'after'} training"
            case _:
                return f"{self.phase} training"
