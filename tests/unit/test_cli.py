"""The command line: what it imports, prints and returns. Each test runs the real command in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FTWIZARD = [sys.executable, "-m", "tui.cli"]


def ftwizard(*arguments: str, home: Path, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FTWIZARD_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*FTWIZARD, *arguments], env=environment, input=stdin, capture_output=True, text=True, cwd=cwd, timeout=240
    )


def imported_by(*arguments: str, home: Path) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    code = (
        "import sys, tui.cli\n"
        f"sys.argv = ['ftwizard', *{list(arguments)!r}]\n"
        "try:\n    tui.cli.main()\n"
        "except SystemExit:\n    pass\n"
        "print('\\nMODULES', *sys.modules)"
    )
    environment = {**os.environ, "FTWIZARD_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["runs"], ["presets"], ["doctor"], ["schema"]]
)
def test_no_verb_without_a_screen_imports_textual_or_a_heavy_library(tmp_path: Path, arguments: list[str]) -> None:
    modules = imported_by(*arguments, home=tmp_path)
    assert "tui.cli" in modules
    assert not modules & {"textual", "torch", "transformers", "datasets", "peft", "trl", "numpy", "evaluate"}


def test_help_imports_no_pydantic_and_no_rich(tmp_path: Path) -> None:
    assert not imported_by("--help", home=tmp_path) & {"pydantic", "rich", "yaml", "asyncio"}


def test_the_version_is_the_installed_one(tmp_path: Path) -> None:
    from importlib.metadata import version

    assert ftwizard("--version", home=tmp_path).stdout.strip() == f"ftwizard {version('ftwizard')}"


def test_the_schema_accepts_what_the_recipe_accepts_and_refuses_unknown_keys(tmp_path: Path) -> None:
    document = json.loads(ftwizard("schema", home=tmp_path).stdout)
    assert document["additionalProperties"] is False
    assert set(document["required"]) == {"objective", "model", "data"}
    assert "learning_rate" in document["$defs"]["TrainingSection"]["properties"]


def test_an_unknown_preset_names_the_nearest_and_exits_with_2(tmp_path: Path) -> None:
    done = ftwizard("plan", "quikstart", home=tmp_path)
    assert done.returncode == 2
    assert "quickstart" in done.stderr
    assert done.stdout == ""


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    done = ftwizard("plan", str(tmp_path / "nothing.yaml"), home=tmp_path)
    assert done.returncode == 2
    assert "nothing.yaml" in done.stderr


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "objective: chat\nmodel: {base: builtin:starter}\ndata: {source: builtin:commands}\n"
        "training:\n  learning_rat: 1e-4\n"
    )
    done = ftwizard("plan", str(recipe), home=tmp_path)
    assert done.returncode == 2
    assert "learning_rate" in done.stderr
    assert "r.yaml:5" in done.stderr


def test_problems_are_json_for_scripts(tmp_path: Path) -> None:
    done = ftwizard("plan", "quikstart", "--json", home=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["problems"][0]["code"]


def test_a_value_changed_on_the_command_line_is_yours_in_the_plan(tmp_path: Path) -> None:
    done = ftwizard("plan", "quickstart", "--set", "training.epochs=2", "--fast", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["recipe"]["training"]["epochs"] == 2
    assert plan["sources"]["training.epochs"]["kind"] == "you"
    assert plan["sources"]["training.seed"]["kind"] in ("default", "preset")


def test_missing_data_is_said_before_anything_is_started(tmp_path: Path) -> None:
    done = ftwizard("run", "chat-lora", "--set", "data.source=gone.jsonl", "--plain", home=tmp_path)
    assert done.returncode == 2
    assert "gone.jsonl" in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_run_that_does_not_exist_is_said(tmp_path: Path) -> None:
    for verb in (["show"], ["attach", "--plain"], ["resume"], ["stop"]):
        done = ftwizard(*verb, home=tmp_path)
        assert done.returncode == 2, verb
        assert "no runs" in done.stderr.lower(), verb


def test_runs_and_presets_list_as_json(tmp_path: Path) -> None:
    assert json.loads(ftwizard("runs", "--json", home=tmp_path).stdout) == []
    assert "quickstart" in {row["name"] for row in json.loads(ftwizard("presets", "--json", home=tmp_path).stdout)}


def test_a_preset_prints_as_a_recipe_that_reads_back(tmp_path: Path) -> None:
    text = ftwizard("presets", "quickstart", home=tmp_path).stdout
    recipe = tmp_path / "copy.yaml"
    recipe.write_text(text)
    done = ftwizard("plan", str(recipe), "--fast", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_plain_wizard_explains_goes_back_and_keeps_the_draft(tmp_path: Path) -> None:
    answers = "?\nchat\nb\n1\nbuiltin:starter\nq\n"
    done = ftwizard("--plain", home=tmp_path, stdin=answers)
    assert done.returncode == 130
    assert "When not:" in done.stdout
    assert done.stdout.count("Step 1 of 7") == 2
    assert "Step 3 of 7" in done.stdout
    again = ftwizard("--plain", home=tmp_path, stdin="y\nq\n")
    assert "Step 3 of 7" in again.stdout


def test_the_plain_wizard_reasks_after_a_wrong_answer(tmp_path: Path) -> None:
    done = ftwizard("--plain", home=tmp_path, stdin="99\nq\n")
    assert "99 is not in the list" in done.stdout


def test_options_before_a_verb_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    assert ftwizard("--plain", "runs", home=tmp_path).returncode == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_a_home_that_cannot_be_made_is_a_sentence_and_not_a_trace(tmp_path: Path, as_json: bool) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = ftwizard("plan", "quickstart", *(["--json"] if as_json else []), home=blocker / "home")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout)["problems"][0]["message"] if as_json else done.stderr
    assert str(blocker) in said


def test_the_plain_wizard_offers_several_files_again_as_they_were_typed(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        rows = ({"prompt": f"{name} {number}", "completion": f"answer {number}"} for number in range(40))
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = ftwizard("--plain", home=tmp_path, stdin="chat\nbuiltin:starter\na.jsonl, b.jsonl\nb\n\nq\n", cwd=tmp_path)
    assert "[a.jsonl, b.jsonl]" in done.stdout
    assert done.stdout.count("80 rows") == 2


def test_a_preset_with_holes_is_planned_for_a_machine_that_is_not_here(tmp_path: Path) -> None:
    done = ftwizard("plan", "qlora-8b-24gb", "--gpu", "24GiB", "--fast", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not here: 24GiB" in done.stdout.splitlines()[1]
    assert "QLoRA, 4-bit" in done.stdout
    assert "No data is named" in done.stdout
    assert "--set data.source=FILE" in done.stdout
    small = ftwizard("plan", "qlora-8b-24gb", "--gpu", "6GiB", "--fast", "--json", home=tmp_path)
    assert small.returncode == 2
    found = json.loads(small.stdout)
    assert len(found["ways"]) == 3
    assert found["machine"]["hypothetical"] == "6GiB"
    assert "memory.does_not_fit" in {finding["code"] for finding in found["findings"]}


def test_a_machine_that_nobody_knows_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = ftwizard("plan", "qlora-8b-24gb", "--gpu", "RTX 99999", "--fast", home=tmp_path)
    assert done.returncode == 2
    assert "RTX 99999" in done.stderr
    assert done.stdout == ""
