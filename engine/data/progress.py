"""How far work on data is, told to whoever waits for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from engine.data.bytes_in import ReadingStoppedError, Watch

Item = TypeVar("Item")
_ROWS_BETWEEN_WORDS = 256


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage of the work is.

    Attributes:
        stage: What is being done, as people say it: `Reading rows.jsonl`, `Looking for duplicates`.
        done: How much of it is done.
        total: How much there is; 0 when nobody knows yet.
        unit: What is counted.
        found: A first finding, such as how the rows are read; empty in most words.
    """

    stage: str
    done: int
    total: int
    unit: Literal["bytes", "rows"] = "rows"
    found: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {"stage": self.stage, "done": self.done, "total": self.total, "unit": self.unit, "found": self.found}


@dataclass(frozen=True, slots=True)
class WorkWatch:
    """Who follows work of several stages.

    Attributes:
        tell: Called often; whoever listens takes as few words as it can use, but leaves out none with `found`.
        should_stop: Asked as often; true ends the work with `ReadingStoppedError`.
    """

    tell: Callable[[Progress], None] | None = None
    should_stop: Callable[[], bool] | None = None

    def at(self, stage: str, done: int, total: int, unit: Literal["bytes", "rows"] = "rows", found: str = "") -> None:
        """Say how far a stage is.

        Raises:
            ReadingStoppedError: A stop was asked for.
        """
        if self.should_stop is not None and self.should_stop():
            raise ReadingStoppedError
        if self.tell is not None:
            self.tell(Progress(stage, done, total, unit, found))

    def of_file(self, stage: str) -> Watch:
        """Return what a reader of files takes, which counts bytes."""

        def read(done_bytes: int, total_bytes: int) -> None:
            self.at(stage, done_bytes, total_bytes, "bytes")

        return Watch(read, self.should_stop)

    def each(self, stage: str, items: Sequence[Item]) -> Iterator[Item]:
        """Yield items and say on the way how many are done."""
        yield from self.counted(stage, items, len(items))

    def counted(self, stage: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Yield items of which `total` are expected and say on the way how many are done."""
        for number, item in enumerate(items):
            if number % _ROWS_BETWEEN_WORDS == 0:
                self.at(stage, number, total)
            yield item


NOBODY = WorkWatch()
