"""The other processes of a run on several GPUs: started, watched and ended by the worker.

The worker is rank 0 and the only one that writes events and checkpoints, evaluates, and reads requests. Every other
rank is a process of its own that sees one GPU. It gets a `RankJob` and then one line per step on stdin, and ends when
stdin does, so that none outlives the worker. What it has to say comes back as lines of JSON through a pipe; what it
prints goes to the run's log. Between two steps a rank waits on its pipe, not on the GPU: an evaluation or a pause of
the worker may take as long as it likes.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, SupportsInt

from engine.planning.plan import Device, Plan
from engine.planning.profiles import Profile
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line
from engine.training.faults import Fault

RANK_MODULE = "engine.training.rank_process"
END_LIMIT_S = 10.0
READY_LIMIT_S = 1800.0
"""A rank loads the model from a disk that all of them read at once."""
_POLL_S = 0.05


class RankJob(Profile):
    """What a rank needs to know.

    Attributes:
        plan: The run's plan, its base model pinned.
        run: The run directory; the rows are read from there.
        folder: Folder of the base model.
        rank: Number of the process, from 1.
        micro_batch: Rows in memory at once.
        accumulation: Micro-batches of this process in one step.
        num_gpus: Processes that share the work, the worker included.
        checkpoint: Folder of the checkpoint that this attempt goes on from; None at the start.
        meeting: Folder in which the processes find each other.
    """

    plan: Plan
    run: str
    folder: str
    rank: int = 0
    micro_batch: int
    accumulation: int
    num_gpus: int
    checkpoint: str | None = None
    meeting: str = ""


class RankFailedError(Exception):
    """Raised in the worker when another rank has failed or ended.

    Attributes:
        fault: What happened there.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class _Rank:
    """One other process, seen from the worker."""

    def __init__(self, number: int, name: str, process: subprocess.Popen[bytes], notes: int) -> None:
        self.number = number
        self.name = name
        self.process = process
        self.fingerprint = ""
        self._notes = notes
        self._unread = b""
        os.set_blocking(notes, False)

    def check(self) -> None:
        """Raise `RankFailedError` when it has failed or ended."""
        # In this order: what it wrote before it ended is still in the pipe.
        code = self.process.poll()
        for note in self._read():
            if "fault" in note:
                raise RankFailedError(self._fault(note["fault"]))
            self.fingerprint = note["ready"]
        if code is not None:
            raise RankFailedError(Fault("rank", 0, [], f"the process of {self.name} {_how_ended(code)}", True))

    def tell(self, message: dict[str, Any]) -> None:
        """Send one line; one that has ended shows at the next `check`."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(message).encode() + b"\n")
                self.process.stdin.flush()

    def let_go(self) -> None:
        """End its stdin, which ends the process."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait(self, limit_s: float) -> None:
        """Wait for its end, and bring it about where it takes too long."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._notes)

    def _read(self) -> list[dict[str, Any]]:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._notes, 1 << 16):
                self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def _fault(self, told: dict[str, Any]) -> Fault:
        text = f"{self.name}: {clean_line(told['text'], max_chars=300)}"
        if told["kind"] is None:
            raise ProblemError(
                Problem("training.rank_failed", f"The process of {text}.", "The whole story is in worker.log.")
            )
        return Fault(
            told["kind"], 0, [], text, consistent=True, where=told["where"], micro_row_ids=tuple(told["row_ids"])
        )


class Ranks:
    """All other processes of a run; none before `start` and after `close`.

    Attributes:
        meeting: Folder in which the processes find each other; only this user can enter it. None before the start.
    """

    def __init__(self) -> None:
        self.meeting: Path | None = None
        self._ranks: list[_Rank] = []

    def start(self, job: RankJob) -> None:
        """Start all processes but the first.

        Args:
            job: What the first one does; `rank` and `meeting` are filled in.

        Raises:
            RankFailedError: One could not be started.
        """
        # On a local disk: file systems on a network may not lock files.
        self.meeting = Path(tempfile.mkdtemp(prefix="ftwizard-ranks-"))
        for rank in range(1, job.num_gpus):
            own = job.model_copy(update={"rank": rank, "meeting": str(self.meeting)})
            self._add(own, rank_name(job.plan.device, rank), rank_variables(job.plan.device, rank))

    def _add(self, job: RankJob, name: str, variables: dict[str, str]) -> None:
        read_end, write_end = os.pipe()
        try:
            process = start_process(write_end, {**os.environ, **variables})
        except OSError as error:
            os.close(read_end)
            text = f"the process of {name} could not be started: {clean_line(error.strerror)}"
            raise RankFailedError(Fault("rank", 0, [], text, True, where="start")) from error
        finally:
            os.close(write_end)
        rank = _Rank(job.rank, name, process, read_end)
        self._ranks.append(rank)
        rank.tell(job.model_dump(mode="json"))

    def check(self) -> None:
        """Raise `RankFailedError` when one has failed or ended."""
        for rank in self._ranks:
            rank.check()

    def wait_ready(self, fingerprint: str, should_stop: Callable[[], None]) -> Path:
        """Wait until all have loaded model and rows, let them meet, and return where.

        Args:
            fingerprint: Of the rows that this process reads; theirs must be the same.
            should_stop: Called while waiting; may raise.

        Raises:
            RankFailedError: One failed, took too long or reads other rows.
        """
        ends = time.monotonic() + READY_LIMIT_S
        while slow := [rank for rank in self._ranks if not rank.fingerprint]:
            should_stop()
            self.check()
            if time.monotonic() > ends:
                text = f"the process of {slow[0].name} was not ready within {READY_LIMIT_S / 60:.0f} minutes"
                raise RankFailedError(Fault("rank", 0, [], text, True, where="start"))
            time.sleep(_POLL_S)
        for rank in self._ranks:
            if rank.fingerprint != fingerprint:
                text = f"the process of {rank.name} reads other rows"
                raise RankFailedError(Fault("rank", 0, [], text, True, where="start"))
        if self.meeting is None:
            raise RuntimeError("the other processes were not started")
        self.tell({"meet": True})
        return self.meeting

    def announce(self, step: int) -> None:
        """Tell all that the gradients of a step (from 0) are about to be summed."""
        self.check()
        self.tell({"sum": step})

    def tell(self, message: dict[str, Any]) -> None:
        """Send one line to all."""
        for rank in self._ranks:
            rank.tell(message)

    def close(self) -> None:
        """End all of them and wait until they have given back their memory."""
        for rank in self._ranks:
            rank.let_go()
        ends = time.monotonic() + END_LIMIT_S
        for rank in self._ranks:
            rank.wait(max(0.0, ends - time.monotonic()))
        self._ranks.clear()
        if self.meeting is not None:
            shutil.rmtree(self.meeting, ignore_errors=True)


def rank_variables(device: Device, rank: int) -> dict[str, str]:
    """Return what makes a rank see its own GPU and no other.

    With several in sight the trainer would spread each batch over all of them. NCCL reaches the invisible ones all the
    same: since CUDA 10.1 it can use peer access with them (NCCL, src/transport/p2p.cc).
    """
    if device.kind == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_VISIBLE_DEVICES": device.names_for_cuda[rank]}


def rank_name(device: Device, rank: int) -> str:
    """Return what people call the device of a rank."""
    return f"rank {rank}" if device.kind == "cpu" else f"GPU {device.indices[rank]}"


def start_process(notes: int, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a rank that writes what it has to say to the descriptor `notes`."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", RANK_MODULE, str(notes)],
        stdin=subprocess.PIPE,
        env=variables,
        pass_fds=(notes,),
    )


def _how_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def fingerprint_of(lengths: Iterable[SupportsInt], num_trained: Iterable[SupportsInt]) -> str:
    """Return a short mark of the sequences that a process reads."""
    import hashlib

    counts = [[int(count) for count in each] for each in (lengths, num_trained)]
    return hashlib.sha256(json.dumps(counts).encode()).hexdigest()[:16]
