"""Sums over linear layers, and what readers of all families put together in the same way."""

from engine.catalog.objectives import Head, ModelKind
from engine.planning.architecture import Architecture, HeadSizes, LinearShape
from engine.planning.config_sizes import Config, check_division, flag, num_labels

_HEAD_OF_CLASS: tuple[tuple[str, Head], ...] = (
    ("ForMaskedLM", "masked-lm"),
    ("ForPreTraining", "masked-lm"),
    ("ForSequenceClassification", "sequence-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForConditionalGeneration", "seq2seq-lm"),
    ("ForCausalLM", "causal-lm"),
    ("LMHeadModel", "causal-lm"),
)


def class_of(config: Config) -> str:
    """Return the class that a configuration names; empty when it names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def head_of_class(class_name: str) -> Head | None:
    """Return the head of a class of the transformers library; None for bare models and heads of other kinds."""
    return next((head for ending, head in _HEAD_OF_CLASS if class_name.endswith(ending)), None)


def head_weights(heads: HeadSizes, head: Head, labels: int) -> int:
    """Return the weights of a head.

    Args:
        heads: Sizes that the family gives.
        head: One of them.
        labels: Classes that a classification head tells apart.

    Raises:
        KeyError: The family has no such head.
    """
    fixed, per_label = heads[head]
    return fixed + per_label * labels


def named_head(config: Config, heads: HeadSizes, *, bare: int = 0) -> int:
    """Return the weights of the head that the class of a configuration has.

    Args:
        config: Names the class and the labels.
        heads: Sizes that the family gives.
        bare: Weights that the family's class without a head adds to the body, such as a pooler.
    """
    head = head_of_class(class_of(config))
    return bare if head not in heads else head_weights(heads, head, num_labels(config))


def drops(config: Config, name: str, default: float) -> bool:
    """Return whether a configuration drops anything under a name in training."""
    share = config.get(name)
    return bool(share if isinstance(share, int | float) else default)


def linear(rows: int, columns: int, *, bias: bool = True) -> int:
    """Return the weights of a linear layer."""
    return rows * columns + (columns if bias else 0)


def biased(shapes: list[LinearShape]) -> int:
    """Return the weights of linear layers that all have a bias."""
    return sum(linear(rows, columns) for _, rows, columns in shapes)


def weights_of(shapes: list[LinearShape]) -> int:
    """Return the weights of linear layers without their biases."""
    return sum(rows * columns for _, rows, columns in shapes)


def ties(config: Config) -> bool:
    """Return whether the output layer is the embedding; transformers says yes where the file says nothing."""
    return flag(config, "tie_word_embeddings", True)


def square_attention(hidden: int, names: tuple[str, str, str, str]) -> list[LinearShape]:
    """Return the four projections of an attention as wide as the model."""
    return [(name, hidden, hidden) for name in names]


def architecture(
    config: Config,
    *,
    kind: ModelKind,
    hidden: int,
    layers: int,
    heads: int,
    inner: int,
    shapes: list[LinearShape],
    num_params: int,
    quantizable: int,
    vocab: int = 0,
    context: int = 0,
    tied: bool = True,
    head_dim: int | None = None,
    window: tuple[int, int] = (0, 0),
    body: int = 0,
    head_sizes: HeadSizes | None = None,
    relative: bool = False,
    encoder: tuple[int, list[LinearShape]] = (0, []),
    attention_dropout: bool | None = None,
    distance_buckets: int = 0,
) -> Architecture:
    """Return the architecture of a family that was held against real models.

    Raises:
        ProblemError: The width cannot be cut into the heads.
    """
    if head_dim is None:
        check_division(config, hidden, heads, "a width", "attention heads")
    return Architecture(
        model_type=str(config.get("model_type", "")),
        class_name=class_of(config),
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads if head_dim is None else head_dim,
        intermediate_size=inner,
        context_length=context,
        tied_embeddings=tied,
        linear_shapes=shapes,
        num_params=num_params,
        counted=True,
        kind=kind,
        quantizable_params=quantizable,
        sliding_window=window[0],
        windowed_layers=window[1],
        body_params=body,
        heads=head_sizes or {},
        relative_positions=relative,
        encoder_layers=encoder[0],
        encoder_shapes=encoder[1],
        attention_dropout=attention_dropout,
        distance_buckets=distance_buckets,
    )
