"""Measure a model that guesses hidden words: how sure it is of them, and how often it is right.

The same words are hidden before and after training, all of them behind the mask: a word that stays readable would
flatter. Perplexity over hidden words is no perplexity of the next token, and bears another name.

Shapes: B rows, S tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.data.cleaning.personal import hide_secrets
from engine.data.rendered import Rendered
from engine.data.rows import Row
from engine.evaluation.evidence import Kind
from engine.evaluation.general_text import general_rows
from engine.evaluation.job import Examined, Job
from engine.evaluation.kept_rows import only
from engine.evaluation.measurement import TEST_PHASES, Sample
from engine.evaluation.row_groups import token_groups
from engine.evaluation.scores import score_sums
from engine.evaluation.scoring import RowScore, autocast_like_training, causal_model, row_scores
from engine.objectives.masking import JUDGED, Hidden, Masker
from engine.objectives.sequences import IGNORED, SequenceCollator, make_segment

NUM_SAMPLES = 3
AROUND = 24
"""Tokens on either side of a hidden word that a sample shows."""
_LOSSES: dict[str, Kind] = {"loss": "ratio", "masked_perplexity": "exp_ratio"}
_GENERAL: dict[str, Kind] = {"general_masked_perplexity": "exp_ratio"}
SEED = 0
"""Of the words that are hidden in a measurement, whatever the seed of the run."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A text with hidden words for a sample: what the model reads, where, what people see, what stands there."""

    input_ids: list[int]
    places: list[int]
    prompt: str
    expected: str = ""


def examine(job: Job, *, want_generation: bool) -> Examined:
    """Measure the hidden words of the first `evaluation.max_rows` windows, and of the package's general text.

    Args:
        job: The measurement.
        want_generation: Whether samples are wanted too.
    """
    return _HiddenWords(job).run(want_samples=want_generation)


@dataclass
class _HiddenWords:
    job: Job

    def __post_init__(self) -> None:
        share = self.job.recipe.domain_adaptation.masked_share
        self._masker = Masker(self.job.tokenizer, share, SEED)
        self._collate = SequenceCollator(self.job.pad_id, packed=False)
        self._autocast = autocast_like_training(causal_model(self.job.model), self.job.precision)

    def run(self, *, want_samples: bool) -> Examined:
        """Measure; the caller has put the model in evaluation mode."""
        job = self.job
        windows = self._windows(job.rows[: job.recipe.evaluation.max_rows])[: job.recipe.evaluation.max_rows]
        general = self._windows(general_rows()) if self._looks_at_general_text() else []
        job.begin(len(windows), len(windows) + len(general))
        scores = job.unless_too_large("the loss", lambda: self._score(windows)) or []
        others = job.unless_too_large("general text", lambda: self._score(general)) or []
        if not windows:
            job.remarks.append(f"There is no {job.kind} text to hide words of.")
        metrics = self._numbers(scores, others)
        gaps = self._gaps(windows) if want_samples and job.phase not in TEST_PHASES else []
        return Examined(
            metrics=metrics,
            samples=[self._sample(gap) for gap in gaps],
            num_rows=len(scores),
            num_tokens=sum(score.tokens for score in scores),
            rows=only(
                [
                    *token_groups([window.id for window in windows][: len(scores)], scores, _LOSSES, "masked_accuracy"),
                    *token_groups([window.id for window in general][: len(others)], others, _GENERAL, ""),
                ],
                metrics,
            ),
        )

    def _looks_at_general_text(self) -> bool:
        return "general_text" in self.job.metrics and self.job.phase not in TEST_PHASES

    def _windows(self, rows: Sequence[Row]) -> list[Rendered]:
        return list(self.job.renderer.render_rows(rows).sequences)

    def _hidden(self, window: Rendered) -> Hidden:
        segment = make_segment(window.id, window.input_ids, window.trained_mask)
        return self._masker.hide(segment.input_ids, segment.labels, JUDGED)

    def _numbers(self, scores: Sequence[RowScore], general: Sequence[RowScore]) -> dict[str, float]:
        found = _sums(scores)
        values = {"loss": found["loss"]} if found else {}
        if found and "masked_perplexity" in self.job.metrics:
            values["masked_perplexity"] = found["perplexity"]
        if found and "masked_accuracy" in self.job.metrics:
            values["masked_accuracy"] = found["token_accuracy"]
        return values | ({"general_masked_perplexity": _sums(general)["perplexity"]} if general else {})

    def _score(self, windows: Sequence[Rendered]) -> list[RowScore]:
        """Return the sums of each window."""
        return self.job.each(windows, lambda window: len(window.input_ids), self._score_batch)

    def _score_batch(self, windows: Sequence[Rendered]) -> list[RowScore]:
        hidden = [self._hidden(window) for window in windows]
        tensors = self._collate([{"input_ids": each.input_ids, "labels": each.labels} for each in hidden])
        labels_BS = tensors.pop("labels").to(causal_model(self.job.model).device)
        logits_BSV = self._logits(tensors)
        return row_scores(logits_BSV.__getitem__, labels_BS, logits_BSV.shape[-1])

    def _logits(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        model = causal_model(self.job.model)
        with self._autocast():
            logits: torch.Tensor = model(**{name: tensor.to(model.device) for name, tensor in tensors.items()}).logits
        return logits

    def _gaps(self, windows: Sequence[Rendered]) -> list[Gap]:
        """Return the samples: the prompts of the recipe, else one hidden word of each of the first windows."""
        prompts = self.job.recipe.evaluation.sample_prompts
        if prompts is not None:
            return [gap for prompt in prompts if (gap := self._typed(prompt)) is not None]
        return [self._one_gap(window) for window in windows[:NUM_SAMPLES]]

    def _one_gap(self, window: Rendered) -> Gap:
        """Return a window with a single word hidden: of the hidden ones with letters the one nearest to its middle."""
        labels = self._hidden(window).labels
        middle = len(labels) // 2
        places = [place for place, label in enumerate(labels) if label != IGNORED]
        spelled = [place for place in places if any(map(str.isalnum, self._spelled([labels[place]])))]
        place = min(spelled or places, key=lambda one: (abs(one - middle), one))
        ids = list(window.input_ids)
        ids[place] = int(self.job.tokenizer.mask_token_id)
        allowed = [at for at, trained in enumerate(window.trained_mask) if trained or at == place]
        first, after = max(allowed[0], place - AROUND), min(allowed[-1] + 1, place + AROUND + 1)
        return Gap(ids, [place], self._spelled(ids[first:after]), self._spelled([window.input_ids[place]]))

    def _typed(self, prompt: str) -> Gap | None:
        ids = list(self.job.tokenizer(prompt)["input_ids"])[: self.job.renderer.max_length]
        places = [place for place, token in enumerate(ids) if token == self.job.tokenizer.mask_token_id]
        if not places:
            mask = self.job.tokenizer.mask_token
            self.job.remarks.append(f"A sample prompt has no {mask} where a word is to be guessed, and was left out.")
            return None
        return Gap(ids, places, prompt)

    def _sample(self, gap: Gap) -> Sample:
        ids = torch.tensor([gap.input_ids])
        logits_SV = self._logits({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0]
        guessed = ", ".join(self._spelled([int(logits_SV[place].argmax())]) for place in gap.places)
        return Sample(hide_secrets(gap.prompt), hide_secrets(gap.expected), hide_secrets(guessed))

    def _spelled(self, ids: Sequence[int]) -> str:
        return str(self.job.tokenizer.decode(list(ids))).strip()


def _sums(scores: Sequence[RowScore]) -> dict[str, float]:
    return score_sums([one.loss for one in scores], [one.right for one in scores], [one.tokens for one in scores])
