"""Ask a model that does not go on with a text: which class it has, what its words are, which word is hidden.

Shapes: T tokens, C classes, V vocabulary.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.objectives import Head
from engine.catalog.tasks import Task
from engine.data.label_names import entity_words
from engine.data.row_encoders import encode_words
from engine.data.shapes_tags import OUTSIDE
from engine.deployment.adapter import with_adapter
from engine.evaluation.generation import context_length
from engine.models.heads import AUTO_CLASSES, head_settings, is_new
from engine.models.hub import resolve_model
from engine.models.tokenizers import faithful_tokenizer
from engine.objectives.label_batches import closed, closing_id
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, is_run
from engine.text import clean_line

MOST_CLASSES = 5
_WORD = re.compile(r"\w+|[^\w\s]")
DOES: dict[Head, str] = {
    "sequence-classification": "It says which class each text has that you type",
    "token-classification": "It names the entities in each text that you type",
    "masked-lm": "It fills in the mask of each text that you type",
    "seq2seq-lm": "It rewrites each text that you type",
}
_ENDINGS: tuple[tuple[str, Head], ...] = (
    ("ForSequenceClassification", "sequence-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForMaskedLM", "masked-lm"),
    ("ForConditionalGeneration", "seq2seq-lm"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that is ready, what was loaded of it, and the head that it has."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    which: str
    head: Head


class AskSession:
    """One loaded model that answers texts one by one; it speaks like `engine.deployment.chat.ChatSession`.

    Args:
        folder: A run directory, or a folder with a whole model.
        device: Where it computes.
        which: Of a run: the merged model or the adapter on its base; `auto` takes the first there is.

    Raises:
        ProblemError: There is no such model, it cannot be loaded, or the untouched base model has no such head.
    """

    converses = False

    def __init__(self, folder: Path, device: str = "cpu", *, which: str = "auto") -> None:
        asked = _of_run(RunDirectory(folder), device, which) if is_run(RunDirectory(folder)) else _of_folder(folder)
        self.which, self.does = asked.which, DOES[asked.head]
        self.stop_reason, self.num_tokens = "stop", 0
        self._head, self._tokenizer = asked.head, asked.tokenizer
        self._model = asked.model.to(torch.device(device)).eval()
        self.context_length = context_length(self._model)

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
            max_new_tokens: Longest text that is written, for models that write.
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
                case "seq2seq-lm":
                    yield self._rewritten(text, max_new_tokens)
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
        words = _WORD.findall(text)
        ids, places = encode_words(self._tokenizer, words)
        ids = closed(ids[: self.context_length], closing_id(self._tokenizer))
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

    def _rewritten(self, text: str, max_new_tokens: int) -> str:
        output: Any = self._model.generate(**self._encoded(text), max_new_tokens=max_new_tokens, do_sample=False)
        return str(self._tokenizer.decode(output[0], skip_special_tokens=True))


def asks(folder: Path) -> bool:
    """Return whether the model of a run, or of a folder, answers texts instead of going on with them."""
    run = RunDirectory(folder)
    if is_run(run):
        return run.read_plan().task.head != "causal-lm"
    return (folder / "config.json").is_file() and head_in(folder) != "causal-lm"


def head_in(folder: Path) -> Head:
    """Return the head of a whole model in a folder, by the class that its configuration names."""
    named = AutoConfig.from_pretrained(str(folder), local_files_only=True).architectures or [""]
    return next((head for ending, head in _ENDINGS if str(named[0]).endswith(ending)), "causal-lm")


def _of_run(run: RunDirectory, device: str, which: str) -> Asked:
    plan = run.read_plan()
    trust = plan.recipe.model.trust_remote_code
    if which == "base" and is_new(plan.task.head):
        message = "The untouched base model has no such head: what it says would be chance."
        raise ProblemError(Problem("chat.no_base", message, "Leave out --base."))
    if which in ("auto", "merged") and run.merged_folder.is_dir():
        return _of_folder(run.merged_folder, trust=trust)
    if which != "base" and not run.adapter_folder.is_dir():
        message = f"Run {clean_line(run.folder_name)} has left no model yet."
        raise ProblemError(Problem("chat.no_model", message, "Wait until it is finished, or `ftwizard resume` it."))
    revision = plan.model.revision or plan.recipe.model.revision
    base = resolve_model(plan.recipe.model.base, revision, allow_code=trust).folder
    model = _weights(base, plan.task, trust=trust)
    if which == "base":
        return Asked(model, faithful_tokenizer(base, [], trust=trust), "base", plan.task.head)
    tokenizer = faithful_tokenizer(run.adapter_folder, [], trust=trust)
    adapted: Any = with_adapter(model, tokenizer, run.adapter_folder)
    return Asked(adapted, tokenizer, "adapter", plan.task.head)


def _of_folder(folder: Path, *, trust: bool = False) -> Asked:
    head = head_in(folder)
    model = AUTO_CLASSES[head].from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=trust
    )
    return Asked(model, faithful_tokenizer(folder, [], trust=trust), "merged", head)


def _weights(folder: Path, task: Task, *, trust: bool) -> PreTrainedModel:
    model: PreTrainedModel = AUTO_CLASSES[task.head].from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=trust, **head_settings(task)
    )
    return model
