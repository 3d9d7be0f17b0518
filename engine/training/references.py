"""The references of a run: computed before its first step, kept in its directory, read again by every later attempt.

At each start of a worker the model is the untouched one until the checkpoint is loaded, so that a file that is missing
or of other rows is made again and never guessed.
"""

import time
from collections.abc import Sequence

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.objectives.build import count_steps, make_examples, order_of
from engine.objectives.references import References, compares, make_references
from engine.objectives.sequences import Sequences
from engine.planning.plan import Plan
from engine.recipe.schema import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.disk import write_atomically
from engine.training.context import RunContext
from engine.training.ranks import fingerprint_of

_PARTS = ("train", "held_out", "test")
_TELL_EVERY_S = 2.0


def prepare_references(context: RunContext) -> None:
    """Give a run its references: from its directory, else from the model, which has learnt nothing yet.

    Raises:
        StopRequested: A stop was asked for meanwhile.
    """
    if not compares(context.recipe):
        return
    sequences = make_examples(context.recipe, context.task, context.rendered, context.renderer.max_length)
    context.references = read_references(context.run, context.plan, sequences)
    if context.references is not None:
        return
    context.events.write("state.changed", state="preparing", reason=_REASON)
    with context.memory.within("evaluation"):
        context.references = _computed(context, sequences)
    _write(context, sequences)
    context.events.write("state.changed", state="preparing", reason="")


_REASON = "asking the untouched model"


def read_references(run: RunDirectory, plan: Plan, sequences: Sequences) -> References | None:
    """Return the references that a run directory holds; None where it holds none, or those of other rows."""
    try:
        with safe_open(str(run.references_file), framework="pt") as file:
            if (file.metadata() or {}).get("of") != _mark(plan, sequences):
                return None
            return References(*(file.get_tensor(name) for name in _PARTS))
    except (OSError, SafetensorError):
        return None


def _mark(plan: Plan, sequences: Sequences) -> str:
    """Return what the references depend on."""
    recipe = plan.recipe
    rows = fingerprint_of(sequences.lengths, sequences.num_trained)
    kept = (recipe.preference.loss == "kto", recipe.training.precision, recipe.method.facts.bits, plan.model.revision)
    return f"{rows} {kept}"


def _write(context: RunContext, sequences: Sequences) -> None:
    assert context.references is not None
    tensors = {name: getattr(context.references, name).contiguous() for name in _PARTS}
    write_atomically(context.run.references_file, save(tensors, {"of": _mark(context.plan, sequences)}))


def _computed(context: RunContext, sequences: Sequences) -> References:
    clock = _Clock(context)
    held_out = judged_sequences(context.recipe, context.renderer, context.held_out_rows)
    test = judged_sequences(context.recipe, context.renderer, context.test_rows)
    return References(
        train=_asked(context, sequences, clock, _rows_read(context, sequences)),
        held_out=_asked(context, held_out, clock),
        test=_asked(context, test, clock),
    )


def judged_sequences(recipe: Recipe, renderer: Renderer, rows: Sequence[Row]) -> Sequences:
    """Return the rows that a measurement judges, as the trainer would take them."""
    return make_examples(
        recipe, renderer.task, renderer.render_rows(rows[: recipe.evaluation.max_rows]), renderer.max_length
    )


def _asked(
    context: RunContext, sequences: Sequences, clock: "_Clock", places: Sequence[int] | None = None
) -> torch.Tensor:
    pad = context.tokenizer.pad_token_id
    return make_references(
        context.recipe,
        context.model,
        sequences,
        places,
        pad_id=0 if pad is None else int(pad),
        micro_batch=context.batching.micro_batch,
        advance=clock.advance,
    )


def _rows_read(context: RunContext, sequences: Sequences) -> list[int]:
    """Return the rows that the run's steps read: all of them from one epoch on."""
    order = order_of(context.recipe, context.batching, sequences)
    steps = min(count_steps(context.recipe.training, order.steps_per_epoch), order.steps_per_epoch)
    return sorted({row for step in range(steps) for row in order.rows_of_step(step)})


class _Clock:
    """Tells how far the work has come, and lets a stop end it."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._told_s = time.monotonic()

    def advance(self, done: int, total: int) -> None:
        self._context.interrupt.check()
        self._context.desk.attend()
        if time.monotonic() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.monotonic()
            share = 100 * done // max(1, total)
            self._context.events.write("state.changed", state="preparing", reason=f"{_REASON}: {share} %")
