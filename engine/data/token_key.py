"""What decides the token ids of rows, as one key."""

import datetime
import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from engine.data.content_cache import content_key
from engine.data.rendering import Renderer
from engine.data.row_store import row_text
from engine.data.rows import Row

_LIBRARIES = ("jinja2", "tokenizers", "transformers")
_DATED = "strftime_now"
"""A template that calls it writes the day into its text, so that its ids are of one day only."""


def rows_hash(rows: Iterable[Row]) -> str:
    """Return the hash over rows as JSON lines: the bytes of `data/train.jsonl`."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row_text(row)}\n".encode())
    return digest.hexdigest()


def token_key(renderer: Renderer, rows_sha256: str, code: str) -> str:
    """Return the name of an entry: of rows, tokenizer, template, system prompt and code.

    Args:
        renderer: Of the tokenizer and the recipe; its `max_length` decides nothing.
        rows_sha256: As `rows_hash` gives it.
        code: Hash over the source that makes the entry.
    """
    tokenizer = renderer.tokenizer
    libraries = [version(library) for library in _LIBRARIES]
    facts = _tokenizer_facts(tokenizer)
    return content_key(rows_sha256, facts, renderer.system_prompt, asdict(renderer.task), libraries, code)


def _tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    template = str(tokenizer.chat_template or "")
    return {
        "class": type(tokenizer).__qualname__,
        "vocabulary": _vocabulary_hash(tokenizer),
        "added": sorted((number, repr(token)) for number, token in tokenizer.added_tokens_decoder.items()),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id],
        "template": template,
        "day": str(datetime.date.today()) if _DATED in template else "",
    }


def _vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash over what cuts text into tokens: the backend as JSON, or the files of a slow tokenizer."""
    digest = hashlib.sha256()
    if tokenizer.is_fast:
        # A call switches truncation and padding off, which stand in the JSON too and decide nothing.
        tokenizer("", add_special_tokens=False)
        digest.update(tokenizer.backend_tokenizer.to_str().encode())
        return digest.hexdigest()
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    for name in sorted(tokenizer.vocab_files_names):
        path = tokenizer.init_kwargs.get(name)
        if isinstance(path, str) and Path(path).is_file():
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()
