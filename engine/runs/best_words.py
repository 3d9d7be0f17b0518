"""What is said of the best step and of an early end, the same words wherever a run is shown."""

from typing import Any

from engine.catalog.metrics import METRICS
from engine.runs.reducer import Picture


def best_sentence(picture: Picture) -> str:
    """Return which step the result is of, and why; empty where no steps were compared.

    Such as `Best at step 240: loss 1.92; the last step, 300, had 2.10. The result has the weights of step 240.`
    """
    restored = picture.restored
    if restored:
        step, metric = restored["step"], str(restored["metric"])
        return (
            f"Best at step {step:,}: {_of(metric, restored['value'])}; the last step, {restored['last_step']:,}, had "
            f"{_value(metric, restored['last_value'])}. The result has the weights of step {step:,}."
        )
    best = picture.best
    if not best:
        return ""
    return f"Best at step {best['step']:,}: {_of(str(best['metric']), best['value'])}."


def early_end_sentence(picture: Picture) -> str:
    """Return why training ended before its last step; empty when it did not."""
    ended = picture.ended_early
    if not ended:
        return ""
    return (
        f"Training ended at step {ended['step']:,} of {ended['total_steps']:,}: {ended['waited']} evaluations in a row "
        f"were no better than step {ended['best_step']:,} ({_of(str(ended['metric']), ended['best_value'])}). "
        "training.early_stopping: 0 lets it go on."
    )


def _of(metric: str, value: Any) -> str:
    word = next((known.word for known in METRICS if known.name == metric), metric)
    return f"{word} {_value(metric, value)}"


def _value(metric: str, value: Any) -> str:
    known = next((known for known in METRICS if known.name == metric), None)
    return known.format(value) if known is not None else f"{value:.4g}"
