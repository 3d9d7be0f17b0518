"""P9: whether the loss and the gradients of a step depend on how it is cut into micro-batches.

They must not: a step is a mean over all that it learns from. Libraries have got this wrong more than once
(transformers#34191, #35438, #37766), and it shows in no loss curve. Four rows of the run, of uneven lengths, go through
the run's own trainer and backward pass as 1 x 4, 4 x 1 and 3 + 1; nothing is stepped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.data.preflight_case import Verdict
from engine.data.rendered import ListedSequences, RenderedRows, RenderedSequences
from engine.methods.apply import trainable_summary
from engine.objectives.build import make_examples, make_trainer
from engine.objectives.sequences import Sequences
from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.text import human_bytes
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.device_memory import device_free_bytes
from engine.training.order import FixedOrder
from engine.training.preflight_learning import as_before, time_limit_s

NUM_ROWS = 4
MAX_TOKENS = 256
CUTS: tuple[tuple[int, ...], ...] = ((4,), (1, 1, 1, 1), (3, 1))
BOUNDS = {"float32": 1e-3, "bfloat16": 6e-2, "float16": 3e-2}
"""Largest relative difference of loss and gradients that rounding explains; a mean of means differs by far more."""


def check_accumulation(context: RunContext) -> Verdict:
    """Compare loss and gradients of the same rows, cut in three ways."""
    if reason := _reason_to_skip(context):
        return Verdict("skipped", reason)
    rows = _uneven_rows(context)
    if len(rows) < NUM_ROWS:
        return Verdict("skipped", f"There are not {NUM_ROWS} rows of at most {MAX_TOKENS} tokens to compare.")
    try:
        with context.memory.within("training"), as_before(context.model):
            found = [_step(context, rows, cut) for cut in CUTS]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = []
    finally:
        context.model.zero_grad(set_to_none=True)
        give_back_memory()
    if not found:
        return Verdict("skipped", "The memory that is free now does not hold the comparison; training may still fit.")
    return judge_cuts(
        found, context.recipe.training.precision or "float32", rows.row_ids(range(len(rows))), context.batching
    )


def judge_cuts(
    found: list[tuple[float, list[torch.Tensor]]], precision: str, row_ids: list[str], batching: Batching
) -> Verdict:
    """Return the verdict on losses and gradients of the same rows, the first cut being all rows at once.

    Args:
        found: Loss and gradients of each cut.
        precision: Number format of the arithmetic.
        row_ids: The rows.
        batching: Of the run: where a step is not cut, a difference is told and forbids nothing.
    """
    (loss, gradients), *others = found
    length = _norm(gradients)
    by_loss = max(abs(other - loss) / max(abs(loss), 1e-8) for other, _ in others)
    by_gradient = max(
        _norm([one - two for one, two in zip(gradients, each, strict=True)]) / max(length, 1e-12) for _, each in others
    )
    measured = {"loss_difference": by_loss, "gradient_difference": by_gradient, "bound": BOUNDS[precision]}
    if not length:
        return Verdict("skipped", "These rows have no gradient yet, so that there is nothing to compare.")
    cuts = ", ".join(" + ".join(map(str, cut)) for cut in CUTS)
    words = f"Four rows cut as {cuts} differ by {by_gradient:.1g} in their gradients and {by_loss:.1g} in their loss"
    if max(by_loss, by_gradient) <= BOUNDS[precision]:
        return Verdict("passed", f"{words}: rounding.", measured=measured)
    return Verdict(
        "blocked" if batching.accumulation > 1 else "warning",
        f"{words}: a step would depend on how it is cut into micro-batches.",
        "Set training.micro_batch to training.effective_batch, or install the versions that ftwizard was tested with.",
        row_ids,
        measured,
    )


def _norm(tensors: list[torch.Tensor]) -> float:
    return float(sum(float(tensor.double().square().sum()) for tensor in tensors) ** 0.5)


def _reason_to_skip(context: RunContext) -> str:
    if context.task.signal == "prompts":
        return "Answers are sampled anew for each micro-batch, so that two cuts of a step differ by nature."
    config = getattr(context.model, "config", None)
    if bool(getattr(config, "output_router_logits", False)):
        return "The loss that balances experts is taken of each micro-batch by design."
    steps, planned = context.plan.steps, context.plan.time
    if planned is not None and steps.total_steps:
        row_s = planned.expected_s / steps.total_steps / max(1, context.recipe.training.effective_batch)
        if row_s * NUM_ROWS * len(CUTS) > time_limit_s(context):
            return "Twelve rows would take too long beside this run. Set training.preflight to full for it."
    needed = 4 * trainable_summary(context.model).trainable_params
    free = device_free_bytes(context.plan.device)
    # Gradients of one cut on the device, those of all cuts in host memory.
    on_device = needed if context.on_gpu else (len(CUTS) + 1) * needed
    if free is not None and on_device > free:
        return f"The comparison needs {human_bytes(on_device)}, {human_bytes(free)} are free."
    return ""


def _uneven_rows(context: RunContext) -> Sequences:
    """Return a few short rows whose loss weighs as differently as the data allows, never packed together."""
    sequences = context.rendered.sequences
    short = np.flatnonzero((sequences.num_learnt > 0) & (sequences.lengths <= MAX_TOKENS))
    ordered = short[np.argsort(sequences.num_learnt[short], kind="stable")]
    places = sorted({round(place * (len(ordered) - 1) / (NUM_ROWS - 1)) for place in range(NUM_ROWS)})
    drawn = [int(ordered[place]) for place in places if 0 <= place < len(ordered)]
    if context.renderer.keeps_rows_whole:
        # A drawn side brings the other one along, and a row with a long side is left out: half a pair is none.
        fitting = set(short.tolist())
        drawn = [at for index in drawn if fitting.issuperset(sides := _sides_of(sequences, index)) for at in sides]
        drawn = list(dict.fromkeys(drawn))
    rows = RenderedRows(ListedSequences([sequences[index] for index in drawn]))
    examples = make_examples(_unpacked(context), context.task, rows, context.renderer.max_length)
    return examples.only(range(min(NUM_ROWS, len(examples))))


def _sides_of(sequences: RenderedSequences, index: int) -> list[int]:
    """Return the places of all sequences of a row, which stand behind each other."""
    name = sequences.row_id(index)
    near = range(max(0, index - 1), min(len(sequences), index + 2))
    return [at for at in near if sequences.row_id(at) == name]


def _unpacked(context: RunContext) -> Any:
    training = context.recipe.training.model_copy(update={"packing": False})
    return context.recipe.model_copy(update={"training": training})


def _step(context: RunContext, rows: Sequences, cut: tuple[int, ...]) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of one step and its gradients, in host memory."""
    built = make_trainer(
        _unpacked(context),
        context.task,
        context.plan.device,
        Batching(max(cut), len(cut)),
        rows,
        model=context.model,
        tokenizer=context.tokenizer,
        folder=context.run.checkpoints_folder,
    )
    trainer, starts = built.trainer, np.cumsum([0, *cut])
    trainer.order = FixedOrder([[list(range(start, end)) for start, end in zip(starts, starts[1:], strict=False)]])
    trainer.current_gradient_accumulation_steps = len(cut)
    context.model.zero_grad(set_to_none=True)
    batches, num_items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), len(cut), trainer.args.device)
    loss = 0.0
    with _still(context.model), trainer.accelerator.autocast():
        for batch in batches:
            loss += float(trainer.training_step(trainer.model, batch, num_items))
    scale = 1.0 if trainer.accelerator.scaler is None else float(trainer.accelerator.scaler.get_scale())
    weights = [weight for weight in context.model.parameters() if weight.requires_grad]
    return loss, [
        torch.zeros(weight.shape) if weight.grad is None else weight.grad.detach().to("cpu", torch.float32) / scale
        for weight in weights
    ]


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode although a trainer puts it into training mode: dropout would differ by cut."""
    model.eval()
    model.__dict__["train"] = lambda mode=True: model
    try:
        yield
    finally:
        del model.__dict__["train"]
