"""Too little memory at the export: what was learnt is kept, and the merge is done elsewhere or later."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from engine.deployment import export, merge_later
from engine.hardware.devices import Host
from engine.recipe.problems import ProblemError
from tests.engine.forked import carry
from tests.engine.made_export import ROWS, Case
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows, save_tiny_model

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def base_folder(tmp_path):
    return save_tiny_model(tmp_path / "somewhere" / "tiny-base")


def fail_first(monkeypatch, owner, name, *, times=1):
    """Let a function run out of memory the first times that it is called."""
    original, calls = getattr(owner, name), []

    def failing(*arguments, **keywords):
        calls.append(1)
        if len(calls) <= times:
            raise CUDA
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)


def notices(case):
    return [payload["message"] for event_type, payload in case.events if event_type == "notice.raised"]


def whole_logits(folder, prompts):
    model = AutoModelForCausalLM.from_pretrained(folder)
    return [model(input_ids=torch.tensor([prompt])).logits for prompt in prompts]


def test_a_merge_too_large_for_the_device_is_done_in_host_memory(tmp_path, base_folder, monkeypatch):
    monkeypatch.setattr(export, "in_host_memory", lambda _: False)
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": True}})
    trained = [case.model(input_ids=torch.tensor([prompt])).logits for prompt in case.prompts]
    # The merge breaks off half way: the model at hand is neither the one nor the other.
    monkeypatch.setattr(export, "merge", half_merged(export.merge))
    exported = case.export()
    assert [item.kind for item in exported] == ["adapter", "merged"]
    assert "trying in host RAM" in notices(case)[0]
    merged = whole_logits(case.run.merged_folder, case.prompts)
    for left, right in zip(trained, merged, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)


def half_merged(original):
    calls = []

    def failing(model, dtype):
        calls.append(model)
        if len(calls) > 1:
            return original(model, dtype)
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for layer in layers[: len(layers) // 2]:
            layer.merge()
        raise CUDA

    return failing


def test_without_memory_to_merge_the_adapter_is_kept_and_merged_later(tmp_path, base_folder, monkeypatch, capsys):
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": True, "output": str(tmp_path / "out")}})
    case.run.held_out_file.parent.mkdir()
    write_rows(case.run.held_out_file, [])
    case.run.held_out_file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    fail_first(monkeypatch, export, "merge")
    assert [item.kind for item in case.export()] == ["adapter"]
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not case.run.merged_folder.exists()
    [notice] = notices(case)
    assert f"-P -m engine.deployment.merge_later {case.run.path}`" in notice

    assert merge_later.main([str(case.run.path)]) == 0
    assert str(case.run.merged_folder) in capsys.readouterr().out
    record = json.loads((case.run.model_folder / "export.json").read_text())
    assert [item["kind"] for item in record["exports"]] == ["adapter", "merged"]
    assert record["parity"]["num_prompts"] == 4
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()


def test_a_merge_that_the_host_has_no_room_for_is_not_tried(tmp_path, base_folder, monkeypatch, capsys):
    monkeypatch.setattr(export, "in_host_memory", lambda _: False)
    monkeypatch.setattr(export, "read_host", lambda: Host(24 << 30, 1000, 0, 2, "CPU", frozenset()))
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": True}})
    fail_first(monkeypatch, export, "merge")
    assert [item.kind for item in case.export()] == ["adapter"]
    assert merge_later.main([str(case.run.path)]) == 1
    assert "of host RAM" in capsys.readouterr().err


@pytest.mark.parametrize(("precision", "merges"), [("float32", False), ("bfloat16", True)])
def test_a_base_model_counts_as_wide_as_it_is_loaded(tmp_path, base_folder, monkeypatch, precision, merges):
    case = Case(tmp_path, base_folder, recipe={"training": {"precision": precision}})
    case.export()
    plan = case.plan.model_copy(update={"model": case.plan.model.model_copy(update={"weights_dtype": "bfloat16"})})
    room = 3 * plan.model.num_params
    monkeypatch.setattr(export, "read_host", lambda: Host(24 << 30, room, 0, 2, "CPU", frozenset()))
    job = export._Export(case.run, plan, case.tokenizer, case.prompts, lambda *_, **__: None)
    assert (job.merged_on_host() is not None) == merges


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_merging_later_says_how_it_is_used(arguments, capsys):
    assert merge_later.main(arguments) == 2
    assert "RUN_DIR" in capsys.readouterr().err


def test_merging_later_needs_an_adapter(tmp_path, base_folder, capsys):
    case = Case(tmp_path, base_folder)
    assert merge_later.main([str(case.run.path)]) == 1
    assert "no adapter to merge" in capsys.readouterr().err


def test_a_trained_model_too_large_for_the_device_is_written_from_host_memory(tmp_path, base_folder, monkeypatch):
    monkeypatch.setattr(export, "in_host_memory", lambda _: False)
    case = Case(tmp_path, base_folder, method="full")
    trained = [case.model(input_ids=torch.tensor([prompt])).logits for prompt in case.prompts]
    fail_first(monkeypatch, export, "prompt_logits")
    assert [item.kind for item in case.export()] == ["merged"]
    for left, right in zip(trained, whole_logits(case.run.merged_folder, case.prompts), strict=True):
        torch.testing.assert_close(left, right)


def test_a_trained_model_that_cannot_be_written_is_no_success(tmp_path, base_folder, monkeypatch):
    case = Case(tmp_path, base_folder, method="full")
    fail_first(monkeypatch, export, "save_whole_model")
    with pytest.raises(ProblemError) as caught:
        case.export()
    assert caught.value.problems[0].code == "export.out_of_memory"
    assert "only the export is done again" in caught.value.problems[0].fix
    assert not case.run.merged_folder.exists()


def test_a_run_without_memory_to_merge_ends_finished(tmp_path: Path, tiny_model_folder: Path):
    def too_small() -> None:
        import engine.stages

        engine.stages.evaluate = lambda *_: None

        def refused(*_: object) -> None:
            raise MemoryError

        export.merge = refused

    data = write_rows(tmp_path / "commands.jsonl", command_rows(12))
    recipe = made_recipe(tiny_model_folder, data, training={"max_steps": 2}, delivery={"merge": True})
    run = make_run(tmp_path / "run", recipe)
    assert carry(run, too_small) == 0
    assert max(loss_curve(run)) == 2
    assert (run.adapter_folder / "adapter_model.safetensors").exists()
    assert json.loads(run.exit_file.read_text())["state"] == "finished"
    assert "merge_later" in events_of(run, "notice.raised")[-1]["message"]
    assert json.loads(run.report_json_file.read_text())["model"]["merged"] is None
    program, *arguments = shlex.split(events_of(run, "notice.raised")[-1]["message"].split("`")[1])
    assert (program, arguments[:3]) == (sys.executable, ["-P", "-m", "engine.deployment.merge_later"])
    assert merge_later.main(arguments[3:]) == 0
    assert json.loads(run.report_json_file.read_text())["model"]["merged"] == "model/merged"
