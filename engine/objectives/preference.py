"""Preference: learn to prefer some answers to others, from pairs or from answers marked good or bad.

The loss of a step is the mean over its rows, whatever their length and however they are cut into micro-batches. What
the untouched model makes of the answers is computed once, before the first step (`engine.objectives.references`); no
second model and no second adapter is held.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from engine.data.rendered import RenderedRows
from engine.evaluation.isolation import undisturbed
from engine.objectives.pair_batches import (
    SideCollator,
    gathered_sides,
    grouped,
    log_probs,
    mismatched,
    padded,
)
from engine.objectives.parts import TrainerParts
from engine.objectives.preference_losses import (
    Answers,
    LossSettings,
    answer_losses,
    mismatch_divergence,
    pair_losses,
    rewards_of,
    settings_of,
)
from engine.objectives.references import make_references
from engine.objectives.sequences import Segment, Sequences
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered rows, the sides of a pair together."""
    return grouped(rendered)


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return gathered_sides(segments)


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer that compares answers, with what the untouched model makes of them."""
    base = parts.model.get_base_model() if isinstance(parts.model, PeftModel) else parts.model
    if parts.training.dropout is None:
        without_own_dropout(base)
    pad = parts.tokenizer.pad_token_id
    built = PreferenceTrainer(
        model=parts.model,
        args=TrainingArguments(**shared_settings(parts)),
        processing_class=parts.tokenizer,
        data_collator=SideCollator(pad_id=0 if pad is None else int(pad)),
    )
    built.steer(parts.sequences, parts.order, parts.rate_share)
    built.prepare(parts)
    if built.fused_head:
        add_fused_lm_head(base)
    return built


def without_own_dropout(base: nn.Module) -> None:
    """Switch off the dropout that some base models bring: the reference is computed without, and noise is no progress.

    It stays where somebody asked for it, as that of adapters does. The places are those of `engine.models.dropout`.
    """
    for name, module in base.named_modules():
        if "lora_dropout" in name:
            continue
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for held in [held for held, value in vars(module).items() if "dropout" in held and isinstance(value, float)]:
            setattr(module, held, 0.0)


class PreferenceTrainer(StepTrainer):
    """The library's trainer with the losses of preference.

    Attributes:
        settings: What decides on the loss.
        references: Log-probabilities under the untouched model [rows, sides], with KTO's mismatched answer behind them.
        fused_head: Take log-probabilities from TRL's fused output layer.
    """

    extra_names = ("reward_accuracy", "reward_margin")
    settings: LossSettings
    references: torch.Tensor
    fused_head: bool

    def prepare(self, parts: TrainerParts) -> None:
        """Take what the loss needs besides the rows."""
        self.settings = settings_of(parts.recipe)
        self.train_dataset = self.sequences.dataset(numbered=True)
        # The fused head saves memory on a GPU and is 2 to 4 times slower than plain cross entropy on a CPU (measured).
        self.fused_head = self.args.device.type != "cpu"
        self._max_length = int(parts.training.max_length or 0) or int(self.sequences.lengths.max())
        self._divergence: tuple[int, torch.Tensor] | None = None
        self._shares: tuple[int, int] = (0, 0)
        table = parts.references
        if table is None and self.settings.uses_reference:
            table = make_references(parts.recipe, parts.model, parts.sequences, pad_id=self._pad_id)
        self.references = torch.zeros(0) if table is None else table.to(self.args.device)

    @property
    def _pad_id(self) -> int:
        return int(self.data_collator.pad_id)

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        """Run one micro-step; the first of a step looks at all of its rows first, where the loss needs that."""
        step = self.state.global_step
        if self.settings.loss == "kto" and (self._divergence is None or self._divergence[0] != step):
            self._divergence = (step, self._divergence_of_step(step))
        return super().training_step(*arguments, **keywords)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed loss of the rows over the number of rows in the whole step."""
        places, good_B = inputs.pop("places"), inputs.pop("good")
        num_rows = len(places) if num_items_in_batch is None else num_items_in_batch
        logps_N, tokens_N = log_probs(model, inputs, fused_head=self.fused_head)
        sides = self._sides(logps_N, tokens_N, places)
        if self.settings.loss == "kto":
            losses_B = self._single_losses(sides, good_B, self._divergence_now(places))
        else:
            losses_B = pair_losses(sides[0], sides[1], self.settings)
        with torch.no_grad():
            self._note(sides, good_B, places, num_rows)
        loss = losses_B.sum() / num_rows
        return (loss, {"logps": logps_N}) if return_outputs else loss

    def _sides(self, logps_N: torch.Tensor, tokens_N: torch.Tensor, places: torch.Tensor) -> list[Answers]:
        logps, tokens = logps_N.split(len(places)), tokens_N.split(len(places))
        if not self.settings.uses_reference:
            return [Answers(*side, torch.zeros_like(side[0])) for side in zip(logps, tokens, strict=True)]
        known = self.references[places]
        return [Answers(logps[side], tokens[side], known[:, side]) for side in range(len(logps))]

    def _single_losses(self, sides: Sequence[Answers], good_B: torch.Tensor, divergence: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row whose answers are judged one by one; of a pair the mean of both."""
        if len(sides) == 1:
            return answer_losses(sides[0], good_B, divergence, self.settings)
        kinds = (torch.ones_like(good_B), torch.zeros_like(good_B))
        both = [answer_losses(side, kind, divergence, self.settings) for side, kind in zip(sides, kinds, strict=True)]
        return torch.stack(both).mean(dim=0)

    def _divergence_now(self, places: torch.Tensor) -> torch.Tensor:
        """Return the divergence of the step in progress; outside of training that of the rows at hand."""
        if self._divergence is not None and self._divergence[0] == self.state.global_step:
            return self._divergence[1]
        rows = places.tolist()
        return mismatch_divergence(self._mismatch_sum(rows), len(rows))

    def _divergence_of_step(self, step: int) -> torch.Tensor:
        """Return KTO's divergence over the rows of a whole step, so that it does not depend on how the step is cut."""
        own = [place for rows in self.order.micro_batches(step) for place in rows]
        total = self._mismatch_sum(own).reshape(1).double()
        if self.share is not None:
            total = total + self.share.sum_of(step, total)
        self._shares = self._count_kinds(step)
        return mismatch_divergence(total[0], self.weight_of_step(step)).float()

    def _mismatch_sum(self, places: Sequence[int]) -> torch.Tensor:
        """Return the summed ratio of answers to other prompts, of shape []; nothing learns from them."""
        total = torch.zeros((), device=self.args.device)
        at_once = max(1, self.args.per_device_train_batch_size)
        with self._looking():
            for start in range(0, len(places), at_once):
                rows = list(places[start : start + at_once])
                segments = [mismatched(self.sequences, place, self._max_length) for place in rows]
                batch = padded([(segment.input_ids, segment.labels) for segment in segments], self._pad_id)
                found, _ = log_probs(self.model, self._prepare_inputs(batch), fused_head=self.fused_head)
                total += (found - self.references[rows, -1]).sum()
        return total

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """Compute as in training but for gradients and dropout."""
        with undisturbed(self.model), self.accelerator.autocast():
            yield

    def _count_kinds(self, step: int) -> tuple[int, int]:
        """Return how many good and how many bad single answers a step has."""
        rows = [self.sequences.segments[place] for place in self.order.rows_of_step(step)]
        good = sum(1 for row in rows if len(row) == 1 and row[0].targets and row[0].targets[0])
        return good, len(rows) - good

    def _note(
        self, sides: Sequence[Answers], good_B: torch.Tensor, places: torch.Tensor, num_rows: torch.Tensor | int
    ) -> None:
        """Count how often the better answer is ahead, and by how much."""
        rewards = [rewards_of(side, self.settings) for side in sides]
        tie = self.settings.beta * ROUNDING if self.settings.uses_reference else 0.0
        if len(sides) == 2:
            right_B = wins(rewards[0], rewards[1], tie)
            self.add_extras(
                {
                    "reward_accuracy": right_B.sum() / num_rows,
                    "reward_margin": (rewards[0] - rewards[1]).sum() / num_rows,
                }
            )
            return
        limit = (self.settings.beta * self._divergence_now(places)).expand_as(rewards[0])
        right_B = torch.where(good_B, wins(rewards[0], limit, tie), wins(limit, rewards[0], tie))
        num_good, num_bad = self._shares
        signed_B = torch.where(good_B, rewards[0] / max(1, num_good), -rewards[0] / max(1, num_bad))
        self.add_extras({"reward_accuracy": right_B.sum() / num_rows, "reward_margin": signed_B.sum()})


ROUNDING = 1e-3
"""Log-probabilities of a model and of its reference differ by so much before the first step, in float32."""


def wins(better_B: torch.Tensor, worse_B: torch.Tensor, tie: float = 0.0) -> torch.Tensor:
    """Return 1 where the better answer has the higher reward, a half for a tie, else 0; of shape [B].

    Args:
        better_B: Rewards of the better answers.
        worse_B: Rewards of the worse ones.
        tie: Difference up to which two rewards are the same.
    """
    ahead_B = better_B - worse_B
    return (ahead_B > tie).float() + 0.5 * (ahead_B.abs() <= tie).float()
