"""Machines that are not here: what people write, and what they mean by it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware.cards import CARDS, cards_named, least_with_label, plain_name
from engine.hardware.devices import Hardware
from engine.hardware.hypothetical import idle_reserve, parse_machine
from engine.hardware.readings import Unavailable, known
from engine.recipe.problems import ProblemError

MIB, GIB = 2**20, 2**30


def memories(hardware: Hardware) -> list[int | None]:
    return [known(gpu.total_bytes) for gpu in hardware.usable_gpus()]


@pytest.mark.parametrize(
    ("text", "count", "mebibytes"),
    [
        ("24GiB", 1, 24576),
        ("24 GiB", 1, 24576),
        ("2x24GiB", 2, 24576),
        ("2 X 24 gib", 2, 24576),
        ("0.5 TiB", 1, 524288),
        ("24 GB", 1, 23028),
        ("24g", 1, 23028),
        ("8x80GB", 8, 81559),
        ("8 × 80GB", 8, 81559),
        ("23GB", 1, 23 * 10**9 // MIB),
        ("RTX 4090", 1, 24564),
        ("rtx4090", 1, 24564),
        ("4090", 1, 24564),
        ("NVIDIA GeForce RTX 4090", 1, 24564),
        ("H100", 1, 81559),
        ("H100-SXM5-80GB", 1, 81559),
        ("4x A100 80GB", 4, 81920),
        ("A100-40GB", 1, 40960),
        ("a100 80 gb", 1, 81920),
        ("T4", 1, 15360),
        ("2xT4", 2, 15360),
        ("RTX 4090 x2", 2, 24564),
        ("A100 80GB x 4", 4, 81920),
        ("GTX 1080 Ti", 1, 11264),
        ("2x RTX 4070 Ti", 2, 12282),
        ("RTX 3090 Ti 24GB", 1, 24564),
        ("RTX 4060 Ti 16GB", 1, 16380),
        ("A6000", 1, 49140),
        ("RTX 6000 Ada Generation", 1, 49140),
        ("V100 32GB", 1, 32768),
    ],
)
def test_what_people_write(text: str, count: int, mebibytes: int) -> None:
    hardware = parse_machine(text)
    assert memories(hardware) == [mebibytes * MIB] * count
    assert [gpu.index for gpu in hardware.gpus] == list(range(count))
    assert hardware.hypothetical == text
    assert isinstance(hardware.torch_cuda, str)
    assert hardware.gpus_known


def test_free_memory_is_less_than_the_total_by_the_stated_reserve() -> None:
    (gpu,) = parse_machine("24GiB").gpus
    assert gpu.free_bytes == 24 * GIB - idle_reserve(24 * GIB)
    assert 256 * MIB <= idle_reserve(GIB) <= idle_reserve(24 * GIB) <= idle_reserve(200 * GIB) == GIB


def test_host_and_disks_are_those_of_this_machine(tmp_path: Path) -> None:
    hardware = parse_machine("T4", (tmp_path,))
    assert hardware.host.cores >= 1
    disk = hardware.disk_for(tmp_path)
    assert disk is not None
    assert known(disk.free_bytes)
    assert "torch" in hardware.libraries


def test_capability_comes_with_the_card_and_is_assumed_for_a_size() -> None:
    assert parse_machine("T4").gpus[0].compute_capability == (7, 5)
    assert parse_machine("16GiB").gpus[0].compute_capability == (8, 0)


def test_what_hides_gpus_here_does_not_hide_made_up_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert len(parse_machine("2xT4").usable_gpus()) == 2


def test_a_machine_without_a_gpu() -> None:
    here = parse_machine("cpu")
    assert here.gpus == []
    assert isinstance(here.torch_cuda, Unavailable)
    host = parse_machine("CPU 32GiB").host
    assert host.ram_total_bytes == 32 * GIB
    assert host.ram_available_bytes == 32 * GIB * 9 // 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RTX 4900", "RTX 4090"),
        ("H10", "H100"),
        ("A100", "A100 40GB or A100 80GB"),
        ("H100 24GB", "80 GB"),
        ("A100 80MB", "40 GB or 80 GB"),
        ("A100 80TiB", "40 GB or 80 GB"),
        ("0x24GiB", "1 to 64"),
        ("99999x24GiB", "1 to 64"),
        ("1KiB", "256 MiB"),
        ("99999TiB", "10.0 TiB"),
        ("24", "24GiB"),
        ("", "24GiB"),
        ("  ", "RTX 4090"),
        ("-24GiB", "24GiB"),
        ("cpu lots", "cpu 32GiB"),
        ("Radeon 7900", "24GiB"),
        ("\x1b[2JGPU", "24GiB"),
        ("x" * 10_000, "24GiB"),
    ],
)
def test_what_is_no_machine_names_the_next_thing_to_write(text: str, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_machine(text)
    (problem,) = caught.value.problems
    assert problem.code == "hardware.unknown_machine"
    assert words in problem.fix
    assert problem.sentence().isprintable()
    assert len(problem.sentence()) < 400


@given(st.text(max_size=30))
def test_any_text_is_a_machine_or_a_problem(text: str) -> None:
    try:
        hardware = parse_machine(text)
    except ProblemError:
        return
    assert all(size is not None and size > 0 for size in memories(hardware))


def test_the_table_is_consistent() -> None:
    assert len({card.title for card in CARDS}) == len(CARDS)
    for card in CARDS:
        assert card in cards_named(card.name)
        assert plain_name(card.name)
        # No card reports less than 92 % of its label or more than it in binary units.
        assert 0.92 * card.label_gb * 1000 <= card.total_mib * MIB / 10**6 <= card.label_gb * 1.075 * 1000
    assert least_with_label(24) == 23028 * MIB
    assert least_with_label(25) is None
