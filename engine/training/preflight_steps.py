"""P29 and P30: after the first steps, whether everything that should learn has moved and nothing else, and whether an
adapter changes what the model says. What is frozen is looked at once more at the end.

Weights that learn are added up whole, bit by bit; of frozen ones at most 65,536 places spread over each tensor are, so
that the look costs little beside a step. Nothing is copied.
"""

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from engine.data.preflight_case import Verdict
from engine.evaluation.isolation import undisturbed
from engine.objectives.sequences import Sequences
from engine.training.preflight import Preflight
from engine.training.trainer import StepTrainer

LOOK_AFTER = 2
"""Steps that change weights: after the first one the matrices of LoRA that start behind zeros have no gradient yet."""
FROZEN_PLACES = 65_536
MAX_TOKENS = 512
_AT_ONCE = 1 << 22
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MOVED, FROZEN, EFFECT = "P29", "P31", "P30"


def bit_sum(tensor: torch.Tensor, most: int | None = None) -> int:
    """Return the sum over the bits of a tensor's numbers, read as whole numbers; equal tensors have equal sums.

    Args:
        tensor: Of any number format.
        most: Places to look at, spread evenly; None looks at all.
    """
    flat = tensor.detach().flatten().view(_BITS[tensor.element_size()])
    if most is not None and flat.numel() > most:
        flat = flat[:: -(-flat.numel() // most)]
    parts = flat.split(_AT_ONCE) if flat.numel() > _AT_ONCE else (flat,)
    # Places weigh differently, so that two numbers that only change places are seen.
    sums = [(part.to(torch.int64) * (torch.arange(len(part), device=part.device) % 8191 + 1)).sum() for part in parts]
    return int(torch.stack(sums).sum()) if sums else 0


class Movement:
    """Remembers where weights stood, and tells which have moved since.

    Args:
        model: With the method applied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: self._sum(weight) for name, weight in model.named_parameters()}
        self._learns = {name for name, weight in model.named_parameters() if weight.requires_grad}

    @staticmethod
    def _sum(weight: torch.Tensor) -> tuple[int, int]:
        # Both: what is frozen at first may learn later, and the other way round.
        whole = bit_sum(weight) if weight.requires_grad else 0
        return bit_sum(weight, FROZEN_PLACES), whole

    def learning_moved(self) -> Verdict:
        """Look that every weight which learnt all the while has moved."""
        still, moved = [], 0
        for name, weight in self._model.named_parameters():
            if not weight.requires_grad or name not in self._learns:
                continue
            if self._sum(weight) == self._before[name] and weight.numel():
                still.append(name)
            else:
                moved += 1
        measured = {"moved": float(moved), "still": float(len(still))}
        if not still:
            return Verdict("passed", f"All {moved} tensors that learn have moved.", measured=measured)
        names = ", ".join(still[:3]) + (" and others" if len(still) > 3 else "")
        if not moved:
            message = "Not one of the weights that learn has moved: training would change nothing."
            fix = "Raise training.learning_rate, or choose another optimizer or method."
            return Verdict("blocked", message, fix, (), measured)
        message = f"{len(still)} of {moved + len(still)} tensors that learn have not moved: {names}."
        # Experts that no row was sent to, and rates too small for the numbers, move nothing by nature.
        return Verdict("warning", message, "Look at method.targets and training.learning_rate.", (), measured)

    def frozen_stayed(self) -> Verdict:
        """Look that no weight which never learnt has moved."""
        frozen = [(name, weight) for name, weight in self._model.named_parameters() if self._is_frozen(name, weight)]
        moved = [name for name, weight in frozen if bit_sum(weight, FROZEN_PLACES) != self._before[name][0]]
        measured = {"frozen": float(len(frozen)), "moved": float(len(moved))}
        if not frozen:
            return Verdict("passed", "Every weight learns; none is frozen.", measured=measured)
        if not moved:
            return Verdict("passed", f"All {len(frozen)} frozen tensors are as they were.", measured=measured)
        names = ", ".join(moved[:3]) + (" and others" if len(moved) > 3 else "")
        message = f"{len(moved)} frozen tensors have changed: {names}. The base model would not be the one you chose."
        fix = "Choose another method, or install the versions that ftwizard was tested with."
        return Verdict("blocked", message, fix, (), measured)

    def _is_frozen(self, name: str, weight: torch.Tensor) -> bool:
        return not weight.requires_grad and name not in self._learns


def check_effect(model: nn.Module, sequences: Sequences) -> Verdict:
    """Look that the model says something else with its adapter than without."""
    if not isinstance(model, PeftModel):
        return Verdict("skipped", "There is no adapter: the weights of the model itself learn.")
    ids = torch.tensor([sequences.segments[0][0].input_ids[:MAX_TOKENS]], device=model.device)
    with undisturbed(model):
        adapted = _last_scores(model, ids)
        with model.disable_adapter():
            plain = _last_scores(model, ids)
    difference = float((adapted - plain).abs().max())
    measured = {"difference": difference}
    if difference > 0:
        return Verdict("passed", f"The adapter moves the model's scores by up to {difference:.2g}.", measured=measured)
    return Verdict(
        "warning",
        "The adapter changes nothing that the model says.",
        "Look at method.targets and training.learning_rate.",
        (),
        measured,
    )


def _last_scores(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the scores at the last place: of tokens, labels or tags."""
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :1]
    logits = model(**inputs).logits
    scores: torch.Tensor = logits.reshape(-1, logits.shape[-1])[-1].float()
    return scores


class StepGates(TrainerCallback):
    """Makes the checks while the run trains.

    Args:
        preflight: Where verdicts go; one that blocks ends the run.
        trainer: Whose steps they are.
    """

    def __init__(self, preflight: Preflight, trainer: StepTrainer) -> None:
        self._preflight = preflight
        self._trainer = trainer
        self._model: nn.Module = trainer.model
        self._movement: Movement | None = None
        self._steps = 0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remember where the weights stand, once it is settled which of them this step holds back."""
        if self._movement is None:
            self._movement = Movement(self._model)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look once, after the second step that changed weights."""
        # float16 tries scales that overflow and leaves those steps out.
        if self._movement is None or self._trainer.accelerator.optimizer_step_was_skipped:
            return
        if not self._trainer.step_teaches():
            return
        self._steps += 1
        if self._steps != LOOK_AFTER:
            return
        movement = self._movement
        self._preflight.check(MOVED, "What learns has moved", movement.learning_moved)
        self._preflight.check(FROZEN, "What is frozen stays", movement.frozen_stayed)
        title = "The adapter changes what the model says"
        self._preflight.check(EFFECT, title, lambda: check_effect(self._model, self._trainer.sequences))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look once more at what is frozen."""
        if self._movement is not None and self._steps > LOOK_AFTER:
            self._preflight.check(FROZEN, "What is frozen stays, to the last step", self._movement.frozen_stayed)
