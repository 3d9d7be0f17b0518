"""The rehearsal against real training on the processor: the same tensors, live at the same time."""

import tempfile

import pytest
import torch
from transformers import AutoConfig

from engine.planning.plan import Device
from engine.planning.rehearse import Rehearsals
from engine.recipe.problems import ProblemError
from engine.rehearsal import step
from engine.rehearsal.hollow import CannotRehearseError, HollowMode
from engine.rehearsal.rows import training_sequences
from engine.rehearsal.run import rehearse
from engine.rehearsal.tracer import Tracer
from engine.training.trainer import RunTrainer
from tests.engine.measured_training import length_profile, measured_training_peak, plan_of, save_model
from tests.engine.tiny_kinds import save_encoder, save_pair_model

LARGEST_ERROR = 0.005
BF16 = {"precision": "bfloat16"}
CHECKPOINTED = {"activation_checkpointing": True}


def tiny_config(family, **changes):
    width, layers, positions = 128, 3, 512
    if family == "gpt2":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": positions}
    else:
        sizes = {
            "hidden_size": width,
            "intermediate_size": 352,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": positions,
        }
    if family in ("qwen3", "gemma2"):
        sizes["head_dim"] = 64
    return AutoConfig.for_model(family, **{"vocab_size": 1000, "pad_token_id": 0} | sizes | changes)


CASES = [
    ("llama", {"method": "full"}),
    ("llama", {"method": "full", "training": BF16 | CHECKPOINTED}),
    ("llama", {"method": "lora", "method_": {"dropout": 0.1}}),
    ("llama", {"method": "lora", "training": BF16 | CHECKPOINTED, "longest": 160}),
    ("llama", {"method": "lora", "training": BF16 | {"packing": True}, "usual": 20}),
    ("llama", {"method": "lora", "micro_batch": 1, "accumulation": 1, "longest": 128}),
    ("llama", {"method": "qlora", "training": BF16}),
    ("llama", {"method": "full", "training": {"optimizer": "adamw_8bit"}}),
    ("qwen3", {"method": "qlora", "usual": 20}),
    ("gpt2", {"method": "lora", "training": BF16}),
    ("gemma2", {"method": "full"}),
    ("phi3", {"method": "lora"}),
    ("llama", {"method": "lora", "training": {"attention": "eager"}, "longest": 200}),
    ("llama", {"method": "lora", "training": BF16, "model": {"new_tokens": ["<lamp>", "<door>"]}}),
    ("qwen3", {"method": "qlora", "training": BF16, "model": {"new_tokens": ["<lamp>"]}}),
]


@pytest.mark.parametrize(("family", "setup"), CASES, ids=lambda part: part if isinstance(part, str) else str(part))
def test_rehearsed_peak_is_the_measured_peak(tmp_path, family, setup):
    plan = plan_of(save_model(tmp_path, tiny_config(family)), **setup)
    rehearsed = rehearse(plan, "key").peaks["training"]
    measured = measured_training_peak(plan)
    assert abs(rehearsed / measured - 1) < LARGEST_ERROR, (rehearsed, measured)


KINDS = [
    ("token-classification", {"labels": ["O", "B-X", "I-X"]}),
    ("classification", {"labels": ["good", "bad"]}),
    ("classification", {"labels": ["good", "bad"], "multi_label": True}),
    ("domain-adaptation", {}),
]


@pytest.mark.parametrize(("objective", "labels"), KINDS, ids=lambda part: part if isinstance(part, str) else "")
def test_every_kind_of_head_is_rehearsed_as_it_trains(tmp_path, objective, labels):
    plan = plan_of(save_encoder(tmp_path / "model"), method="full", longest=48, objective=objective)
    plan = plan.model_copy(update={"data": plan.data.model_copy(update=labels)})
    result = rehearse(plan, "key")
    measured = measured_training_peak(plan)
    assert not result.notes
    assert result.peaks["training"] > 3 * result.components["model weights"]
    assert abs(result.peaks["training"] / measured - 1) < 0.02, (result.peaks, measured)


def pairs_plan(folder, *, sources, targets, beams=1):
    recipe = {"text_to_text": {"max_target_length": 64, "num_beams": beams}}
    plan = plan_of(save_pair_model(folder), method="full", longest=96, objective="text-to-text", **recipe)
    lengths = {"lengths": sources + targets, "source_lengths": sources, "answer_lengths": targets}
    data = plan.data.model_copy(update={name: length_profile(longest) for name, longest in lengths.items()})
    return plan.model_copy(update={"data": data})


def test_a_source_takes_its_whole_length_beside_its_target(tmp_path):
    result = rehearse(plan := pairs_plan(tmp_path, sources=200, targets=90), "key")
    (segment,) = training_sequences(plan, 1, 1, 1).segments[0]
    assert (len(segment.input_ids), segment.num_trained) == (96 + 64, 64)
    assert not result.notes
    assert abs(result.peaks["training"] / measured_training_peak(plan) - 1) < 0.02


def test_beams_are_rehearsed(tmp_path):
    one, four = (pairs_plan(tmp_path, sources=40, targets=20, beams=beams) for beams in (1, 4))
    notes = [note for plan in (one, four) for note in rehearse(plan, "key").notes]
    assert not notes


def _ends_without_a_word(self, *_):
    self.control.should_training_stop = True
    return torch.zeros(())


def test_a_rehearsal_without_steps_is_none(llama, monkeypatch):
    monkeypatch.setattr(RunTrainer, "training_step", _ends_without_a_word)
    with pytest.raises(ProblemError, match="0 of 2 steps"):
        rehearsed_on("cpu", llama, method="lora")


def rehearsed_on(device, folder, **setup):
    plan = plan_of(folder, **setup)
    return rehearse(plan.model_copy(update={"device": Device(kind=device, name="GPU")}), "key")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("llama"), tiny_config("llama", num_hidden_layers=2, vocab_size=8000))


def test_components_sum_up_to_the_peak(llama):
    result = rehearsed_on("cpu", llama, method="lora")
    assert sum(result.components.values()) == result.peaks[result.peak_phase]
    assert result.peak_phase == max(result.peaks, key=result.peaks.get)
    assert {"model weights", "adapter", "optimizer states"} <= set(result.components)
    assert set(result.peaks) == {"training", "evaluation", "saving", "merging"}
    assert result.confidence == "normal"


def test_weights_and_states_have_their_exact_size(llama):
    result = rehearsed_on("cpu", llama, method="full")
    config = AutoConfig.from_pretrained(llama)
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        params = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    assert 4 * params <= result.components["model weights"] <= 4 * params + 4096
    assert 8 * params <= result.components["optimizer states"] <= 8 * params + 4096


def test_gpu_holds_no_logits(llama):
    long = {"longest": 256, "training": BF16}
    gpu, processor = (
        rehearsed_on("cuda", llama, method="lora", **long),
        rehearsed_on("cpu", llama, method="lora", **long),
    )
    assert gpu.peaks["training"] - gpu.components["cuBLAS workspace"] < processor.peaks["training"] / 1.2
    assert gpu.reserved_low_bytes <= gpu.reserved_high_bytes
    assert gpu.smallest_card_bytes >= gpu.peaks[gpu.peak_phase]
    assert processor.reserved_low_bytes is None


def test_packed_rows_need_masks_on_a_gpu(llama):
    same = {"method": "lora", "micro_batch": 1, "longest": 512, "training": BF16}
    plain = rehearsed_on("cuda", llama, **same)
    packed = rehearsed_on("cuda", llama, **same | {"usual": 100, "training": BF16 | {"packing": True}})
    assert packed.peaks["training"] > plain.peaks["training"]


def test_float32_attention_on_a_gpu_keeps_scores_of_grouped_heads(llama):
    # Before torch 2.14 only flash attention shares key heads, and it has no float32.
    same = {"method": "lora", "micro_batch": 1, "longest": 512}
    narrow, wide = rehearsed_on("cuda", llama, **same, training=BF16), rehearsed_on("cuda", llama, **same)
    scores = 4 * 4 * 512 * 512
    assert wide.peaks["training"] > narrow.peaks["training"] + 2 * scores


def test_paged_states_are_not_on_the_gpu(tmp_path):
    folder = save_model(tmp_path, tiny_config("llama", hidden_size=512, num_hidden_layers=2))
    plain = rehearsed_on("cuda", folder, method="full", training=BF16 | {"optimizer": "adamw_8bit"})
    paged = rehearsed_on("cuda", folder, method="full", training=BF16 | {"optimizer": "paged_adamw_8bit"})
    assert paged.peaks["saving"] < plain.peaks["saving"]
    assert any("host memory" in note for note in paged.notes)


def test_model_without_files_is_rehearsed_from_its_facts(llama):
    plan = plan_of(llama, method="lora")
    from_files = rehearse(plan, "key")
    from_facts = rehearse(plan.model_copy(update={"model": plan.model.model_copy(update={"folder": None})}), "key")
    assert from_facts.peaks["training"] == from_files.peaks["training"]


def test_evaluation_reads_no_more_than_checkpointed_training(tmp_path):
    # Few key heads: the cache alone would leave room for three and a half times the prompts.
    config = tiny_config("llama", hidden_size=896, intermediate_size=4864, num_hidden_layers=8, num_attention_heads=14)
    config.save_pretrained(tmp_path)
    setup = {"micro_batch": 4, "longest": 512, "training": BF16 | CHECKPOINTED, "method_": {"targets": "attention"}}
    peaks = rehearsed_on("cuda", tmp_path, method="lora", evaluation={"max_new_tokens": 64}, **setup).peaks
    assert peaks["evaluation"] - peaks["saving"] < peaks["training"] - peaks["evaluation"]


def test_nothing_is_left_behind_by_a_rehearsal_that_is_ended(llama, tmp_path, monkeypatch):
    class EndedError(Exception):
        """Stands for the end of the process, which unwinds nothing."""

    def end(trainer, tracer):
        seen.extend(tmp_path.iterdir())
        raise EndedError

    seen = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(step, "_watch", end)
    with pytest.raises(ProblemError, match="EndedError"):
        rehearsed_on("cpu", llama, method="lora")
    assert seen == []


def test_examples_of_the_baseline_are_rehearsed(llama):
    plain, shown = (
        rehearsed_on("cuda", llama, method="lora", micro_batch=1, longest=64, evaluation={"few_shot": count})
        for count in (0, 5)
    )
    assert shown.peaks["evaluation"] > plain.peaks["evaluation"]
    assert shown.peaks["training"] == plain.peaks["training"]


def test_the_judge_of_a_preference_is_rehearsed_with_its_evaluation(llama, tmp_path):
    size = 50_000_000
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(size)
    plain, judged = (
        rehearsed_on("cuda", llama, method="lora", longest=64, objective="preference", preference={"judge": judge})
        for judge in (None, str(tmp_path))
    )
    assert judged.peaks["evaluation"] > judged.peaks["training"]
    assert judged.components["reward model"] >= size
    assert judged.peaks["training"] == plain.peaks["training"]


def test_kernel_that_fails_gives_its_memory_back():
    tracer = Tracer()
    with pytest.raises(ZeroDivisionError), tracer.held(100):
        raise ZeroDivisionError
    assert tracer.trace.events == [(0, 100), (0, 0)]


def test_attention_that_needs_a_gpu_is_not_rehearsed_as_another(llama):
    with pytest.raises(ProblemError) as caught:
        rehearsed_on("cuda", llama, method="lora", training=BF16 | {"attention": "flash_attention_2"})
    assert caught.value.problems[0].code == "rehearsal.cannot"


def test_unknown_family_is_a_problem(llama):
    plan = plan_of(llama, method="lora")
    unknown = plan.model.model_copy(update={"folder": None, "model_type": "not-a-family"})
    with pytest.raises(ProblemError) as caught:
        rehearse(plan.model_copy(update={"model": unknown}), "key")
    assert caught.value.problems[0].code == "rehearsal.model_unknown"


def test_small_whole_numbers_keep_their_content():
    with HollowMode(Tracer().note) as mode:
        ids = torch.arange(8)
        hidden = torch.zeros(8, 100_000)
        chosen = hidden[ids > 5]
        assert int(ids.sum()) == 28
    assert mode.is_hollow(hidden)
    assert chosen.shape == (2, 100_000)


def test_storages_are_released_when_the_last_view_goes():
    tracer = Tracer()
    with HollowMode(tracer.note):
        large = torch.zeros(1 << 20)
        view = large[: 1 << 10]
        del large
        assert not any(size == 0 for _, size in tracer.trace.events)
        del view
    assert tracer.trace.events[-1] == (0, 0)


def test_more_than_the_machine_has_costs_nothing():
    with HollowMode(Tracer().note):
        huge = torch.zeros(1 << 36, dtype=torch.float32)
        assert (huge @ huge).shape == ()


def test_shape_that_depends_on_content_is_refused_by_name():
    with HollowMode(Tracer().note), pytest.raises(CannotRehearseError, match="unique"):
        torch.unique(torch.zeros(1 << 20) + 1)


def test_rehearsal_process_answers(llama, tmp_path):
    rehearsals = Rehearsals(tmp_path)
    plan = plan_of(llama, method="lora")
    result = rehearsals.of_blocking(plan)
    assert result.peaks["training"] == rehearse(plan, "key").peaks["training"]
    assert rehearsals.cached(plan) == result
