"""The order of rows: a pure function of seed and step, so a resumed run sees what the straight one would have seen."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from engine.data.rendered import Ints


class StepOrder(Sampler[list[int]]):
    """Yields micro-batches of row indices, epoch by epoch.

    An epoch is a fresh permutation of all rows, cut into optimizer steps of `effective_batch` rows (the last step of an
    epoch takes what is left) and each step into micro-batches. Inside a step, rows are sorted by length: the loss of a
    step is a mean over its tokens whatever their order, so the result is the same and less is padded.

    Args:
        lengths: Tokens of each row.
        effective_batch: Rows per optimizer step, repetitions counted.
        micro_batch: Rows per micro-batch, likewise.
        seed: Starts the permutations.
        rank: Which of the processes that share the work this one is.
        num_ranks: Processes that share the work. The micro-batches of a step are dealt out one by one, longest first,
            so that all have about as much to do at a time; a process that gets fewer reads empty ones at the end.
        repeats: Times that a step reads each of its rows, one behind the other: once for each answer to a prompt. Must
            divide the effective batch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Ints,
        *,
        effective_batch: int,
        micro_batch: int,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        repeats: int = 1,
    ) -> None:
        if effective_batch % repeats:
            raise ValueError(f"{repeats} repetitions do not divide an effective batch of {effective_batch}")
        self._lengths = np.asarray(lengths)
        self.rank = rank
        self.num_ranks = num_ranks
        self._repeats = repeats
        self._step_rows = effective_batch // repeats
        self._micro_batch = micro_batch
        self._seed = seed
        self.epoch = 0
        self._permutation: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over all rows."""
        return math.ceil(len(self._lengths) / self._step_rows)

    def __len__(self) -> int:
        full, rest = divmod(len(self._lengths), self._step_rows)
        return full * self._rounds(self._step_rows * self._repeats) + self._rounds(rest * self._repeats)

    def __iter__(self) -> Iterator[list[int]]:
        first_step = self.epoch * self.steps_per_epoch
        for step in range(first_step, first_step + self.steps_per_epoch):
            yield from self.micro_batches(step)

    def rows_of_step(self, step: int) -> list[int]:
        """Return the row indices of optimizer step `step` (from 0), longest first, each as often as it is read."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self._step_rows
        rows = self._epoch_rows(epoch)[start : start + self._step_rows]
        longest_first = rows[np.argsort(-self._lengths[rows], kind="stable")]
        return [int(row) for row in longest_first for _ in range(self._repeats)]

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the row indices of each micro-batch of optimizer step `step` (from 0) that this process computes."""
        cut = self.all_micro_batches(step)
        if self.num_ranks == 1:
            return cut
        return [*cut, *[[] for _ in range(-len(cut) % self.num_ranks)]][self.rank :: self.num_ranks]

    def all_micro_batches(self, step: int) -> list[list[int]]:
        """Return the row indices of each micro-batch of optimizer step `step` (from 0), whoever computes it."""
        rows = self.rows_of_step(step)
        return [rows[start : start + self._micro_batch] for start in range(0, len(rows), self._micro_batch)]

    def _rounds(self, num_rows: int) -> int:
        """Return how many micro-batches one process computes of a step of so many rows."""
        return math.ceil(math.ceil(num_rows / self._micro_batch) / self.num_ranks)

    def largest_micro_batches(self, num_steps: int) -> list[int]:
        """Return the optimizer steps (from 0) whose first, and whose second, micro-batch has most padded tokens.

        Memory is at its peak in one of these: the first micro-batch of a step is its longest, and from the second on
        gradients are alive. The second is missing where steps have one micro-batch.

        Args:
            num_steps: Optimizer steps of the run.
        """
        best: list[tuple[int, int]] = []
        for epoch in range(math.ceil(num_steps / self.steps_per_epoch)):
            first = epoch * self.steps_per_epoch
            padded = self._padded_tokens(epoch)[: num_steps - first, :2]
            for place, step in enumerate(padded.argmax(axis=0)):
                tokens = int(padded[step, place])
                if place == len(best):
                    best.append((tokens, first + int(step)))
                elif tokens > best[place][0]:
                    best[place] = tokens, first + int(step)
        return [step for tokens, step in best if tokens]

    def _padded_tokens(self, epoch: int) -> np.ndarray:
        """Return the padded tokens of each micro-batch of an epoch, of shape [steps, micro-batches in a step]."""
        lengths = np.zeros(self.steps_per_epoch * self._step_rows, dtype=np.int64)
        lengths[: len(self._lengths)] = self._lengths[self._epoch_rows(epoch)]
        sorted_rows = -np.sort(-lengths.reshape(self.steps_per_epoch, self._step_rows), axis=1)
        steps = sorted_rows.repeat(self._repeats, axis=1)
        missing = -steps.shape[1] % self._micro_batch
        cut = np.pad(steps, ((0, 0), (0, missing))).reshape(self.steps_per_epoch, -1, self._micro_batch)
        longest: np.ndarray = cut.max(axis=2) * (cut > 0).sum(axis=2)
        return longest

    def padded_tokens_of_step(self, step: int) -> int:
        """Return how many tokens, padding included, optimizer step `step` (from 0) computes."""
        return sum(int(self._lengths[rows].max()) * len(rows) for rows in self.all_micro_batches(step))

    def tokens_of_step(self, step: int) -> int:
        """Return how many tokens, padding aside, optimizer step `step` (from 0) reads."""
        return int(self._lengths[self.rows_of_step(step)].sum())

    def _epoch_rows(self, epoch: int) -> np.ndarray:
        if self._permutation is None or self._permutation[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._permutation = (epoch, generator.permutation(len(self._lengths)))
        return self._permutation[1]


class FixedOrder(StepOrder):
    """The micro-batches that it is given, step after step; for a probe.

    Args:
        steps: Row indices of each micro-batch of each step.
    """

    def __init__(self, steps: Sequence[Sequence[Sequence[int]]]) -> None:
        super().__init__([], effective_batch=1, micro_batch=1, seed=0)
        self._steps = [[list(rows) for rows in step] for step in steps]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return len(self._steps)

    def __len__(self) -> int:
        return sum(map(len, self._steps))

    def rows_of_step(self, step: int) -> list[int]:
        """Return the row indices of optimizer step `step` (from 0)."""
        return [row for rows in self.micro_batches(step) for row in rows]

    def all_micro_batches(self, step: int) -> list[list[int]]:
        """Return the row indices of each micro-batch of optimizer step `step` (from 0)."""
        return self._steps[step % len(self._steps)]
