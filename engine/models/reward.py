"""Reward models as others use them: load one from a folder or a run, and score whole conversations.

Shapes: B conversations, S tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.evaluation.generation import context_length
from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import causal_model
from engine.models.hub import resolve_model
from engine.models.tokenizers import faithful_tokenizer
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory, find_run, is_run
from engine.runs.home import home_folders
from engine.text import clean_line

Conversation = Sequence[Mapping[str, Any]]
"""Messages, the last one the assistant's."""
TASK = Task(signal="rewards", head="sequence-classification")
ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A reward model that is ready to be asked.

    Attributes:
        model: Gives one number for a text; in evaluation mode.
        tokenizer: With chat template and pad token.
        name: What people call it.
        system_prompt: System message that its training put in front of conversations without one.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    system_prompt: str | None = None

    def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Return the reward of each conversation; see `score_conversations`."""
        return score_conversations(self.model, self.tokenizer, conversations, system_prompt=self.system_prompt)


def load_reward_model(place: str, device: str = "cpu") -> RewardModel:
    """Load a reward model.

    Args:
        place: A run of the objective reward-model (its folder, its name or `run:NAME`), or a folder with a whole model
            of one output, or with an adapter of one.
        device: Where it computes: `cpu`, `cuda` or `cuda:0`.

    Raises:
        ProblemError: There is none, it has not been exported yet, or it is no reward model.
    """
    place = place.removeprefix("run:")
    folder = Path(place).expanduser()
    run = RunDirectory(folder)
    if not folder.is_dir():
        run = find_run(home_folders(), place)
    if is_run(run):
        loaded = _of_run(run, device)
    elif (folder / "adapter_config.json").is_file():
        loaded = _of_adapter(folder, device)
    else:
        loaded = RewardModel(_whole(folder, device), _tokenizer(folder), folder.name)
    _check(loaded, place)
    loaded.model.eval()
    return loaded


def _of_run(run: RunDirectory, device: str) -> RewardModel:
    plan = run.read_plan()
    if plan.recipe.goal.signal != "rewards":
        message = f"The run {clean_line(run.folder_name)} has the objective {plan.recipe.objective}."
        raise _problem(message, "Name a run of the objective reward-model.")
    system = plan.recipe.data.system_prompt
    if run.merged_folder.is_dir():
        return RewardModel(_whole(run.merged_folder, device), _tokenizer(run.merged_folder), run.folder_name, system)
    if run.adapter_folder.is_dir():
        base = _base_folder(plan)
        model = PeftModel.from_pretrained(_whole(base, device, new_head=True), str(run.adapter_folder))
        return RewardModel(model, _tokenizer(run.adapter_folder), run.folder_name, system)
    message = f"The run {clean_line(run.folder_name)} has left no model yet."
    raise _problem(message, "Wait until it is finished, or `ftwizard resume` it.")


def _base_folder(plan: Plan) -> Path:
    source = plan.recipe.model
    return resolve_model(source.base, plan.model.revision or source.revision, allow_code=False).folder


def _of_adapter(folder: Path, device: str) -> RewardModel:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        base, revision = str(settings["base_model_name_or_path"]), settings.get("revision")
    except (OSError, ValueError, KeyError) as error:
        raise _problem(f"{clean_line(folder)} holds a damaged adapter_config.json.", "Export it again.") from error
    model = _whole(resolve_model(base, revision, allow_code=False).folder, device, new_head=True)
    return RewardModel(PeftModel.from_pretrained(model, str(folder)), _tokenizer(folder), folder.name)


def _whole(folder: Path, device: str, *, new_head: bool = False) -> PreTrainedModel:
    """Load a model of one output; with `new_head` a base model, whose head an adapter brings."""
    head: dict[str, Any] = {"num_labels": 1} if new_head else {}
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **head
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = clean_line(str(error).split("\n", 1)[0], max_chars=300)
        raise _problem(f"The model in {clean_line(folder)} cannot be loaded: {reason}", "Name another.") from error
    if info["missing_keys"] and not new_head:
        missing = clean_line(sorted(map(str, info["missing_keys"]))[0], max_chars=80)
        message = f"The model in {clean_line(folder)} is no reward model: it has no weights for {missing}."
        raise _problem(message, "Name a run of the objective reward-model, or its exported folder.")
    loaded: PreTrainedModel = model
    if device == "cpu" and loaded.dtype == torch.float16:
        # Half precision is not implemented for every operation of a CPU, and slow for the others.
        loaded = loaded.float()
    return loaded.to(torch.device(device))


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return faithful_tokenizer(folder, [], trust=False)


def _check(loaded: RewardModel, place: str) -> None:
    """Refuse what is no reward model, and tell the model how texts are filled up."""
    config = causal_model(loaded.model).config
    if config.num_labels != 1:
        message = f"{clean_line(place, max_chars=120)} is no reward model: it gives out {config.num_labels} numbers."
        raise _problem(message, "Name a model with one output.")
    if not loaded.tokenizer.chat_template:
        message = f"The reward model in {clean_line(place, max_chars=120)} has no chat template."
        raise _problem(message, "Export it again, or add chat_template.jinja to its folder.")
    # A base model may name no pad token, and the end of a text in a batch is found by it.
    config.get_text_config().pad_token_id = loaded.tokenizer.pad_token_id


def _problem(message: str, fix: str) -> ProblemError:
    return ProblemError(Problem("reward.not_loaded", clean_line(message, max_chars=600), fix, path="preference.judge"))


def score_conversations(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    *,
    system_prompt: str | None = None,
    max_length: int | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[float]:
    """Return the reward of each conversation, as the model was trained to read it.

    Conversations are written out by the chat template as in training. One that is longer than the model's context
    loses its beginning, so that the answer itself is always read.

    Args:
        model: A sequence classification model with one output.
        tokenizer: Of that model.
        conversations: Messages, the last one the assistant's.
        system_prompt: Put in front of conversations without a system message.
        max_length: Longest sequence in tokens; None for the model's context.
        rows_at_once: Conversations in one batch.

    Raises:
        ProblemError: The chat template refuses a conversation.
    """
    limit = max_length or context_length(model)
    renderer = Renderer(tokenizer, 1 << 30, system_prompt, TASK)
    texts = [_ids(renderer, conversation)[-limit:] for conversation in conversations]
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    scores = [0.0] * len(texts)
    with undisturbed(model):
        for start in range(0, len(order), rows_at_once):
            places = order[start : start + rows_at_once]
            for place, score in zip(places, _scored(model, tokenizer, [texts[p] for p in places]), strict=True):
                scores[place] = score
    return scores


def _ids(renderer: Renderer, conversation: Conversation) -> list[int]:
    messages = [dict(message) for message in conversation]
    return renderer.render({"id": "A conversation", "prompt": messages[:-1], "completion": messages[-1:]}).input_ids


def _scored(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[list[int]]) -> list[float]:
    pad = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    longest = max(map(len, texts))
    device = next(model.parameters()).device
    ids_BS = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in texts], device=device)
    mask_BS = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts], device=device)
    rewards_B: torch.Tensor = model(input_ids=ids_BS, attention_mask=mask_BS).logits.float().squeeze(-1)
    return [float(reward) for reward in rewards_B]
