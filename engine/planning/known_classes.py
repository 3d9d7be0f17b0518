"""Which families the installed transformers has a class for, head by head.

The tables are read from the library's source, because importing it takes seconds.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

from engine.catalog.objectives import Head, ModelKind
from engine.planning.layer_sums import head_of_class

_TABLES: dict[Head, str] = {
    "causal-lm": "CAUSAL_LM",
    "masked-lm": "MASKED_LM",
    "seq2seq-lm": "SEQ_TO_SEQ_CAUSAL_LM",
    "sequence-classification": "SEQUENCE_CLASSIFICATION",
    "token-classification": "TOKEN_CLASSIFICATION",
}
_ENTRY = re.compile(r'\(\s*"([^"]+)",\s*"([^"]+)"\s*\)')


@cache
def families_with(head: Head) -> dict[str, str]:
    """Return `{model_type: class name}` of the models that can carry a head; empty when the table cannot be read."""
    return _table(f"MODEL_FOR_{_TABLES[head]}_MAPPING_NAMES")


@cache
def _table(name: str) -> dict[str, str]:
    block = re.search(rf"^{name}\s*=\s*OrderedDict\((.*?)\n\)", _source(), re.DOTALL | re.MULTILINE)
    return dict(_ENTRY.findall(block[1])) if block else {}


@cache
def _source() -> str:
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return ""
    try:
        return (Path(spec.origin).parent / "models/auto/modeling_auto.py").read_text(encoding="utf-8")
    except OSError:
        return ""


def causal_families() -> dict[str, str]:
    """Return `{model_type: class name}` of the text generation models that the installed transformers knows."""
    return families_with("causal-lm")


def is_known(family: str) -> bool:
    """Return whether the installed transformers has a class for a family of any kind; True when nobody can tell."""
    bare = _table("MODEL_MAPPING_NAMES")
    return not bare or family in bare or any(family in families_with(head) for head in _TABLES)


def has_head(family: str, head: Head) -> bool:
    """Return whether the installed transformers has a class for a family with a head; True when nobody can tell."""
    return not causal_families() or family in families_with(head)


def reads_text(class_name: str, family: str) -> bool:
    """Return whether a class of a known family reads text; of a bare model, whether the family has a head for words.

    Args:
        class_name: What a configuration names, such as `BertForMaskedLM`.
        family: Its `model_type`.
    """
    named = any(class_name in families_with(head).values() for head in _TABLES)
    writing = any(family in families_with(head) for head in ("causal-lm", "masked-lm", "seq2seq-lm"))
    # Images and sound have classes with the same endings; their families are in tables of their own.
    return named or (
        writing and not class_name.endswith(("ForConditionalGeneration", "ForCTC", "ForAudioClassification"))
    )


def kind_of(class_name: str, family: str) -> ModelKind:
    """Return what a text model of a family without a reader is, by the class that its configuration names."""
    match head_of_class(class_name):
        case "causal-lm":
            return "decoder"
        case "masked-lm":
            return "encoder"
        # A model of pictures and words names the class of the whole; its words are read by a decoder.
        case _ if family in families_with("seq2seq-lm"):
            return "encoder-decoder"
        case _ if family in families_with("masked-lm"):
            return "encoder"
        case _:
            return "decoder"
