"""How far the work of a data verb is, on stderr: one line that is redrawn on a terminal, nothing anywhere else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from engine.text import clean_line

Tell = Callable[[Mapping[str, Any]], None]
_STAGE_CELLS = 40


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Tell]:
    """Give a function that takes words of progress, and clear the line when the block ends.

    Args:
        shown: Whether stderr is a terminal that may be drawn on.
    """
    if not shown:
        yield _nothing
        return
    # rich takes a tenth of a second to import, which a pipe need not wait for.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Starting", total=None)

        def tell(word: Mapping[str, Any]) -> None:
            # A total of 0 is one that nobody knows.
            stage = clean_line(word["stage"], max_chars=_STAGE_CELLS)
            bar.update(task, description=stage, completed=int(word["done"]), total=int(word["total"]) or None)

        yield tell


def _nothing(word: Mapping[str, Any]) -> None:
    """Say nothing: the output is not a terminal."""
