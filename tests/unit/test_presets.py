"""Presets: shipped ones are whole, a person's own are read with care."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from engine.catalog.base_models import find_base_model
from engine.hardware.devices import Disk, Gpu, Hardware, Host
from engine.hardware.readings import Unavailable
from engine.planning.planner import make_plan
from engine.planning.profiles import DataProfile, LengthProfile
from engine.recipe.fields import fields_by_path
from engine.recipe.presets import (
    ORDER,
    broken_presets,
    find_preset,
    list_presets,
    user_presets_folder,
)
from engine.recipe.problems import ProblemError
from engine.recipe.read import check_recipe, check_values, dump_recipe, load_yaml, read_recipe, set_value
from engine.recipe.sources import flatten, lay, unflatten
from engine.runs.home import HomeFolders

HOME = HomeFolders(Path("/home/x/runs"), Path("/home/x/cache"), Path("/home/x/drafts"))
HEADER = "preset: {title: Mine, summary: Does it., needs: Nothing., holes: [data.source]}\n"
BODY = "objective: chat\nmodel: {base: some/model}\n"


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "presets"
    folder.mkdir()
    return folder


def filled(preset):
    tree = preset.tree
    for hole in preset.holes:
        tree = set_value(tree, f"{hole}=rows.jsonl")
    return tree


def test_at_least_the_promised_presets_are_shipped(own):
    shipped = list_presets(own)
    assert [preset.name for preset in shipped][: len(ORDER)] == list(ORDER)
    assert all(preset.builtin for preset in shipped)
    assert broken_presets(own) == []


@pytest.mark.parametrize("name", ORDER)
def test_a_shipped_preset_is_a_recipe_once_its_holes_are_filled(name, own):
    preset = find_preset(name, own)
    assert check_values(preset.tree, name=name) == []
    recipe = check_recipe(filled(preset), name=name)
    assert find_base_model(recipe.model.base) is not None
    assert set(preset.holes) <= set(fields_by_path())
    if preset.holes:
        with pytest.raises(ProblemError) as caught:
            check_recipe(preset.tree, name=name)
        assert {problem.path for problem in caught.value.problems} == set(preset.holes)


@pytest.mark.parametrize("name", ORDER)
def test_a_shipped_preset_survives_writing_json_and_reading_its_own_file(name, own):
    preset = find_preset(name, own)
    tree = filled(preset)
    assert load_yaml(dump_recipe(tree), name=name) == tree
    assert json.loads(json.dumps(tree)) == tree
    with resources.as_file(resources.files("presets") / f"{name}.yaml") as path:
        assert read_recipe(path) == preset.tree


GIB = 2**30
ROWS = LengthProfile(count=2000, mean=400, p50=350, p90=700, p99=1000, longest=2500, total=800_000)
# What `needs` promises, in GiB of GPU memory, or of free host memory where it promises a processor.
PROMISES = [
    ("quickstart", None, 4),
    ("chat-lora", 6, 16),
    ("chat-lora", None, 8),
    ("qlora-8b-24gb", 24, 32),
    ("full-small", 16, 16),
    ("domain-adaptation", 8, 16),
]


def machine(gpu_gib, host_gib):
    none = Unavailable("none in this test")
    gpus = []
    if gpu_gib is not None:
        # A card is never quite empty, and its driver takes some of it.
        free = int((gpu_gib - 0.7) * GIB)
        gpus = [Gpu(0, "Card", "GPU-1", (8, 6), gpu_gib * GIB, free, gpu_gib * GIB - free, 0, 40, 50.0, [])]
    return Hardware(
        gpus=gpus,
        host=Host((host_gib + 2) * GIB, host_gib * GIB, 0, 4, "Some CPU", frozenset({"avx2"})),
        disks=[Disk(HOME.runs, 500 * GIB, 100 * GIB)],
        driver="590" if gpus else none,
        cuda="13.1" if gpus else none,
        torch_cuda="13.0" if gpus else none,
        libraries={"torch": "2.13.0", "bitsandbytes": "0.50.2"},
    )


@pytest.mark.parametrize(("name", "gpu_gib", "host_gib"), PROMISES)
def test_a_shipped_preset_fits_the_machine_that_it_asks_for(name, gpu_gib, host_gib, own):
    preset = find_preset(name, own)
    card = find_base_model(preset.tree["model"]["base"])
    chat = preset.tree["objective"] == "chat"
    data = DataProfile(
        format="prompt_completion" if chat else "text",
        num_rows=2200,
        num_train=2000,
        num_held_out=200,
        lengths=ROWS,
        answer_lengths=ROWS if chat else None,
        bytes=10**6,
    )
    layered = lay(unflatten(dict.fromkeys(preset.holes, "rows.jsonl")), preset=preset.tree, preset_name=name)
    plan = make_plan(layered, machine(gpu_gib, host_gib), card.profile, data, home=HOME)
    assert not plan.blocked, plan.findings
    assert plan.device.kind == ("cpu" if gpu_gib is None else "cuda")
    assert plan.memory.available_bytes is not None
    assert plan.memory.high_bytes <= plan.memory.available_bytes
    for path, value in flatten(preset.tree).items():
        assert flatten(plan.recipe.model_dump())[path] == value
        assert plan.sources[path].kind == "preset"


def test_the_quick_start_has_no_holes_and_needs_no_network(own):
    preset = find_preset("quickstart", own)
    assert preset.holes == ()
    recipe = check_recipe(preset.tree, name="quickstart")
    assert recipe.model.base.startswith("builtin:")
    assert str(recipe.data.source).startswith("builtin:")


def test_own_presets_follow_the_shipped_ones(own):
    (own / "mine.yaml").write_text(HEADER + BODY)
    preset = find_preset("mine", own)
    assert (preset.title, preset.holes, preset.builtin) == ("Mine", ("data.source",), False)
    assert preset.tree == {"objective": "chat", "model": {"base": "some/model"}}
    assert [entry.name for entry in list_presets(own)][-1] == "mine"


def test_an_own_preset_cannot_shadow_a_shipped_one(own):
    (own / "quickstart.yaml").write_text(HEADER + BODY)
    assert find_preset("quickstart", own).builtin
    (problem,) = broken_presets(own)
    assert problem.code == "preset.name_taken"


@pytest.mark.parametrize("name", ["Mine", "-x", "a b", "ä", "x" * 64, "a.b"])
def test_names_follow_a_strict_form(name, own):
    (own / f"{name}.yaml").write_text(HEADER + BODY)
    assert name not in [preset.name for preset in list_presets(own)]
    (problem,) = broken_presets(own)
    assert problem.code == "preset.name"


@pytest.mark.parametrize("name", ["../quickstart", "/etc/passwd", "quickstart.yaml", "", "\x1b[2J", "q\0"])
def test_only_names_of_the_list_are_found(name, own):
    with pytest.raises(ProblemError) as caught:
        find_preset(name, own)
    assert caught.value.problems[0].code == "preset.unknown"
    assert "\x1b" not in str(caught.value)


def test_the_nearest_preset_is_named(own):
    with pytest.raises(ProblemError, match="Did you mean chat-lora"):
        find_preset("chat-lore", own)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (BODY, "preset.header"),
        ("preset: {title: x}\n" + BODY, "preset.header"),
        ("preset: {title: x, summary: y, needs: z, hole: []}\n" + BODY, "preset.header"),
        ("preset: {title: x, summary: y, needs: z, holes: data.source}\n" + BODY, "preset.header"),
        ("preset: {title: x, summary: y, needs: z, holes: [model.base]}\n" + BODY, "preset.header"),
        (HEADER + "model: {base: x, trust_remote_code: true}\n", "preset.remote_code"),
        (HEADER + BODY + BODY, "yaml.duplicate_key"),
        ("a: &a [b]\n", "yaml.anchor"),
        ("", "preset.header"),
        ("- x\n", "preset.header"),
    ],
)
def test_a_broken_preset_is_named_and_hides_no_other(text, code, own):
    (own / "broken.yaml").write_text(text)
    (own / "whole.yaml").write_text(HEADER + BODY)
    assert [preset.name for preset in list_presets(own)][-1] == "whole"
    assert [problem.code for problem in broken_presets(own)] == [code]
    with pytest.raises(ProblemError) as caught:
        find_preset("broken", own)
    assert caught.value.problems[0].code == code
    assert "broken.yaml" in str(caught.value)


def test_a_folder_or_dead_link_named_like_a_preset_is_reported(own):
    (own / "folder.yaml").mkdir()
    (own / "link.yaml").symlink_to(own / "nowhere")
    assert sorted(problem.code for problem in broken_presets(own)) == ["preset.file_missing", "preset.is_folder"]


def test_the_folder_of_own_presets(tmp_path):
    assert user_presets_folder({"FTWIZARD_HOME": str(tmp_path)}) == tmp_path / "presets"
    assert user_presets_folder({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "ftwizard" / "presets"
    home = user_presets_folder({"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"})
    assert home == tmp_path / ".config" / "ftwizard" / "presets"
    assert list_presets(tmp_path / "missing")


def test_listing_presets_and_choices_imports_neither_pydantic_nor_anything_heavy():
    program = (
        "import sys\n"
        "from engine.recipe.presets import list_presets\n"
        "assert list_presets()\n"
        "import engine.catalog.base_models, engine.catalog.objectives, engine.catalog.methods, engine.catalog.metrics\n"
        "heavy = {'pydantic', 'torch', 'transformers', 'datasets', 'peft', 'trl', 'numpy', 'textual', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
