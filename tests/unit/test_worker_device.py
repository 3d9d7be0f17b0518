"""Which device a worker shows to CUDA, decided before anything can wake it."""

import os
from pathlib import Path

import pytest

from engine.planning.plan import Device, Plan
from engine.worker import ALLOCATOR_VARIABLES, choice_can_wait, choose_allocator, choose_device
from tests.tui.fake_run import fake_plan


def plan_on(device: Device) -> Plan:
    return fake_plan().model_copy(update={"device": device})


@pytest.fixture(autouse=True)
def _several_cards_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")


def test_the_planned_card_is_the_only_one_by_its_uuid() -> None:
    choose_device(plan_on(Device(kind="cuda", index=3, name="GPU", uuid="GPU-abc")))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_without_a_uuid_the_index_counts() -> None:
    choose_device(plan_on(Device(kind="cuda", index=3, name="GPU")))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_plan_for_the_processor_hides_every_card() -> None:
    choose_device(plan_on(Device(kind="cpu")))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_standby_worker_imports_early_only_where_there_is_no_choice_to_make(tmp_path: Path) -> None:
    assert choice_can_wait(tmp_path / "no-driver")
    (tmp_path / "gpus").mkdir()
    (tmp_path / "gpus" / "0000:01:00.0").mkdir()
    assert choice_can_wait(tmp_path / "gpus")
    (tmp_path / "gpus" / "0000:02:00.0").mkdir()
    assert not choice_can_wait(tmp_path / "gpus")


def test_the_allocator_grows_its_segments_on_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    choose_allocator("win32")
    assert not set(ALLOCATOR_VARIABLES) & set(os.environ)
    choose_allocator("linux")
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")


@pytest.mark.parametrize("name", ALLOCATOR_VARIABLES)
def test_a_persons_own_allocator_settings_stay_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ALLOCATOR_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "max_split_size_mb:128")
    choose_allocator("linux")
    assert {other: os.environ.get(other) for other in ALLOCATOR_VARIABLES if other in os.environ} == {
        name: "max_split_size_mb:128"
    }
