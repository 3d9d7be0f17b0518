"""Write an adapter alone, and merge one into its base model in full precision."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.deployment import load_adapter
from engine.deployment.base_reference import BaseReference
from engine.deployment.loading_code import LOADER
from engine.deployment.weights import complete_generation_config, save_tokenizer, store_as
from engine.evaluation.scoring import causal_model
from engine.methods.bottleneck_tuner import BottleneckConfig, register
from engine.methods.new_tokens import make_room
from engine.methods.pissa import pissa_initial, write_as_plain_lora
from engine.models.heads import head_of, writes
from engine.recipe.problems import Problem, ProblemError


def save_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    base: BaseReference,
    base_vocab_size: int,
) -> None:
    """Write adapter weights, adapter configuration, generation configuration, tokenizer and chat template.

    The base model's own generation configuration may not name the end of turn that the adapter was taught.

    Args:
        base: How others may call the base model; the path of this machine is not written.
        base_vocab_size: Rows of the base model's embedding; when tokens were added, the embeddings belong to the
            adapter, as no base model brings them.
    """
    config: Any = model.active_peft_config
    own_rows = vars(config).get("trainable_token_indices") is not None
    grown = model.get_input_embeddings().weight.shape[0] != base_vocab_size and not own_rows
    # "auto" would ask the hub about the base model.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=grown)
    if isinstance(model.active_peft_config, BottleneckConfig):
        # PEFT alone does not know these adapters; whoever gets the folder gets what loads them.
        shutil.copyfile(load_adapter.__file__, folder / LOADER)
    if taken := pissa_initial(model):
        write_as_plain_lora(folder, taken)
    _name_base(folder / "adapter_config.json", base)
    if writes(causal_model(model)):
        complete_generation_config(causal_model(model), tokenizer).save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder, pad_left=head_of(causal_model(model)) == "causal-lm")


def with_adapter(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> PeftModel:
    """Return a base model with a written adapter on it.

    Args:
        base: The base model as it was published; gets rows for tokens that the adapter brings.
        tokenizer: Of the adapter.
        folder: From `save_adapter`.
    """
    make_room(base, tokenizer)
    register()
    loaded: PeftModel = PeftModel.from_pretrained(base, str(folder))
    return loaded


def _take_out_whole_modules(model: PeftModel) -> None:
    """Put modules that learned as a whole, such as a new head, where the base model had them.

    Unloading does the same, but every method except LoRA asks each of them for a weight of its own, which heads of
    several layers have not (PEFT 0.21, `BaseTuner._replace_module`).
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.modules_to_save[module.active_adapters[0]])


def _name_base(path: Path, base: BaseReference) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.name
    config["revision"] = base.revision
    config["inference_mode"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(model: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """Return the base model with the adapter added in, in the number format to store; the adapter model is used up.

    The product of the adapter's matrices is rounded to the format of the base weight that it is added to.

    Raises:
        ProblemError: `export.not_finite` when the adapter holds values that are no numbers.
    """
    _take_out_whole_modules(model)
    try:
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        problem = Problem(
            "export.not_finite",
            "The adapter holds values that are no finite numbers, so it cannot be merged.",
            "Resume from an earlier checkpoint with a lower training.learning_rate.",
        )
        raise ProblemError(problem) from error
    return store_as(merged, dtype)
