"""How many rows an evaluation takes at once, so that it fits where training fitted. Light; pure arithmetic.

The evaluation, its rehearsal and the formula cut by the same rule.
"""

MAX_ROWS = 64
"""Most rows of one batch."""
_MOST_SHARE = 4.0
_LEAST_SHARE = 0.125


def cached_share(*, hidden: int, kv_heads: int, head_dim: int, activation_checkpointing: bool) -> float:
    """Return the tokens whose keys and values fit where training keeps one token, from 1/8 to 4.

    Generation keeps a key and a value of each token in each block. A training step keeps at least eight times the
    hidden width there for the backward pass, or once with activation checkpointing, when only the input of a block
    stays. Models without grouped-query attention have keys as wide as that input: then checkpointed training fits
    where four times its tokens of keys and values do not.

    Args:
        hidden: Width of the residual stream.
        kv_heads: Heads of keys and of values.
        head_dim: Width of each of them.
        activation_checkpointing: Whether training recomputes activations.
    """
    if min(hidden, kv_heads, head_dim) < 1:
        return 1.0
    kept = hidden * (1 if activation_checkpointing else 8)
    return min(_MOST_SHARE, max(_LEAST_SHARE, kept / (2 * kv_heads * head_dim)))


def answer_cost(prompt: int, new_tokens: int, share: float) -> int:
    """Return what an answered row takes of a budget of `share` times the tokens of a training micro-batch.

    Its keys and values count once for each token. Reading the prompt computes as much for a token as a training step
    does, so that no more tokens than those of a micro-batch may be read at once, whatever their cache leaves free.

    Args:
        prompt: Tokens that are read.
        new_tokens: Longest answer, in tokens.
        share: Of `cached_share`.
    """
    return max(1, prompt + new_tokens, int(share * prompt))


def answered_rows(micro_batch_tokens: int, prompt: int, new_tokens: int, share: float) -> int:
    """Return how many rows with such a prompt are answered at once; always one, however long it is."""
    fitting = int(share * micro_batch_tokens) // answer_cost(prompt, new_tokens, share)
    return max(1, min(MAX_ROWS, fitting))
