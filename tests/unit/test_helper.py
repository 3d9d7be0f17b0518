"""The inspection helper: answers, problems, crashes and cancellation, with the real process."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def is_warm(helper: InspectionHelper) -> bool:
    """Return whether a library is in the helper's process that no question asked for."""
    return "libtorch" in Path(f"/proc/{helper._connected()._process.pid}/maps").read_text()


def wait_until_warm(helper: InspectionHelper) -> None:
    deadline = time.monotonic() + 60
    while not is_warm(helper):
        assert time.monotonic() < deadline, "the helper never warmed up"
        time.sleep(0.05)


def test_a_helper_that_is_warmed_up_imports_before_it_is_asked_and_so_does_the_one_after_it(
    helper: InspectionHelper,
) -> None:
    helper.call_blocking("profile_model", base="builtin:starter")
    assert not is_warm(helper)
    helper.warm_up()
    wait_until_warm(helper)
    process = helper._connected()._process
    process.kill()
    process.wait(10)
    wait_until_warm(helper)


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


MADE_HELPER = """
import os, sys, threading
from pathlib import Path
from engine.answering import serve
from engine.data.content_cache import ContentCache

def count(total, watch):
    for number in watch.each("Counting", range(total)):
        pass
    return total

def endless(cache, watch):
    with ContentCache(Path(cache), "rows").making("key"):
        number = 0
        while True:
            watch.at("Reading rows.jsonl", number, 0)
            number += 1

def deaf(watch):
    watch.at("Waiting", 0, 0)
    threading.Event().wait()

def pid():
    return os.getpid()

serve(sys.stdin, sys.stdout, {"count": count, "endless": endless, "deaf": deaf, "pid": pid})
"""


@pytest.fixture
def made(helper: InspectionHelper, monkeypatch: pytest.MonkeyPatch) -> InspectionHelper:
    """Return a helper whose process has functions made for these tests."""
    monkeypatch.setattr(
        "engine.helper._spawn",
        lambda log_file: subprocess.Popen(
            [sys.executable, "-c", MADE_HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ),
    )
    return helper


async def until_words(words: list[dict[str, object]]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while not words:
        assert loop.time() < deadline, "no word about progress came"
        await asyncio.sleep(0.01)


async def test_progress_comes_in_words_and_the_result_after_them(made: InspectionHelper) -> None:
    words: list[dict[str, object]] = []
    assert await made.call("count", words.append, total=1000) == 1000
    await until_words(words)
    assert {key: words[0][key] for key in ("stage", "done", "total", "unit")} == {
        "stage": "Counting",
        "done": 0,
        "total": 1000,
        "unit": "rows",
    }


def test_words_come_at_most_ten_times_a_second(made: InspectionHelper) -> None:
    words: list[dict[str, object]] = []
    start = time.monotonic()
    made.call_blocking("count", words.append, total=2_000_000)
    assert 1 <= len(words) <= 1 + (time.monotonic() - start) / 0.1


async def test_a_cancelled_call_stops_leaves_nothing_behind_and_the_process_stays(
    made: InspectionHelper, tmp_path: Path
) -> None:
    before = await made.call("pid")
    words: list[dict[str, object]] = []
    task = asyncio.create_task(made.call("endless", words.append, cache=str(tmp_path / "cache")))
    await until_words(words)
    assert list((tmp_path / "cache" / "rows").iterdir())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await made.call("pid") == before
    assert list((tmp_path / "cache" / "rows").iterdir()) == []


async def test_the_answer_to_a_cancelled_call_is_no_noise_at_the_end(
    made: InspectionHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: noise.append(context))
    answers: list[weakref.ref[asyncio.Future[Any]]] = []
    wrap = asyncio.wrap_future

    def wrapped(future: Any) -> "asyncio.Future[Any]":
        answer = wrap(future)
        answers.append(weakref.ref(answer))
        return answer

    monkeypatch.setattr(asyncio, "wrap_future", wrapped)
    words: list[dict[str, object]] = []
    task = asyncio.create_task(made.call("endless", words.append, cache=str(tmp_path / "cache")))
    await until_words(words)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    deadline = time.monotonic() + 20
    while answers[0]() is not None:
        assert time.monotonic() < deadline, "the answer is kept"
        gc.collect()
        await asyncio.sleep(0.02)
    assert noise == []


async def test_work_that_does_not_stop_is_ended_and_what_waited_behind_it_is_answered(made: InspectionHelper) -> None:
    before = await made.call("pid")
    words: list[dict[str, object]] = []
    task = asyncio.create_task(made.call("deaf", words.append))
    await until_words(words)
    task.cancel()
    behind = asyncio.create_task(made.call("pid"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(behind, 20) != before


async def test_a_question_cancelled_before_its_turn_is_never_begun(made: InspectionHelper, tmp_path: Path) -> None:
    words: list[dict[str, object]] = []
    first = asyncio.create_task(made.call("endless", words.append, cache=str(tmp_path / "one")))
    await until_words(words)
    second = asyncio.create_task(made.call("endless", cache=str(tmp_path / "two")))
    await asyncio.sleep(0)
    for task in (second, first):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await made.call("pid")
    assert not (tmp_path / "two").exists()


def test_the_end_of_the_front_end_stops_the_work(made: InspectionHelper, tmp_path: Path) -> None:
    begun = threading.Event()
    made.submit("endless", lambda progress: begun.set(), cache=str(tmp_path))
    assert begun.wait(20)
    process = made._connected()._process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0
    assert list((tmp_path / "rows").iterdir()) == []


def test_closing_it_in_the_middle_of_work_leaves_nothing_half_made(made: InspectionHelper, tmp_path: Path) -> None:
    begun = threading.Event()
    asked = made.submit("endless", lambda progress: begun.set(), cache=str(tmp_path))
    assert begun.wait(20)
    made.close()
    assert list((tmp_path / "rows").iterdir()) == []
    with pytest.raises(ProblemError, match="cancelled"):
        asked.result(1)
