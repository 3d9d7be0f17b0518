"""Facts of a base model from its files: a folder, a snapshot in the hub cache, what is built in, or the catalogue."""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from engine.planning.architectures import Decoder, read_decoder
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.tokenizer_facts import TokenizerFacts, read_tokenizer_facts
from engine.planning.weights import Weights, read_weights
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_count

MAX_CONFIG_BYTES = 4_000_000
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_CAUSAL_BLOCK = re.compile(r"MODEL_FOR_CAUSAL_LM_MAPPING_NAMES\s*=\s*OrderedDict\((.*?)\n\)", re.DOTALL)
_CAUSAL_ENTRY = re.compile(r'\(\s*"([^"]+)",\s*"([^"]+)"\s*\)')


def read_model_profile(base: str, revision: str | None = None) -> ModelProfile:
    """Return the facts of a base model without loading or downloading anything.

    Args:
        base: Folder, hub id or `builtin:starter`, as in a recipe.
        revision: Branch, tag or commit of a hub model.

    Raises:
        ProblemError: There is no such folder, its `config.json` is missing or unusable, or a hub model is neither on
            this machine nor in the catalogue.
    """
    if base.startswith("builtin:"):
        from engine.catalog.builtin import builtin_path

        return profile_folder(builtin_path(base), base=base)
    folder = Path(base).expanduser()
    if folder.is_dir():
        return profile_folder(folder, base=base)
    if not _HUB_ID.match(base):
        raise ProblemError(_no_folder(base, folder))
    if snapshot := find_snapshot(hub_cache(), base, revision):
        return profile_folder(snapshot, base=base, revision=snapshot.name)
    return _from_catalogue(base, revision)


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(code, message, fix, "model.base"))


def _no_folder(base: str, folder: Path) -> Problem:
    name = clean_line(base, max_chars=160)
    if folder.exists():
        return Problem(
            "model.not_a_folder",
            f"{name} is a file; a base model is a folder.",
            "Give the folder that holds config.json and the safetensors files.",
            "model.base",
        )
    return Problem(
        "model.folder_missing",
        f"There is no folder {name}.",
        "Check the path, or give a hub id such as Qwen/Qwen3-0.6B, or builtin:starter.",
        "model.base",
    )


def _from_catalogue(base: str, revision: str | None) -> ModelProfile:
    from engine.catalog.base_models import find_base_model

    card = find_base_model(base)
    if card is not None:
        return card.profile.model_copy(update={"revision": revision if _COMMIT.match(revision or "") else None})
    raise _problem(
        "model.unknown",
        f"{clean_line(base, max_chars=160)} is not on this machine, and the catalogue does not know it.",
        "Check the spelling; with a connection its configuration can be downloaded, "
        "or give the folder of a model that is already here.",
    )


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder where huggingface_hub keeps models, by its own rules."""
    if chosen := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return Path(chosen).expanduser()
    cache_home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{cache_home}/huggingface"
    return Path(home).expanduser() / "hub"


def find_snapshot(cache_folder: Path, base: str, revision: str | None) -> Path | None:
    """Return the folder of a downloaded hub model, or None.

    Args:
        cache_folder: A folder as huggingface_hub lays it out: `models--OWNER--NAME/{refs,snapshots}`.
        base: Hub id.
        revision: Branch, tag or commit; `main` when None.
    """
    folder = cache_folder / ("models--" + base.replace("/", "--"))
    wanted = revision or "main"
    if ".." in wanted or wanted.startswith("/"):
        return None
    try:
        commit = wanted if _COMMIT.match(wanted) else (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _COMMIT.match(commit) and (snapshot / "config.json").is_file() else None


def is_hub_id(base: str) -> bool:
    """Return whether a base model can only be a hub model: it has the form of an id, and no folder or file is there."""
    return bool(_HUB_ID.match(base)) and not Path(base).expanduser().exists()


def whole_snapshot(base: str, revision: str | None = None) -> Path | None:
    """Return the snapshot of a hub model in the cache when weights and tokenizer are all there, else None."""
    snapshot = find_snapshot(hub_cache(), base, revision)
    if snapshot is None or not read_weights(snapshot).whole:
        return None
    return snapshot if read_tokenizer_facts(snapshot, {}).present else None


def profile_folder(folder: Path, *, base: str, revision: str | None = None) -> ModelProfile:
    """Return the facts of a model folder.

    Args:
        folder: Local folder.
        base: What the recipe calls the model.
        revision: Commit of a hub snapshot; None for a folder of the person's own.

    Raises:
        ProblemError: `config.json` is missing, no JSON object, or lacks the sizes of a language model.
    """
    config = read_config(folder)
    family = str(config.get("model_type", ""))
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    findings = _architecture_findings(config, family, str(named))
    try:
        decoder = read_decoder(config)
    except ProblemError as error:
        # What it is says more than which number it lacks.
        raise ProblemError(*(_as_problem(finding) for finding in findings), *error.problems) from None
    weights = read_weights(folder)
    tokenizer = read_tokenizer_facts(folder, config)
    findings += _weight_findings(folder, weights, decoder, config, downloaded=revision is not None)
    findings += _tokenizer_findings(tokenizer)
    if ("auto_map" in config or tokenizer.remote_code) and family not in causal_families():
        findings.append(_remote_code(base))
    return _profile(folder, base, revision, decoder, weights, tokenizer, findings, str(named))


def _profile(
    folder: Path,
    base: str,
    revision: str | None,
    decoder: Decoder,
    weights: Weights,
    tokenizer: TokenizerFacts,
    findings: list[Finding],
    architecture: str,
) -> ModelProfile:
    counted = weights.num_params(tied=decoder.tied_embeddings) if weights.whole and not weights.quantized() else 0
    if not counted and not decoder.counted:
        findings.append(
            Finding(
                code="model.size_estimated",
                message=f"The number of weights is estimated from config.json: {human_count(decoder.num_params)}.",
                severity="note",
                path="model.base",
            )
        )
    return ModelProfile(
        base=base,
        folder=str(folder.absolute()),
        revision=revision,
        architecture=architecture or causal_families().get(decoder.model_type, ""),
        model_type=decoder.model_type,
        num_params=counted or decoder.num_params,
        vocab_size=decoder.vocab_size,
        hidden_size=decoder.hidden_size,
        num_layers=decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_kv_heads,
        head_dim=decoder.head_dim,
        intermediate_size=decoder.intermediate_size,
        context_length=decoder.context_length,
        tied_embeddings=decoder.tied_embeddings,
        weights_bytes=weights.file_bytes,
        weights_dtype=weights.dtype(),
        linear_shapes=decoder.linear_shapes,
        has_chat_template=tokenizer.has_chat_template,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        bos_token=tokenizer.bos_token,
        findings=findings,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the parsed `config.json` of a model folder.

    Raises:
        ProblemError: The file is missing, unreadable, too large, not strict JSON or no object.
    """
    path = folder / "config.json"
    shown = clean_line(folder, max_chars=160)
    if not path.is_file():
        raise _no_config(folder, shown)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large to be a configuration")
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        why = clean_line(error, max_chars=120)
        raise _problem(
            "model.config_broken", f"config.json in {shown} cannot be read: {why}.", "Copy or download the model again."
        ) from None
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_config(folder: Path, shown: str) -> ProblemError:
    if (folder / "adapter_config.json").is_file():
        return _problem(
            "model.adapter_only",
            f"{shown} holds an adapter, not a base model.",
            "Give the base model that the adapter was trained on, or a merged model.",
        )
    return _problem(
        "model.no_config",
        f"There is no config.json in {shown}.",
        "Give the folder that holds config.json and the safetensors files.",
    )


@cache
def causal_families() -> dict[str, str]:
    """Return `{model_type: class name}` of the text generation models that the installed transformers knows.

    The table is read from the library's source, because importing it takes seconds. Empty when it cannot be read.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return {}
    try:
        text = (Path(spec.origin).parent / "models/auto/modeling_auto.py").read_text(encoding="utf-8")
    except OSError:
        return {}
    block = _CAUSAL_BLOCK.search(text)
    return dict(_CAUSAL_ENTRY.findall(block[1])) if block else {}


def _finding(code: str, message: str, fix: str = "", *, severity: str = "error") -> Finding:
    return Finding.model_validate(
        {"code": code, "message": message, "fix": fix, "path": "model.base", "severity": severity}
    )


def _as_problem(finding: Finding) -> Problem:
    return Problem(finding.code, finding.message, finding.fix, finding.path, finding.severity)


def _architecture_findings(config: Mapping[str, Any], family: str, named: str) -> list[Finding]:
    families = causal_families()
    if named and not named.endswith(("ForCausalLM", "LMHeadModel")) and named not in families.values():
        return [
            _finding(
                "model.not_causal_lm",
                f"{clean_line(named, max_chars=80)} is no text generation model.",
                "Choose a decoder language model, such as one whose architecture ends in ForCausalLM.",
            )
        ]
    if families and family not in families and "auto_map" not in config:
        return [
            _finding(
                "model.architecture_unknown",
                f"The installed transformers knows no model type {clean_line(family or '(none)', max_chars=60)}.",
                "Install a newer transformers, or choose another model.",
            )
        ]
    return []


def _weight_findings(
    folder: Path, weights: Weights, decoder: Decoder, config: Mapping[str, Any], *, downloaded: bool
) -> list[Finding]:
    if downloaded and not weights.present and not any(folder.glob("*.bin")):
        return [_finding("model.not_downloaded", "The weights are not on this machine yet.", severity="note")]
    findings = list(weights.findings)
    if quantized := already_quantized(config, weights):
        findings.append(quantized)
    elif weights.whole:
        findings += _size_findings(weights, decoder)
    return findings


def already_quantized(config: Mapping[str, Any], weights: Weights | None = None) -> Finding | None:
    """Return the finding that the weights are packed integers, by configuration or files; None when they are not."""
    if "quantization_config" not in config and (weights is None or not weights.quantized()):
        return None
    return _finding(
        "model.already_quantized",
        "The weights of this model are stored quantised, and cannot be trained as they are.",
        "Take the original model; QLoRA quantises it while loading.",
    )


def _size_findings(weights: Weights, decoder: Decoder) -> list[Finding]:
    """Compare the configuration with the files: what is missing would be filled with random numbers."""
    stored = weights.num_layers()
    if stored and stored != decoder.num_layers:
        return [
            _finding(
                "model.layers_mismatch",
                f"config.json asks for {decoder.num_layers} layers, the weight files hold {stored}.",
                "Copy or download the model again; missing layers would start from random numbers.",
            )
        ]
    for name, tensor in weights.tensors.items():
        if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight")):
            wanted = (decoder.vocab_size, decoder.hidden_size)
            if tensor.shape != wanted:
                return [
                    _finding(
                        "model.shape_mismatch",
                        f"config.json describes an embedding of {wanted[0]} x {wanted[1]}, "
                        f"the weight files hold {' x '.join(map(str, tensor.shape))}.",
                        "Use the config.json that belongs to these weights.",
                    )
                ]
    return []


def _tokenizer_findings(tokenizer: TokenizerFacts) -> list[Finding]:
    if not tokenizer.present:
        return [
            _finding(
                "model.no_tokenizer",
                "There are no tokenizer files beside the weights.",
                "Copy tokenizer.json and tokenizer_config.json of the model into its folder.",
            )
        ]
    findings: list[Finding] = []
    if not tokenizer.has_chat_template:
        findings.append(
            _finding(
                "model.no_chat_template",
                "The tokenizer brings no chat template; ChatML is used unless model.chat_template names another.",
                severity="note",
            )
        )
    if not tokenizer.eos_token:
        findings.append(
            _finding(
                "model.no_eos_token",
                "The tokenizer names no end-of-text token; the run says which one it takes.",
                severity="note",
            )
        )
    if not tokenizer.pad_token:
        findings.append(
            _finding(
                "model.no_pad_token",
                "The tokenizer names no padding token; the run says which one it takes.",
                severity="note",
            )
        )
    return findings


def _remote_code(base: str) -> Finding:
    return Finding(
        code="model.remote_code",
        message=f"{clean_line(base, max_chars=120)} needs Python files of its own to run on this machine.",
        fix="Read those files first; then set model.trust_remote_code to true, or choose another model.",
        path="model.trust_remote_code",
    )
