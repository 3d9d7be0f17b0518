"""The trainer's own collators, for whoever looks at what they hand over."""

from typing import Any, Protocol

import torch

from engine.data.rendering import Renderer
from engine.objectives.masked_text import MaskCollator
from engine.objectives.masking import Masker
from engine.objectives.sequences import SequenceCollator
from engine.objectives.source_batches import SourceCollator


class Collator(Protocol):
    """Makes tensors of the rows of a micro-batch."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and what else the model is given."""


def collator_of(renderer: Renderer, *, packed: bool = False, masker: Masker | None = None) -> Collator:
    """Return what makes tensors of rendered rows.

    Args:
        renderer: What rendered them.
        packed: Several rows share a sequence.
        masker: Hides words as the first step of training does; None leaves them all readable.
    """
    pad = renderer.tokenizer.pad_token_id
    filler = 0 if pad is None else int(pad)
    if renderer.frame.pairs:
        # Without the model nobody knows which token its decoder starts from; nothing that is looked at holds it.
        return SourceCollator(pad_id=filler, start_id=filler)
    plain = SequenceCollator(pad_token_id=filler, packed=packed)
    return plain if masker is None else MaskCollator(masker, plain, lambda: 0)
