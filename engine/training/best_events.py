"""What is told of the best step: found, gone back to, lost, and that training ends early."""

from engine.training.best import Standing
from engine.training.context import RunContext


def tell_best(context: RunContext, standing: Standing, before: Standing) -> None:
    """Tell that a step is the best so far."""
    context.events.write(
        "best.changed",
        step=standing.step,
        metric=standing.metric,
        value=standing.value,
        previous_step=before.step,
        previous_value=None if before.step is None else before.value,
    )


def tell_early_end(context: RunContext, standing: Standing, step: int, total_steps: int) -> None:
    """Tell that training ends for want of progress."""
    context.events.write(
        "training.ended_early",
        step=step,
        total_steps=total_steps,
        waited=standing.waited,
        metric=standing.metric,
        best_step=standing.step,
        best_value=standing.value,
    )


def tell_restored(context: RunContext, standing: Standing) -> None:
    """Tell that the weights of the best step are in place of the last one's."""
    context.events.write(
        "best.restored",
        step=standing.step,
        metric=standing.metric,
        value=standing.value,
        last_step=standing.last_step,
        last_value=standing.last_value,
    )


def tell_lost_best(context: RunContext, standing: Standing) -> None:
    """Tell that the best step cannot be gone back to."""
    context.notice(
        "warning",
        "training.best_lost",
        f"The checkpoint of the best step, {standing.step}, is damaged or gone: the result is the last step, "
        f"{standing.last_step}.",
    )
