"""One reading of the driver at a time, shared by whoever asks, and never a thread more than that."""

import threading
from collections.abc import Iterator

import pytest

from engine.hardware import driver as driver_module
from engine.hardware.driver import Driver, DriverReport
from engine.hardware.readings import Unavailable

LONG_S = 30.0


class Gate:
    """Stands for loading NVML: waits until it is opened, then says that there is no driver."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.calls = 0
        self.failure: Exception | None = None

    def __call__(self) -> Unavailable:
        self.calls += 1
        self.opened.wait(LONG_S)
        if self.failure:
            raise self.failure
        return Unavailable(f"no driver, asked {self.calls} times")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(driver_module.nvml_calls, "load", made)
    yield made
    made.opened.set()


def test_whoever_asks_meanwhile_joins_the_reading(gate: Gate) -> None:
    driver = Driver()
    first = driver.begin()
    assert driver.begin() is first
    assert driver.wait(first, 0).stale
    gate.opened.set()
    reports: list[DriverReport] = []
    threads = [threading.Thread(target=lambda: reports.append(driver.wait(first, LONG_S))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert len(reports) == 4
    assert gate.calls == 1
    assert all(report.complete and not report.stale for report in reports)
    assert driver.begin() is not first, "the next question is asked anew"


def test_a_report_that_nobody_waited_for_is_the_next_snapshot(gate: Gate) -> None:
    driver = Driver()
    reading = driver.begin()
    gate.opened.set()
    assert reading.ended.wait(LONG_S)
    gate.opened.clear()
    late = driver.wait(driver.begin(), 0)
    assert late.stale
    assert late.complete
    assert late.age_s > 0
    assert late.driver == Unavailable("no driver, asked 1 times")


def test_a_driver_that_hung_for_long_is_not_waited_for_again(gate: Gate) -> None:
    moments = iter([1e9, 1e9])
    driver = Driver(clock=lambda: next(moments))
    reading = driver.begin()
    # Waiting would take half a minute and end with a whole report.
    report = driver.wait(reading, LONG_S)
    assert report.stale
    assert not report.complete


def test_a_fault_of_ours_is_raised_where_somebody_waits_and_does_not_stick(gate: Gate) -> None:
    driver = Driver()
    gate.failure = ZeroDivisionError("ours")
    gate.opened.set()
    with pytest.raises(ZeroDivisionError, match="ours"):
        driver.wait(driver.begin(), LONG_S)
    gate.failure = None
    assert driver.wait(driver.begin(), LONG_S).complete
