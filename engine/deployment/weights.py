"""Write a model with its tokenizer so that any runtime loads it, and check what arrived on the disk."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from engine.evaluation.stopping import stop_token_ids
from engine.models.heads import head_of, writes
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MAX_SHARD_SIZE = "4GB"
_STORED_FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SAMPLING_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def stored_dtype(weights_dtype: str) -> torch.dtype:
    """Return the number format to store weights in: that of the base model, bfloat16 where it is no plain float."""
    return _STORED_FORMATS.get(weights_dtype.removeprefix("torch."), torch.bfloat16)


def narrower(left: torch.dtype, right: torch.dtype) -> torch.dtype:
    """Return the number format with fewer bytes; the left one where they are equal."""
    return right if right.itemsize < left.itemsize else left


def save_whole_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write safetensors, configuration, generation configuration, tokenizer and chat template; then read them back.

    Raises:
        ProblemError: A weight on the disk differs from the one in memory.
    """
    # Training turns the cache of keys and values off; left so, everyone who loads the model generates without it.
    if writes(model):
        model.config.use_cache = True
        model.generation_config = complete_generation_config(model, tokenizer)
    model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
    save_tokenizer(tokenizer, folder, pad_left=head_of(model) == "causal-lm")
    check_stored_weights(model, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, *, pad_left: bool) -> None:
    """Write the tokenizer and its chat template, free of settings that training left in it.

    Args:
        tokenizer: Of the model.
        folder: Where to.
        pad_left: The model goes on with texts, which must not end with padding; others read them from the left.
    """
    clean_copy = copy.deepcopy(tokenizer)
    clean_copy.padding_side = "left" if pad_left else "right"
    if clean_copy.is_fast:
        # A call with truncation or padding stays in the backend and would be written: other runtimes obey it.
        clean_copy.backend_tokenizer.no_truncation()
        clean_copy.backend_tokenizer.no_padding()
    clean_copy.save_pretrained(str(folder))


def check_stored_tokenizer(
    tokenizer: PreTrainedTokenizerBase, folder: Path, prompts: Sequence[Sequence[int]], *, trust: bool = False
) -> str:
    """Load a written tokenizer the way everyone does and compare what it makes of texts from the run.

    Args:
        prompts: Token ids of rows of the run.
        trust: The person's own yes to code from this model, without which such a tokenizer cannot be loaded.

    Returns:
        The class of transformers that reads it right: `AutoTokenizer`; `PreTrainedTokenizerFast` where transformers
        reads every folder of the family with a class of its own that says something else.

    Raises:
        ProblemError: `export.other_tokens` when both cut a text into other tokens than the run did, or render a
            conversation differently.
    """
    texts = [str(tokenizer.decode(list(prompt), skip_special_tokens=False)) for prompt in prompts]
    stored = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust)
    differing = _differing(tokenizer, stored, texts)
    if differing is None:
        return "AutoTokenizer"
    if (folder / "tokenizer.json").is_file():
        plain = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        if _differing(tokenizer, plain, texts) is None:
            return "PreTrainedTokenizerFast"
    raise ProblemError(_other_tokens(differing))


def _differing(tokenizer: PreTrainedTokenizerBase, stored: PreTrainedTokenizerBase, texts: Sequence[str]) -> str | None:
    """Return the first text that two tokenizers read differently; None when there is none."""
    for text in texts:
        if stored(text)["input_ids"] != tokenizer(text)["input_ids"]:
            return text
    return None if stored.chat_template == tokenizer.chat_template else "conversations"


def _other_tokens(text: str) -> Problem:
    return Problem(
        "export.other_tokens",
        f"The written tokenizer differs from the one in training for {clean_line(text, max_chars=60)!r}.",
        "The checkpoints of the run are whole; report this with the name of the base model.",
    )


def complete_generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Return the model's generation configuration with every token that ends an answer, the pad token and no discord.

    Without the chat template's end of turn a fine-tuned model would talk on after its answer in every runtime.
    """
    settings = copy.deepcopy(model.generation_config) if model.generation_config else GenerationConfig()
    stops = stop_token_ids(tokenizer, model)
    settings.eos_token_id = stops[0] if len(stops) == 1 else stops or None
    if tokenizer.pad_token_id is not None:
        settings.pad_token_id = tokenizer.pad_token_id
    if not settings.do_sample:
        # Sampling settings without sampling are refused when the file is written.
        for name in _SAMPLING_SETTINGS:
            setattr(settings, name, None)
    return settings


def store_as(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Return the model with its weights in the number format to store.

    Buffers stay as they are: rotary tables are made new in float32 when a model is loaded, and rounding them here would
    show as a difference that the stored model does not have.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def check_stored_weights(model: PreTrainedModel, folder: Path) -> None:
    """Compare every tensor in the safetensors files with the model in memory, bit by bit, one tensor at a time.

    Families whose weights are stored under other names than they have in memory (experts, for instance) are checked
    for those weights by the number of values.

    Raises:
        ProblemError: `export.damaged` when one differs or is in no file.
    """
    in_memory = {name: tensor for name, tensor in model.state_dict().items() if tensor.numel()}
    found: set[int] = set()
    num_renamed = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                stored = file.get_tensor(name)
                if name not in in_memory:
                    num_renamed += stored.numel()
                elif not _same(stored, in_memory[name]):
                    raise ProblemError(_damaged(f"{path.name} holds other values for {name} than the model"))
                else:
                    found.add(in_memory[name].data_ptr())
    # Tied weights share their memory with one that is stored.
    missing = {tensor.data_ptr(): (name, tensor) for name, tensor in in_memory.items()}
    for pointer in found:
        missing.pop(pointer, None)
    if sum(tensor.numel() for _, tensor in missing.values()) != num_renamed:
        names = sorted(name for name, _ in missing.values()) or ["more values than the model has"]
        raise ProblemError(_damaged(f"weights are missing or too many, such as {names[0]}"))


def _same(stored: torch.Tensor, in_memory: torch.Tensor) -> bool:
    memory = in_memory.detach().cpu()
    return stored.dtype == memory.dtype and stored.shape == memory.shape and _equal_bits(stored, memory)


def _equal_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    # Bytes and not numbers: NaN differs from itself.
    as_bytes: Any = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in (left, right)]
    return torch.equal(*as_bytes) if left.numel() else True


def _damaged(what: str) -> Problem:
    return Problem(
        "export.damaged",
        f"The exported model is not the trained one: {what}.",
        "Check the disk, then export again with `ftwizard resume`.",
    )
