"""Ask a model that does not go on with a text: which class it has, what its words are, which word is hidden.

Shapes: T tokens, C classes, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.objectives import Head
from engine.data.label_names import entity_words
from engine.data.row_encoders import encode_words
from engine.data.shapes_tags import OUTSIDE
from engine.data.words import word_spans
from engine.deployment.adapter import with_adapter
from engine.deployment.chosen import Which, choose, load_whole, place_of
from engine.evaluation.generation import context_length
from engine.models.heads import head_named, is_new
from engine.models.hub import resolve_model
from engine.models.loading import load_model
from engine.models.tokenizers import faithful_tokenizer
from engine.objectives.label_batches import closed, closing_id
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, is_run
from engine.text import clean_line

MOST_CLASSES = 5
DOES: dict[Head, str] = {
    "sequence-classification": "It says which class each text has that you type",
    "token-classification": "It names the entities in each text that you type",
    "masked-lm": "It fills in the mask of each text that you type",
}
_WRITING: frozenset[Head] = frozenset({"causal-lm", "seq2seq-lm"})
"""Heads that `engine.deployment.chat` talks to, token by token."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that is ready, what was loaded of it, the head that it has, and the longest text that it was taught."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    which: str
    head: Head
    max_length: int | None = None


class AskSession:
    """One loaded model that answers texts one by one; it speaks like `engine.deployment.chat.ChatSession`.

    Args:
        folder: A run directory, or a folder with a whole model.
        device: Where it computes; the GPU when there is one and the run used it, if None.
        which: Of a run: the merged model or the adapter on its base; `auto` takes the first there is.

    Raises:
        ProblemError: There is no such model, it cannot be loaded, or the untouched base model has no such head.
    """

    converses = False

    def __init__(self, folder: Path, device: str | None = None, *, which: Which = "auto") -> None:
        run = RunDirectory(folder)
        asked = _of_run(run, device, which) if is_run(run) else _of_folder(folder, device or "cpu")
        self.which, self.does = asked.which, DOES[asked.head]
        self.stop_reason, self.num_tokens = "stop", 0
        self._head, self._tokenizer = asked.head, asked.tokenizer
        self._model = asked.model.eval()
        self.context_length = min(_longest_text(self._model), asked.max_length or 1_000_000)

    @property
    def device(self) -> str:
        """Where the model computes."""
        return str(self._model.device)

    def reply(
        self, messages: Sequence[Mapping[str, str]], max_new_tokens: int = 256, temperature: float = 0.0
    ) -> Iterator[str]:
        """Yield the answer to the last message.

        Args:
            messages: The text is that of the last one.
            max_new_tokens: Unused; nothing is written.
            temperature: Unused; classes are not drawn.

        Raises:
            ProblemError: There is no text, or it has no mask to fill.
        """
        text = messages[-1]["content"] if messages else ""
        if not text.strip():
            raise ProblemError(Problem("chat.empty", "There is no text to read.", "Type one."))
        with torch.no_grad():
            match self._head:
                case "token-classification":
                    yield self._entities(text)
                case "masked-lm":
                    yield self._filled(text)
                case _:
                    yield self._classes(text)

    def _encoded(self, text: str) -> dict[str, torch.Tensor]:
        """Return a text as training read it: cut to what the model takes, and closed."""
        ids = list(self._tokenizer(text)["input_ids"])[: self.context_length]
        ids_T = torch.tensor([closed(ids, closing_id(self._tokenizer))], device=self._model.device)
        return {"input_ids": ids_T, "attention_mask": torch.ones_like(ids_T)}

    def _classes(self, text: str) -> str:
        logits_C = self._model(**self._encoded(text)).logits[0].float()
        names = self._model.config.id2label
        if len(logits_C) == 1:
            return f"{names.get(0, 'reward')} {float(logits_C[0]):.3f}"
        several = self._model.config.problem_type == "multi_label_classification"
        shares = logits_C.sigmoid() if several else logits_C.softmax(dim=-1)
        best = shares.argsort(descending=True)[:MOST_CLASSES].tolist()
        return "\n".join(f"{100 * float(shares[number]):5.1f} %  {names[number]}" for number in best)

    def _entities(self, text: str) -> str:
        words = [text[start:end] for start, end in word_spans(text)]
        ids, places = encode_words(self._tokenizer, words)
        ids = ids[: self.context_length]
        logits_TC = self._model(input_ids=torch.tensor([ids], device=self._model.device)).logits[0]
        tags = [OUTSIDE] * len(words)
        for place, word in places.items():
            if place < len(ids):
                tags[word] = self._model.config.id2label[int(logits_TC[place].argmax())]
        return ", ".join(entity_words(words, tags)) or "no entity"

    def _filled(self, text: str) -> str:
        mask = self._tokenizer.mask_token
        encoded = self._encoded(text)
        places = (encoded["input_ids"][0] == self._tokenizer.mask_token_id).nonzero().flatten().tolist()
        if not places:
            message = f"There is no {clean_line(mask)} in the text."
            raise ProblemError(
                Problem("chat.empty", message, f"Write {clean_line(mask)} where a word is to be filled in.")
            )
        logits_TV = self._model(**encoded).logits[0].float()
        lines = []
        for place in places:
            shares = logits_TV[place].softmax(dim=-1)
            best = shares.argsort(descending=True)[:MOST_CLASSES].tolist()
            words = [f"{str(self._tokenizer.decode([at])).strip()} {100 * float(shares[at]):.1f} %" for at in best]
            lines.append(", ".join(words))
        return "\n".join(lines)


def _longest_text(model: PreTrainedModel) -> int:
    """Return how many tokens the model has positions for; some families count them from the padding token on."""
    padding = getattr(model.get_input_embeddings(), "padding_idx", None)
    counted = any(
        isinstance(module, torch.nn.Embedding) and module.padding_idx is not None and "position" in name
        for name, module in model.named_modules()
    )
    return context_length(model) - (int(padding) + 1 if counted and padding is not None else 0)


def asks(folder: Path) -> bool:
    """Return whether the model of a run, or of a folder, answers texts instead of going on with them.

    Raises:
        ProblemError: The configuration in the folder cannot be read.
    """
    run = RunDirectory(folder)
    if is_run(run):
        return run.read_plan().task.head not in _WRITING
    return (folder / "config.json").is_file() and head_in(folder) not in _WRITING


def head_in(folder: Path, *, trust: bool = False) -> Head:
    """Return the head of a whole model in a folder, by the class that its configuration names.

    Raises:
        ProblemError: The configuration cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_loaded(folder, error) from error
    named = config.architectures or [""]
    return head_named(str(named[0]), writes_anew=bool(config.is_encoder_decoder))


def _of_run(run: RunDirectory, device: str | None, which: Which) -> Asked:
    plan = run.read_plan()
    place, head = place_of(plan, device), plan.task.head
    trust, max_length = plan.recipe.model.trust_remote_code, plan.recipe.row_tokens
    if which == "base" and is_new(head):
        message = "The untouched base model has no such head: what it says would be chance."
        raise ProblemError(Problem("chat.no_base", message, "Leave out --base."))
    chosen = choose(run, which)
    if chosen == "merged":
        return replace(_of_folder(run.merged_folder, place, trust=trust), max_length=max_length)
    model = load_model(plan.recipe, place, bits=None, task=plan.task)
    if chosen == "base":
        base = resolve_model(plan.recipe.model.base, plan.recipe.model.revision, allow_code=trust).folder
        return Asked(model, faithful_tokenizer(base, [], trust=trust), chosen, head, max_length)
    tokenizer = faithful_tokenizer(run.adapter_folder, [], trust=trust)
    adapted: Any = with_adapter(model, tokenizer, run.adapter_folder).to(torch.device(place))
    return Asked(adapted, tokenizer, chosen, head, max_length)


def _of_folder(folder: Path, device: str, *, trust: bool = False) -> Asked:
    head = head_in(folder, trust=trust)
    model = load_whole(folder, head, device, trust=trust)
    return Asked(model, faithful_tokenizer(folder, [], trust=trust), "merged", head)


def _not_loaded(folder: Path, error: Exception) -> ProblemError:
    text = clean_line(str(error).strip().split("\n", 1)[0], max_chars=240)
    message = f"The model in {clean_line(folder)} cannot be loaded: {text}"
    return ProblemError(Problem("chat.not_loaded", message, "Name the folder of a run, or of a whole model."))
