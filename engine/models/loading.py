"""Stage 2: base models from safetensors files, whole or not at all.

Pickle weights are never opened, a layer that the files do not hold is an error instead of random numbers, and every
number is looked at once: a NaN in the base model would only show as a loss that means nothing.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from engine.catalog.methods import Bits
from engine.catalog.tasks import Task
from engine.models.encoder_decoder import settle_encoder_decoder
from engine.models.heads import (
    AUTO_CLASSES,
    head_beside,
    head_modules,
    head_settings,
    is_new,
    is_of_head,
    keeps_brought_head,
    new_modules_of,
    start_head_anew,
    stray_of_another_head,
)
from engine.models.hub import resolve_model
from engine.models.tokenizers import LoadedTokenizer, load_tokenizer
from engine.models.verified import VerifiedFiles, weight_files
from engine.planning.weights import read_weights
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line

__all__ = ["LoadedTokenizer", "check_vocabulary", "compute_dtype", "load_model", "load_tokenizer", "weights_dtype"]

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMED = 4
_SCANNED_AT_ONCE = 1 << 24
_DAMAGED = "Download or copy the model again."


def compute_dtype(recipe: Recipe) -> torch.dtype:
    """Return the number format of the arithmetic."""
    return _DTYPES[recipe.training.precision or "float32"]


def weights_dtype(recipe: Recipe) -> torch.dtype:
    """Return the number format in which the weights are held.

    Weights that learn are float32 whatever the arithmetic: a step of 2e-5 is lost in the 8 bits of a bfloat16 number.
    Frozen ones are held in the format of the arithmetic; a method that trains some of them widens those itself.
    """
    return torch.float32 if recipe.method.facts.trains_whole else compute_dtype(recipe)


def attention_of(recipe: Recipe) -> str | None:
    """Return the implementation of attention that is asked of transformers; None for its own choice, SDPA."""
    return None if recipe.training.attention == "sdpa" else recipe.training.attention


def load_model(recipe: Recipe, device: str, *, bits: Bits | None, task: Task | None = None) -> PreTrainedModel:
    """Load the base model of a recipe, with the head of a task.

    A head that the model does not bring starts at random: torch's generator decides, so that whoever wants the same
    model twice seeds it before. Such a head is held in float32, because it always learns.

    Args:
        recipe: `model`, `method.name` and `training.precision` are read.
        device: Where it computes: `cpu`, `cuda` or `cuda:0`.
        task: What the model is asked to give out; None for writing text.
        bits: Bits of the linear layers: 4 (NF4, double quantisation), 8 (LLM.int8); None leaves them as they are.

    Raises:
        ProblemError: No safetensors, damaged or incomplete files, NaN, code without consent, an unknown family.
    """
    source = recipe.model
    resolved = resolve_model(source.base, source.revision, allow_code=source.trust_remote_code)
    check_weight_files(resolved.folder)
    # bitsandbytes warns about optional native code each time it is imported; the choice is not the person's.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    task = Task() if task is None else task
    placement: dict[str, Any] = {}
    if bits is not None:
        whole = new_modules_of(str(resolved.folder), task, trust=source.trust_remote_code) if is_new(task.head) else []
        placement = {"device_map": {"": device}, "quantization_config": quantization(recipe, bits, whole)}
    model = _from_files(resolved.folder, recipe, placement, task)
    for name in head_modules(model):
        model.get_submodule(name).float()
    if bits is None:
        model.to(torch.device(device))
    settle(model, bits=bits)
    if task.head == "seq2seq-lm":
        settle_encoder_decoder(model, recipe)
    elif recipe.text_to_text.num_beams > 1 and model.generation_config is not None:
        model.generation_config.num_beams = recipe.text_to_text.num_beams
    return model


def settle(model: PreTrainedModel, *, bits: Bits | None) -> None:
    """Set what training needs of a model that was just loaded."""
    if bits == 4:
        _keep_4bit_layout(model)
    model.config.use_cache = False


def _keep_4bit_layout(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    In evaluation mode it would round the scales to bfloat16 in place, so that measuring changed the model and a resumed
    run were not the straight one; it also fails on layers whose width is no multiple of the block size, 64
    (bitsandbytes 0.50.2, `functional._convert_weight_packed_for_cpu`).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantization(recipe: Recipe, bits: Bits, whole: Sequence[str] = ()) -> "BitsAndBytesConfig":
    """Return how the linear layers are held: 4 bits are NF4 with double quantisation, 8 bits LLM.int8.

    Args:
        recipe: `training.precision` is read.
        bits: Of a weight.
        whole: Modules that stay as they are; empty leaves out what transformers leaves out by itself.
    """
    from transformers import BitsAndBytesConfig

    left_out: dict[str, Any] = {"llm_int8_skip_modules": list(whole)} if whole else {}
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, **left_out)
    return BitsAndBytesConfig(
        **left_out,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(recipe),
    )


def _from_files(folder: Path, recipe: Recipe, placement: dict[str, Any], task: Task) -> PreTrainedModel:
    if is_new(task.head):
        # A head for another number of classes does not fit; one for as many others is started anew below.
        placement = {**placement, **head_settings(task), "ignore_mismatched_sizes": True}
    try:
        model, info = AUTO_CLASSES[task.head].from_pretrained(
            str(folder),
            dtype=weights_dtype(recipe),
            # Without a wish transformers takes sdpa, or eager where a family has no sdpa.
            attn_implementation=attention_of(recipe),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=recipe.model.trust_remote_code,
            output_loading_info=True,
            **placement,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise _not_loaded(folder, error) from error
    if is_new(task.head):
        _fill_tied_embedding(model, folder, info)
        if _brings_head(info, model) and not keeps_brought_head(folder, task, trust=recipe.model.trust_remote_code):
            start_head_anew(model)
        info = _of_base(info, model)
    _check_keys(folder, info)
    loaded: PreTrainedModel = model
    return loaded


def _brings_head(info: dict[str, Any], model: PreTrainedModel) -> bool:
    """Return whether the files hold weights of a head of the very shape of the new one."""
    absent = {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])}
    beside = head_beside(model)
    return any(is_of_head(name, beside) and name not in absent for name, _ in model.named_parameters())


def _fill_tied_embedding(model: PreTrainedModel, folder: Path, info: dict[str, Any]) -> None:
    """Give a model its embeddings where the files hold them under the name of the output layer alone.

    A language model with tied weights may be stored so; without its output layer nothing would tie them, and they would
    stay random.
    """
    embedding = model.get_input_embeddings().weight
    name = next(key for key, parameter in model.named_parameters() if parameter is embedding)
    if name not in info["missing_keys"] or not model.config.get_text_config().tie_word_embeddings:
        return
    stored = read_weights(folder)
    shape = tuple(embedding.shape)
    alike = [key for key in info["unexpected_keys"] if key in stored.tensors and stored.tensors[key].shape == shape]
    if len(alike) != 1:
        return
    with torch.no_grad():
        embedding.copy_(_tensor(folder, alike[0]))
    info["missing_keys"] = [key for key in info["missing_keys"] if key != name]


def _tensor(folder: Path, name: str) -> torch.Tensor:
    for file in weight_files(folder):
        with safe_open(str(file), framework="pt", device="cpu") as tensors:
            if name in tensors.keys():  # noqa: SIM118 - not a dictionary
                found: torch.Tensor = tensors.get_tensor(name)
                return found
    raise KeyError(name)


def _of_base(info: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Return what was odd about the weights of the base model, without those of its old and its new head."""
    new = head_modules(model)
    return {
        "missing_keys": [name for name in info["missing_keys"] if not is_of_head(name, new)],
        "mismatched_keys": [key for key in info["mismatched_keys"] if not is_of_head(key[0], new)],
        "unexpected_keys": [name for name in info["unexpected_keys"] if not stray_of_another_head(name, model)],
    }


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(
        Problem(f"model.{code}", clean_line(message, max_chars=800), clean_line(fix), path="model.base")
    )


def _not_loaded(folder: Path, error: Exception) -> ProblemError:
    text = clean_line(str(error).strip().split("\n", 1)[0], max_chars=240)
    if "trust_remote_code" in str(error):
        fix = "Read that code, then set model.trust_remote_code to true; or choose another model."
        return _problem("remote_code", f"The model in {folder} wants to run Python code of its own.", fix)
    if "size mismatch" in str(error) or "mismatch" in text:
        return _problem(
            "shape_mismatch", f"The weights in {folder} do not have the shapes of its config.json.", _DAMAGED
        )
    if "does not recognize this architecture" in str(error) or "Unrecognized model" in str(error):
        fix = "Choose a model of a known family, or update transformers."
        return _problem("architecture_unknown", f"The architecture of {folder} is unknown: {text}", fix)
    return _problem("not_loaded", f"The model in {folder} cannot be loaded: {text}", _DAMAGED)


def _check_keys(folder: Path, info: dict[str, Any]) -> None:
    """Refuse random layers (missing or mismatched) and weights that nothing would use (unexpected)."""
    for kind, code, says, fix in (
        ("missing_keys", "tensor_missing", "has no weights for", f"They would be random. {_DAMAGED}"),
        ("mismatched_keys", "shape_mismatch", "has weights of another shape for", _DAMAGED),
        (
            "unexpected_keys",
            "tensor_unexpected",
            "holds weights that its config.json has no place for:",
            "Check config.json of the model.",
        ),
    ):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get(kind) or ())
        if names:
            raise _problem(code, f"The model in {folder} {says} {_listed(names)}.", fix)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_weight_files(folder: Path) -> None:
    """Refuse folders without whole safetensors files, and weights that are not finite.

    Raises:
        ProblemError: Naming the file, and the tensor where there is one.
    """
    check_structure(folder)
    check_numbers(folder)


def check_structure(folder: Path) -> None:
    """Refuse folders whose safetensors files are missing, cut or contradict their headers; reads headers only.

    Raises:
        ProblemError: Naming the file.
    """
    weights = read_weights(folder)
    problems = [Problem(**finding.model_dump()) for finding in weights.findings if finding.severity == "error"]
    if problems:
        raise ProblemError(*problems)


def check_numbers(folder: Path) -> int:
    """Refuse weights that are not finite; files that were looked at before and have not changed are not read again.

    Returns:
        How many files were read.

    Raises:
        ProblemError: Naming the file and the tensor.
    """
    known = VerifiedFiles()
    num_read = 0
    for file in weight_files(folder):
        if known.of(file).finite:
            continue
        num_read += 1
        name = _first_broken_tensor(file)
        if name:
            raise _problem("not_finite", f"{file.name} in {folder} holds NaN or infinity in {name}.", _DAMAGED)
        known.note(file, finite=True)
    return num_read


def _first_broken_tensor(file: Path) -> str | None:
    with safe_open(str(file), framework="pt", device="cpu") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dictionary
            tensor = tensors.get_tensor(name)
            # A sum is not finite when any element is not; it needs no second tensor of the same size.
            if tensor.is_floating_point() and not _finite(tensor):
                return str(name)
    return None


def _finite(tensor: torch.Tensor) -> bool:
    if tensor.element_size() == 1:
        # torch does not add up 8-bit floats.
        return all(bool(torch.isfinite(part.float()).all()) for part in tensor.flatten().split(_SCANNED_AT_ONCE))
    total = tensor.sum(dtype=torch.float64)
    return bool(torch.isfinite(total))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that can write ids which the model has no embedding for.

    Raises:
        ProblemError: Naming the token.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        number, token = beyond[0]
        raise _problem(
            "vocabulary_too_large",
            f"The tokenizer has {len(beyond)} tokens beyond the model's {rows} embeddings, first {token!r} ({number}).",
            "Use the tokenizer that the model was trained with.",
        )
