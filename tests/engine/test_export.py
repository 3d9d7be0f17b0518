"""What an export leaves behind: it loads anywhere, says the same, names no machine, and is whole or absent."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from engine.deployment import export, staging
from engine.deployment.base_reference import BaseReference, base_reference
from engine.deployment.parity import compare, prompt_logits
from engine.deployment.staging import staged_folder
from engine.deployment.weights import check_stored_weights, save_whole_model
from engine.recipe.problems import ProblemError
from engine.runs.delivery import check_output
from tests.engine.made_export import Case, moved, with_lora
from tests.engine.made_plan import made_plan
from tests.engine.tiny_models import save_tiny_model, tiny_llama, tiny_tokenizer


@pytest.fixture
def base_folder(tmp_path):
    return save_tiny_model(tmp_path / "somewhere" / "tiny-base")


def card_code(folder: Path) -> str:
    """Return the loading example of a model card."""
    return re.search(r"```python\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL).group(1)


def run_in_fresh_process(*folders: Path) -> list[str]:
    """Execute the examples of several cards, each in the folder it speaks of, and return what each prints."""
    script = "import os\n" + "".join(
        f"os.chdir({str(folder)!r})\n{card_code(folder)}\nprint('<next>')\n" for folder in folders
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-P", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [text.strip("\n") for text in done.stdout.split("<next>")[:-1]]


def run_here(folder: Path, monkeypatch, capsys) -> str:
    """Execute the example of one card in this process, which spares six seconds of imports."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(card_code(folder), {})
    return capsys.readouterr().out.strip("\n")


def greedy(model, tokenizer, prompt="turn on the red lamp"):
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.eval().generate(**inputs, max_new_tokens=64, do_sample=False, use_cache=True)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip("\n")


def all_text(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_adapter_and_merged_model_load_in_a_fresh_process_as_their_cards_say(tmp_path, base_folder):
    case = Case(tmp_path, base_folder)
    expected = greedy(case.model, case.tokenizer)
    exported = case.export()
    assert [(item.kind, item.folder) for item in exported] == [
        ("adapter", "model/adapter"), ("merged", "model/merged"),
    ]  # fmt: skip
    assert [kind for kind, _ in case.events] == ["export.completed"] * 2
    for folder in (case.run.adapter_folder, case.run.merged_folder):
        text = all_text(folder)
        assert str(tmp_path) not in text
        assert "/home/somebody" not in text
        assert "private data" not in text
        assert (folder / "chat_template.jinja").read_text() == case.tokenizer.chat_template
    (case.run.adapter_folder / base_folder.name).symlink_to(base_folder)
    assert run_in_fresh_process(case.run.merged_folder, case.run.adapter_folder) == [expected, expected]
    assert list(case.run.model_folder.rglob("*.bin")) == []
    assert {path.name for path in case.run.model_folder.iterdir()} == {"adapter", "merged", "export.json"}


def test_the_merged_model_says_what_the_trained_one_says(tmp_path, base_folder):
    case = Case(tmp_path, base_folder)
    trained = prompt_logits(case.model, case.prompts)
    case.export()
    record = json.loads((case.run.model_folder / "export.json").read_text())
    assert record["dtype"] == "float32"
    assert record["parity"]["max_difference"] < 1e-4
    assert record["parity"]["num_prompts"] == 6
    reloaded = AutoModelForCausalLM.from_pretrained(case.run.merged_folder)
    for left, right in zip(trained, prompt_logits(reloaded, case.prompts), strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=0)
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    assert compare(trained, prompt_logits(base, case.prompts), torch.float32).divergence > 0.01


def test_generation_ends_at_every_end_token_and_uses_the_cache(tmp_path, base_folder):
    case = Case(tmp_path, base_folder)
    case.tokenizer.chat_template = case.tokenizer.chat_template.replace("<|im_end|>", "<|im_start|>")
    case.model.generation_config.temperature = 0.3
    case.export()
    settings = json.loads((case.run.merged_folder / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [1, 2]
    assert settings["pad_token_id"] == 0
    assert json.loads((case.run.merged_folder / "config.json").read_text())["use_cache"] is True


def test_an_adapter_names_every_end_of_an_answer_too(tmp_path, base_folder):
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": False}})
    case.tokenizer.chat_template = case.tokenizer.chat_template.replace("<|im_end|>", "<|im_start|>")
    case.export()
    settings = json.loads((case.run.adapter_folder / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [1, 2]


def test_padding_and_truncation_of_training_are_not_written(tmp_path, base_folder):
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": False}})
    case.tokenizer(["a", "b c d e"], padding=True, truncation=True, max_length=3)
    case.export()
    written = json.loads((case.run.adapter_folder / "tokenizer.json").read_text())
    assert (written["truncation"], written["padding"]) == (None, None)


def test_full_fine_tuning_leaves_one_whole_model(tmp_path, base_folder, monkeypatch, capsys):
    case = Case(tmp_path, base_folder, method="full")
    expected = greedy(case.model, case.tokenizer)
    exported = case.export()
    assert [item.kind for item in exported] == ["merged"]
    assert not case.run.adapter_folder.exists()
    assert run_here(case.run.merged_folder, monkeypatch, capsys) == expected


def test_weights_are_stored_in_the_format_of_the_base_model(tmp_path):
    base_folder = tmp_path / "base"
    tiny_llama(384).to(torch.bfloat16).save_pretrained(base_folder)
    tiny_tokenizer().save_pretrained(base_folder)
    model = with_lora(AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32))
    case = Case(tmp_path, base_folder, model=model, weights_dtype="bfloat16")
    case.export()
    reloaded = AutoModelForCausalLM.from_pretrained(case.run.merged_folder)
    assert reloaded.dtype == torch.bfloat16
    record = json.loads((case.run.model_folder / "export.json").read_text())
    assert record["dtype"] == "bfloat16"
    assert 0 < record["parity"]["relative_difference"] < 0.1


def test_a_qlora_adapter_is_merged_into_the_unquantized_base(tmp_path):
    from transformers import BitsAndBytesConfig

    base_folder = save_tiny_model(tmp_path / "base", hidden_size=64)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    quantized = AutoModelForCausalLM.from_pretrained(
        base_folder, quantization_config=settings, device_map={"": "cpu"}, dtype=torch.float32
    )
    case = Case(tmp_path, base_folder, method="qlora", model=with_lora(quantized))
    case.export()
    merged = AutoModelForCausalLM.from_pretrained(case.run.merged_folder)
    assert "quantization_config" not in json.loads((case.run.merged_folder / "config.json").read_text())
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), case.run.adapter_folder)
    for left, right in zip(prompt_logits(whole, case.prompts), prompt_logits(merged, case.prompts), strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=0)
    record = json.loads((case.run.model_folder / "export.json").read_text())
    assert record["parity"]["max_difference"] < 1e-4
    gap = record["quantization_gap"]["max_difference"]
    assert gap > 1e-3
    card = (case.run.merged_folder / "README.md").read_text()
    assert "held in 4 bits" in card
    assert f"4-bit model that was trained and measured: {gap:.2g}" in card
    assert "difference to the model as it was trained" not in card


def test_a_merge_that_is_another_model_is_refused_and_not_kept(tmp_path, base_folder, monkeypatch):
    real_merge = export.merge

    def broken_merge(model, dtype):
        merged = real_merge(model, dtype)
        merged.model.norm.weight.data *= -40
        return merged

    monkeypatch.setattr(export, "merge", broken_merge)
    case = Case(tmp_path, base_folder)
    with pytest.raises(ProblemError) as raised:
        case.export()
    assert raised.value.problems[0].code == "export.not_the_same_model"
    assert case.run.adapter_folder.is_dir()
    assert not case.run.merged_folder.exists()


def test_a_small_difference_is_told_and_kept(tmp_path, base_folder, monkeypatch):
    real_merge = export.merge

    def rough_merge(model, dtype):
        merged = real_merge(model, dtype)
        merged.model.norm.weight.data *= 1.03
        return merged

    monkeypatch.setattr(export, "merge", rough_merge)
    case = Case(tmp_path, base_folder)
    case.export()
    notices = [payload for kind, payload in case.events if kind == "notice.raised"]
    assert [notice["code"] for notice in notices] == ["export.parity"]


def test_an_adapter_with_nan_is_not_merged(tmp_path, base_folder):
    case = Case(tmp_path, base_folder)
    with torch.no_grad():
        next(p for p in case.model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(ProblemError) as raised:
        case.export()
    assert raised.value.problems[0].code == "export.not_finite"


def test_damage_on_the_disk_is_found(tmp_path):
    model, tokenizer, folder = tiny_llama(384), tiny_tokenizer(), tmp_path / "model"
    save_whole_model(model, tokenizer, folder)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ProblemError, match="holds other values"):
        check_stored_weights(model, folder)
    weights.unlink()
    with pytest.raises(ProblemError, match="missing"):
        check_stored_weights(model, folder)


def test_an_export_that_breaks_off_leaves_no_folder_and_the_next_one_cleans_up(tmp_path):
    target = tmp_path / "model" / "merged"

    def break_off():
        with staged_folder(target) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(target.parent.iterdir()) == []
    killed = f"import os,sys\nfrom pathlib import Path\nfrom engine.deployment.staging import staged_folder\n" \
             f"with staged_folder(Path({str(target)!r})) as folder:\n" \
             f"    (folder / 'half').write_text('x')\n    os._exit(9)\n"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", killed], timeout=60).returncode == 9
    assert not target.exists()
    with staged_folder(target) as folder:
        (folder / "whole").write_text("1")
    with staged_folder(target) as folder:
        (folder / "whole").write_text("2")
    assert (target / "whole").read_text() == "2"
    assert [path.name for path in target.parent.iterdir()] == ["merged"]


def test_cleaning_up_leaves_what_another_run_is_writing_beside(tmp_path):
    with staged_folder(tmp_path / "model-2") as other:
        (other / "weights").write_text("x")
        with staged_folder(tmp_path / "model"):
            pass
        assert (other / "weights").exists()
    with staged_folder(tmp_path / "*"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-2", "*"}


def test_a_second_export_replaces_the_first_one(tmp_path, base_folder):
    case = Case(tmp_path, base_folder)
    case.export()
    first = (case.run.merged_folder / "model.safetensors").read_bytes()
    case.model = moved(case._model(base_folder, "lora"))
    case.export()
    assert (case.run.merged_folder / "model.safetensors").read_bytes() != first


def test_too_little_space_is_said_before_anything_is_written(tmp_path, base_folder, monkeypatch):
    case = Case(tmp_path, base_folder)
    monkeypatch.setattr(export, "free_bytes", lambda path: 1000)
    with pytest.raises(ProblemError, match=r"needs 1\d\d.*KiB, 1000 B are free"):
        case.export()
    assert not case.run.model_folder.exists()


def test_an_output_on_the_same_disk_needs_the_space_twice(tmp_path, base_folder, monkeypatch):
    case = Case(tmp_path, base_folder)
    monkeypatch.setattr(export, "free_bytes", lambda path: 200_000)
    case.export()
    (tmp_path / "second").mkdir()
    case = Case(tmp_path / "second", base_folder, recipe={"delivery": {"output": str(tmp_path / "out")}})
    with pytest.raises(ProblemError, match=r"needs 282 KiB, 195 KiB are free") as raised:
        case.export()
    assert [problem.path for problem in raised.value.problems] == ["delivery.output"]


def test_the_output_folder_gets_the_model_and_loads(tmp_path, base_folder, monkeypatch, capsys):
    output = tmp_path / "out" / "commands"
    case = Case(tmp_path, base_folder, recipe={"delivery": {"output": str(output)}})
    expected = greedy(case.model, case.tokenizer)
    case.export()
    assert run_here(output, monkeypatch, capsys) == expected
    assert (output / "adapter" / "adapter_model.safetensors").is_file()
    umask = os.umask(0)
    os.umask(umask)
    assert output.stat().st_mode & 0o777 == 0o777 & ~umask
    # A resumed run exports again and may replace what it delivered itself.
    case.model = case._model(base_folder, "lora")
    case.export()
    assert run_here(output, monkeypatch, capsys) == expected


def test_files_that_appear_in_the_output_folder_meanwhile_are_kept(tmp_path, base_folder, monkeypatch):
    output = tmp_path / "out"
    case = Case(tmp_path, base_folder, recipe={"delivery": {"output": str(output)}})
    real_copy = export._copy_files

    def somebody_is_quicker(source, target):
        output.mkdir(exist_ok=True)
        (output / "precious.txt").write_text("keep")
        real_copy(source, target)

    monkeypatch.setattr(export, "_copy_files", somebody_is_quicker)
    with pytest.raises(ProblemError, match="got files while") as raised:
        case.export()
    assert raised.value.problems[0].code == "export.in_the_way"
    assert [path.name for path in output.iterdir()] == ["precious.txt"]
    assert case.run.merged_folder.is_dir()
    assert json.loads((case.run.model_folder / "export.json").read_text())["output"] is None


def test_an_output_that_is_a_link_fills_the_folder_it_leads_to(tmp_path, base_folder):
    (tmp_path / "disk" / "models").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "models")
    case = Case(tmp_path, base_folder, recipe={"delivery": {"output": str(tmp_path / "link")}})
    case.export()
    assert (tmp_path / "disk" / "models" / "model.safetensors").is_file()
    assert (tmp_path / "link").is_symlink()


def test_an_output_that_cannot_be_put_in_place_is_refused_before_the_run(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    recipe = made_plan(recipe={"delivery": {"output": str(output)}}).recipe
    assert check_output(recipe) == []
    with monkeypatch.context() as patched:
        patched.setattr(os.path, "ismount", lambda path: Path(path) == output)
        assert [problem.code for problem in check_output(recipe)] == ["delivery.output_is_mount"]
    # Root may write everywhere, so the answer of the system is what the test decides.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert [problem.code for problem in check_output(recipe)] == ["delivery.output_not_writable"]


def test_an_output_folder_in_use_is_refused_before_anything_is_written(tmp_path, base_folder):
    output = tmp_path / "out"
    output.mkdir()
    case = Case(tmp_path, base_folder, recipe={"delivery": {"output": str(output)}})
    assert check_output(case.plan.recipe) == []
    (output / "precious.txt").write_text("keep")
    with pytest.raises(ProblemError, match="already holds files"):
        case.export()
    assert [path.name for path in output.iterdir()] == ["precious.txt"]
    assert not case.run.model_folder.exists()
    shutil.rmtree(output)
    output.write_text("a file")
    assert check_output(case.plan.recipe)[0].code == "delivery.output_is_file"


def test_the_base_model_is_named_without_its_place(tmp_path, base_folder):
    assert base_reference(made_plan(base_folder).model) == BaseReference("folder", "tiny-base")
    assert base_reference(made_plan("builtin:starter").model) == BaseReference("builtin", "builtin:starter")
    pinned = made_plan("Qwen/Qwen3-0.6B", revision="a" * 40).model
    assert base_reference(pinned) == BaseReference("hub", "Qwen/Qwen3-0.6B", "a" * 40)
    case = Case(tmp_path, base_folder, recipe={"delivery": {"merge": False}})
    case.export()
    settings = json.loads((case.run.adapter_folder / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("tiny-base", None)
    assert not case.run.merged_folder.exists()


def test_the_card_records_recipe_data_versions_and_scores(tmp_path, base_folder):
    import yaml

    case = Case(tmp_path, base_folder, recipe={"name": "Lamps | <b>bold</b>\n# not a title"})
    case.export()
    card = (case.run.merged_folder / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-generation"
    assert "base_model" not in metadata
    assert "ab" * 32 in card
    assert "torch 2.13.0" in card.replace("\\", "")
    assert "| Exact match (higher is better) | 0.0 % | 75.0 % |  | better |" in card
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL).group(1))
    assert recipe["data"]["source"] == "rows.jsonl"
    assert recipe["model"]["base"] == "tiny-base"
    assert "\n# not a title" not in card.split("```")[0]
    assert "<b>" not in card.split("```")[0].replace("\\<b", "")
    assert staging.folder_bytes(case.run.merged_folder) > 100_000
