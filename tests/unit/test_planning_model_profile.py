"""Facts of base models from made-up folders: sizes, tokenizers, and each fault by name."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.planning.architectures import read_architecture
from engine.planning.model_profile import causal_families, find_snapshot, hub_cache, read_model_profile
from engine.planning.profiles import ModelProfile
from engine.planning.weights import INDEX_NAME, read_weights
from engine.recipe.problems import ProblemError

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
TOKENIZER = {"eos_token": "</s>", "pad_token": {"content": "<pad>"}, "chat_template": "{{ messages }}"}
BYTES = {"F32": 4, "BF16": 2, "U8": 1}


def shapes(config: Mapping[str, Any] = LLAMA, layers: int | None = None) -> dict[str, tuple[int, ...]]:
    h, i, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = h // config["num_attention_heads"] * config["num_key_value_heads"]
    found = {"model.embed_tokens.weight": (v, h), "model.norm.weight": (h,)}
    for n in range(config["num_hidden_layers"] if layers is None else layers):
        block = {"q_proj": (h, h), "k_proj": (kv, h), "v_proj": (kv, h), "o_proj": (h, h)}
        found |= {f"model.layers.{n}.self_attn.{name}.weight": shape for name, shape in block.items()}
        mlp = {"gate_proj": (i, h), "up_proj": (i, h), "down_proj": (h, i)}
        found |= {f"model.layers.{n}.mlp.{name}.weight": shape for name, shape in mlp.items()}
        found |= {f"model.layers.{n}.{name}.weight": (h,) for name in ("input_layernorm", "post_attention_layernorm")}
    return found


def write_shard(path: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        size = BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * position)


def write_model(folder: Path, config: Mapping[str, Any] = LLAMA, **tokenizer: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 2, "content": "<end>"}]}))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER | tokenizer))
    write_shard(folder / "model.safetensors", shapes(config))
    return folder


def codes(profile: ModelProfile) -> list[str]:
    return [finding.code for finding in profile.findings]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_a_sound_folder_has_its_facts_and_no_findings(model: Path) -> None:
    profile = read_model_profile(str(model))
    assert codes(profile) == []
    assert profile.num_params == 32 * 8 + 8 + 2 * (8 * 8 * 2 + 4 * 8 * 2 + 12 * 8 * 3 + 16)
    assert (profile.eos_token, profile.pad_token, profile.bos_token) == ("</s>", "<pad>", None)
    assert profile.has_chat_template
    assert profile.weights_dtype == "float32"
    assert profile.weights_bytes == (model / "model.safetensors").stat().st_size
    assert profile.folder == str(model)
    assert ("k_proj", 8, 4) in profile.linear_shapes


def test_the_count_from_the_configuration_equals_the_weights(model: Path) -> None:
    assert read_architecture(LLAMA).num_params == read_model_profile(str(model)).num_params


def test_tied_weights_stored_twice_count_once(model: Path) -> None:
    once = read_model_profile(str(model)).num_params
    write_shard(model / "model.safetensors", shapes() | {"lm_head.weight": (32, 8)})
    assert read_model_profile(str(model)).num_params == once


def sizes(family: str, vocab: int, hidden: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": family,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "tie_word_embeddings": False,
        **more,
    }


GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
TIED = {"tie_word_embeddings": True}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (GPT2, 124_439_808),
        (sizes("gpt_neox", 50304, 512, 6, 8, 2048), 70_426_624),
        (sizes("phi", 51200, 2560, 32, 32, 10240), 2_779_683_840),
        (sizes("phi3", 32064, 3072, 32, 32, 8192), 3_821_079_552),
        (sizes("mistral", 32000, 4096, 32, 32, 14336, num_key_value_heads=8), 7_241_732_096),
        (sizes("qwen2", 151936, 896, 24, 14, 4864, num_key_value_heads=2, **TIED), 494_032_768),
        (sizes("qwen3", 151936, 1024, 28, 16, 3072, num_key_value_heads=8, head_dim=128, **TIED), 596_049_920),
        (sizes("gemma", 256000, 2048, 18, 8, 16384, num_key_value_heads=1, head_dim=256, **TIED), 2_506_172_416),
        (sizes("gemma2", 256000, 2304, 26, 8, 9216, num_key_value_heads=4, head_dim=256, **TIED), 2_614_341_888),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_families_count_as_published(config: dict[str, Any], published: int) -> None:
    assert read_architecture(config).num_params == published


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gpt2"])
def test_families_that_tie_without_saying_so_count_once(family: str) -> None:
    config = sizes(family, 1000, 64, 2, 4, 128)
    assert read_architecture({**config, "tie_word_embeddings": True}) == read_architecture(
        {key: value for key, value in config.items() if key != "tie_word_embeddings"}
    )


def test_experts_count_but_are_no_linear_layers() -> None:
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2}
    decoder = read_architecture(sizes("mixtral", 32000, 4096, 32, 32, 14336, num_key_value_heads=8, **experts))
    assert decoder.num_params == 46_702_792_704
    assert {name for name, _, _ in decoder.linear_shapes} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert decoder.intermediate_size == 2 * 14336


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    for place, code in (
        ("none", "model.folder_missing"),
        ("file", "model.not_a_folder"),
        ("empty", "model.no_config"),
        ("adapter", "model.adapter_only"),
    ):
        with pytest.raises(ProblemError) as caught:
            read_model_profile(str(tmp_path / place))
        assert [problem.code for problem in caught.value.problems] == [code]
        assert caught.value.problems[0].fix


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": NaN}', "[" * 5000, "\xff"])
def test_a_broken_configuration_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ProblemError) as caught:
        read_model_profile(str(model))
    assert caught.value.problems[0].code == "model.config_broken"


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("value", [-1, 0, "8", True, 8.0, 2**40, 10**400, [8]])
def test_sizes_that_are_no_sizes_are_refused_by_name(model: Path, key: str, value: Any) -> None:
    (model / "config.json").write_text(json.dumps(LLAMA | {key: value}))
    with pytest.raises(ProblemError) as caught:
        read_model_profile(str(model))
    problem = caught.value.problems[-1]
    assert problem.code == "model.config_implausible"
    assert key in problem.message
    assert len(problem.message) < 200
    assert problem.fix


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_sizes_that_are_missing_are_named(model: Path, key: str) -> None:
    (model / "config.json").write_text(json.dumps(LLAMA | {key: None}))
    with pytest.raises(ProblemError) as caught:
        read_model_profile(str(model))
    assert caught.value.problems[-1].code == "model.config_incomplete"
    assert key in caught.value.problems[-1].message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_attention_heads": 3}, "heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "groups"),
        ({"num_hidden_layers": 9999, "hidden_size": 2**25, "intermediate_size": 2**25}, "trillion"),
        ({"num_experts": 4, "num_experts_per_tok": 5}, "experts"),
        ({"head_dim": -64}, "head_dim"),
        ({"intermediate_size": 1.5}, "intermediate_size"),
        ({"max_position_embeddings": "4k"}, "max_position_embeddings"),
        ({"max_position_embeddings": 1}, "at most 1 tokens"),
    ],
)
def test_sizes_that_cannot_be_true_together_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ProblemError, match=word) as caught:
        read_architecture(LLAMA | changes)
    assert [problem.code for problem in caught.value.problems] == ["model.config_implausible"]


def test_other_kinds_of_models_are_named(tmp_path: Path) -> None:
    vit = LLAMA | {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
    vit |= {"image_size": 32, "patch_size": 8, "num_labels": 3}
    assert "model.reads_no_text" in codes(read_model_profile(str(write_model(tmp_path / "vit", vit))))
    bert = write_model(tmp_path / "bert", LLAMA | {"architectures": ["BertForMaskedLM"], "model_type": "bert"})
    profile = read_model_profile(str(bert))
    assert profile.kind == "encoder"
    assert "model.reads_no_text" not in codes(profile)
    if not causal_families():
        pytest.skip("transformers is not installed")
    unknown = write_model(tmp_path / "new", LLAMA | {"architectures": ["ZetaForCausalLM"], "model_type": "zeta"})
    assert "model.architecture_unknown" in codes(read_model_profile(str(unknown)))


def test_code_of_its_own_is_reported_only_where_it_is_needed(tmp_path: Path) -> None:
    needed = LLAMA | {"model_type": "zeta", "auto_map": {"AutoModelForCausalLM": "modeling.Zeta"}}
    assert "model.remote_code" in codes(read_model_profile(str(write_model(tmp_path / "a", needed))))
    native = LLAMA | {"auto_map": {"AutoModelForCausalLM": "modeling.Llama"}}
    assert codes(read_model_profile(str(write_model(tmp_path / "b", native)))) == []


def test_weights_that_are_not_there(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert codes(read_model_profile(str(model))) == ["model.no_weights"]
    (model / "training_args.bin").write_bytes(b"x")
    assert codes(read_model_profile(str(model))) == ["model.no_weights"]
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/canary'\ntR.")
    profile = read_model_profile(str(model))
    assert codes(profile) == ["model.pickle_only"]
    assert "pytorch_model.bin" in profile.findings[0].message
    assert "safetensors" in profile.findings[0].fix


def damage(model: Path, kind: str) -> None:
    path = model / "model.safetensors"
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    name = "model.norm.weight"
    match kind:
        case "empty":
            path.write_bytes(b"")
            return
        case "truncated":
            path.write_bytes(raw[:-5])
            return
        case "longer":
            path.write_bytes(raw + b"more")
            return
        case "header length":
            path.write_bytes(struct.pack("<Q", 2**40) + raw[8:])
            return
        case "not json":
            path.write_bytes(raw[:8] + b"x" * length + raw[8 + length :])
            return
        case "overlap":
            header[name]["data_offsets"] = [0, 32]
        case "negative":
            header[name]["data_offsets"][0] = -8
        case "shape":
            header[name]["shape"] = [9]
        case "dtype":
            header[name]["dtype"] = "F33"
        case "entry":
            header[name] = 3
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])


@pytest.mark.parametrize(
    "kind",
    ["empty", "truncated", "longer", "header length", "not json", "overlap", "negative", "shape", "dtype", "entry"],
)
def test_a_damaged_file_is_named(model: Path, kind: str) -> None:
    damage(model, kind)
    profile = read_model_profile(str(model))
    assert codes(profile) == ["model.shard_broken"]
    assert "model.safetensors" in profile.findings[0].message
    assert profile.num_params == read_architecture(LLAMA).num_params


def shard(model: Path, names: Mapping[str, str] | None = None) -> None:
    (model / "model.safetensors").unlink()
    tensors = shapes()
    halves = list(tensors)[:9], list(tensors)[9:]
    weight_map: dict[str, str] = {}
    for number, half in enumerate(halves, 1):
        file = f"model-0000{number}-of-00002.safetensors"
        write_shard(model / file, {name: tensors[name] for name in half}, "BF16")
        weight_map |= dict.fromkeys(half, file)
    (model / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map | (names or {})}))


def test_shards_are_read_through_the_index(model: Path) -> None:
    shard(model)
    profile = read_model_profile(str(model))
    assert codes(profile) == []
    assert profile.weights_dtype == "bfloat16"
    assert profile.num_params == read_architecture(LLAMA).num_params


def test_a_missing_shard_and_a_missing_tensor_are_named(model: Path) -> None:
    shard(model, {"model.layers.9.extra.weight": "model-00001-of-00002.safetensors"})
    (model / "model-00002-of-00002.safetensors").unlink()
    profile = read_model_profile(str(model))
    assert codes(profile) == ["model.tensor_missing", "model.shard_missing"]
    assert "model.layers.9.extra.weight" in profile.findings[0].message
    assert "model-00002-of-00002.safetensors" in profile.findings[1].message


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "x.bin", 3, None])
def test_an_index_must_stay_in_its_folder(model: Path, name: Any) -> None:
    (model.parent / "x.safetensors").write_bytes(b"outside")
    shard(model, {"model.norm.weight": name})
    weights = read_weights(model)
    assert [finding.code for finding in weights.findings] == ["model.index_escapes"]
    assert not weights.present


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_a_broken_index_is_named(model: Path, text: str) -> None:
    shard(model)
    (model / INDEX_NAME).write_text(text)
    assert codes(read_model_profile(str(model))) == ["model.index_broken"]


def test_configuration_and_weights_must_agree(model: Path) -> None:
    write_shard(model / "model.safetensors", shapes(layers=1))
    assert codes(read_model_profile(str(model))) == ["model.layers_mismatch"]
    write_shard(model / "model.safetensors", shapes(LLAMA | {"vocab_size": 40}))
    assert codes(read_model_profile(str(model))) == ["model.shape_mismatch"]


def test_quantised_weights_are_refused_for_training(model: Path) -> None:
    (model / "config.json").write_text(json.dumps(LLAMA | {"quantization_config": {"quant_method": "gptq"}}))
    assert codes(read_model_profile(str(model))) == ["model.already_quantized"]


def test_tokenizers_and_what_they_lack(tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare", eos_token=None, pad_token=None, chat_template=None)
    profile = read_model_profile(str(bare))
    assert codes(profile) == ["model.no_chat_template", "model.no_eos_token", "model.no_pad_token"]
    assert {finding.severity for finding in profile.findings} == {"note"}
    (bare / "chat_template.jinja").write_text("{{ messages }}")
    (bare / "generation_config.json").write_text('{"eos_token_id": [2]}')
    found = read_model_profile(str(bare))
    assert found.has_chat_template
    assert found.eos_token == "<end>"
    (bare / "tokenizer.json").unlink()
    assert codes(read_model_profile(str(bare))) == ["model.no_tokenizer"]


def test_a_downloaded_snapshot_is_found_by_branch_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    folder = tmp_path / "models--owner--thing"
    write_model(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    for revision in (None, "main", commit):
        profile = read_model_profile("owner/thing", revision)
        assert profile.revision == commit
        assert profile.base == "owner/thing"
    assert find_snapshot(tmp_path, "owner/thing", "../../etc/passwd") is None
    with pytest.raises(ProblemError) as caught:
        read_model_profile("owner/thing", "other")
    assert caught.value.problems[0].code == "model.unknown"


def test_a_snapshot_without_weights_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    commit = "b" * 40
    folder = tmp_path / "models--owner--thing"
    snapshot = write_model(folder / "snapshots" / commit)
    (snapshot / "model.safetensors").unlink()
    assert codes(read_model_profile("owner/thing", commit)) == ["model.not_downloaded"]


def test_the_hub_cache_follows_the_library(tmp_path: Path) -> None:
    assert hub_cache({"HF_HUB_CACHE": "/a"}) == Path("/a")
    assert hub_cache({"HF_HOME": "/b"}) == Path("/b/hub")
    assert hub_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")
    assert hub_cache({}) == Path.home() / ".cache/huggingface/hub"


def test_text_from_a_model_cannot_act_on_the_terminal(model: Path) -> None:
    (model / "config.json").write_text(json.dumps(LLAMA | {"architectures": ["\x1b[2J"], "model_type": "\x1b]0;x"}))
    text = read_model_profile(str(model)).model_dump_json()
    profile = read_model_profile(str(model))
    assert all("\x1b" not in finding.message + finding.fix for finding in profile.findings)
    assert profile.findings
    assert json.loads(text)


@pytest.mark.parametrize("layer", ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"])
def test_weights_of_other_shapes_than_the_configuration_says_are_refused_before_the_run(
    model: Path, layer: str
) -> None:
    tensors = shapes() | {f"model.layers.1.{layer}.weight": (5, 8)}
    write_shard(model / "model.safetensors", tensors)
    found = [finding for finding in read_model_profile(str(model)).findings if finding.severity == "error"]
    assert [finding.code for finding in found] == ["model.shape_mismatch"]
    assert layer in found[0].message
    assert "5 x 8" in found[0].message


def test_another_width_than_that_of_the_weights_is_refused(model: Path) -> None:
    (model / "config.json").write_text(json.dumps(LLAMA | {"hidden_size": 16}))
    assert "model.shape_mismatch" in codes(read_model_profile(str(model)))


def test_a_tokenizer_that_knows_more_words_than_the_model_is_refused(model: Path) -> None:
    entry = {"added_tokens": [{"id": 32, "content": "<end>"}], "model": {"vocab": {"a": 0}}}
    (model / "tokenizer.json").write_text(json.dumps(entry))
    assert "model.vocabulary_too_large" in codes(read_model_profile(str(model)))
    entry["added_tokens"][0]["id"] = 31
    (model / "tokenizer.json").write_text(json.dumps(entry))
    assert "model.vocabulary_too_large" not in codes(read_model_profile(str(model)))
    settings = {"added_tokens_decoder": {"99": {"content": "<x>"}, "no number": {}}}
    (model / "tokenizer_config.json").write_text(json.dumps(TOKENIZER | settings))
    assert "model.vocabulary_too_large" in codes(read_model_profile(str(model)))


def test_more_layers_than_any_model_has_are_refused_at_once() -> None:
    # Counted one by one, these layers would take hours.
    config = {"model_type": "resnet", "hidden_sizes": [64] * 9, "embedding_size": 64, "num_channels": 3}
    for depths in ([2**26] * 9, [9_000] * 9):
        with pytest.raises(ProblemError) as caught:
            read_architecture({**config, "depths": depths})
        assert caught.value.problems[0].code == "model.config_implausible"


def test_tokenizer_files_that_hold_something_else_say_nothing(model: Path) -> None:
    (model / "tokenizer.json").write_text(json.dumps({"added_tokens": 5, "model": {"vocab": 7}}))
    (model / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": 3, "eos_token": 4}))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert read_model_profile(str(model)).eos_token is None


def test_numbers_in_headers_that_no_file_has_are_not_worked_on(tmp_path: Path) -> None:
    many = write_model(tmp_path / "many")
    # Multiplied, these would take minutes.
    entry = {"dtype": "F32", "shape": [2**61] * 300_000, "data_offsets": [0, 4]}
    raw = json.dumps({"model.embed_tokens.weight": entry}).encode()
    (many / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 4)
    (broken,) = read_model_profile(str(many)).findings
    assert "embed_tokens.weight cannot be read" in broken.message
    named = write_model(tmp_path / "named")
    write_shard(named / "model.safetensors", {**shapes(), f"model.layers.{'9' * 5000}.norm.weight": (1,)})
    assert read_model_profile(str(named)).num_layers == 2


@pytest.mark.parametrize("revision", ["a\0b", "\ud800", "x" * 5000, "../../x", "/etc"])
def test_a_revision_that_can_be_none_is_not_found(tmp_path: Path, revision: str) -> None:
    assert find_snapshot(tmp_path, "o/name", revision) is None


def test_experts_are_told_of(tmp_path: Path) -> None:
    config = LLAMA | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4}
    folder = write_model(tmp_path / "moe", config)
    profile = read_model_profile(str(folder))
    assert "model.experts_stay_whole" in codes(profile)
    assert profile.num_experts == 4
    assert profile.expert_params == 2 * 4 * 3 * 8 * 12


def test_the_language_model_of_a_model_with_several_parts_is_read() -> None:
    nested = {"model_type": "gemma3", "text_config": sizes("gemma3_text", 100, 32, 2, 4, 64, head_dim=8, **TIED)}
    alone = read_architecture(nested["text_config"])
    found = read_architecture(nested)
    assert (found.hidden_size, found.num_params) == (alone.hidden_size, alone.num_params)
    assert alone.counted
    assert not found.counted
