"""What the tokenizer files of a model folder say, read without transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 64_000_000
MAX_QUICK_BYTES = 4_000_000
"""A vocabulary up to this size is read whole to find its largest id (40 ms); the worker looks at any size."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """Facts of a tokenizer.

    Attributes:
        present: Whether there is a vocabulary.
        has_chat_template: Whether the tokenizer brings a chat template of its own.
        remote_code: Whether it wants Python files of its own to run.
        highest_id: Largest token id found without long reading; None when the files do not tell.
        cls_token: Token in front of a text that an encoder reads.
        sep_token: Token after it.
        mask_token: Token that stands for a hidden word.
    """

    present: bool
    has_chat_template: bool
    eos_token: str | None
    pad_token: str | None
    bos_token: str | None
    remote_code: bool
    highest_id: int | None = None
    cls_token: str | None = None
    sep_token: str | None = None
    mask_token: str | None = None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file; empty when the file is missing, too large, broken or no object."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_tokenizer_facts(folder: Path, config: Mapping[str, Any]) -> TokenizerFacts:
    """Return what the tokenizer files of a folder say.

    Args:
        folder: Local model folder.
        config: Its parsed `config.json`, for ids of special tokens that the tokenizer files leave out.
    """
    settings = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    generation = read_json(folder / "generation_config.json")
    ids = {**config, **generation}
    names = {
        role: _token(settings.get(f"{role}_token")) or _token(special.get(f"{role}_token"))
        for role in ("eos", "pad", "bos", "cls", "sep", "mask")
    }
    if not any(names.values()):
        names = _names_of_class(folder, config) or names
    if not names["eos"]:
        names["eos"] = _token_of_id(folder, settings, ids.get("eos_token_id"))
    return TokenizerFacts(
        present=any((folder / name).is_file() for name in _TOKENIZER_FILES),
        has_chat_template=bool(settings.get("chat_template"))
        or any((folder / name).is_file() for name in _TEMPLATE_FILES)
        or any(folder.glob("additional_chat_templates/*.jinja")),
        eos_token=names["eos"],
        pad_token=names["pad"],
        bos_token=names["bos"],
        remote_code="auto_map" in settings,
        highest_id=_highest_id(folder, settings),
        cls_token=names["cls"],
        sep_token=names["sep"],
        mask_token=names["mask"],
    )


_Names = dict[str, str | None]
_NOTHING: _Names = dict.fromkeys(("eos", "pad", "bos", "cls", "sep", "mask"))
_BERT: _Names = {**_NOTHING, "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_T5: _Names = {**_NOTHING, "eos": "</s>", "pad": "<pad>"}
_ROBERTA: _Names = {**_T5, "bos": "<s>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
_OF_CLASS: dict[str, _Names] = {
    **dict.fromkeys(("bert", "distilbert", "electra", "deberta-v2"), _BERT),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "bart", "mbart"), _ROBERTA),
    **dict.fromkeys(("t5", "mt5"), _T5),
}


def _names_of_class(folder: Path, config: Mapping[str, Any]) -> _Names | None:
    """Return the tokens that a family's tokenizer class has by itself: old repositories name none in their files."""
    found = _OF_CLASS.get(str(config.get("model_type", "")))
    return found if found and any((folder / name).is_file() for name in _TOKENIZER_FILES) else None


def _token(value: Any) -> str | None:
    """Return the text of a special token: files give a string or `{"content": string, ...}`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _highest_id(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """Return the largest token id: of the added tokens, which come last, and of the vocabulary where it is small."""
    added = settings.get("added_tokens_decoder")
    numbers = [int(key) for key in added if key.isdecimal() and len(key) < 10] if isinstance(added, Mapping) else []
    path = folder / "tokenizer.json"
    if path.is_file() and path.stat().st_size <= MAX_QUICK_BYTES:
        numbers += _ids(read_json(path))
    return max(numbers, default=None)


def _ids(tokenizer: Mapping[str, Any]) -> list[int]:
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    listed = [entry.get("id") for entry in added if isinstance(entry, Mapping)] if isinstance(added, list) else []
    if isinstance(vocabulary, Mapping):
        listed += vocabulary.values()
    elif isinstance(vocabulary, list):
        listed.append(len(vocabulary) - 1)
    return [number for number in listed if type(number) is int]


def _token_of_id(folder: Path, settings: Mapping[str, Any], token_id: Any) -> str | None:
    if isinstance(token_id, list) and token_id:
        token_id = token_id[0]
    if type(token_id) is not int:
        return None
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, Mapping) and (found := _token(decoder.get(str(token_id)))):
        return found
    tokenizer = read_json(folder / "tokenizer.json")
    added = tokenizer.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        if isinstance(entry, Mapping) and entry.get("id") == token_id:
            return _token(entry)
    return None
