"""Facts of a model folder: its `config.json` held against its weight headers and its tokenizer files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.catalog.objectives import ModelKind
from engine.planning.architecture import Architecture
from engine.planning.architectures import read_architecture
from engine.planning.known_classes import causal_families, is_known, reads_text
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.tokenizer_facts import TokenizerFacts, read_tokenizer_facts
from engine.planning.weights import Weights, read_weights
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_count

MAX_CONFIG_BYTES = 4_000_000


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(code, message, fix, "model.base"))


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
        architecture = read_architecture(config)
    except ProblemError as error:
        # What it is says more than which number it lacks.
        raise ProblemError(*(_as_problem(finding) for finding in findings), *error.problems) from None
    weights = read_weights(folder)
    tokenizer = read_tokenizer_facts(folder, config)
    findings += _weight_findings(folder, weights, architecture, config, downloaded=revision is not None)
    findings += _tokenizer_findings(tokenizer, architecture.kind)
    findings += _vocabulary_findings(tokenizer, architecture)
    findings += _expert_findings(architecture)
    if ("auto_map" in config or tokenizer.remote_code) and family not in causal_families():
        findings.append(_remote_code(base))
    return _profile(folder, base, revision, architecture, weights, tokenizer, findings)


def _profile(
    folder: Path,
    base: str,
    revision: str | None,
    architecture: Architecture,
    weights: Weights,
    tokenizer: TokenizerFacts,
    findings: list[Finding],
) -> ModelProfile:
    # Files of other kinds hold tables twice and heads that nobody loads; their families are counted without them.
    by_files = (
        weights.whole and not weights.quantized() and (architecture.kind == "decoder" or not architecture.counted)
    )
    stored = weights.num_params(tied=architecture.tied_embeddings) if by_files else 0
    if not stored and not architecture.counted:
        message = f"The number of weights is estimated from config.json: {human_count(architecture.num_params)}."
        findings.append(_finding("model.size_estimated", message, severity="note"))
    return describe(
        architecture,
        base=base,
        folder=str(folder.absolute()),
        revision=revision,
        architecture=architecture.class_name or causal_families().get(architecture.model_type, ""),
        num_params=stored or architecture.num_params,
        weights_bytes=weights.file_bytes,
        weights_dtype=weights.dtype(),
        has_chat_template=tokenizer.has_chat_template,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        bos_token=tokenizer.bos_token,
        cls_token=tokenizer.cls_token,
        sep_token=tokenizer.sep_token,
        mask_token=tokenizer.mask_token,
        findings=findings,
    )


def describe(found: Architecture, **facts: Any) -> ModelProfile:
    """Return the profile of an architecture with the facts that no configuration gives.

    Args:
        found: Sizes of the model.
        **facts: Fields of `ModelProfile`; they overrule what the architecture says.
    """
    sizes = asdict(found)
    facts.setdefault("architecture", sizes.pop("class_name"))
    sizes.pop("class_name", None)
    return ModelProfile(**{**sizes, **facts})


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


def _finding(code: str, message: str, fix: str = "", *, severity: str = "error") -> Finding:
    return Finding.model_validate(
        {"code": code, "message": message, "fix": fix, "path": "model.base", "severity": severity}
    )


def _as_problem(finding: Finding) -> Problem:
    return Problem(finding.code, finding.message, finding.fix, finding.path, finding.severity)


def _architecture_findings(config: Mapping[str, Any], family: str, named: str) -> list[Finding]:
    if named and is_known(family) and not reads_text(named, family):
        return [
            _finding(
                "model.reads_no_text",
                f"{clean_line(named, max_chars=80)} is no model of text alone, and only such are trained here.",
                "Choose a language model, such as one whose architecture ends in ForCausalLM, ForMaskedLM or "
                "ForConditionalGeneration.",
            )
        ]
    if not is_known(family) and "auto_map" not in config:
        return [
            _finding(
                "model.architecture_unknown",
                f"The installed transformers knows no model type {clean_line(family or '(none)', max_chars=60)}.",
                "Install a newer transformers, or choose another model.",
            )
        ]
    return []


def _weight_findings(
    folder: Path, weights: Weights, architecture: Architecture, config: Mapping[str, Any], *, downloaded: bool
) -> list[Finding]:
    if downloaded and not weights.present and not any(folder.glob("*.bin")):
        return [_finding("model.not_downloaded", "The weights are not on this machine yet.", severity="note")]
    findings = list(weights.findings)
    if quantized := already_quantized(config, weights):
        findings.append(quantized)
    elif weights.whole and architecture.kind == "decoder" and "text_config" not in config:
        findings += _size_findings(weights, architecture)
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


def _size_findings(weights: Weights, architecture: Architecture) -> list[Finding]:
    """Compare the configuration with the files: what is missing would be filled with random numbers."""
    stored = weights.num_layers()
    if stored and stored != architecture.num_layers:
        return [
            _finding(
                "model.layers_mismatch",
                f"config.json asks for {architecture.num_layers} layers, the weight files hold {stored}.",
                "Copy or download the model again; missing layers would start from random numbers.",
            )
        ]
    expected = _expected_shapes(architecture)
    for name, tensor in weights.tensors.items():
        wanted = expected.get(name.removesuffix(".weight").rsplit(".", 1)[-1]) if name.endswith(".weight") else None
        # GPT-2 stores its matrices the other way round.
        if wanted and ".experts." not in name and tuple(sorted(tensor.shape)) not in wanted:
            return [_shape_mismatch(name, tensor.shape, sorted(wanted)[0])]
    return []


def _expected_shapes(architecture: Architecture) -> dict[str, set[tuple[int, ...]]]:
    """Return `{last part of a weight's name: shapes it may have, smaller side first}` by the configuration."""
    embedding = tuple(sorted((architecture.vocab_size, architecture.hidden_size)))
    expected: dict[str, set[tuple[int, ...]]] = {name: {embedding} for name in ("embed_tokens", "wte", "embed_in")}
    if not architecture.counted:
        return expected
    for name, rows, columns in architecture.linear_shapes:
        if not (architecture.num_experts and name in ("gate_proj", "up_proj", "down_proj")):
            expected.setdefault(name, set()).add(tuple(sorted((rows, columns))))
    return expected


def _shape_mismatch(name: str, stored: Sequence[int], wanted: Sequence[int]) -> Finding:
    by_files, by_config = (" x ".join(map(str, sorted(shape))) for shape in (stored, wanted))
    return _finding(
        "model.shape_mismatch",
        f"config.json describes {clean_line(name, max_chars=80)} as {by_config}, the weight files hold {by_files}.",
        "Use the config.json that belongs to these weights.",
    )


def _vocabulary_findings(tokenizer: TokenizerFacts, architecture: Architecture) -> list[Finding]:
    """Say when the tokenizer can write ids that the model has no embedding for."""
    if tokenizer.highest_id is None or not 0 < architecture.vocab_size <= tokenizer.highest_id:
        return []
    return [
        _finding(
            "model.vocabulary_too_large",
            f"The tokenizer knows token {tokenizer.highest_id}, the model has {architecture.vocab_size} embeddings.",
            "Use the tokenizer that the model was trained with.",
        )
    ]


def _expert_findings(architecture: Architecture) -> list[Finding]:
    if not architecture.num_experts:
        return []
    share = f"{human_count(architecture.expert_params)} of {human_count(architecture.num_params)} weights"
    message = (
        f"{share} are experts: all of them are in memory, 4-bit loading leaves them in 16 bits, and adapters of "
        "all-linear do not reach them."
    )
    fix = "Choose QLoRA only if the whole model fits in 16 bits."
    return [_finding("model.experts_stay_whole", message, fix, severity="note")]


def _tokenizer_findings(tokenizer: TokenizerFacts, kind: ModelKind) -> list[Finding]:
    if not tokenizer.present:
        return [
            _finding(
                "model.no_tokenizer",
                "There are no tokenizer files beside the weights.",
                "Copy tokenizer.json and tokenizer_config.json of the model into its folder.",
            )
        ]
    findings: list[Finding] = []
    if kind == "decoder" and not tokenizer.has_chat_template:
        findings.append(
            _finding(
                "model.no_chat_template",
                "The tokenizer brings no chat template; ChatML is used unless model.chat_template names another.",
                severity="note",
            )
        )
    if kind != "encoder" and not tokenizer.eos_token:
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
    if kind == "encoder" and not tokenizer.mask_token:
        findings.append(
            _finding(
                "model.no_mask_token",
                "The tokenizer names no token that stands for a hidden word, which learning from hidden words needs.",
                "Set mask_token in tokenizer_config.json, or choose another model.",
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
