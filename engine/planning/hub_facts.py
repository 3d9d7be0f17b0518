"""What the hub says of weights that are not here yet, laid over what the small files of the model say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.planning.model_profile import already_quantized, read_config
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.weights import DTYPE_NAMES, INDEX_NAME, SINGLE_NAME, finding_without_weights
from engine.text import human_bytes

_OF_WEIGHT_FILES = frozenset(
    f"model.{name}"
    for name in (
        "not_downloaded",
        "no_weights",
        "pickle_only",
        "gguf_only",
        "adapter_only",
        "index_missing",
        "shard_missing",
        "shard_broken",
        "shard_unreadable",
        "tensor_missing",
        "layers_mismatch",
        "shape_mismatch",
        "already_quantized",
    )
)
"""Findings about weight files that will be fetched, so that they say nothing yet."""


@dataclass(frozen=True, slots=True)
class HubFacts:
    """Weights as the hub lists them.

    Attributes:
        names: Names of all files.
        weights_bytes: Size of the files that will be loaded.
        download_bytes: Those of them that are not here.
        download_folder: Where they will be kept.
        num_params: Elements of all tensors; None when the hub did not count.
        dtype: Number format of most of them, such as `BF16`.
    """

    names: Sequence[str] = ()
    weights_bytes: int = 0
    download_bytes: int = 0
    download_folder: Path | None = None
    num_params: int | None = None
    dtype: str | None = None


def apply_hub_facts(profile: ModelProfile, facts: HubFacts) -> ModelProfile:
    """Return the profile of a model with what the hub says of its weights.

    Args:
        profile: Read from the small files of the model.
        facts: The hub's answer about the same commit.
    """
    findings = [finding for finding in profile.findings if finding.code not in _OF_WEIGHT_FILES]
    changes: dict[str, object] = {
        "weights_bytes": facts.weights_bytes,
        "download_bytes": facts.download_bytes,
        "download_folder": str(facts.download_folder) if facts.download_folder else None,
    }
    quantized = already_quantized(read_config(Path(profile.folder))) if profile.folder else None
    if quantized is not None:
        findings.append(quantized)
    elif facts.num_params:
        estimated = any(finding.code == "model.size_estimated" for finding in findings)
        findings = [finding for finding in findings if finding.code != "model.size_estimated"]
        changes["num_params"] = _num_params(profile, facts.num_params, counted=not estimated)
    if facts.dtype:
        changes["weights_dtype"] = DTYPE_NAMES.get(facts.dtype, facts.dtype.lower())
    findings += _weight_findings(profile, facts)
    return profile.model_copy(update={**changes, "findings": findings})


def _num_params(profile: ModelProfile, total: int, *, counted: bool) -> int:
    """Return the hub's count without what is stored and not loaded: a tied output layer, heads of the pre-training."""
    if profile.kind != "decoder" and counted:
        return profile.num_params
    once = total - profile.vocab_size * profile.hidden_size
    return once if profile.tied_embeddings and counted and once == profile.num_params else total


def _weight_findings(profile: ModelProfile, facts: HubFacts) -> list[Finding]:
    if not {INDEX_NAME, SINGLE_NAME} & set(facts.names):
        return [finding_without_weights(facts.names, profile.base)]
    if not facts.download_bytes:
        return []
    message = f"{human_bytes(facts.download_bytes)} of weights will be downloaded when the run starts."
    return [Finding(code="model.not_downloaded", message=message, path="model.base", severity="note")]
