"""Talk to what a run made: load it once, answer token by token, stop where training taught it to stop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.objectives import Head
from engine.catalog.tasks import Task
from engine.data.chat_template import TemplateRefusedError
from engine.data.rendering import Renderer
from engine.deployment.adapter import with_adapter
from engine.deployment.chosen import Which, choose, load_whole, place_of
from engine.evaluation.generation import context_length
from engine.evaluation.scoring import causal_model
from engine.evaluation.stopping import stop_token_ids
from engine.methods.new_tokens import make_room
from engine.methods.virtual_tokens import start_cache
from engine.models.hub import resolve_model
from engine.models.tokenizers import faithful_tokenizer, kind_in, load_tokenizer
from engine.objectives.source_batches import start_id
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, is_run
from engine.text import clean_line

Message = Mapping[str, str]
StopReason = Literal["stop", "length", "context"]


_DOES: dict[Head, str] = {
    "causal-lm": "It continues each text that you type",
    "seq2seq-lm": "It makes another text of each that you type",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to talk.

    Attributes:
        which: What was loaded: `merged`, `adapter` or `base`.
        converses: Answers messages; otherwise it continues text.
        system_prompt: System message that training put in front of conversations without one.
        task: What the model was asked to give out.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    which: str
    converses: bool
    system_prompt: str | None = None
    task: Task = Task()


class ChatSession:
    """One loaded model and the answers it gives.

    Args:
        folder: A run directory, or a folder with a whole model.
        device: `cpu`, `cuda:0` and so on; the GPU when there is one and the run used it, if None.
        which: Of a run: the merged model, the adapter on its base, or the base alone; `auto` takes the first there is.

    Raises:
        ProblemError: There is no such model, or it cannot be loaded.
    """

    def __init__(self, folder: Path, device: str | None = None, *, which: Which = "auto") -> None:
        run = RunDirectory(folder)
        loaded = _load_from_run(run, device, which) if is_run(run) else _load_folder(folder, device or "cpu")
        self.which, self.converses = loaded.which, loaded.converses
        self.does = "It answers what you type" if loaded.converses else _DOES[loaded.task.head]
        self.stop_reason: StopReason = "stop"
        self.num_tokens = 0
        self._learner, self._tokenizer = loaded.model.eval(), loaded.tokenizer
        self._model = causal_model(self._learner)
        self._stop_ids = frozenset(stop_token_ids(loaded.tokenizer, self._model))
        self.context_length = context_length(loaded.model)
        self._renderer = Renderer(loaded.tokenizer, self.context_length, loaded.system_prompt, loaded.task)

    @property
    def device(self) -> str:
        """Where the model computes."""
        return str(self._model.device)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return what the model sees of a conversation, exactly as in training.

        Raises:
            ProblemError: The template refuses the conversation, or it fills the model's context.
        """
        if not messages:
            raise ProblemError(Problem("chat.empty", "There is no message to answer.", "Type one."))
        if self.converses:
            row = {"messages": [*map(dict, messages), {"role": "assistant", "content": ""}], "id": ""}
            try:
                ids = self._renderer.prompt_ids(row)
            except TemplateRefusedError as error:
                message = f"The chat template refuses this conversation: {clean_line(error, max_chars=300)}."
                raise ProblemError(Problem("chat.refused", message, "Start a new conversation.")) from error
        else:
            ids = self._renderer.prompt_ids_of(messages[-1]["content"], conversation=False)
        if not ids:
            raise ProblemError(Problem("chat.empty", "There is no text to continue.", "Type how it begins."))
        if len(ids) >= self.context_length:
            message = f"The conversation has {len(ids)} tokens, the model reads at most {self.context_length}."
            raise ProblemError(Problem("chat.too_long", message, "Start a new conversation."))
        return ids

    def reply(self, messages: Sequence[Message], max_new_tokens: int = 256, temperature: float = 0.0) -> Iterator[str]:
        """Yield the answer in pieces of whole characters; close the iterator to cancel.

        Afterwards `stop_reason` says why it ended and `num_tokens` how long it was.

        Args:
            messages: The conversation so far, the question last.
            max_new_tokens: Longest answer, in tokens.
            temperature: 0 always takes the likeliest token; higher is more varied.

        Raises:
            ProblemError: See `prompt_ids`; or the model gives values that are no numbers.
        """
        ids = self.prompt_ids(messages)
        # What a decoder writes beside an encoder has a context of its own.
        room = self.context_length - (1 if self._renderer.frame.pairs else len(ids))
        self.stop_reason, self.num_tokens = "length" if max_new_tokens <= room else "context", 0
        text = TextStream(self._tokenizer)
        write = self._rewritten if self._renderer.frame.pairs else self._tokens
        for token in write(ids, min(max_new_tokens, room), temperature):
            if token in self._stop_ids:
                self.stop_reason = "stop"
                break
            self.num_tokens += 1
            piece = text.push(token)
            if piece:
                yield piece
        rest = text.rest()
        if rest:
            yield rest

    def _tokens(self, ids: Sequence[int], limit: int, temperature: float) -> Iterator[int]:
        """Yield tokens one by one, keys and values of earlier ones kept."""
        step = torch.tensor([list(ids)], device=self._model.device)
        options: dict[str, Any] = {"use_cache": True}
        if self._model._supports_logits_to_keep():
            options["logits_to_keep"] = 1
        with torch.no_grad():
            cache = start_cache(self._learner, 1)
        for _ in range(limit):
            # Not around the loop: the caller runs between two tokens.
            with torch.no_grad():
                output = self._model(input_ids=step, past_key_values=cache, **options)
            cache = output.past_key_values
            token = choose_token(output.logits[0, -1].float(), temperature)
            yield token
            step = torch.tensor([[token]], device=self._model.device)

    def _rewritten(self, ids: Sequence[int], limit: int, temperature: float) -> Iterator[int]:
        """Yield the tokens that a decoder makes of a text that was read once."""
        device = self._model.device
        source = torch.tensor([list(ids)], device=device)
        attention = torch.ones_like(source)
        with torch.no_grad():
            read = self._model.get_encoder()(input_ids=source, attention_mask=attention, return_dict=True)
        step = torch.tensor([[start_id(self._model, self._tokenizer)]], device=device)
        cache = None
        for _ in range(limit):
            with torch.no_grad():
                output = self._model(
                    encoder_outputs=read,
                    attention_mask=attention,
                    decoder_input_ids=step,
                    past_key_values=cache,
                    use_cache=True,
                )
            cache = output.past_key_values
            token = choose_token(output.logits[0, -1].float(), temperature)
            yield token
            step = torch.tensor([[token]], device=device)


def choose_token(logits: torch.Tensor, temperature: float) -> int:
    """Return the likeliest token, or one drawn at a temperature.

    Raises:
        ProblemError: `chat.not_finite` when the logits (V,) hold NaN.
    """
    if torch.isnan(logits).any():
        message = "The model gives values that are no numbers, so there is nothing to say."
        raise ProblemError(Problem("chat.not_finite", message, "Look at the loss of the run; its training broke."))
    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1))


class TextStream:
    """Turns tokens into text piece by piece without breaking characters that take several tokens.

    Tokenizers decode a token differently at the start of a text, so a few tokens of context are decoded along.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context_start = self._shown = 0

    def push(self, token: int) -> str:
        """Add a token; return the text that is now certain, which may be empty."""
        self._ids.append(token)
        text = self._unshown()
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self._context_start, self._shown = self._shown, len(self._ids)
        return text

    def rest(self) -> str:
        """Return what is left at the end, broken characters included."""
        return self._unshown() if self._shown < len(self._ids) else ""

    def _unshown(self) -> str:
        before = self._decode(self._ids[self._context_start : self._shown])
        return self._decode(self._ids[self._context_start :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def _load_from_run(run: RunDirectory, device: str | None, which: Which) -> Loaded:
    plan = run.read_plan()
    place, chosen, task = place_of(plan, device), choose(run, which), plan.task
    if not task.writes:
        message = f"Run {clean_line(run.folder_name)} trained a model that writes nothing: {task.head}."
        raise ProblemError(Problem("chat.does_not_write", message, "Its model card shows how to call it."))
    converses = task.signal == "answers" and task.head == "causal-lm"
    if chosen == "merged":
        loaded = _load_folder(run.merged_folder, place, trust=plan.recipe.model.trust_remote_code)
        return Loaded(loaded.model, loaded.tokenizer, chosen, converses, plan.recipe.data.system_prompt, task)
    model, tokenizer = _load_base(run, plan, place)
    if chosen == "adapter":
        adapted = with_adapter(model, tokenizer, run.adapter_folder)
        return Loaded(adapted, tokenizer, chosen, converses, plan.recipe.data.system_prompt, task)
    return Loaded(model, tokenizer, chosen, converses, plan.recipe.data.system_prompt, task)


def _load_base(run: RunDirectory, plan: Plan, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the base model of a run with the run's own tokenizer, as both sides of a comparison should read alike."""
    source = plan.recipe.model
    revision = plan.model.revision or source.revision
    resolved = resolve_model(source.base, revision, allow_code=source.trust_remote_code)
    model = load_whole(resolved.folder, _head_in(resolved.folder), device, trust=source.trust_remote_code)
    for folder in (run.adapter_folder, run.merged_folder):
        if folder.is_dir():
            tokenizer = faithful_tokenizer(folder, [], trust=source.trust_remote_code)
            make_room(model, tokenizer)
            return model, tokenizer
    return model, load_tokenizer(resolved.folder, plan.recipe).tokenizer


def _load_folder(folder: Path, device: str, *, trust: bool = False) -> Loaded:
    if not (folder / "config.json").is_file():
        message = f"{clean_line(folder)} holds neither a run nor a whole model."
        raise ProblemError(Problem("chat.no_model", message, "Name a run (`ftwizard runs`) or a model folder."))
    head = _head_in(folder)
    model = load_whole(folder, head, device, trust=trust)
    tokenizer = faithful_tokenizer(folder, [], trust=trust)
    task = Task(head=head)
    return Loaded(model, tokenizer, "merged", bool(tokenizer.chat_template) and kind_in(folder) == "decoder", task=task)


def _head_in(folder: Path) -> Head:
    return "seq2seq-lm" if kind_in(folder) == "encoder-decoder" else "causal-lm"
