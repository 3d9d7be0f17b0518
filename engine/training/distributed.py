"""Several processes, one step: each computes some of its micro-batches, and the gradients are summed before clipping.

This is what DistributedDataParallel does, without its wrapper around the model: the trainer, its loss path and all that
is around it stay those of one process, and a rank without a micro-batch in a step needs no special case. Losses are
divided by the trained tokens of the whole step, which every process knows from the order of rows, so that sums over
ranks are the loss and the gradients of the step. They are taken once per step, behind the last micro-batch.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]

from engine.training.order import StepOrder

MEET_LIMIT_S = 180.0
SUM_LIMIT_S = 1800.0
"""A rank that is this much slower than another one, or a link that does not answer, counts as lost."""
_LEAVE_LIMIT_S = 10.0
_NOTICE_LIMIT_S = 5.0
_POLL_S = 0.0002
_ALONE_BYTES = 4 * 2**20
"""Gradients from this size on are summed where they are; smaller ones travel together."""


class LinkError(Exception):
    """Raised when the processes cannot exchange tensors."""


class Links:
    """The connection between the ranks of a run: NCCL between GPUs, gloo between processors.

    Args:
        rank: Number of this process.
        num_ranks: Number of processes.
        meeting: Folder in which they find each other.
        device: Where the tensors are.
        check: Called while waiting; raises when another rank is known to have failed.
    """

    def __init__(
        self, rank: int, num_ranks: int, meeting: Path, device: torch.device, check: Callable[[], None]
    ) -> None:
        self._rank = rank
        self._num_ranks = num_ranks
        self._meeting = meeting
        self._device = device
        self._check = check

    def connect(self) -> None:
        """Meet the others and try the connection with a sum whose result is known.

        Raises:
            LinkError: They did not meet, or the sum is wrong.
        """
        failed: list[BaseException] = []

        def meet() -> None:
            try:
                self._meet()
            # Handed over to the thread that waits.
            except BaseException as error:
                failed.append(error)

        # In a thread: where links are broken, the libraries may wait for ever.
        thread = threading.Thread(target=meet, daemon=True)
        thread.start()
        ends = time.monotonic() + MEET_LIMIT_S
        while thread.is_alive():
            self._check()
            if time.monotonic() > ends:
                raise LinkError(f"the processes did not reach each other within {MEET_LIMIT_S:.0f} s")
            thread.join(0.02)
        if failed:
            raise LinkError(f"{type(failed[0]).__name__}: {failed[0]}") from failed[0]

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all ranks; they are in the same order everywhere.

        Raises:
            LinkError: It took too long, or the connection broke.
        """
        self._wait([dist.all_reduce(tensor, async_op=True) for tensor in tensors])

    def share(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by that of rank 0."""
        self._wait([dist.broadcast(tensor, src=0, async_op=True) for tensor in tensors])

    def leave(self) -> None:
        """Take down the connection without waiting for the others, who may be gone, nor for what is under way."""
        if not dist.is_initialized():
            return
        # In a thread: a library that hangs must not keep the run from being saved.
        thread = threading.Thread(target=dist.distributed_c10d._abort_process_group, daemon=True)
        thread.start()
        thread.join(_LEAVE_LIMIT_S)

    def _meet(self) -> None:
        set_link_variables()
        backend = "nccl" if self._device.type == "cuda" else "gloo"
        store = FileStore(str(self._meeting / "store"), self._num_ranks)
        limit = timedelta(seconds=SUM_LIMIT_S)
        dist.init_process_group(backend, store=store, rank=self._rank, world_size=self._num_ranks, timeout=limit)
        # Large enough to take the path that gradients take; peers that cannot reach each other's memory show here.
        known = torch.full((_ALONE_BYTES // 4,), float(self._rank + 1), device=self._device)
        dist.all_reduce(known)
        total = self._num_ranks * (self._num_ranks + 1) / 2
        if not bool((known == total).all()):
            raise LinkError("a sum over the processes came out wrong")

    def _wait(self, works: Sequence[dist.Work]) -> None:
        ends = time.monotonic() + SUM_LIMIT_S
        try:
            for work in works:
                while not work.is_completed():
                    self._check()
                    if time.monotonic() > ends:
                        raise LinkError(f"no answer from the other processes within {SUM_LIMIT_S / 60:.0f} minutes")
                    time.sleep(_POLL_S)
                work.wait()
        except RuntimeError as error:
            # The connection tells that somebody is gone before the process itself does.
            noticed = time.monotonic() + _NOTICE_LIMIT_S
            while time.monotonic() < noticed:
                self._check()
                time.sleep(0.02)
            raise LinkError(str(error)) from error


def set_link_variables() -> None:
    """Set what the libraries read when they connect; what the person has set stays.

    All processes are on this machine, so nothing has to listen on its network. Faults are watched here: NCCL's own
    watchdog would end the worker without its last words.
    """
    if sys.platform == "linux":
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")


class Share:
    """The part that one process takes in each step.

    Args:
        links: The connection to the others; connected.
        order: Which rows this process reads.
        parameters: What learns, in the same order in all processes.
        seed: Of the run.
        announce: Called before the sum of a step (from 0): the worker tells the others, the others wait to be told.
    """

    def __init__(
        self,
        links: Links,
        order: StepOrder,
        parameters: Sequence[torch.nn.Parameter],
        *,
        seed: int,
        announce: Callable[[int], None],
    ) -> None:
        self.links = links
        self._order = order
        self._parameters = list(parameters)
        self._seed = seed
        self._announce = announce
        self._place = 0

    def align(self) -> None:
        """Give every process the weights of rank 0."""
        with torch.no_grad():
            self.links.share([parameter.data for parameter in self._parameters])

    def begin_micro_step(self, step: int) -> None:
        """Seed the generators for the next micro-batch of a step (from 0).

        The seed is that of the micro-batch, not of the process: dropout draws the same whoever computes it, also when a
        run goes on with another number of GPUs.
        """
        number = self._place * self._order.num_ranks + self._order.rank
        self._place += 1
        state = np.random.SeedSequence([self._seed, step, number]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
        random.seed(int(state[0]))

    def sum_of(self, step: int, totals: torch.Tensor) -> torch.Tensor:
        """Return what the others add to numbers of a step (from 0); every process asks at the same place of the step.

        Args:
            step: Optimizer step.
            totals: This process's part, in float64.
        """
        self._announce(step)
        summed = totals.clone()
        self.links.sum([summed])
        return summed - totals

    def sum_up(self, step: int, totals: torch.Tensor) -> torch.Tensor:
        """Replace the gradients of a step (from 0) by their sums over all processes.

        Args:
            step: Optimizer step.
            totals: This process's part of its loss and of what else it tells, in float64, one number each.

        Returns:
            The part of the others.
        """
        self._place = 0
        self._announce(step)
        present = [parameter.grad is not None for parameter in self._parameters]
        flags = torch.tensor(list(map(float, present)), dtype=torch.float64, device=totals.device)
        head = torch.cat([totals.detach(), flags])
        self.links.sum([head])
        # A process without a micro-batch in this step has no gradients; what has none anywhere is left without.
        learnt = [
            parameter for parameter, count in zip(self._parameters, head[len(totals) :].tolist(), strict=True) if count
        ]
        for parameter in learnt:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._sum_gradients([parameter.grad for parameter in learnt if parameter.grad is not None])
        return head[: len(totals)] - totals

    def _sum_gradients(self, gradients: list[torch.Tensor]) -> None:
        alone = [g for g in gradients if g.nbytes >= _ALONE_BYTES and g.is_contiguous()]
        taken = {id(gradient) for gradient in alone}
        together = list(_by_dtype([g for g in gradients if id(g) not in taken]))
        flat = [torch.cat([gradient.reshape(-1) for gradient in group]) for group in together]
        self.links.sum([*alone, *flat])
        for group, summed in zip(together, flat, strict=True):
            pieces = summed.split([gradient.numel() for gradient in group])
            for gradient, piece in zip(group, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))


def _by_dtype(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        yield [gradient for gradient in gradients if gradient.dtype == dtype]


def learning(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return what learns, in the order of the model."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
