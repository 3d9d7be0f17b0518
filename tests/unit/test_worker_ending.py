"""The last act of a worker where the disk takes nothing any more."""

import errno
from pathlib import Path

import pytest

from engine import worker
from engine.runs.liveness import acquire, status
from engine.training.interrupt import Interrupt
from tests.unit.runs_support import made_run


def test_an_exit_status_that_cannot_be_written_is_a_sentence_at_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker, "write_exit", full)
    run = made_run(tmp_path)
    ending = worker._Ending(run, acquire(run), Interrupt(), restarted=False)
    assert ending.end("failed", 1, "Writing the model needs 3 GiB.") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "Writing the model needs 3 GiB." in said
    assert "No space left on device" in said
    assert "resume" in said
    assert not status(run).alive
