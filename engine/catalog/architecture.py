"""Decoder architectures as a few numbers: enough to count weights and to size adapters without any file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of the Llama kind: grouped-query attention, gated feed-forward layer, RMS norms.

    Attributes:
        class_name: Class of the transformers library, such as `LlamaForCausalLM`.
        model_type: Family name, such as `llama`.
        vocab_size: Rows of the embedding matrix.
        hidden_size: Width of the residual stream.
        num_layers: Transformer blocks.
        num_heads: Query heads of a block.
        num_kv_heads: Key and value heads of a block.
        head_dim: Width of a head.
        intermediate_size: Inner width of the feed-forward layer.
        context_length: Longest sequence that the model was built for, in tokens.
        tied_embeddings: The output layer shares its weights with the embedding.
        qkv_bias: The query, key and value layers have biases.
        qk_norm: Queries and keys are normalised per head.
    """

    class_name: str
    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    context_length: int
    tied_embeddings: bool
    qkv_bias: bool = False
    qk_norm: bool = False

    def linear_shapes(self) -> list[tuple[str, int, int]]:
        """Return `(name, in, out)` of each linear layer of one block."""
        query = self.num_heads * self.head_dim
        key_value = self.num_kv_heads * self.head_dim
        return [
            ("q_proj", self.hidden_size, query),
            ("k_proj", self.hidden_size, key_value),
            ("v_proj", self.hidden_size, key_value),
            ("o_proj", query, self.hidden_size),
            ("gate_proj", self.hidden_size, self.intermediate_size),
            ("up_proj", self.hidden_size, self.intermediate_size),
            ("down_proj", self.intermediate_size, self.hidden_size),
        ]

    def num_params(self) -> int:
        """Return the number of weights; tied weights count once."""
        matrices = sum(rows * columns for _, rows, columns in self.linear_shapes())
        biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim if self.qkv_bias else 0
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * (matrices + biases + norms) + self.hidden_size
