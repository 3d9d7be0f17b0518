"""Data sets of the hub: which files a reference means, fetched once and checked, served without a connection."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from engine.data.pipeline import prepare
from engine.data.profile import profile_data
from engine.data.sources import read_sources
from engine.models.hub_datasets import Reference, choose_files, read_reference, resolve_dataset
from engine.planning.model_profile import read_model_profile
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.read import check_recipe
from engine.recipe.sources import lay
from tests.engine.made_hub import COMMIT, Hub, Served
from tests.unit.made_plans import CPU, HOME

CARD = """---
license: mit
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: [main/test.jsonl]
- config_name: extra
  data_files: "extra/*.jsonl"
---
# Made
"""


def rows(word: str, count: int = 4) -> bytes:
    made = ({"prompt": f"{word} {n}?", "completion": f"{word}."} for n in range(count))
    return "".join(json.dumps(row) + "\n" for row in made).encode()


@pytest.fixture
def dataset(hub: Hub) -> Served:
    files = {
        "README.md": CARD.encode(),
        "main/train-00000-of-00002.jsonl": rows("first"),
        "main/train-00001-of-00002.jsonl": rows("second"),
        "main/test.jsonl": rows("test"),
        "extra/more.jsonl": rows("extra"),
        "made.py": b"raise SystemExit",
    }
    hub.datasets["made/rows"] = Served(files)
    return hub.datasets["made/rows"]


def asked(hub: Hub) -> list[str]:
    return [path.rpartition("/")[2] for path, _, _ in hub.requests if path.startswith("/content/")]


def problem_of(text: str) -> Problem:
    with pytest.raises(ProblemError) as caught:
        resolve_dataset(text)
    (problem,) = caught.value.problems
    assert problem.path == "data.source"
    assert len(problem.fix) > 10
    return problem


def test_the_training_files_of_the_default_configuration_are_fetched_alone(hub: Hub, dataset: Served):
    told: list[tuple[int, int]] = []
    paths = resolve_dataset("hub:made/rows", lambda done, total: told.append((done, total)))
    assert [path.name for path in paths] == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert asked(hub) == ["README.md", *(path.name for path in paths)]
    size = sum(path.stat().st_size for path in paths)
    assert told[-1] == (size, size)


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("hub:made/rows#test", ["test.jsonl"]),
        ("hub:made/rows#main/test", ["test.jsonl"]),
        ("hub:made/rows#extra/train", ["more.jsonl"]),
        ("hub:made/rows@v1#test", ["test.jsonl"]),
        (f"hub:made/rows@{COMMIT}#test", ["test.jsonl"]),
    ],
)
def test_revision_configuration_and_split_are_said_in_the_reference(dataset: Served, reference: str, names: list[str]):
    assert [path.name for path in resolve_dataset(reference)] == names


def test_rows_of_a_hub_data_set_are_read_like_files(hub: Hub, dataset: Served):
    files = read_sources(["hub:made/rows"])
    assert [file.rows[0].where for file in files] == [
        "train-00000-of-00002.jsonl:1",
        "train-00001-of-00002.jsonl:1",
    ]
    tree = {
        "objective": "chat",
        "model": {"base": "builtin:starter"},
        "data": {"source": "hub:made/rows", "held_out": "hub:made/rows#test"},
    }
    prepared = prepare(check_recipe(tree, name="recipe"))
    assert (len(prepared.train_rows), len(prepared.held_out_rows)) == (8, 4)


def test_without_a_connection_the_cache_serves_what_was_fetched(
    hub: Hub, dataset: Served, monkeypatch: pytest.MonkeyPatch
):
    first = resolve_dataset("hub:made/rows")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked_before = len(hub.requests)
    assert resolve_dataset("hub:made/rows") == first
    assert resolve_dataset(f"hub:made/rows@{COMMIT}") == first
    assert len(hub.requests) == asked_before
    assert problem_of("hub:made/rows#test").code == "data.hub_offline"


def test_a_download_that_lacks_a_part_is_not_taken_for_whole(
    hub: Hub, dataset: Served, monkeypatch: pytest.MonkeyPatch
):
    resolve_dataset("hub:made/rows")[1].unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert problem_of("hub:made/rows").code == "data.hub_offline"


def test_what_arrives_damaged_is_refused(hub: Hub, dataset: Served):
    dataset.faults["main/test.jsonl"] = ["flip"]
    problem = problem_of("hub:made/rows#test")
    assert problem.code == "data.hub_download_damaged"
    assert "main/test.jsonl" in problem.message


def test_a_cut_download_goes_on(hub: Hub, dataset: Served):
    dataset.faults["main/test.jsonl"] = ["cut"]
    (path,) = resolve_dataset("hub:made/rows#test")
    assert path.read_bytes() == rows("test")


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("hub:made/nothing", "not_found"),
        ("hub:made/rows@v9", "no_revision"),
        ("hub:made/rows#other/train", "config"),
        ("hub:made/rows#main/other", "split"),
        ("hub:", "bad_id"),
        ("hub:made/rows/more", "bad_id"),
        ("hub:made/rows@../../x", "bad_id"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(dataset: Served, reference: str, code: str):
    problem = problem_of(reference)
    assert problem.code == f"data.hub_{code}"
    if code in ("config", "split"):
        assert "main" in problem.fix or "train" in problem.fix


def test_a_gated_data_set_names_its_page(hub: Hub, dataset: Served):
    dataset.error = (403, "GatedRepo", "gated")
    problem = problem_of("hub:made/rows")
    assert problem.code == "data.hub_gated"
    assert "/datasets/made/rows" in problem.fix


def test_a_program_that_makes_the_data_is_not_run(hub: Hub):
    hub.datasets["made/rows"] = Served({"rows.py": b"raise SystemExit", "README.md": b"# Made"})
    problem = problem_of("hub:made/rows")
    assert problem.code == "data.hub_script"
    assert "@refs/convert/parquet" in problem.fix


def test_a_broken_card_is_no_reason_to_guess(hub: Hub):
    hub.datasets["made/rows"] = Served({"a.jsonl": rows("a"), "README.md": b"---\nconfigs: [\n---\n"})
    assert problem_of("hub:made/rows").code == "data.hub_card"


def test_names_that_lead_out_of_the_folder_are_left_aside(hub: Hub, tmp_path: Path):
    hub.datasets["made/rows"] = Served({"../../../train.jsonl": rows("evil"), "train.jsonl": rows("good")})
    (path,) = resolve_dataset("hub:made/rows")
    assert path.read_bytes() == rows("good")
    assert not list(tmp_path.rglob("../train.jsonl"))


def test_converted_parquet_is_read(hub: Hub, tmp_path: Path):
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"]}), tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    hub.datasets["made/rows"] = Served({"default/train/0000.parquet": content, "default/test/0000.parquet": content})
    (file,) = read_sources(["hub:made/rows#default/test"])
    assert file.rows[0].values == {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("names", "reference", "chosen"),
    [
        (
            ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
            "x",
            ["data/train-00000-of-00001.parquet"],
        ),
        (["train.csv", "test.csv", "dev.csv"], "x#validation", ["dev.csv"]),
        (["rows.jsonl.gz", "dataset_infos.json", ".gitattributes"], "x", ["rows.jsonl.gz"]),
        (["en/train/0.parquet", "de/train/0.parquet", "de/test/0.parquet"], "x#de/test", ["de/test/0.parquet"]),
        (["a.jsonl", "b.jsonl"], "x", ["a.jsonl", "b.jsonl"]),
        (["only_test.jsonl"], "x", ["only_test.jsonl"]),
    ],
)
def test_files_without_a_card_are_told_apart_by_their_names(names: list[str], reference: str, chosen: list[str]):
    assert choose_files(read_reference(f"hub:{reference}"), names, "") == chosen


def test_several_configurations_ask_for_one():
    names = ["en/train/0.parquet", "de/train/0.parquet"]
    with pytest.raises(ProblemError, match="2 configurations"):
        choose_files(Reference("x", None, None, None), names, "")


NEXT_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


def moved(hub: Hub) -> None:
    """Let the main branch of the data set go on to other rows; the old commit stays in the cache alone."""
    files = dict(hub.datasets["made/rows"].files) | {"main/train-00000-of-00002.jsonl": rows("other")}
    hub.datasets["made/rows"] = Served(files, commit=NEXT_COMMIT)


class TestPins:
    def tree(self, source: object = "hub:made/rows", **data: object) -> dict[str, Any]:
        return {"objective": "chat", "model": {"base": "builtin:starter"}, "data": {"source": source, **data}}

    def planned(self, tree: dict[str, Any]) -> Plan:
        profile = profile_data(check_recipe(tree, name="recipe"))
        return make_plan(lay(tree), CPU, read_model_profile("builtin:starter"), profile, home=HOME)

    @pytest.mark.parametrize(
        ("written", "pinned"),
        [
            ("hub:made/rows", f"hub:made/rows@{COMMIT}"),
            ("hub:made/rows@v1", f"hub:made/rows@{COMMIT}"),
            ("hub:made/rows#main/test", f"hub:made/rows@{COMMIT}#main/test"),
            (f"hub:made/rows@{COMMIT}#test", f"hub:made/rows@{COMMIT}#test"),
        ],
    )
    def test_a_plan_names_the_commit_and_the_recipe_stays_as_it_was_written(
        self, dataset: Served, written: str, pinned: str
    ):
        tree = self.tree(written)
        made = self.planned(tree)
        assert made.recipe.data.source == pinned
        assert made.data.commits == {written: pinned}
        assert made.sources["data.source"].kind == "you"
        assert tree == self.tree(written)

    def test_lists_weights_and_held_out_data_are_pinned_too(self, dataset: Served):
        source = [{"path": "hub:made/rows", "weight": 2.0}, "hub:made/rows#extra/train"]
        made = self.planned(self.tree(source, held_out="hub:made/rows#test"))
        assert made.recipe.data.sources() == [f"hub:made/rows@{COMMIT}", f"hub:made/rows@{COMMIT}#extra/train"]
        assert made.recipe.data.source[0].weight == 2.0
        assert made.recipe.data.held_out == f"hub:made/rows@{COMMIT}#test"

    def test_the_run_reads_the_rows_of_the_plan_also_when_the_data_set_has_gone_on(self, hub: Hub, dataset: Served):
        made = self.planned(self.tree())
        moved(hub)
        now = prepare(check_recipe(self.tree(), name="recipe")).profile
        assert now.sha256 != made.data.sha256, "the branch has moved"
        asked_before = len(hub.requests)
        again = prepare(made.recipe).profile
        assert again.sha256 == made.data.sha256
        assert len(hub.requests) == asked_before, "the commit is in the cache"
        assert self.planned(self.tree()).recipe.data.source == f"hub:made/rows@{NEXT_COMMIT}"

    def test_files_have_no_commit(self, tmp_path: Path):
        (tmp_path / "rows.jsonl").write_bytes(rows("own", 20))
        made = self.planned(self.tree(str(tmp_path / "rows.jsonl")))
        assert made.data.commits == {}
        assert made.recipe.data.source == str(tmp_path / "rows.jsonl")
