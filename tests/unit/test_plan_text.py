"""A plan in words: everything is said, in 80 columns, whatever the model is called."""

import re
from typing import Any

import pytest

from engine.planning.plan import LengthChoice, Plan
from engine.planning.planner import with_memory
from engine.text import human_bytes
from tests.unit.made_plans import CPU, GIB, gpu, hub_model, plan, tiny, with_gpus
from tui.plan_text import WIDTH, heading_lines, length_line, memory_lines, option_lines, plan_lines, way_lines

MADE = [
    lambda: plan(),
    lambda: plan(hardware=with_gpus(gpu(24)), model=hub_model()),
    lambda: plan(hardware=with_gpus(*(gpu(80, index=i, uuid=f"GPU-{i}") for i in range(8))), model=hub_model()),
    lambda: plan({"training": {"max_length": 4096}}, hardware=with_gpus(gpu(6)), model=hub_model()),
]


def lines_of(made: Plan) -> list[str]:
    length = length_line(made.lengths, made.recipe.training.max_length)
    return [*heading_lines(made), *plan_lines(made), *option_lines(made.options), *way_lines(made.ways), length[:WIDTH]]


@pytest.mark.parametrize("make", MADE)
def test_a_plan_fits_in_80_columns(make: Any) -> None:
    made = make()
    wide = [line for line in lines_of(made) if len(line) > WIDTH and not line.startswith(("Command", "   --set"))]
    assert wide == []


@pytest.mark.parametrize("make", MADE)
def test_every_row_and_every_number_that_matters_is_there(make: Any) -> None:
    made = make()
    text = "\n".join(lines_of(made))
    for option in made.options:
        assert (option.method if option.folded else option.title[:20]) in text
        assert option.folded or option.why_not[:30] in text
    for way in made.ways:
        assert way.title[:30] in re.sub(r"\s+", " ", text)
        assert all(path in text for path in way.changes)
    for size in (made.memory.expected_bytes, made.memory.high_bytes):
        assert human_bytes(size) in text


def test_long_names_of_components_have_a_line_of_their_own() -> None:
    names = ("model weights", "copies on their way to the disk", "activations", "output layer and loss", "slack")
    parts = dict.fromkeys(names, 1000 * 2**40)
    made = plan()
    sizes = {"expected_bytes": 5000 * 2**40, "high_bytes": 6000 * 2**40}
    memory = made.memory.model_copy(update={"components": parts, **sizes})
    lines = memory_lines(memory)
    assert all(len(line) <= WIDTH for line in lines)
    text = "\n".join(lines)
    assert all(text.count(f"{name} 1000 TiB") == 1 for name in names)


def test_a_mistaken_size_keeps_its_column() -> None:
    huge = tiny(num_params=10**14)
    rows = option_lines(plan(model=huge, hardware=with_gpus(gpu(24))).options)
    assert all(len(line) <= WIDTH for line in rows)
    assert any("PiB" in line for line in rows)


def test_the_bar_ends_where_the_free_memory_ends() -> None:
    made = plan(hardware=with_gpus(gpu(24)), model=hub_model())
    (inside,) = [line for line in plan_lines(made) if line.strip().startswith("[")]
    assert inside.rstrip().endswith("|")
    sizes = {"expected_bytes": 40 * GIB, "low_bytes": 38 * GIB, "high_bytes": 48 * GIB, "components": {"a": 40 * GIB}}
    beyond = with_memory(made, made.memory.model_copy(update=sizes))
    (over,) = [line for line in plan_lines(beyond) if line.strip().startswith("[")]
    assert over.endswith("over")
    assert over.index("|") - over.index("[") == 31


def test_a_machine_that_is_not_here_is_named_at_the_top() -> None:
    from dataclasses import replace

    made = plan(hardware=replace(CPU, hypothetical="2x24GiB"))
    assert "not here: 2x24GiB" in heading_lines(made)[1]
    assert len(heading_lines(plan())) == 1


def test_lengths_are_told_by_their_price() -> None:
    choices = [
        LengthChoice(max_length=1024, covered_share=0.9996, memory_bytes=8 * GIB),
        LengthChoice(max_length=2048, covered_share=1.0, memory_bytes=13 * GIB),
    ]
    told = length_line(choices, 1024)
    assert told == "1024 tokens cover 99.9 % of the rows; 2048 cover 100 % for 5.0 GiB more"
    assert length_line(choices, 77) == ""


def test_nothing_of_a_hostile_name_reaches_the_terminal() -> None:
    evil = "x\x1b[2J\u202e[/red]"
    made = plan({"name": evil}, model=tiny(base=evil))
    text = "\n".join(lines_of(made))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_plan_says_how_rows_are_read_and_how_much_each_source_counts() -> None:
    made = plan({"data": {"source": ["a.jsonl", {"path": "b.jsonl", "weight": 2.5}]}})
    text = " ".join(" ".join(plan_lines(made)).split())
    assert "read as prompt_completion: prompt from 'question', completion from 'answer'" in text
    assert "b.jsonl counts 2.5 times" in text
    assert "a.jsonl counts" not in text
