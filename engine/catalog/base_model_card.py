"""What a base model of the catalogue says of itself, and the short forms in which its numbers are written down."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.catalog.builtin import BUILTIN_MODEL, builtin_path
from engine.catalog.objectives import ModelKind
from engine.planning.architecture import Architecture
from engine.planning.architectures import read_architecture

if TYPE_CHECKING:
    from engine.planning.profiles import ModelProfile

FOLLOWING = ("chat", "text-to-text", "classification", "preference", "reward-model", "reinforcement-learning")
"""Objectives of a decoder that follows instructions already."""
READING = ("domain-adaptation", "chat", "text-to-text", "classification", "reward-model")
"""Objectives of a decoder that only goes on with a text."""
UNDERSTANDING = ("classification", "token-classification", "domain-adaptation")
"""Objectives of an encoder."""
REWRITING = ("text-to-text",)
"""Objectives of an encoder with a decoder."""
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that frame texts, as the tokenizer names them; None where there is none.

    Attributes:
        eos: End of an answer.
        pad: Filling of a batch.
        bos: Front of a text.
        cls: Front of a text that an encoder reads.
        sep: End of a text that an encoder reads.
        mask: Stands for a hidden word.
    """

    eos: str | None = None
    pad: str | None = None
    bos: str | None = None
    cls: str | None = None
    sep: str | None = None
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class BaseModelCard:
    """One base model to start from.

    Attributes:
        name: What a recipe says: hub id or `builtin:starter`.
        title: Words for lists.
        summary: What it is, one sentence.
        when: When to take it.
        when_not: When another one is better.
        license: Licence name as its card spells it.
        objectives: Names of the objectives that it is offered for.
        languages: Which languages it knows, in a word or two.
        gated: The hub asks for an account that accepted the licence.
        num_params: Weights that are loaded, as published; tied weights count once, and heads that only its
            pre-training had do not count. None for the starter model.
        architecture: Numbers of its configuration; None for the starter model, whose folder is at hand.
        tokens: Special tokens of its tokenizer.
        weights_dtype: Number format of its stored weights.
        chat_template: Whether its tokenizer brings a chat template.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    license: str
    objectives: tuple[str, ...] = FOLLOWING
    languages: str = "English"
    gated: bool = False
    num_params: int | None = None
    architecture: Architecture | None = None
    tokens: SpecialTokens = SpecialTokens()
    weights_dtype: str = "bfloat16"
    chat_template: bool = True

    @property
    def builtin(self) -> bool:
        """Whether it is shipped with ftwizard and needs no download."""
        return self.name == BUILTIN_MODEL

    @property
    def kind(self) -> ModelKind:
        """What it reads and writes."""
        return "decoder" if self.architecture is None else self.architecture.kind

    @property
    def context_length(self) -> int | None:
        """Longest sequence in tokens; None for the starter model."""
        return None if self.architecture is None else self.architecture.context_length

    @property
    def download_bytes(self) -> int:
        """About how much its weights weigh on the hub; 0 for the starter model."""
        return (self.num_params or 0) * _WIDTHS[self.weights_dtype]

    @property
    def profile(self) -> "ModelProfile":
        """Facts for a plan, without any download.

        Raises:
            ProblemError: The starter model is missing from this installation.
        """
        return _profile(self)


# The import of pydantic waits until a plan is made: a list of models must not pay for it.
@cache
def _profile(card: BaseModelCard) -> "ModelProfile":
    from engine.planning.model_folder import describe, profile_folder

    if card.architecture is None:
        return profile_folder(builtin_path(card.name), base=card.name)
    tokens = card.tokens
    return describe(
        card.architecture,
        base=card.name,
        weights_dtype=card.weights_dtype,
        has_chat_template=card.chat_template,
        eos_token=tokens.eos,
        pad_token=tokens.pad,
        bos_token=tokens.bos,
        cls_token=tokens.cls,
        sep_token=tokens.sep,
        mask_token=tokens.mask,
    )


def architecture_of(class_name: str, model_type: str, **sizes: Any) -> Architecture:
    """Return the architecture that a `config.json` with these entries describes.

    Args:
        class_name: Its first architecture.
        model_type: Its family.
        **sizes: Its other entries, under the names of the file.
    """
    return read_architecture({"architectures": [class_name], "model_type": model_type, **sizes})


def decoder(
    class_name: str,
    model_type: str,
    *,
    vocab: int,
    hidden: int,
    layers: int,
    heads: tuple[int, int],
    inner: int,
    context: int,
    head_dim: int | None = None,
    tied: bool = True,
) -> Architecture:
    """Return a decoder's architecture; `heads` are those of queries and of keys."""
    return architecture_of(
        class_name,
        model_type,
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
        intermediate_size=inner,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
    )
