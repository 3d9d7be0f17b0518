"""Greedy answers in batches: left padding, sorted by length, stopped at every token that ends an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from engine.evaluation.batches import in_batches
from engine.evaluation.scoring import autocast_like_training, causal_model
from engine.evaluation.stopping import stop_token_ids
from engine.methods.virtual_tokens import num_virtual_tokens, start_cache
from engine.models.heads import head_of
from engine.planning.evaluation_cut import answer_cost, cached_share


class EvaluationInterrupted(Exception):  # noqa: N818 - a request, not an error
    """Raised when `should_stop` became true in the middle of an evaluation; nothing was written."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt in tokens, with its place in the list of answers."""

    index: int
    input_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Written:
    """One answer.

    Attributes:
        ids: Its tokens, with the one that ended it where there is one.
        text: The same as text, without that.
    """

    ids: Sequence[int]
    text: str


class Answerer:
    """Generates greedy answers with one model.

    Sampling settings and penalties of the model's own generation configuration are overridden, so that the same model
    gives the same answer before and after training and on every machine.

    Args:
        model: A causal model, with or without adapter.
        max_new_tokens: Longest answer, in tokens.
        micro_batch_tokens: Tokens of a training micro-batch: a batch of prompts takes no more memory than training
            took with these.
        cached_share: Tokens of a generation that are kept for one of training (`engine.planning.evaluation_cut`).
        num_beams: Drafts kept while an answer is written; 1 takes the likeliest token each time.
        should_stop: Asked at every token; true raises `EvaluationInterrupted`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        micro_batch_tokens: int,
        cached_share: float = 1.0,
        num_beams: int = 1,
        precision: torch.dtype | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._learner = model
        self._model = causal_model(model)
        self._rewrites = head_of(self._model) == "seq2seq-lm"
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._num_beams = num_beams
        self._share = cached_share
        self._max_cost = int(cached_share * micro_batch_tokens)
        self._autocast = autocast_like_training(self._model, precision)
        self._should_stop = should_stop or (lambda: False)
        self._stop_ids = stop_token_ids(tokenizer, self._model)
        self._context = context_length(model)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        advance: Callable[[int], None],
        on_smaller: Callable[[int, int], None] | None = None,
    ) -> list[str | None]:
        """Return the text of each answer in order; None where the prompt fills the model's context.

        Args:
            prompts: Token ids, each with the generation prompt at its end.
            advance: Called with the number of prompts answered since the last call.
            on_smaller: Told when memory ran out: prompts that did not fit, prompts that are tried instead.
        """
        written = self.write(prompts, advance, on_smaller)
        return [None if answer is None else answer.text for answer in written]

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        advance: Callable[[int], None],
        on_smaller: Callable[[int, int], None] | None = None,
    ) -> list[Written | None]:
        """Return each answer in order, as tokens and as text; arguments as those of `answer`."""
        answers: list[Written | None] = [None] * len(prompts)
        # Where source and answer are apart, a source may fill all of the encoder's context.
        limit = self._context + self._rewrites
        fitting = [Prompt(index, ids) for index, ids in enumerate(prompts) if 0 < len(ids) < limit]
        advance(len(prompts) - len(fitting))
        # In a batch no prompt may shorten the answer of another: where the context leaves less room than the longest
        # answer needs, a prompt is answered alone.
        roomy = [prompt for prompt in fitting if self._length(prompt) <= self._context]
        tight = [prompt for prompt in fitting if self._length(prompt) > self._context]
        for group, max_cost in ((roomy, self._max_cost), (tight, 0)):
            for batch, texts in in_batches(group, self._cost, max_cost, self._answer_batch, on_smaller):
                for prompt, text in zip(batch, texts, strict=True):
                    answers[prompt.index] = text
                advance(len(batch))
        return answers

    def _length(self, prompt: Prompt) -> int:
        return 0 if self._rewrites else len(prompt.input_ids) + self._max_new_tokens

    def _cost(self, prompt: Prompt) -> int:
        return self._num_beams * answer_cost(len(prompt.input_ids), self._max_new_tokens, self._share)

    def _answer_batch(self, batch: Sequence[Prompt]) -> list[Written]:
        longest = max(len(prompt.input_ids) for prompt in batch)
        pad = self._tokenizer.pad_token_id
        pad_id = int(pad) if pad is not None else (self._stop_ids or [0])[0]
        ids = torch.full((len(batch), longest), pad_id)
        attention = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            length = len(prompt.input_ids)
            # Encoders count places from the left, and were made with texts that begin there.
            where = slice(0, length) if self._rewrites else slice(longest - length, longest)
            ids[row, where] = torch.tensor(list(prompt.input_ids))
            attention[row, where] = 1
        ahead = num_virtual_tokens(self._learner)
        if ahead:
            # Their keys and values are there already; the ids only say that something stands in front.
            ids = functional.pad(ids, (ahead, 0), value=pad_id)
            attention = functional.pad(attention, (ahead, 0), value=1)
        device = self._model.device
        watch = _StopWhenAsked(self._should_stop)
        room = self._context - 1 if self._rewrites else self._context - longest
        with self._autocast():
            output = self._model.generate(
                input_ids=ids.to(device),
                attention_mask=attention.to(device),
                past_key_values=start_cache(self._learner, len(batch)),
                generation_config=self._settings(pad_id, min(self._max_new_tokens, room)),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        if watch.asked:
            raise EvaluationInterrupted
        # What a decoder beside an encoder writes begins with the token that it starts from.
        return [self._written(row) for row in output[:, 1 if self._rewrites else ahead + longest :].tolist()]

    def _settings(self, pad_id: int, max_new_tokens: int) -> GenerationConfig:
        # Every value is given: what is left out is taken from the model's own configuration.
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=self._num_beams,
            length_penalty=1.0,
            early_stopping=False,
            min_length=0,
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            min_p=None,
            typical_p=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=self._stop_ids or None,
            pad_token_id=pad_id,
            use_cache=True,
        )

    def _written(self, ids: Sequence[int]) -> Written:
        stops = set(self._stop_ids)
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        return Written(ids[: end + 1], str(self._tokenizer.decode(ids[:end], skip_special_tokens=True)))


class _StopWhenAsked(StoppingCriteria):
    """Ends a generation at the next token once the run was asked to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self.asked = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        self.asked = self.asked or self._should_stop()
        return torch.full((input_ids.shape[0],), self.asked, device=input_ids.device, dtype=torch.bool)


def context_length(model: nn.Module) -> int:
    """Return the longest text that the model was built for, in tokens; a large number where it names none.

    Virtual tokens take their part of it.
    """
    limit = getattr(causal_model(model).config.get_text_config(), "max_position_embeddings", None)
    return max(1, int(limit) - num_virtual_tokens(model)) if limit else 1_000_000


def generation_share(model: nn.Module, *, activation_checkpointing: bool) -> float:
    """Return how many tokens of a generation are kept where training keeps one (`engine.planning.evaluation_cut`)."""
    config = causal_model(model).config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 0) or 0)
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    return cached_share(
        hidden=hidden,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or hidden // max(1, heads)),
        activation_checkpointing=activation_checkpointing,
    )
