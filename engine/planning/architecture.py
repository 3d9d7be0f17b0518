"""A model as a few numbers: enough to count weights, to size adapters and to estimate memory, without any file."""

from dataclasses import dataclass, field

from engine.catalog.objectives import Head, ModelKind

LinearShape = tuple[str, int, int]
HeadSizes = dict[Head, tuple[int, int]]
"""Weights of each head that a family has: `(of the head itself, of each label)`."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a model; what is read from any `config.json` and what a catalogue entry carries.

    Attributes:
        model_type: Family name, such as `llama`.
        class_name: Class of the transformers library, such as `LlamaForCausalLM`; empty when the file names none.
        vocab_size: Rows of the embedding matrix; 0 for models without words.
        hidden_size: Width of the residual stream.
        num_layers: Blocks, of encoder and decoder together.
        num_heads: Query heads of a block.
        num_kv_heads: Key and value heads of a block.
        head_dim: Width of a head.
        intermediate_size: Inner width of the feed-forward layers that one token passes.
        context_length: Longest sequence that the model was built for, in tokens; 8 for models that read none.
        tied_embeddings: The output layer shares its weights with the embedding.
        linear_shapes: `(name, in, out)` of each linear layer of one block; of a decoder's block where there are two.
        num_params: Number of weights; tied weights count once.
        counted: Whether the family was held against real models; otherwise the count is an estimate.
        kind: What it reads and writes.
        num_experts: Experts of a block; 0 without.
        experts_per_token: Experts that one token passes.
        expert_params: Weights of all experts of all blocks.
        quantizable_params: Weights of linear layers inside the blocks, which 4-bit loading covers.
        sliding_window: Tokens that windowed blocks look back; 0 when none does.
        windowed_layers: Blocks that look through that window.
        body_params: Weights without any head; 0 for models that read no text.
        heads: What each head adds to the body.
        relative_positions: Positions are distances, so that longer texts than those of the pre-training can be read.
        encoder_layers: Blocks of the encoder, where there is a decoder too; they have the `encoder_shapes`.
        attention_dropout: Whether attention scores are dropped in training; None when nobody looked.
        distance_buckets: Distances that a separate product of each head scores, as DeBERTa does; 0 for others.
    """

    model_type: str
    class_name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    tied_embeddings: bool
    num_params: int
    counted: bool
    linear_shapes: list[LinearShape] = field(default_factory=list, hash=False)
    kind: ModelKind = "decoder"
    num_experts: int = 0
    experts_per_token: int = 0
    expert_params: int = 0
    quantizable_params: int = 0
    sliding_window: int = 0
    windowed_layers: int = 0
    body_params: int = 0
    heads: HeadSizes = field(default_factory=dict, hash=False)
    relative_positions: bool = False
    encoder_layers: int = 0
    encoder_shapes: list[LinearShape] = field(default_factory=list, hash=False)
    attention_dropout: bool | None = None
    distance_buckets: int = 0
