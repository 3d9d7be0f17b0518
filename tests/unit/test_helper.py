"""The inspection helper: answers, problems, crashes and cancellation, with the real process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.helper import InspectionHelper
from engine.recipe.problems import ProblemError


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[InspectionHelper]:
    helper = InspectionHelper(log_file=tmp_path / "inspection.log")
    yield helper
    helper.close()


def test_a_function_answers_with_json(helper: InspectionHelper) -> None:
    profile = helper.call_blocking("profile_model", base="builtin:starter")
    assert profile["architecture"] == "LlamaForCausalLM"


def test_a_problem_in_the_helper_is_raised_here(helper: InspectionHelper) -> None:
    with pytest.raises(ProblemError) as caught:
        helper.call_blocking("profile_model", base="/no/such/folder")
    assert "/no/such/folder" in str(caught.value)


def test_an_unexpected_fault_is_said_and_the_next_question_is_answered(
    helper: InspectionHelper, tmp_path: Path
) -> None:
    with pytest.raises(ProblemError, match="unexpected keyword"):
        helper.call_blocking("profile_model", nonsense=1)
    assert "Traceback" in (tmp_path / "inspection.log").read_text()
    assert helper.call_blocking("profile_model", base="builtin:starter")["num_params"] > 0


def test_a_killed_helper_fails_who_waits_and_is_replaced(helper: InspectionHelper) -> None:
    helper.start()
    process = helper._connected()._process
    future = helper.submit("profile_model", base="builtin:starter")
    os.kill(process.pid, signal.SIGSTOP)
    waiting = helper.submit("profile_model", base="builtin:starter")
    os.kill(process.pid, signal.SIGKILL)
    for lost in (future, waiting):
        try:
            lost.result(10)
        except ProblemError as error:
            assert error.problems[0].code == "helper.ended"  # noqa: PT017 the first may have been answered in time
    with pytest.raises(ProblemError):
        waiting.result(10)
    assert helper.call_blocking("profile_model", base="builtin:starter")["num_params"] > 0
    assert helper._connected()._process.pid != process.pid


def test_a_helper_that_ends_in_the_middle_of_an_answer_fails_who_waits(
    helper: InspectionHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = 'input(); import sys; sys.stdout.write(\'{"id": 1, "resu\')'
    command = [sys.executable, "-c", half]
    monkeypatch.setattr(
        "engine.helper._spawn",
        lambda log_file: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    )
    with pytest.raises(ProblemError, match="ended"):
        helper.submit("profile_model", base="builtin:starter").result(20)


async def test_cancelling_a_call_ends_the_process(helper: InspectionHelper) -> None:
    helper.start()
    process = helper._connected()._process
    os.kill(process.pid, signal.SIGSTOP)
    task = asyncio.create_task(helper.call("profile_model", base="builtin:starter"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.wait(10) == -signal.SIGKILL
