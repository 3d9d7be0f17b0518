"""Sources with their targets as tensors.

Shapes: B rows, S tokens of the longest source, T of the longest target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.evaluation.scoring import causal_model
from engine.objectives.sequences import IGNORED
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class SourceCollator:
    """Pads the sources and the targets of a micro-batch on the right.

    A row holds a source and its target behind each other, as it is rendered; what has a label is the target. The
    decoder reads a first token and the target without its last one: what it is to write next.

    Attributes:
        pad_id: Fills the batch; it is masked, and has no label.
        start_id: The token that the decoder starts from.
    """

    pad_id: int
    start_id: int

    @staticmethod
    def of(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> "SourceCollator":
        """Return the collator of a model.

        Raises:
            ProblemError: The model does not say what its decoder starts from.
        """
        pad = tokenizer.pad_token_id
        return SourceCollator(0 if pad is None else int(pad), start_id(causal_model(model), tokenizer))

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask` [B, S], `decoder_input_ids` and `labels` [B, T].

        Without rows, which is what a process reads that has no part in the rest of a step, there is nothing.
        """
        if not rows:
            return {}
        parts = [parts_of(row["input_ids"], row["labels"]) for row in rows]
        sources, targets = [source for source, _ in parts], [target for _, target in parts]
        width, height = max(map(len, sources)), max(map(len, targets))
        return {
            "input_ids": _tensor(sources, width, self.pad_id),
            "attention_mask": _tensor([[1] * len(each) for each in sources], width, 0),
            "decoder_input_ids": _tensor([[self.start_id, *each[:-1]] for each in targets], height, self.pad_id),
            "labels": _tensor(targets, height, IGNORED),
        }


def parts_of(input_ids: Sequence[int], labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the source and the target of a rendered pair: what has no label in front, and what has one."""
    first = next((place for place, label in enumerate(labels) if label != IGNORED), len(labels))
    return list(input_ids[:first]), list(input_ids[first:])


def _tensor(rows: Sequence[Sequence[int]], length: int, filler: int) -> torch.Tensor:
    return torch.tensor([[*row, *([filler] * (length - len(row)))] for row in rows])


def start_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that a model's decoder starts from, as the model itself shifts a target.

    Some families start from the language of the target, which the tokenizer writes into every one.

    Raises:
        ProblemError: The model does not say.
    """
    probe = torch.tensor([tokenizer(text_target="a")["input_ids"]], device=model.device)
    try:
        shifted: torch.Tensor = model.prepare_decoder_input_ids_from_labels(probe)
    except (AttributeError, ValueError) as error:
        raise ProblemError(
            Problem(
                "model.no_decoder_start",
                clean_line(f"{type(model).__name__} does not say which token its decoder starts from: {error}."),
                "Set decoder_start_token_id in its config.json, or choose another model.",
                path="model.base",
            )
        ) from error
    return int(shifted[0, 0])
