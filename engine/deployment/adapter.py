"""Write an adapter alone, and merge one into its base model in full precision."""

import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.deployment import load_adapter
from engine.deployment.base_reference import BaseReference
from engine.deployment.loading_code import LOADER
from engine.deployment.weights import complete_generation_config, save_tokenizer, store_as
from engine.evaluation.scoring import causal_model
from engine.methods.bottleneck_tuner import BottleneckConfig
from engine.models.heads import writes
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
    grown = model.get_input_embeddings().weight.shape[0] != base_vocab_size
    # "auto" would ask the hub about the base model.
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=grown)
    if isinstance(model.active_peft_config, BottleneckConfig):
        # PEFT alone does not know these adapters; whoever gets the folder gets what loads them.
        shutil.copyfile(load_adapter.__file__, folder / LOADER)
    _name_base(folder / "adapter_config.json", base)
    if writes(causal_model(model)):
        complete_generation_config(causal_model(model), tokenizer).save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder)


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
