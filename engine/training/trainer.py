"""The trainers of the libraries with our order of rows, our schedule and our look-outs between micro-steps."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from datasets import Dataset
from peft import PeftModel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer
from trl import SFTTrainer

from engine.objectives.sequences import Sequences
from engine.training.losses import smoothed_loss
from engine.training.order import StepOrder

if TYPE_CHECKING:
    from engine.training.distributed import Share

Severity = Literal["note", "warning", "error"]
RateShare = Callable[[int], float]
"""Share of the learning rate that a step (from 0) uses."""


class StepTrainer(Trainer):
    """What the trainers of all objectives share; `steer` has to be called right after the constructor.

    The loss of a step is a mean over all that the step learns from, however it is cut into micro-batches: trained
    tokens, rows or pairs, as `Sequences.weights` counts them. `compute_loss` of a subclass returns the part of one
    micro-batch: a sum over what it holds, divided by `num_items_in_batch`, which is the count of the whole step.

    Attributes:
        extra_names: Numbers besides the loss that each step tells, names of `engine.catalog.step_numbers`.
        sequences: The rows.
        order: Which rows each step reads.
        rate_share: Share of the learning rate that a step (from 0) uses.
        before_micro_step: Called before each micro-step; may raise to leave training.
        after_micro_step: Called with the micro-step's share of the loss, detached, on the device.
        load_weights: Called when the trainer wants the weights of a checkpoint folder.
        tell: Called with severity, code and message of what whoever watches should know.
        rate_factors: `{parameter name: times the learning rate}` of what learns at a rate of its own.
        share: The part that this process takes in each step; None when it computes whole steps.
        label_smoothing: Share of each target's probability that `compute_loss` spreads over all others.
        others_loss: Called with the other processes' part of a step's loss.
    """

    # Set by the library's own constructor, in a way that mypy cannot follow.
    lr_scheduler: Any

    extra_names: ClassVar[tuple[str, ...]] = ()
    sequences: Sequences
    order: StepOrder
    rate_share: RateShare

    def steer(self, sequences: Sequences, order: StepOrder, rate_share: RateShare) -> None:
        """Take the rows, their order and the schedule; from here on nothing is printed."""
        self.sequences = sequences
        self.order = order
        self.rate_share = rate_share
        self.train_dataset = sequences.dataset()
        self.remove_callback(PrinterCallback)
        self.label_smoothing = 0.0
        # The loss that `compute_loss` returns is divided already.
        self.model_accepts_loss_kwargs = True
        self.before_micro_step: Callable[[], None] = _nothing
        self.after_micro_step: Callable[[torch.Tensor], None] = _ignore
        self.load_weights: Callable[[str], None] = _ignore
        self.tell: Callable[[Severity, str, str], None] = _untold
        self.rate_factors: Mapping[str, float] = {}
        self.share: Share | None = None
        self.others_loss: Callable[[torch.Tensor], None] = _ignore
        self._extra_sums = torch.zeros(len(self.extra_names), device=self.args.device)
        self._extra_step = -1

    def step_teaches(self) -> bool:
        """Return whether the step that just ended had anything to learn from; equal rewards have nothing."""
        return True

    def tokens_of_step(self, step: int) -> int:
        """Return how many tokens, padding aside, the step (from 0) that just ended has passed through the model."""
        return self.order.tokens_of_step(step)

    def add_extras(self, shares: Mapping[str, torch.Tensor]) -> None:
        """Add one micro-batch's share of the numbers that the step tells besides its loss.

        Args:
            shares: For each of `extra_names` a sum over the micro-batch divided by `num_items_in_batch`, like the loss,
                of shape []. Nothing is read from the device here.
        """
        self._begin_extras()
        self._extra_sums += torch.stack([shares[name].detach().float() for name in self.extra_names])

    def step_extras(self) -> dict[str, float]:
        """Return the numbers besides the loss of the step that just ended; empty for objectives that tell none."""
        return dict(zip(self.extra_names, self._extra_sums.tolist(), strict=True)) if self.extra_names else {}

    def _begin_extras(self) -> None:
        if self._extra_step != self.state.global_step:
            self._extra_step = self.state.global_step
            self._extra_sums = torch.zeros_like(self._extra_sums)

    def get_train_dataloader(self) -> DataLoader:
        """Return the micro-batches of the current epoch of `order`.

        Accelerate does not prepare it: there is one process, `_prepare_inputs` moves tensors to the device, and the
        look-ahead of its wrapper would only blur which batch a fault belongs to. The loader's own generator keeps it
        from drawing from the global one, so that resuming needs no replay.
        """
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.order,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
            pin_memory=self.args.device.type == "cuda",
        )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Return the optimizer; parameters with a rate of their own are in groups of their own, after the others.

        The rate that is logged is that of the first group, and the schedule multiplies each group's own.
        """
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self.rate_factors:
            names = dict((self.model if model is None else model).named_parameters())
            factors = {id(names[name]): factor for name, factor in self.rate_factors.items()}
            optimizer.param_groups[:] = _by_rate(optimizer.param_groups, factors)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """Return the schedule of `rate_share`; transformers' own start at zero and would waste the first step."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, self.rate_share)
        scheduler: LambdaLR = self.lr_scheduler
        return scheduler

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """Run one micro-step between the look-outs."""
        self.before_micro_step()
        if self.share is not None:
            self.share.begin_micro_step(self.state.global_step)
        loss = super().training_step(*arguments, **keywords) if arguments[1] else self._no_rows()
        self.after_micro_step(loss)
        return loss

    def _no_rows(self) -> torch.Tensor:
        """Return the loss of a micro-batch without rows: other processes compute the rest of this step."""
        loss = torch.zeros((), device=self.args.device)
        if self.accelerator.scaler is not None:
            # Its scale comes into being with the first loss that it scales.
            self.accelerator.scaler.scale(loss)
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """Return what the whole step learns from, also in micro-batches that other processes compute."""
        return torch.tensor(self.weight_of_step(self.state.global_step), device=device)

    def weight_of_step(self, step: int) -> int:
        """Return what optimizer step `step` (from 0) learns from: trained tokens, rows or pairs of all its rows."""
        weights = self.sequences.weights
        return sum(int(weights[row]) for row in self.order.rows_of_step(step))

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        """Sum the gradients over the processes that share the step, then clip them."""
        if self.share is not None:
            # Steps are logged one by one, so that this is the loss of this step.
            self._begin_extras()
            totals = torch.cat([self._tr_loss.reshape(1).double(), self._extra_sums.double()])
            others = self.share.sum_up(self.state.global_step, totals)
            self._tr_loss += others[0].to(self._tr_loss.dtype)
            self._extra_sums += others[1:].to(self._extra_sums.dtype)
            self.others_loss(others[0].to(self._tr_loss.dtype))
        return super()._clip_grad_norm(model)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: counting walks all parameters at each micro-step (8 ms on an 8B model), and we report tokens."""
        return 0

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load weights from our own files instead of the trainer's."""
        self.load_weights(resume_from_checkpoint)


class RunTrainer(StepTrainer, SFTTrainer):
    """`SFTTrainer` on sequences that we rendered: the loss of the next token.

    Attributes:
        fused_head: Take the loss from TRL's fused output layer instead of plain cross entropy.
    """

    def __init__(self, *, sequences: Sequences, order: StepOrder, rate_share: RateShare, **arguments: Any) -> None:
        adapter = float32_adapter(arguments["model"])
        # TRL insists on a data set of its library and looks at one row of it. The rows themselves stay where they are.
        super().__init__(train_dataset=Dataset.from_list([sequences.dataset()[0]]), **arguments)
        restore_adapter(adapter)
        # Where a model's own loss is a mean over the micro-batch, a step would depend on its cut.
        self._own_loss_counts = self.model_accepts_loss_kwargs
        self.steer(sequences, order, rate_share)
        # The fused head saves memory on a GPU and is 2 to 4 times slower than plain cross entropy on a CPU (measured).
        self.fused_head = self.args.device.type != "cpu"

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed cross entropy of the trained tokens over their number in the whole step.

        TRL's own version also computes entropy and accuracy, with five waits for the device per micro-step. Its fused
        head and plain cross entropy give the same loss. Mixtures of experts add how unevenly their experts are used.
        """
        if return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return self._token_loss(model, inputs, num_items_in_batch)

    def _token_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> Any:
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        if self.label_smoothing or not self._own_loss_counts:
            return self._smoothed_token_loss(model, inputs, num_items_in_batch)
        if not self.fused_head and not self.aux_loss_enabled:
            return Trainer.compute_loss(self, model, inputs, num_items_in_batch=num_items_in_batch)
        outputs = model(**inputs, fused_lm_head=True)
        num_items = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -outputs.log_probs.sum() / torch.as_tensor(num_items).clamp(min=1)
        return self._with_experts(loss, outputs, num_items_in_batch)

    def _smoothed_token_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        # Virtual tokens stand in front. What a place predicts is the token after it.
        logits = outputs.logits[:, -labels.shape[1] :]
        loss = smoothed_loss(logits[:, :-1], labels[:, 1:], self.label_smoothing, num_items_in_batch)
        return self._with_experts(loss, outputs, num_items_in_batch)

    def _with_experts(self, loss: torch.Tensor, outputs: Any, num_items_in_batch: torch.Tensor | int | None) -> Any:
        """Add how unevenly experts are used: a mean over each micro-batch, of which a step takes the mean."""
        if not self.aux_loss_enabled:
            return loss
        # Without a count of items the trainer divides by the micro-batches.
        parts = 1 if num_items_in_batch is None else len(self.order.all_micro_batches(self.state.global_step))
        return loss + self.router_aux_loss_coef * outputs.aux_loss / parts


def _by_rate(groups: list[dict[str, Any]], factors: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return groups of parameters cut so that all of a group learn at one rate; `factors` are by id."""
    cut: list[dict[str, Any]] = []
    for factor in [1.0, *sorted({*factors.values()} - {1.0})]:
        for group in groups:
            chosen = [parameter for parameter in group["params"] if factors.get(id(parameter), 1.0) == factor]
            if chosen or factor == 1.0:
                cut.append({**group, "params": chosen, "lr": group["lr"] * factor})
    return cut


def _nothing() -> None:
    return


def _untold(_: Severity, __: str, ___: str) -> None:
    return


def _ignore(_: Any) -> None:
    return


def float32_adapter(model: torch.nn.Module) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Return the adapter's weights before TRL rounds them, for `restore_adapter`."""
    if not isinstance(model, PeftModel):
        return []
    return [(p, p.data) for p in model.parameters() if p.requires_grad and p.dtype == torch.float32]


def restore_adapter(adapter: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> None:
    """Put back weights that TRL has rounded.

    TRL rounds the adapters of quantised models to bfloat16. AdamW's updates at 2e-4 are smaller than bfloat16's
    spacing at the adapters' initial values, so they would be lost; the adapters are small enough for float32.
    """
    for parameter, data in adapter:
        parameter.data = data.to(parameter.device)
