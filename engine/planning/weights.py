"""Weight files of a model folder: safetensors headers read and checked by ourselves, pickle refused.

Format: 8 bytes little-endian length N, N bytes of JSON `{name: {dtype, shape, data_offsets}}`, then the data
(https://github.com/huggingface/safetensors#format). Nothing but headers is read, so a folder of any size takes
milliseconds.
"""

import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.planning.profiles import Finding
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_bytes

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""
MAX_INDEX_BYTES = 64_000_000
MAX_DIMENSIONS = 64
"""What torch takes."""
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
DTYPE_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scheduler.bin"})
# Tables that older checkpoints store although they are computed: not weights.
_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|\.attn\.bias|\.attn\.masked_bias|\.attention\.(bias|masked_bias))$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9})\.")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)


@dataclass(slots=True)
class Weights:
    """What the weight files of a folder hold.

    Attributes:
        tensors: `{name: Tensor}` over all readable files.
        file_bytes: Size of the safetensors files.
        findings: What is wrong, each with the file's name.
        present: Whether there is any safetensors file.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    file_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    present: bool = False

    @property
    def whole(self) -> bool:
        """Return whether the files are there and none is damaged or missing."""
        return self.present and not any(finding.severity == "error" for finding in self.findings)

    def dtype(self) -> str:
        """Return the number format of most of the weights, in torch's words."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.num_elements
        most = max(sizes, key=lambda name: sizes[name], default="F32")
        return DTYPE_NAMES.get(most, most.lower())

    def num_params(self, *, tied: bool) -> int:
        """Return the number of weights; tied ones count once and stored tables not at all."""
        names = [name for name in self.tensors if not _BUFFERS.search(name)]
        outputs = [name for name in names if name.endswith(("lm_head.weight", "embed_out.weight"))]
        inputs = [name for name in names if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight"))]
        total = sum(self.tensors[name].num_elements for name in names)
        if tied and outputs and inputs:
            total -= sum(self.tensors[name].num_elements for name in outputs)
        return total

    def num_layers(self) -> int:
        """Return the number of transformer blocks in the files, 0 when their names do not tell."""
        numbers = [int(found[1]) for name in self.tensors if (found := _LAYER.search(name))]
        return max(numbers) + 1 if numbers else 0

    def quantized(self) -> bool:
        """Return whether the files hold packed integers instead of numbers to train."""
        return any(".quant_state." in name or name.endswith((".qweight", ".absmax")) for name in self.tensors)


def read_weights(folder: Path) -> Weights:
    """Return what the weight files of a model folder hold; reads headers only.

    Args:
        folder: Local folder; files in it may be links, as in the hub cache.
    """
    weights = Weights()
    expected: dict[str, set[str]] = {}
    if (folder / INDEX_NAME).is_file():
        expected = _read_index(folder, weights)
    elif (folder / SINGLE_NAME).is_file():
        expected = {SINGLE_NAME: set()}
    elif shards := sorted(path.name for path in folder.glob("*.safetensors")):
        weights.findings.append(_no_index(shards))
    for name, tensors in sorted(expected.items()):
        _read_shard(folder / name, tensors, weights)
    if not weights.present and not weights.findings:
        weights.findings.append(_no_weights(folder))
    return weights


def _finding(code: str, message: str, fix: str) -> Finding:
    return Finding(code=code, message=message, fix=fix, path="model.base")


def _again(folder: Path) -> str:
    return f"Copy or download {clean_line(folder.name, max_chars=60)} again."


def _no_index(shards: list[str]) -> Finding:
    return _finding(
        "model.index_missing",
        f"There is {clean_line(shards[0], max_chars=80)}, but neither {SINGLE_NAME} nor {INDEX_NAME}.",
        "Choose the folder that save_pretrained wrote; an adapter alone is no base model.",
    )


def _no_weights(folder: Path) -> Finding:
    return finding_without_weights((path.name for path in folder.iterdir()), folder)


def finding_without_weights(names: Iterable[str], where: Path | str) -> Finding:
    """Return why a model without safetensors weights cannot be trained.

    Args:
        names: Names of its files.
        where: Its folder or hub id, for the message.
    """
    listed = sorted(names)
    pickles = [name for name in listed if name.endswith(_PICKLE_SUFFIXES) and name not in _NOT_WEIGHTS]
    if pickles:
        return _finding(
            "model.pickle_only",
            f"The weights are only there as {clean_line(pickles[0], max_chars=80)}, "
            "a format that can run code when it is opened.",
            "Convert them where you trust them: load the model with transformers in a sandbox and call "
            "save_pretrained, which writes safetensors; or take a revision of the model that has safetensors.",
        )
    if any(name.endswith(".gguf") for name in listed):
        return _finding(
            "model.gguf_only",
            f"{clean_line(where, max_chars=120)} holds a GGUF file, which is made for inference and cannot be trained.",
            "Take the original model that the GGUF file was made from, in safetensors.",
        )
    if "adapter_config.json" in listed:
        return _finding(
            "model.adapter_only",
            f"{clean_line(where, max_chars=120)} holds an adapter, not a base model.",
            "Give the base model that the adapter was trained on, or a merged model.",
        )
    return _finding(
        "model.no_weights",
        f"There are no weights in {clean_line(where, max_chars=120)}: no {SINGLE_NAME} and no {INDEX_NAME}.",
        "Choose a model with safetensors weights, or download the whole model.",
    )


def _read_index(folder: Path, weights: Weights) -> dict[str, set[str]]:
    """Return `{file: names of its tensors}` of the index; entries that leave the folder are refused."""
    path = folder / INDEX_NAME
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError("it is too large to be an index")
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError("its weight_map is empty")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = clean_line(error, max_chars=100)
        weights.findings.append(_finding("model.index_broken", f"{INDEX_NAME} cannot be read: {why}.", _again(folder)))
        return {}
    files: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not _stays_inside(name):
            weights.findings.append(
                _finding(
                    "model.index_escapes",
                    f"{INDEX_NAME} points out of the model's folder: {clean_line(name, max_chars=100)}.",
                    "Do not use this model: a sound index names files beside it only.",
                )
            )
            return {}
        files.setdefault(name, set()).add(str(tensor))
    return files


def shard_names(folder: Path) -> set[str]:
    """Return the file names in the weight index of a folder.

    Raises:
        ProblemError: The index is damaged or points out of the model's folder.
    """
    weights = Weights()
    files = _read_index(folder, weights)
    if weights.findings:
        raise ProblemError(*(Problem(**finding.model_dump()) for finding in weights.findings))
    return set(files)


def _stays_inside(name: Any) -> bool:
    if not isinstance(name, str) or not name.endswith(".safetensors") or "\0" in name or "\\" in name:
        return False
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _read_shard(path: Path, expected: set[str], weights: Weights) -> None:
    name = clean_line(path.name, max_chars=80)
    try:
        size = path.stat().st_size
        tensors = read_header(path, size)
    except FileNotFoundError:
        weights.findings.append(
            _finding("model.shard_missing", f"The weight file {name} is missing.", _again(path.parent))
        )
        return
    except OSError as error:
        why = clean_line(error.strerror or error, max_chars=80)
        weights.findings.append(
            _finding(
                "model.shard_unreadable", f"The weight file {name} cannot be read: {why}.", "Check its permissions."
            )
        )
        return
    except ValueError as error:
        weights.findings.append(
            _finding("model.shard_broken", f"The weight file {name} is damaged: {error}.", _again(path.parent))
        )
        return
    weights.present = True
    weights.file_bytes += size
    weights.tensors.update(tensors)
    if lacking := sorted(expected - tensors.keys()):
        weights.findings.append(
            _finding(
                "model.tensor_missing",
                f"The weight file {name} lacks {clean_line(lacking[0], max_chars=80)}, which the index places there.",
                _again(path.parent),
            )
        )


def read_header(path: Path, size: int) -> dict[str, Tensor]:
    """Return the tensors that a safetensors file declares.

    Args:
        path: The file.
        size: Its size in bytes.

    Raises:
        ValueError: The header is damaged or does not agree with the file's size; the message completes "is damaged: ".
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError(f"it has {size} bytes, too few for a header")
        (length,) = struct.unpack("<Q", start)
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ValueError("its header claims an impossible length")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    header.pop("__metadata__", None)
    return _checked(header, size - 8 - length)


def _checked(header: dict[str, Any], data_bytes: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        tensor, start, end = _entry(name, entry)
        tensors[name] = tensor
        spans.append((start, end))
    position = 0
    for start, end in sorted(spans):
        if start != position:
            raise ValueError("its tensors overlap or leave gaps")
        position = end
    if position > data_bytes:
        raise ValueError(f"it is cut off, {human_bytes(position - data_bytes)} are missing")
    if position < data_bytes:
        raise ValueError("it holds more data than its header describes")
    return tensors


def _entry(name: str, entry: Any) -> tuple[Tensor, int, int]:
    label = clean_line(name, max_chars=80)
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, end]
        sound = dtype in _BITS and len(shape) <= MAX_DIMENSIONS
        sound = sound and all(type(number) is int and 0 <= number < 2**62 for number in numbers)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise ValueError(f"the entry of {label} cannot be read")
    tensor = Tensor(dtype, tuple(shape))
    if end - start != (tensor.num_elements * _BITS[dtype] + 7) // 8:
        raise ValueError(f"the size of {label} does not match its shape")
    return tensor, start, end
