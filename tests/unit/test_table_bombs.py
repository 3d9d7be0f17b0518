"""Tables of a few kilobytes that unpack to gigabytes: refused by name, in bounded memory; repeated values are fine."""

import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from engine.data.readers import open_source
from engine.recipe.problems import ProblemError


def table(value: str, count: int, *, nested: bool) -> Any:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))
    if not nested:
        return pa.table({"prompt": column, "completion": column})
    turns = pa.StructArray.from_arrays([column.cast(pa.string()) if len(value) < 100 else column], ["content"])
    return pa.table({"messages": pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), turns)})


def write(path: Path, rows: Any) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path, compression="zstd")
    else:
        feather.write_feather(rows, str(path), compression="zstd")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
@pytest.mark.parametrize("chars", [400_000, 12_000_000])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, name, chars, nested):
    write(tmp_path / name, table("x" * chars, 20_000, nested=nested))
    assert (tmp_path / name).stat().st_size < 2**20
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProblemError) as caught, open_source(tmp_path / name) as source:
        for _ in source:
            pass
    assert caught.value.problems[0].code == "data.table_bomb"
    assert name in caught.value.problems[0].message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 500 * 1024


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_values_that_repeat_are_no_bomb(tmp_path, name):
    write(tmp_path / name, table("You are a helpful assistant.", 50_000, nested=False))
    with open_source(tmp_path / name) as source:
        assert sum(1 for _ in source) == 50_000
