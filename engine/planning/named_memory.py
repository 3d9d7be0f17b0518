"""Reasons that name the memory that a run needs: they follow the estimate, so that no two numbers contradict."""

from engine.planning.plan import MemoryEstimate, ValueSource
from engine.text import human_bytes

NAMING_PATHS = ("method.name", "training.micro_batch")
"""Values whose reason names it."""


def with_named_memory(
    sources: dict[str, ValueSource], before: MemoryEstimate, now: MemoryEstimate
) -> dict[str, ValueSource]:
    """Return the sources of a plan's values with the memory of another estimate in them.

    Args:
        sources: `{recipe path: source}`.
        before: The estimate that they name.
        now: What the run needs.
    """
    old, new = human_bytes(before.expected_bytes), human_bytes(now.expected_bytes)
    naming = {path: sources[path] for path in NAMING_PATHS if path in sources and sources[path].kind == "derived"}
    return sources | {
        path: source.model_copy(update={"detail": source.detail.replace(old, new)}) for path, source in naming.items()
    }
