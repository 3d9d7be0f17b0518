"""Real training on the processor through the engine's own functions, and the memory its tensors took."""

import gc
import tempfile
from pathlib import Path

import torch
from torch.profiler import profile

from engine.methods.apply import apply_method
from engine.models.loading import load_model
from engine.objectives.build import make_trainer
from engine.planning.model_profile import profile_folder
from engine.planning.plan import Device
from engine.planning.profiles import LengthProfile
from engine.rehearsal.models import stand_in_tokenizer
from engine.rehearsal.rows import training_sequences
from engine.rehearsal.step import NUM_STEPS, rehearsed_recipe
from tests.engine.made_plan import made_plan


def length_profile(longest, usual=None, count=200):
    usual = longest if usual is None else usual
    return LengthProfile(
        count=count,
        mean=usual,
        p50=usual,
        p90=max(usual, longest - 2),
        p99=longest - 1,
        longest=longest,
        total=usual * count,
    )


def plan_of(folder, *, method, micro_batch=2, accumulation=2, longest=64, usual=None, device="cpu", **recipe):
    """Return a plan for the model in `folder`; keywords are laid over `training` and `method`."""
    training = {"micro_batch": micro_batch, "effective_batch": micro_batch * accumulation, "max_length": longest}
    tree = {
        "training": training | recipe.pop("training", {}),
        "method": {"name": method} | recipe.pop("method_", {}),
        **recipe,
    }
    plan = made_plan(str(folder), method=method, recipe=tree)
    steps = plan.steps.model_copy(update={"micro_batch": micro_batch, "accumulation": accumulation})
    data = plan.data.model_copy(update={"lengths": length_profile(longest, usual)})
    profile = profile_folder(Path(folder), base=str(folder))
    return plan.model_copy(update={"steps": steps, "data": data, "model": profile, "device": Device(kind=device)})


def save_model(folder, config, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    return folder


def standing_bytes(model):
    """Return what the tensors of a model occupy, each storage once."""
    tensors = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code]
            if state.nested:
                tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


def allocator_peak(profiler):
    """Return the highest sum of PyTorch's own allocator events."""
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda item: item.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measured_training_peak(plan):
    """Train two steps for real and return the peak of tensors, in bytes."""
    recipe, batching = rehearsed_recipe(plan)
    model = load_model(recipe, "cpu", bits=recipe.method.facts.bits, task=plan.task)
    model = apply_method(model, recipe)
    standing = standing_bytes(model)
    sequences = training_sequences(plan, batching.micro_batch, batching.accumulation, NUM_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        built = make_trainer(
            recipe,
            plan.task,
            Device(kind="cpu"),
            batching,
            sequences,
            model=model,
            tokenizer=stand_in_tokenizer(),
            folder=Path(folder),
        )
        # What is given back while the profiler looks must have been taken while it looked.
        gc.collect()
        with profile(profile_memory=True) as profiler:
            built.trainer.train()
    return standing + allocator_peak(profiler)
