"""Noise on the embeddings while a model trains, so that it learns texts less by heart."""

from typing import Any

import torch
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class NoiseCallback(TrainerCallback):
    """Puts noise on the embeddings of tokens when training begins and takes it off at its end.

    NEFTune (Jain et al., https://arxiv.org/abs/2310.05914). The libraries' own hook looks for the embeddings where
    only some families have them once virtual tokens stand in front of the model.

    Args:
        model: With its method applied.
        alpha: Strength; each number is drawn from -alpha / sqrt(tokens * width) to its opposite.
    """

    def __init__(self, model: PreTrainedModel, alpha: float) -> None:
        self._embeddings: torch.nn.Module = model.get_input_embeddings()
        self._alpha = alpha
        self._handle: RemovableHandle | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put the noise on."""
        self._take_off()
        self._handle = self._embeddings.register_forward_hook(self._with_noise)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the noise off."""
        self._take_off()

    def _take_off(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _with_noise(self, module: torch.nn.Module, _inputs: Any, output_BSH: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output_BSH
        most = self._alpha / (output_BSH.shape[1] * output_BSH.shape[2]) ** 0.5
        return output_BSH + torch.empty_like(output_BSH).uniform_(-most, most)
