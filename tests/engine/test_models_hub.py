"""The hub: profiles without weights, downloads that go on where they were cut, and errors with the next action."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from engine.models import hub_files
from engine.models.hub import profile_model, resolve_model
from engine.planning.profiles import ModelProfile
from engine.recipe.problems import ProblemError
from tests.engine.made_hub import COMMIT, TOKEN, WEIGHTS, Hub, Served, point_at, read_folder


def code_of(base: str, revision: str | None = None) -> str:
    with pytest.raises(ProblemError) as caught:
        resolve_model(base, revision)
    problem = caught.value.problems[0]
    assert problem.fix
    assert TOKEN not in str(caught.value)
    assert "secret-part" not in str(caught.value)
    return problem.code


def finding_codes(profile: ModelProfile) -> set[str]:
    return {finding.code for finding in profile.findings}


def test_a_profile_fetches_no_weights_and_pins_the_commit(hub: Hub, model: Served, tiny_model_folder: Path):
    model.safetensors = {"F32": 4321}
    profile = profile_model("made/model")
    assert profile.revision == COMMIT
    assert profile.num_params == 4321
    assert profile.weights_dtype == "float32"
    assert profile.weights_bytes == profile.download_bytes == len(model.files[WEIGHTS])
    assert profile.has_chat_template
    assert profile.eos_token == "<|im_end|>"
    assert finding_codes(profile) == {"model.not_downloaded"}
    fetched = {Path(path).name for path, _, _ in hub.requests if path.startswith("/content/")}
    assert fetched >= {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert not any(name.endswith((".safetensors", ".bin", ".py")) for name in fetched)
    local = profile_model(str(tiny_model_folder))
    assert profile.linear_shapes == local.linear_shapes


def test_an_output_layer_stored_beside_its_tied_embedding_counts_once(hub: Hub, model: Served, tiny_model_folder: Path):
    local = profile_model(str(tiny_model_folder))
    model.safetensors = {"F32": local.num_params + local.vocab_size * local.hidden_size}
    assert profile_model("made/model").num_params == local.num_params


def test_the_weights_come_once_and_whole(hub: Hub, model: Served):
    profile = profile_model("made/model")
    told: list[tuple[int, int]] = []
    found = resolve_model("made/model", profile.revision, progress=lambda done, total: told.append((done, total)))
    assert found.revision == COMMIT
    for name in (WEIGHTS, "config.json", "README.md"):
        assert (found.folder / name).read_bytes() == model.files[name]
    for name in ("pytorch_model.bin", "modeling_made.py", "consolidated.safetensors", "onnx"):
        assert not (found.folder / name).exists()
    assert told[-1] == (len(model.files[WEIGHTS]), len(model.files[WEIGHTS]))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    before = len(hub.requests)
    assert resolve_model("made/model", COMMIT) == found
    assert profile_model("made/model").download_bytes == 0
    assert len(hub.requests) == before, "what is whole and pinned is not asked for again"


def test_the_hubs_own_client_finds_what_was_downloaded(hub: Hub, model: Served, tmp_path: Path):
    found = resolve_model("made/model")
    asked = huggingface_hub.hf_hub_download("made/model", WEIGHTS, cache_dir=tmp_path / "cache", local_files_only=True)
    assert Path(asked) == found.folder / WEIGHTS


def test_the_token_stays_with_the_hub(hub: Hub, model: Served):
    resolve_model("made/model")
    for path, _, authorization in hub.requests:
        assert authorization == (None if path.startswith("/content/") else f"Bearer {TOKEN}"), path


def test_code_comes_with_consent_only(hub: Hub, model: Served):
    config = json.loads(model.files["config.json"]) | {"auto_map": {"AutoModelForCausalLM": "modeling_made.Made"}}
    model.files["config.json"] = json.dumps(config).encode()
    assert not (resolve_model("made/model", COMMIT).folder / "modeling_made.py").exists()
    assert (resolve_model("made/model", COMMIT, allow_code=True).folder / "modeling_made.py").exists()


@pytest.mark.parametrize("faults", [["cut"], ["cut", "busy", "cut"], ["cut", "no-range"]])
def test_a_cut_connection_goes_on(hub: Hub, model: Served, faults: list[str]):
    model.faults[WEIGHTS] = list(faults)
    found = resolve_model("made/model")
    assert (found.folder / WEIGHTS).read_bytes() == model.files[WEIGHTS]
    ranges = hub.asked_for(WEIGHTS)
    assert ranges[0] is None
    assert ranges[1] == f"bytes={len(model.files[WEIGHTS]) // 2}-"


def test_another_process_goes_on_where_this_one_stopped(hub: Hub, model: Served):
    class Stopped(BaseException):
        pass

    model.faults[WEIGHTS] = ["cut"]

    def stop(done: int, total: int) -> None:
        if 0 < done < total:
            raise Stopped

    with pytest.raises(Stopped):
        resolve_model("made/model", progress=stop)
    resolve_model("made/model")
    assert hub.asked_for(WEIGHTS)[-1] is not None, "the second attempt asks for the rest only"
    assert len(hub.asked_for(WEIGHTS)) == 2


def test_a_connection_that_brings_nothing_is_given_up(hub: Hub, model: Served):
    model.faults[WEIGHTS] = ["busy"] * 20
    assert code_of("made/model") == "model.download_failed"


def test_a_file_with_other_content_is_named_and_not_kept(hub: Hub, model: Served):
    model.faults[WEIGHTS] = ["flip"]
    with pytest.raises(ProblemError, match=r"model\.safetensors of made/model arrived damaged.*sha256"):
        resolve_model("made/model")
    assert resolve_model("made/model").revision == COMMIT


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_of_another_size_is_named(hub: Hub, model: Served, name: str):
    model.sizes[name] = len(model.files[name]) - 3
    with pytest.raises(ProblemError, match=rf"{name} of made/model arrived damaged: it is larger"):
        resolve_model("made/model")
    model.sizes[name] = len(model.files[name]) + 3
    with pytest.raises(ProblemError, match=name):
        resolve_model("made/model")


def test_small_files_are_checked_too(hub: Hub, model: Served):
    model.faults["config.json"] = ["flip"]
    with pytest.raises(ProblemError, match=r"config\.json of made/model arrived damaged.*git hash"):
        profile_model("made/model")


def test_a_cut_file_in_the_cache_is_fetched_again(hub: Hub, model: Served):
    found = resolve_model("made/model")
    blob = (found.folder / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:-100])
    assert profile_model("made/model").download_bytes == len(model.files[WEIGHTS])
    resolve_model("made/model", COMMIT)
    assert (found.folder / WEIGHTS).read_bytes() == model.files[WEIGHTS]


def test_shards_are_those_of_the_index(hub: Hub, model: Served):
    content = model.files.pop(WEIGHTS)
    model.files["model-00001-of-00001.safetensors"] = content
    names = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    names.pop("__metadata__", None)
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    model.files["model.safetensors.index.json"] = json.dumps(index).encode()
    assert profile_model("made/model").download_bytes == len(content)
    folder = resolve_model("made/model").folder
    assert (folder / "model-00001-of-00001.safetensors").read_bytes() == content
    assert not (folder / "consolidated.safetensors").exists()
    del model.files["model-00001-of-00001.safetensors"]
    model.commit = "f" * 40
    with pytest.raises(ProblemError, match="model-00001-of-00001"):
        profile_model("made/model", "f" * 40)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("pytorch_model.bin", "model.pickle_only"),
        ("q4.gguf", "model.gguf_only"),
        ("adapter_config.json", "model.adapter_only"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_download(hub: Hub, tiny_model_folder: Path, name: str, code: str):
    files = {key: value for key, value in read_folder(tiny_model_folder).items() if key != WEIGHTS}
    hub.models["made/model"] = Served(files | {name: b"{}"})
    assert code_of("made/model") == code
    assert not [path for path, _, _ in hub.requests if path.startswith("/content/")]
    assert code in finding_codes(profile_model("made/model"))
    del hub.models["made/model"].files["config.json"]
    hub.models["made/model"].commit = "e" * 40
    with pytest.raises(ProblemError):
        profile_model("made/model")


def test_weights_that_are_already_quantised_are_no_base(hub: Hub, model: Served):
    config = json.loads(model.files["config.json"]) | {"quantization_config": {"quant_method": "gptq"}}
    model.files["config.json"] = json.dumps(config).encode()
    assert "model.already_quantized" in finding_codes(profile_model("made/model"))


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ((401, "RepoNotFound", "Repository not found"), "model.not_found", "spelling"),
        ((401, "", "Invalid credentials in Authorization header"), "model.token_refused", "hf auth login"),
        ((401, "GatedRepo", "Access is restricted"), "model.gated", "Accept"),
        ((403, "GatedRepo", "Not in the list"), "model.gated", "Accept"),
        ((403, "", "Forbidden"), "model.no_permission", "owner"),
        ((500, "", "Internal error"), "model.download_failed", "Try again"),
    ],
)
def test_refusals_name_the_next_action(hub: Hub, error: tuple[int, str, str], code: str, says: str):
    hub.models["made/model"] = Served({}, error=error)
    with pytest.raises(ProblemError) as caught:
        profile_model("made/model")
    assert caught.value.problems[0].code == code
    assert says in caught.value.problems[0].fix
    assert code_of("made/model") == code


def test_gated_files_of_a_public_page(hub: Hub, model: Served, monkeypatch: pytest.MonkeyPatch):
    model.file_error = (403, "GatedRepo", "Access to model made/model is restricted")
    assert code_of("made/model") == "model.gated"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(ProblemError, match="hf auth login"):
        profile_model("made/model")


def test_names_and_revisions_that_are_not_there(hub: Hub, model: Served):
    with pytest.raises(ProblemError, match="Did you mean Qwen/Qwen3-0.6B"):
        resolve_model("qwen/qwen3-0.6b")
    assert code_of("made/model", "v9") == "model.no_revision"
    assert code_of("a..b/c") == "model.bad_id"
    assert resolve_model("made/model", "v1").revision == COMMIT


def test_what_is_no_hub_is_said(hub: Hub, model: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Served, "listing", lambda self: ["a login page"])
    assert code_of("made/model") == "model.download_failed"
    monkeypatch.setattr(Served, "listing", lambda self: {"id": "made/model", "siblings": []})
    assert code_of("made/model") == "model.hub_unclear"


def test_too_little_space_is_named_before_the_download(hub: Hub, model: Served, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub_files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ProblemError, match="1000 B are free"):
        resolve_model("made/model")


def switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("way", ["switched off", "no connection"])
def test_without_a_hub_the_cache_answers(hub: Hub, model: Served, monkeypatch: pytest.MonkeyPatch, way: str):
    profile_model("made/model")
    resolve_model("made/model")
    if way == "switched off":
        switch_off(monkeypatch)
    else:
        point_at("http://127.0.0.1:9", monkeypatch)
    code = "model.offline" if way == "switched off" else "model.download_failed"
    for revision in (None, COMMIT):
        assert resolve_model("made/model", revision).revision == COMMIT
        assert profile_model("made/model", revision).revision == COMMIT
    assert code_of("other/model") == code
    with pytest.raises(ProblemError):
        profile_model("other/model")
    (resolve_model("made/model").folder / WEIGHTS).unlink()
    assert code_of("made/model") == code
    partly = profile_model("made/model")
    assert partly.folder is not None
    assert code in finding_codes(partly)


def test_the_catalogue_answers_where_the_hub_does_not(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    point_at("http://127.0.0.1:9", monkeypatch)
    profile = profile_model("Qwen/Qwen3-0.6B")
    assert profile.num_params > 5e8
    assert [finding.severity for finding in profile.findings] == ["warning"]
    point_at(hub.url, monkeypatch)
    hub.models["Qwen/Qwen3-0.6B"] = Served({}, error=(403, "GatedRepo", "restricted"))
    assert [finding.severity for finding in profile_model("Qwen/Qwen3-0.6B").findings] == ["error"]


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, model: Served, tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ProblemError, match="cannot be kept in the model cache.*HF_HOME"):
        resolve_model("made/model")


def test_consent_to_code_that_a_model_does_not_have_needs_no_hub(hub: Hub, model: Served, monkeypatch):
    del model.files["modeling_made.py"]
    resolve_model("made/model", allow_code=True)
    switch_off(monkeypatch)
    assert resolve_model("made/model", allow_code=True).revision == COMMIT
