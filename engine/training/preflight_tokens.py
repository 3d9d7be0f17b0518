"""P12 and P13: whether the model has, and has ever learnt, every token that the rows use.

Legend of shape suffixes: V rows of the embedding, H hidden size.
"""

from collections import Counter
from collections.abc import Iterable

import torch

from engine.data.preflight_case import Verdict, counted, listed
from engine.data.rendered import Rendered
from engine.training.context import RunContext

MAX_ROWS = 50_000
_SMALL = 1e-3
"""A row this much shorter than the middle one is zero for all purposes; learnt rows differ by a factor of ten."""
_CLOSE = 0.02
"""A row this much closer to the mean than the middle one was put there: learnt rows differ by a factor of ten."""
_CHUNK_ROWS = 16384
_NAMED_TOKENS = 6


def looked_at(context: RunContext) -> list[Rendered]:
    """Return the sequences whose tokens are looked at: all, or of very many that many spread over the data."""
    sequences = context.rendered.sequences
    step = -(-len(sequences) // MAX_ROWS) or 1
    return [sequences[index] for index in range(0, len(sequences), step)]


def check_ids(context: RunContext) -> Verdict:
    """Look whether the embedding has a row for every token id of the training rows."""
    num_rows = int(context.model.get_input_embeddings().weight.shape[0])
    sequences = looked_at(context)
    highest = max((max(row.input_ids) for row in sequences if row.input_ids), default=0)
    measured = {"highest_id": float(highest), "embedding_rows": float(num_rows)}
    if highest < num_rows:
        return Verdict("passed", f"The highest token id is {highest:,} of {num_rows:,}.", measured=measured)
    rows = [row.id for row in sequences if row.input_ids and max(row.input_ids) >= num_rows]
    return Verdict(
        "blocked",
        f"{counted(len(set(rows)), 'row uses', 'rows use')} token ids up to {highest:,}; the model has {num_rows:,} "
        f"embeddings ({listed(rows)}).",
        "Use the tokenizer that the model was trained with.",
        rows,
        measured,
    )


def check_known_tokens(context: RunContext) -> Verdict:
    """Look for tokens of the rows that the model has never learnt, where their embeddings stay frozen.

    Such rows are zero, constant, or at the mean of all rows, which is where new tokens are put (Hewitt,
    https://nlp.stanford.edu/~johnhew/vocab-expansion.html; transformers' `resize_token_embeddings`). Rows that only pad
    the matrix are no concern: nothing uses them. A token drawn at random like learnt ones cannot be told from them.
    """
    model = context.model
    sequences = looked_at(context)
    used = Counter(token for row in sequences for token in row.input_ids)
    taught = Counter(
        token for row in sequences for token, trained in zip(row.input_ids, row.trained_mask, strict=True) if trained
    )
    entry, leave = model.get_input_embeddings().weight, _output_weight(context)
    unknown: set[int] = set() if entry.requires_grad else _unlearnt(entry, used)
    if leave is not None and not leave.requires_grad and leave is not entry:
        unknown |= _unlearnt(leave, taught)
    measured = {"tokens_used": float(len(used)), "tokens_unknown": float(len(unknown))}
    if entry.requires_grad and (leave is None or leave.requires_grad):
        return Verdict("passed", "Embeddings learn too.", measured=measured)
    if not unknown:
        return Verdict(
            "passed", f"All {len(used):,} tokens of the rows have embeddings of their own.", measured=measured
        )
    rows = [row.id for row in sequences if not unknown.isdisjoint(row.input_ids)]
    return Verdict(
        "blocked",
        f"The model has never learnt {_tokens(context, unknown, used)}, and embeddings are frozen, so that it never "
        f"will: {counted(len(set(rows)), 'row uses', 'rows use')} them ({listed(rows)}).",
        "Set method.name to full, so that embeddings learn; or choose a chat template or a base model that knows them.",
        rows,
        measured,
    )


def _output_weight(context: RunContext) -> torch.Tensor | None:
    head = context.model.get_output_embeddings()
    return None if head is None else head.weight


def _tokens(context: RunContext, unknown: set[int], used: Counter[int]) -> str:
    often = sorted(unknown, key=lambda token: (-used[token], token))
    names = [repr(context.tokenizer.convert_ids_to_tokens(token)) for token in often]
    return f"{counted(len(names), 'token', 'tokens')} ({listed(names, _NAMED_TOKENS)})"


def _unlearnt(weight_VH: torch.Tensor, tokens: Iterable[int]) -> set[int]:
    """Return the tokens whose rows are zero, constant, or at the mean, measured against the middle row."""
    ids = torch.tensor(sorted(token for token in tokens if token < len(weight_VH)), device=weight_VH.device)
    if len(weight_VH) < 3 or not len(ids):
        return set()
    # Packed 4-bit weights have another shape; embeddings and heads are never packed.
    mean_H = weight_VH.detach().mean(dim=0, dtype=torch.float32)
    sizes, spreads, distances = _measures(weight_VH.detach(), mean_H)
    odd = (
        (sizes[ids] <= _SMALL * sizes.median())
        | (spreads[ids] <= _SMALL * spreads.median())
        | (distances[ids] <= _CLOSE * distances.median())
    )
    return {int(token) for token in ids[odd]}


def _measures(weight_VH: torch.Tensor, mean_H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return length, spread and distance from the mean of each row, a few rows at a time."""
    sizes, spreads, distances = [], [], []
    for chunk in weight_VH.split(_CHUNK_ROWS):
        rows = chunk.float()
        sizes.append(rows.norm(dim=1))
        spreads.append(rows.std(dim=1, correction=0))
        distances.append((rows - mean_H).norm(dim=1))
    return torch.cat(sizes), torch.cat(spreads), torch.cat(distances)
