"""What all objectives share that learn the next token: from rendered rows to TRL's supervised trainer."""

from collections.abc import Sequence

from engine.data.rendered import RenderedRows
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import Segment, SequenceCollator, Sequences, cut_sequences
from engine.training.settings import supervised_settings
from engine.training.trainer import RunTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered rows as the trainer takes them, packed or each on its own."""
    return cut_sequences(rendered, max_length, packed=packed)


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return Sequences(segments)


def trainer(parts: TrainerParts) -> RunTrainer:
    """Return a trainer whose loss covers exactly the tokens that the renderer marked."""
    pad = parts.tokenizer.pad_token_id
    return RunTrainer(
        model=parts.model,
        args=supervised_settings(parts),
        processing_class=parts.tokenizer,
        # A padded position is masked and has no label, so any id will do where the tokenizer names none.
        data_collator=SequenceCollator(pad_token_id=0 if pad is None else pad, packed=bool(parts.training.packing)),
        sequences=parts.sequences,
        order=parts.order,
        rate_share=parts.rate_share,
    )
