"""Small random models of a base model's kind: its shape, the run's method and number formats, no weights read."""

from pathlib import Path

import pytest
import torch

from engine.training.small_models import small_learner
from tests.engine.measured_training import plan_of

METHODS = [("full", {}), ("lora", {}), ("qlora", {}), ("bottleneck", {}), ("feature-extraction", {"layers": 2})]


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_a_small_model_is_the_runs_model_with_fewer_blocks(
    tiny_model_folder: Path, tmp_path: Path, method: str, settings: dict[str, int]
) -> None:
    # Of the files of the model, only its configuration is there.
    (tmp_path / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    training = {"precision": "bfloat16", "attention": "eager"}
    plan = plan_of(tiny_model_folder, method=method, training=training, method_=settings)
    model = small_learner(tmp_path, plan, 1)
    config = model.config.get_text_config()
    assert config.num_hidden_layers == 1
    assert config._attn_implementation == "eager"
    assert not any(parameter.is_meta for parameter in model.parameters())
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in learnt} == {torch.float32}
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert bool(torch.isfinite(logits).all())
    assert (method == "full") == (len(learnt) == len(list(model.parameters())))
