"""Sizes read from a `config.json` that may lie: each is a positive whole number of a plausible size, or an error."""

from collections.abc import Mapping
from typing import Any, NoReturn

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

Config = Mapping[str, Any]
ALIASES: dict[str, tuple[str, ...]] = {
    "vocab_size": ("vocab_size",),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim", "d_ff"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
}
MOST_LAYERS = 10_000
_MOST: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers", "depths"), MOST_LAYERS),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), MOST_LAYERS),
    "num_attention_heads": 65_536,
    "num_key_value_heads": 65_536,
    "head_dim": 65_536,
    "max_position_embeddings": 2**40,
}
_MOST_OF_OTHERS = 2**26
MOST_PARAMS = 10**14
"""Fifty times the largest model there is; a configuration that describes more is a mistake."""


def refuse(message: str, fix: str = "Use the config.json that belongs to these weights.") -> NoReturn:
    """Raise that a configuration cannot be true."""
    raise ProblemError(Problem("model.config_implausible", clean_line(message, max_chars=300), fix, "model.base"))


def _incomplete(name: str) -> ProblemError:
    return ProblemError(
        Problem(
            "model.config_incomplete",
            f"config.json names no {name}: this is no model that can be planned.",
            "Choose a model in the transformers format, or copy its config.json again.",
            "model.base",
        )
    )


def optional_size(config: Config, name: str) -> int | None:
    """Return a size under any of its names; None when the file does not give it.

    Raises:
        ProblemError: It is given and is no positive whole number, or beyond what any model has.
    """
    for key in ALIASES.get(name, (name,)):
        value = config.get(key)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            refuse(f"config.json gives {key} as {clean_line(repr(value), max_chars=60)}, no positive whole number.")
        most = _MOST.get(name, _MOST_OF_OTHERS)
        if value > most:
            shown = (
                f"{value:,}" if value < 10**18 else f"a number of {len(str(value)) if value < 10**300 else 300} digits"
            )
            refuse(f"config.json gives {key} as {shown}; no model has more than {most:,}.")
        return value
    return None


def size(config: Config, name: str) -> int:
    """Return a size that every model has.

    Raises:
        ProblemError: It is missing, no positive whole number, or beyond what any model has.
    """
    value = optional_size(config, name)
    if value is None:
        raise _incomplete(name)
    return value


def count(config: Config, name: str) -> int:
    """Return a number of things of which there may be none; 0 when the file does not give it."""
    return 0 if config.get(name) == 0 else optional_size(config, name) or 0


def sizes(config: Config, name: str) -> list[int]:
    """Return a list of sizes.

    Raises:
        ProblemError: It is missing, or an entry is no plausible size.
    """
    values = config.get(name)
    if not isinstance(values, list) or not values:
        raise _incomplete(name)
    if len(values) > MOST_LAYERS:
        refuse(f"config.json gives {len(values)} entries for {name}.")
    return [
        optional_size({name: value}, name) or refuse(f"config.json leaves out an entry of {name}.") for value in values
    ]


def flag(config: Config, name: str, default: bool) -> bool:
    """Return a switch; its default when the file does not give it or gives something else."""
    value = config.get(name)
    return value if isinstance(value, bool) else default


def num_labels(config: Config) -> int:
    """Return the classes of a classification head; 2 where the file names none, as transformers does."""
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) and labels else optional_size(config, "num_labels") or 2


def check_division(config: Config, total: int, parts: int, what: str, into: str) -> None:
    """Refuse a width that cannot be cut into equal parts.

    Raises:
        ProblemError: It cannot.
    """
    if total % parts:
        refuse(f"config.json describes {what} of {total} cut into {parts} {into}, which leaves a rest.")
