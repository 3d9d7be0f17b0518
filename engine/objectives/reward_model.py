"""Reward model: learn a number for an answer that is higher for the answers that people prefer.

The loss is that of Bradley and Terry, as in TRL 1.16's `RewardTrainer.compute_loss`, for each pair apart: the loss of a
step is the mean over its pairs, however they are cut into micro-batches. The reward is read at the last token of a
conversation, by transformers' own head, so that whoever loads the model reads it at the same place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainingArguments

from engine.data.rendered import RenderedRows
from engine.objectives.pair_batches import SideCollator, gathered_sides, grouped
from engine.objectives.parts import TrainerParts
from engine.objectives.sequences import Segment, Sequences
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered pairs."""
    return grouped(rendered)


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return gathered_sides(segments)


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer of the reward's head and of what the method trains besides."""
    pad = parts.tokenizer.pad_token_id
    built = RewardModelTrainer(
        model=parts.model,
        args=TrainingArguments(**shared_settings(parts)),
        processing_class=parts.tokenizer,
        data_collator=SideCollator(pad_id=0 if pad is None else int(pad)),
    )
    built.steer(parts.sequences, parts.order, parts.rate_share)
    built.centering = parts.recipe.reward_model.centering
    return built


class RewardModelTrainer(StepTrainer):
    """The library's trainer with the loss of Bradley and Terry.

    Attributes:
        centering: Weight of the squared sum of both rewards, which keeps them near 0.
    """

    extra_names = ("reward_accuracy", "reward_margin")
    centering: float

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed loss of the pairs over the number of pairs in the whole step."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        chosen_B, rejected_B = outputs.logits.float().squeeze(-1).chunk(2)
        losses_B = reward_losses(chosen_B, rejected_B, self.centering)
        num_pairs = len(losses_B) if num_items_in_batch is None else num_items_in_batch
        with torch.no_grad():
            ahead_B = chosen_B - rejected_B
            right_B = (ahead_B > 0).float() + 0.5 * (ahead_B == 0).float()
            self.add_extras({"reward_accuracy": right_B.sum() / num_pairs, "reward_margin": ahead_B.sum() / num_pairs})
        loss = losses_B.sum() / num_pairs
        return (loss, outputs) if return_outputs else loss


def reward_losses(chosen_B: torch.Tensor, rejected_B: torch.Tensor, centering: float = 0.0) -> torch.Tensor:
    """Return the loss of each pair from the rewards of its answers, of shape [B].

    Args:
        chosen_B: Rewards of the chosen answers.
        rejected_B: Rewards of the rejected ones.
        centering: How much the squared sum of both counts (Eisenstein et al., https://arxiv.org/abs/2312.09244).
    """
    losses_B = -functional.logsigmoid(chosen_B - rejected_B)
    return losses_B + centering * (chosen_B + rejected_B) ** 2 if centering else losses_B
