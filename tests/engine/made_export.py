"""Runs that have trained and are about to be exported, made by hand."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.data.rendering import Renderer
from engine.deployment.export import export_run, parity_prompts
from engine.evaluation.measurement import Measurement, Sample, save_measurement
from tests.engine.made_plan import made_plan, made_run
from tests.engine.tiny_models import command_rows

ROWS = command_rows(6)


def moved(model, *, std=0.2):
    """Change every trainable weight, as training would."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * std)
    return model


def with_lora(model):
    torch.manual_seed(3)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return moved(get_peft_model(model, settings))


class Case:
    """A run that has trained and is about to be exported."""

    def __init__(self, tmp_path, base_folder, *, method="lora", recipe=None, model=None, **facts):
        recipe = {"evaluation": {"sample_prompts": ["turn on the red lamp"]}} | (recipe or {})
        self.plan = made_plan(base_folder, folder=base_folder, method=method, recipe=recipe, **facts)
        self.run = made_run(tmp_path / "20261120-120000-made-k3f9", self.plan)
        self.tokenizer = AutoTokenizer.from_pretrained(base_folder)
        self.model = model or self._model(base_folder, method)
        self.prompts = parity_prompts(ROWS, Renderer(self.tokenizer, 128))
        self.events = []
        for phase, exact in (("before", 0.0), ("after", 0.75)):
            sample = Sample("a row of private data", "on(red_lamp)", "on")
            metrics = {"exact_match": exact, "perplexity": 3.0}
            save_measurement(Measurement(phase, 75, metrics, [sample], 20, 90, 6, 1.0), self.run.evaluation_folder)

    def _model(self, base_folder, method):
        model = AutoModelForCausalLM.from_pretrained(base_folder)
        model.config.use_cache = False
        return moved(model, std=0.02) if method == "full" else with_lora(model)

    def export(self):
        def emit(event_type, /, **payload):
            self.events.append((event_type, payload))

        return export_run(self.run, self.plan, self.model, self.tokenizer, prompts=self.prompts, emit=emit)
