"""Answers drawn from a model while it learns: which token is drawn is a function of seed, step, prompt and place.

Nothing is taken from the global random generators. A resumed run therefore draws what the straight one would have
drawn, and how many answers are written at once changes nothing beyond rounding.

Legend of shape suffixes: B answers, T places, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.logits_process import TopPLogitsWarper

from engine.evaluation.batches import in_batches
from engine.evaluation.scoring import autocast_like_training, causal_model
from engine.planning.evaluation_cut import answer_cost


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer to be drawn.

    Attributes:
        place: Among the answers of the step.
        prompt_ids: What the model goes on from.
        key: Decides the draw, with the seed: step, row and number of the answer to it.
    """

    place: int
    prompt_ids: Sequence[int]
    key: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """How answers are drawn.

    Attributes:
        seed: Of the run.
        temperature: Logits are divided by it.
        top_p: Only the likeliest tokens that together have this probability.
        max_new_tokens: Longest answer.
        stop_ids: Tokens that end an answer.
        pad_id: Fills batches; masked.
        budget: Tokens that may be in memory at once (`engine.planning.evaluation_cut`).
        share: Of `engine.planning.evaluation_cut.cached_share`.
        precision: Number format of the arithmetic.
    """

    seed: int
    temperature: float
    top_p: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int
    budget: int
    share: float
    precision: torch.dtype


class Drawer:
    """Draws answers with one model, in batches.

    Args:
        model: A causal model, with or without adapter, in evaluation mode while it draws.
        settings: How.
        look_up: Called at every token; may block, and may raise to leave.
        tell_smaller: Told when memory ran out: answers that did not fit at once, and how many are tried.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: DrawSettings,
        *,
        look_up: Callable[[], None],
        tell_smaller: Callable[[int, int], None] | None = None,
    ) -> None:
        self._model = causal_model(model)
        self._settings = settings
        self._look_up = look_up
        self._tell_smaller = tell_smaller
        self._autocast = autocast_like_training(self._model, settings.precision)

    def draw(self, wanted: Sequence[Draw]) -> list[list[int]]:
        """Return the tokens of each answer in the order of places, with the token that ends it where one was drawn."""
        settings = self._settings
        found: list[list[int]] = [[] for _ in wanted]
        budget = int(settings.share * settings.budget)
        for batch, answers in in_batches(wanted, self._cost, budget, self._draw_batch, self._tell_smaller):
            for draw, ids in zip(batch, answers, strict=True):
                found[draw.place] = ids
        return found

    def _cost(self, draw: Draw) -> int:
        return answer_cost(len(draw.prompt_ids), self._settings.max_new_tokens, self._settings.share)

    def _draw_batch(self, batch: Sequence[Draw]) -> list[list[int]]:
        settings = self._settings
        longest = max(len(draw.prompt_ids) for draw in batch)
        ids = torch.full((len(batch), longest), settings.pad_id)
        attention = torch.zeros_like(ids)
        for row, draw in enumerate(batch):
            ids[row, longest - len(draw.prompt_ids) :] = torch.tensor(list(draw.prompt_ids))
            attention[row, longest - len(draw.prompt_ids) :] = 1
        device = self._model.device
        chance_BT = torch.tensor(np.stack([_chances(settings, draw.key) for draw in batch]), device=device)
        chooser = TokenChooser(chance_BT, longest, temperature=settings.temperature, top_p=settings.top_p)
        with self._autocast():
            output = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=attention.to(device),
                generation_config=self._generation(),
                logits_processor=LogitsProcessorList([chooser]),
                stopping_criteria=StoppingCriteriaList([_LookUp(self._look_up)]),
            )
        return [self._until_end(row) for row in output[:, longest:].tolist()]

    def _generation(self) -> GenerationConfig:
        # Every value is given: what is left out is taken from the model's own configuration.
        return GenerationConfig(
            max_new_tokens=self._settings.max_new_tokens,
            # The chooser leaves one token, which is then the likeliest.
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            min_p=None,
            typical_p=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=list(self._settings.stop_ids) or None,
            pad_token_id=self._settings.pad_id,
            use_cache=True,
        )

    def _until_end(self, ids: list[int]) -> list[int]:
        stops = self._settings.stop_ids
        end = next((place + 1 for place, token in enumerate(ids) if token in stops), len(ids))
        return ids[:end]


class TokenChooser(LogitsProcessor):
    """Leaves the one token that a number between 0 and 1 falls on when the tokens lie side by side, as wide as likely.

    Args:
        chance_BT: The numbers, of each answer for each place.
        num_before: Tokens in front of the first place.
        temperature: Logits are divided by it.
        top_p: Only the likeliest tokens that together have this probability.
    """

    def __init__(self, chance_BT: torch.Tensor, num_before: int, *, temperature: float, top_p: float) -> None:
        self._chance_BT = chance_BT
        self._num_before = num_before
        self._temperature = temperature
        self._top_p = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores that are least everywhere but at the chosen token of each row."""
        logits_BV = scores.float() / self._temperature
        if self._top_p is not None:
            logits_BV = self._top_p(input_ids, logits_BV)
        ends_BV = torch.softmax(logits_BV, dim=-1).cumsum(dim=-1)
        place = input_ids.shape[1] - self._num_before
        # Times the last end, which rounding leaves beside 1: no number then falls behind the last likely token.
        at_B1 = self._chance_BT[:, place : place + 1] * ends_BV[:, -1:]
        chosen_B1 = torch.searchsorted(ends_BV, at_B1, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen_B1, 0.0)


class _LookUp(StoppingCriteria):
    """Looks up at every token; ends nothing itself."""

    def __init__(self, look_up: Callable[[], None]) -> None:
        self._look_up = look_up

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        self._look_up()
        return torch.zeros(input_ids.shape[0], device=input_ids.device, dtype=torch.bool)


def _chances(settings: DrawSettings, key: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng([settings.seed, *key])
    return generator.random(settings.max_new_tokens, dtype=np.float32)
