"""Teacher-forced loss over trained tokens, without ever holding the logits of a whole batch.

Shapes: B rows, T tokens, H hidden width, V vocabulary, N trained positions of the batch.

At a vocabulary of 150 000 the logits of 8 000 tokens take 5 GB in float32, several times the model's other activations;
trainers with a chunked loss never hold them, so evaluation must not either. The decoder runs once, the head runs on
chunks of trained positions.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.methods.virtual_tokens import behind_virtual_tokens

CHUNK_BYTES = 64 * 1024**2
"""Float32 logits held at once."""
_MIN_CHUNK = 16


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One row ready for the model: ids, which of them are learned from, and the name of the row they come from."""

    input_ids: Sequence[int]
    trained_mask: Sequence[bool | int]
    id: str = ""

    @property
    def num_trained(self) -> int:
        """Tokens with a loss; the first token of a row never has one, as nothing predicts it."""
        return sum(1 for flag in self.trained_mask[1:] if flag)


@dataclass(frozen=True, slots=True)
class RowScore:
    """Sums over one row: cross-entropy in nats, tokens ranked first, tokens."""

    loss: float
    right: int
    tokens: int


def causal_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside, with the adapter's layers in place and active."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class TokenScorer:
    """Scores batches of rows with one model.

    Args:
        model: A causal model, with or without adapter.
        precision: Number format that training computes in; weights in float32 are run under autocast as in training.
        pad_id: Any valid token id; padding is masked.
    """

    def __init__(self, model: nn.Module, *, precision: torch.dtype | None = None, pad_id: int = 0) -> None:
        self._learner = model
        self._model = causal_model(model)
        self._decoder: nn.Module = self._model.get_decoder()
        self._head: nn.Module | None = self._model.get_output_embeddings()
        self._pad_id = pad_id
        self._autocast = autocast_like_training(self._model, precision)
        self._finish = after_head(self._model)
        self._head_is_all: bool | None = None

    def score(self, rows: Sequence[TokenRow]) -> list[RowScore]:
        """Return the sums of each row, in order; rows must have at least one trained token."""
        return _by_row(len(rows), *self._losses(rows))

    def log_probs(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        """Return the log-probability of each trained token of each row, in nats."""
        targets_n, losses, _ = self._losses(rows)
        found: list[list[float]] = [[] for _ in rows]
        for row, loss in zip(targets_n.tolist(), losses.tolist(), strict=True):
            found[row].append(-loss)
        return found

    def _losses(self, rows: Sequence[TokenRow]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return for each trained token its row, its cross-entropy and whether it is ranked first, each (N,)."""
        ids, attention, targets = self._pad(rows)
        with self._autocast():
            inputs = {"input_ids": ids, **behind_virtual_tokens(self._learner, attention)}
            if self._can_chunk():
                hidden = self._decoder(**inputs, use_cache=False).last_hidden_state
                return self._of_hidden(hidden, targets)
            logits = self._model(**inputs, use_cache=False).logits
            return _in_chunks(logits.__getitem__, targets, logits.shape[-1])

    def _pad(self, rows: Sequence[TokenRow]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, attention mask and targets, each (B, T); the target at t is token t + 1, -100 if untrained."""
        longest = max(len(row.input_ids) for row in rows)
        ids = torch.full((len(rows), longest), self._pad_id)
        attention = torch.zeros_like(ids)
        targets = torch.full_like(ids, -100)
        for index, row in enumerate(rows):
            length = len(row.input_ids)
            row_ids = torch.tensor(list(row.input_ids))
            mask = torch.tensor([bool(flag) for flag in row.trained_mask])
            ids[index, :length] = row_ids
            attention[index, :length] = 1
            targets[index, : length - 1] = torch.where(mask[1:], row_ids[1:], -100)
        device = self._model.device
        return ids.to(device), attention.to(device), targets.to(device)

    def _can_chunk(self) -> bool:
        """Say whether head(hidden), scaled and capped as the configuration says, is what the model returns."""
        if self._head_is_all is None:
            self._head_is_all = self._head is not None and self._head_gives_logits()
        return self._head_is_all

    def _head_gives_logits(self) -> bool:
        probe = torch.arange(4, device=self._model.device).remainder(self._model.config.get_text_config().vocab_size)
        whole = self._model(input_ids=probe[None], use_cache=False).logits
        output = self._decoder(input_ids=probe[None], use_cache=False)
        hidden = getattr(output, "last_hidden_state", None)
        if hidden is None or self._head is None:
            return False
        by_head = self._finish(self._head(hidden))
        return by_head.shape == whole.shape and torch.allclose(by_head, whole.to(by_head.dtype), rtol=1e-3, atol=1e-3)

    def _of_hidden(
        self, hidden: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        assert self._head is not None
        head = self._head
        return _in_chunks(
            lambda where: self._finish(head(hidden[where])), targets, self._model.config.get_text_config().vocab_size
        )


def row_scores(
    logits_at: Callable[[tuple[torch.Tensor, torch.Tensor]], torch.Tensor], targets: torch.Tensor, vocab_size: int
) -> list[RowScore]:
    """Return the sums of each row.

    Args:
        logits_at: Returns the logits (N, V) at N places, given as rows and columns of `targets`.
        targets: Expected tokens (B, T), -100 where none is expected.
        vocab_size: Numbers that the output layer gives out at each place.
    """
    return _by_row(len(targets), *_in_chunks(logits_at, targets, vocab_size))


def _by_row(num_rows: int, targets_n: torch.Tensor, losses: torch.Tensor, hits: torch.Tensor) -> list[RowScore]:
    counts = targets_n.bincount(minlength=num_rows)
    # Sums are float64 so that the order of adding does not show.
    loss = torch.zeros(num_rows, dtype=torch.float64, device=losses.device).index_add_(0, targets_n, losses)
    right = torch.zeros(num_rows, dtype=torch.int64, device=losses.device).index_add_(0, targets_n, hits)
    columns = zip(loss.tolist(), right.tolist(), counts.tolist(), strict=True)
    return [RowScore(float(row_loss), int(hits), int(count)) for row_loss, hits, count in columns]


def _in_chunks(
    logits_at: Callable[[tuple[torch.Tensor, torch.Tensor]], torch.Tensor], targets: torch.Tensor, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return row, cross-entropy (float64) and hit of each target, holding the logits of a few at a time."""
    rows_n, columns_n = torch.nonzero(targets != -100, as_tuple=True)
    chunk = max(_MIN_CHUNK, CHUNK_BYTES // (4 * vocab_size))
    losses = torch.zeros(len(rows_n), dtype=torch.float64, device=targets.device)
    hits = torch.zeros(len(rows_n), dtype=torch.int64, device=targets.device)
    for start in range(0, len(rows_n), chunk):
        part = slice(start, start + chunk)
        where = (rows_n[part], columns_n[part])
        logits = logits_at(where).float()
        expected = targets[where]
        losses[part] = functional.cross_entropy(logits, expected, reduction="none").double()
        hits[part] = (logits.argmax(dim=-1) == expected).long()
    return rows_n, losses, hits


def after_head(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a model does with the output layer's product: some families scale it, some cap it.

    The names and their order are those that TRL's fused output layer reads (`trl.trainer.utils` of TRL 1.16).
    """
    config = vars(model.config.get_text_config())
    cap = config.get("final_logit_softcapping")
    named = [config.get(name) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")]
    scale = next((value for value in named if value is not None), None)
    divisor = config.get("logits_scaling")
    if scale is None and divisor:
        scale = divisor if config.get("model_type") == "hyperclovax" else 1 / divisor

    def finish(logits: torch.Tensor) -> torch.Tensor:
        if scale is not None and scale != 1:
            logits = logits * scale
        return cap * torch.tanh(logits / cap) if cap else logits

    return finish


def autocast_like_training(
    model: PreTrainedModel, precision: torch.dtype | None
) -> Callable[[], AbstractContextManager[object]]:
    """Return the context that the trainer computes in: autocast over float32 weights, nothing over others.

    A model of which some blocks learn holds those in float32 and the others as they are computed in.
    """
    if precision in (torch.bfloat16, torch.float16) and _has_float32_layers(model):
        return lambda: torch.autocast(model.device.type, dtype=precision)
    return nullcontext


def _has_float32_layers(model: PreTrainedModel) -> bool:
    """Return whether layers of the model's own are in float32; adapters, which are, convert what they read."""
    if model.dtype == torch.float32:
        return True
    adapters = {
        id(layer)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer)
        for name in module.adapter_layer_names
        for layer in module.get_submodule(name).modules()
    }
    return any(
        isinstance(module, (nn.Linear, Conv1D)) and module.weight.dtype == torch.float32 and id(module) not in adapters
        for module in model.modules()
    )
