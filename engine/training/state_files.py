"""Nested training state as safetensors and JSON: what is read back can hold numbers, never code.

`torch.save` is pickle; a checkpoint that came from elsewhere must not be able to run anything.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def save_tree(folder: Path, name: str, tree: Any) -> None:
    """Write `tree` as `NAME.safetensors` and `NAME.json` into `folder`.

    Args:
        folder: Existing folder.
        name: Stem of both files.
        tree: Dictionaries (any scalar keys), lists, tuples, tensors, and JSON scalars.

    Raises:
        TypeError: When a value is none of these, with its place in the tree.
    """
    tensors: dict[str, torch.Tensor] = {}
    document = _encode(tree, tensors, {}, "")
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def load_tree(folder: Path, name: str) -> Any:
    """Return what `save_tree` wrote; tensors are on the CPU."""
    tensors = load_file(folder / f"{name}.safetensors")
    return _decode(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), tensors)


def _encode(value: Any, tensors: dict[str, torch.Tensor], seen: dict[int, str], place: str) -> Any:
    if isinstance(value, torch.Tensor):
        # Optimizers share tensors between parameters (the quantisation maps of bitsandbytes); keep them shared.
        key = seen.setdefault(id(value), f"t{len(seen)}")
        if key not in tensors:
            tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, tensors, seen, f"{place}.{key}")] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, tensors, seen, f"{place}[{at}]") for at, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place or 'the state'} is a {type(value).__name__}, which a checkpoint cannot hold")


def _decode(document: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
