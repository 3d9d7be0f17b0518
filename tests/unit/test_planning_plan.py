"""The plan as a pure function: a source for every leaf, nothing typed overwritten, ways that really fit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog.base_models import models_for
from engine.hardware.devices import Disk, GpuProcess, Hardware
from engine.hardware.readings import Unavailable
from engine.planning.first_look import look
from engine.planning.memory import Setup, estimate_memory, memory_components
from engine.planning.model_folder import profile_folder
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.planning.profiles import Finding, LengthProfile, ModelProfile, PreflightCheck
from engine.planning.steps import make_steps, mean_tokens, rows_cut
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.read import set_value
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten, lay
from engine.recipe.values import change_words
from tests.unit.made_plans import (
    CPU,
    DATA,
    GIB,
    HOME,
    LENGTHS,
    TEXT,
    codes,
    finding,
    gpu,
    hub_model,
    plan,
    tiny,
    with_gpus,
)


def test_every_leaf_has_a_value_and_a_source() -> None:
    found = plan()
    leaves = flatten(found.recipe.model_dump(mode="json"))
    assert set(found.sources) == set(leaves)
    assert Plan.model_validate_json(found.model_dump_json()) == found
    may_stay_empty = {
        "model.revision",
        "model.chat_template",
        "data.max_rows",
        "data.system_prompt",
        "data.encoding",
        "data.unwrap",
        "data.split.column",
        "data.split.test",
        "training.max_steps",
        "training.dropout",
        "training.neftune_alpha",
        "evaluation.sample_prompts",
        "token_classification.tag_names",
        "preference.beta",
        "preference.judge",
        "delivery.output",
        "method.rank",
        "method.alpha",
        "method.dropout",
        "method.targets",
        "method.width",
        "method.placement",
        "method.activation",
        "method.layers",
        "method.unfreeze_every",
        "method.layers_per_stage",
        "method.rate_decay",
        "method.variant",
        "method.lora_plus_ratio",
        "method.virtual_tokens",
        "method.initial_text",
        "method.encoder_width",
        "tracking.wandb",
        "tracking.mlflow",
        "tracking.trackio",
        "evaluation.json_schema",
        "evaluation.pattern",
        "evaluation.metric_file",
        "reinforcement.pattern",
        "reinforcement.wished_length",
        "reinforcement.reward_model",
        "reinforcement.reward_file",
        "reinforcement.max_completion",
        "reinforcement.beta",
        "reinforcement.scale_rewards",
        "reinforcement.token_mean",
        "text_to_text.prefix",
        "text_to_text.max_target_length",
    }
    assert {path for path, value in leaves.items() if value is None} <= may_stay_empty
    assert found.sources["objective"].kind == "you"
    assert found.sources["training.epochs"].kind == "default"
    assert all(source.detail for source in found.sources.values() if source.kind == "derived")


def test_the_same_facts_give_the_same_plan() -> None:
    assert plan().model_dump_json() == plan().model_dump_json()


def test_a_plan_that_is_planned_again_stays_the_same() -> None:
    first = plan(hardware=with_gpus(gpu(24)), model=hub_model())
    again = plan(
        first.recipe.model_dump(mode="json", exclude_none=True), hardware=with_gpus(gpu(24)), model=hub_model()
    )
    assert again.recipe == first.recipe
    assert again.memory == first.memory


TYPED: dict[str, Any] = {
    "name": "Mine",
    "method.name": "lora",
    "method.rank": 3,
    "method.alpha": 5.0,
    "method.dropout": 0.1,
    "method.targets": ["q_proj"],
    "training.micro_batch": 4,
    "training.max_length": 48,
    "training.learning_rate": 0.007,
    "training.optimizer": "adamw_8bit",
    "training.precision": "bfloat16",
    "training.activation_checkpointing": True,
    "training.packing": True,
    "training.evaluate_every": 3,
    "training.checkpoint_every": 5,
    "evaluation.metrics": ["perplexity"],
    "evaluation.max_new_tokens": 9,
    "evaluation.sample_prompts": ["Hello"],
    "model.chat_template": "chatml",
    "data.format": "messages",
    "data.mapping": {"messages": "turns"},
    "data.held_out": 0.2,
}


@pytest.mark.parametrize("path", sorted(TYPED))
@pytest.mark.parametrize("by_preset", [False, True])
def test_what_somebody_set_is_never_overwritten(path: str, by_preset: bool) -> None:
    section, _, key = path.rpartition(".")
    tree = {section: {key: TYPED[path]}} if section else {key: TYPED[path]}
    found = plan(preset=tree) if by_preset else plan(tree)
    assert flatten(found.recipe.model_dump(mode="json"))[path] == TYPED[path]
    assert (found.sources[path].kind, found.sources[path].detail) == (("preset", "P") if by_preset else ("you", ""))


def test_a_preset_gives_way_where_the_person_chose_another_method() -> None:
    found = plan({"method": {"name": "full"}}, preset={"method": {"name": "lora", "rank": 8}})
    assert found.recipe.method.rank is None
    assert found.sources["method.rank"].kind == "derived"
    assert not found.blocked


@pytest.mark.parametrize(
    ("name", "gib", "method"),
    [
        ("Qwen/Qwen3-8B", 80, "lora"),
        ("Qwen/Qwen3-8B", 16, "qlora"),
        ("Qwen/Qwen3-0.6B", 12, "lora"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 24, "full"),
    ],
)
def test_the_most_capable_method_that_fits_is_taken(name: str, gib: float, method: str) -> None:
    found = plan(hardware=with_gpus(gpu(gib)), model=hub_model(name))
    assert found.recipe.method.name == method
    assert not found.blocked
    assert found.memory.available_bytes is not None
    assert found.memory.high_bytes <= found.memory.available_bytes


def test_rank_alone_asks_for_an_adapter() -> None:
    found = plan({"method": {"rank": 4}})
    assert found.recipe.method.name == "lora"
    assert found.recipe.method.alpha == 8


SIZES = (
    *("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B-Instruct", "Qwen/Qwen3-1.7B"),
    *("Qwen/Qwen3-4B", "mistralai/Mistral-7B-Instruct-v0.3", "Qwen/Qwen3-8B", "microsoft/phi-4"),
)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("gib", [4, 8, 24])
def test_a_plan_fits_or_offers_three_ways_that_do(name: str, method: str, gib: int) -> None:
    hardware, model = with_gpus(gpu(gib)), hub_model(name)
    you = {"method": {"name": method}, "training": {"max_length": 4096}}
    found = plan(you, hardware=hardware, model=model)
    if not found.blocked:
        assert found.memory.high_bytes <= gib * GIB
        assert found.ways == []
        return
    assert found.ways
    if name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-4B") and gib > 4:
        assert len(found.ways) == 3
    for way in found.ways:
        tree = {"objective": "chat", "model": {"base": name}, "data": {"source": "x/rows.jsonl"}, **you}
        for change in change_words(way.changes)[1::2]:
            tree = set_value(tree, change)
            assert change in finding(found, "memory.does_not_fit").fix
        taken = make_plan(lay(tree), hardware, hub_model(tree["model"]["base"]), DATA, home=HOME)
        assert "memory.does_not_fit" not in codes(taken), way
        assert taken.memory == way.memory
        assert any(digit in way.price for digit in "0123456789") or "about as fast" in way.price


def test_ways_are_offered_also_where_nobody_knows_what_they_cost() -> None:
    you: dict[str, Any] = {
        "method": {"name": "lora"},
        "training": {"micro_batch": 64, "effective_batch": 64, "max_length": 512},
    }
    you["training"]["activation_checkpointing"] = False
    nothing = DATA.model_copy(update={"num_train": 0})
    found = plan(you, hardware=with_gpus(gpu(16)), model=hub_model("Qwen/Qwen3-1.7B"), data=nothing)
    first = found.ways[0]
    assert first.changes
    assert first.price == "What it costs in time is not known."


def test_recomputation_comes_only_where_it_is_needed() -> None:
    you = {"method": {"name": "qlora"}, "training": {"max_length": 4096}}
    long = DATA.model_copy(update={"lengths": LENGTHS.model_copy(update={"longest": 4096})})
    roomy = plan(you, hardware=with_gpus(gpu(80)), model=hub_model(), data=long)
    tight = plan(you, hardware=with_gpus(gpu(16)), model=hub_model(), data=long)
    assert roomy.recipe.training.activation_checkpointing is False
    assert tight.recipe.training.activation_checkpointing is True
    assert tight.recipe.training.optimizer == "paged_adamw_8bit"


@pytest.mark.parametrize("batch", [1, 6, 7, 16, 48, 100])
def test_the_micro_batch_divides_the_effective_batch(batch: int) -> None:
    for hardware in (CPU, with_gpus(gpu(24))):
        found = plan({"training": {"effective_batch": batch}}, hardware=hardware)
        assert batch % found.steps.micro_batch == 0
        assert found.steps.accumulation * found.steps.micro_batch == batch
        assert found.recipe.training.micro_batch == found.steps.micro_batch


def test_a_micro_batch_that_does_not_divide_is_kept_and_refused() -> None:
    found = plan({"training": {"effective_batch": 16, "micro_batch": 5}})
    assert found.recipe.training.micro_batch == 5
    assert found.blocked
    assert "training.batch_split" in codes(found, "error")


@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")]
)
def test_precision_follows_the_gpu(capability: tuple[int, int], precision: str) -> None:
    assert plan(hardware=with_gpus(gpu(24, capability))).recipe.training.precision == precision


def test_precision_on_a_processor_follows_its_flags_and_the_model() -> None:
    fast = replace(CPU, host=replace(CPU.host, cpu_flags=frozenset({"avx512_bf16"})))
    small, large = tiny(), hub_model("Qwen/Qwen3-0.6B")
    assert plan(hardware=fast, model=small).recipe.training.precision == "float32"
    assert plan(hardware=fast, model=large).recipe.training.precision == "bfloat16"
    assert plan(hardware=CPU, model=large).recipe.training.precision == "float32"


def test_float16_on_a_processor_is_refused_once() -> None:
    found = plan({"training": {"precision": "float16"}})
    assert len(codes(found, "error")) == 1
    assert found.recipe.training.precision == "float16"


def test_learning_rates_fall_with_size_and_are_higher_for_adapters() -> None:
    models = [tiny(), *(hub_model(card.name) for card in models_for("chat") if not card.builtin)]
    for method in ("full", "lora"):
        by_size = sorted(models, key=lambda model: model.num_params)
        rates = [
            plan({"method": {"name": method}}, model=model, hardware=with_gpus(gpu(1000))).recipe.training.learning_rate
            for model in by_size
        ]
        assert rates == sorted(rates, key=lambda rate: -(rate or 0))
    assert plan({"method": {"name": "full"}}).recipe.training.learning_rate == 2e-3
    assert plan(model=hub_model(), hardware=with_gpus(gpu(80))).recipe.training.learning_rate == 2e-4


@pytest.mark.parametrize(
    ("p99", "longest", "context", "length"),
    [(300, 700, 512, 304), (300, 310, 512, 312), (900, 4000, 512, 512), (3, 3, 512, 8), (300, 700, 128, 128)],
)
def test_the_length_covers_99_percent_within_the_context(p99: int, longest: int, context: int, length: int) -> None:
    lengths = LENGTHS.model_copy(update={"p50": p99 // 2, "p90": p99, "p99": p99, "longest": longest})
    found = plan(data=DATA.model_copy(update={"lengths": lengths}), model=tiny(context_length=context))
    assert found.recipe.training.max_length == length
    assert ("data.rows_cut" in codes(found)) == (longest > length)


def test_what_the_rows_say_of_cutting_is_not_said_again() -> None:
    told = Finding(
        code="preflight.p7",
        message="9 rows are cut at 512 tokens.",
        fix="Set training.max_length higher (the longest has 4,000 tokens), or shorten these rows.",
        severity="warning",
    )
    lengths = LENGTHS.model_copy(update={"longest": 4000})
    check = PreflightCheck(
        id="P7", title="Whole", status="warning", message="-", measured={"max_length": 512, "max_target": 0}
    )
    data = DATA.model_copy(update={"lengths": lengths, "findings": [told], "preflight": [check]})
    full = plan({"training": {"max_length": 512}}, data=data, model=tiny(context_length=512))
    assert "data.rows_cut" not in codes(full)
    assert finding(full, "preflight.p7") == told
    other = plan({"training": {"max_length": 1024}}, data=data, model=tiny(context_length=8192))
    assert "preflight.p7" not in codes(other)
    assert "data.rows_cut" in codes(other)


def test_cut_rows_are_counted_and_more_than_one_percent_warns() -> None:
    few, many = plan(), plan({"training": {"max_length": 64}})
    assert finding(few, "data.rows_cut").severity == "note"
    warned = finding(many, "data.rows_cut")
    assert warned.severity == "warning"
    assert "of 900 rows" in warned.message


def test_a_length_beyond_the_context_is_refused() -> None:
    assert "plan.length_exceeds_context" in codes(plan({"training": {"max_length": 600}}), "error")


@pytest.mark.parametrize("objective", ["chat", "domain-adaptation"])
@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "resnet", "hidden_sizes": [64], "depths": [2], "embedding_size": 64},
        {"model_type": "bert", "vocab_size": 99, "intermediate_size": 128, "max_position_embeddings": 4},
        {
            **{"model_type": "wav2vec2", "intermediate_size": 128, "conv_dim": [16], "conv_kernel": [3]},
            **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
        },
    ],
    ids=lambda config: config["model_type"],
)
def test_a_model_that_reads_no_words_has_a_plan_and_a_first_look(
    config: dict[str, Any], objective: str, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(sizes | config))
    model = profile_folder(tmp_path, base=str(tmp_path))
    made = plan(model=model, objective=objective, data=DATA if objective == "chat" else TEXT)
    assert made.blocked
    assert "plan.length_exceeds_context" not in codes(made)
    assert look(model, CPU) is not None


def test_a_generated_answer_leaves_room_for_its_question() -> None:
    small = plan(model=tiny(context_length=64))
    assert small.recipe.evaluation.max_new_tokens == 32


def test_plain_text_is_packed_into_enough_sequences() -> None:
    found = plan(objective="domain-adaptation", data=TEXT)
    assert found.recipe.training.packing is True
    assert found.recipe.evaluation.metrics == ["perplexity", "token_accuracy", "general_text"]
    assert found.recipe.training.max_length is not None
    assert found.steps.steps_per_epoch >= 8
    assert found.steps.steps_per_epoch * 16 * found.recipe.training.max_length >= 135_000


def test_steps_are_those_of_the_trainer() -> None:
    found = plan({"training": {"epochs": 0.5, "effective_batch": 16}})
    assert (found.steps.steps_per_epoch, found.steps.total_steps) == (57, 29)
    limited = plan({"training": {"max_steps": 5}})
    assert limited.steps.total_steps == 5
    tenth = make_steps(
        480, effective_batch=16, micro_batch=16, epochs=0.1, max_steps=None, evaluate_every=None, checkpoint_every=None
    )
    assert tenth.total_steps == 3


def test_few_steps_name_the_setting_that_makes_them_few() -> None:
    limited = finding(plan({"training": {"max_steps": 5}}), "plan.few_steps")
    assert (limited.path, "max_steps" in limited.fix) == ("training.max_steps", True)
    short = finding(plan({"training": {"epochs": 0.05}}), "plan.few_steps")
    assert (short.path, "epochs" in short.fix) == ("training.epochs", True)


def test_intervals_give_about_eight_evaluations_and_ten_checkpoints() -> None:
    found = plan()
    assert 6 <= found.steps.total_steps / found.steps.evaluate_every <= 8
    assert 8 <= found.steps.total_steps / found.steps.checkpoint_every <= 10
    assert found.recipe.training.evaluate_every == found.steps.evaluate_every


def test_the_held_out_share_gives_the_split_of_the_profile() -> None:
    for train, held in ((900, 100), (9500, 500), (7, 1), (11, 2), (300, 77)):
        found = plan(data=DATA.model_copy(update={"num_train": train, "num_held_out": held}))
        share = found.recipe.data.held_out
        assert isinstance(share, float)
        assert round(share * (train + held)) == held


def test_no_rows_block_and_no_held_out_rows_warn() -> None:
    empty = plan(data=DATA.model_copy(update={"num_train": 0, "num_held_out": 0, "lengths": None}))
    assert "data.no_training_rows" in codes(empty, "error")
    assert empty.time is None
    assert "data.no_held_out_rows" in codes(plan(data=DATA.model_copy(update={"num_held_out": 0})), "warning")


def test_findings_of_model_and_data_are_carried_over() -> None:
    broken = Finding(code="model.shard_broken", message="x", path="model.base")
    odd = Finding(code="data.odd", message="y", severity="warning")
    found = plan(model=tiny(findings=[broken]), data=DATA.model_copy(update={"findings": [odd]}))
    assert found.blocked
    assert codes(found)[0] == "model.shard_broken"
    assert "data.odd" in codes(found, "warning")


def test_code_of_the_model_needs_consent() -> None:
    model = tiny(findings=[Finding(code="model.remote_code", message="x", path="model.trust_remote_code")])
    assert plan(model=model).blocked
    allowed = plan({"model": {"base": model.base, "trust_remote_code": True}}, model=model)
    assert not allowed.blocked
    assert codes(allowed).count("model.remote_code") == 1
    assert finding(allowed, "model.remote_code").severity != "error"


def test_a_missing_chat_template_becomes_chatml_for_chat_only() -> None:
    model = tiny(has_chat_template=False)
    assert plan(model=model).recipe.model.chat_template == "chatml"
    assert plan(model=model, objective="domain-adaptation", data=TEXT).recipe.model.chat_template is None


def test_qlora_without_bitsandbytes_is_refused_and_not_chosen() -> None:
    bare = replace(CPU, libraries={"torch": "2.13.0"})
    assert "plan.bitsandbytes_missing" in codes(plan({"method": {"name": "qlora"}}, hardware=bare), "error")
    small = replace(with_gpus(gpu(12)), libraries={"torch": "2.13.0"})
    found = plan(hardware=small, model=hub_model())
    assert found.recipe.method.name == "lora"
    assert "qlora" not in finding(found, "memory.does_not_fit").fix


def test_targets_that_match_nothing_are_refused() -> None:
    found = plan({"method": {"name": "lora", "targets": ["q_porj"]}})
    assert "method.targets_match_nothing" in codes(found, "error")
    assert "q_proj" in finding(found, "method.targets_match_nothing").fix


def test_too_little_disk_blocks() -> None:
    small = replace(CPU, disks=[Disk(HOME.runs, 10 * GIB, 2**20)])
    found = plan(hardware=small)
    assert "disk.does_not_fit" in codes(found, "error")
    unknown = plan(hardware=replace(CPU, disks=[]))
    assert unknown.disk.free_bytes is None
    assert not unknown.blocked


def to_download(gib: float) -> ModelProfile:
    changes = {"download_bytes": int(gib * GIB), "download_folder": "/hub", "revision": "c" * 40}
    return tiny(base="made/model", **changes)


def test_a_download_counts_where_it_is_kept() -> None:
    runs = Disk(HOME.runs, 500 * GIB, 10 * GIB)
    without = plan(model=tiny()).disk.total_bytes
    same = replace(CPU, disks=[runs, replace(runs, path=Path("/hub"), free_bytes=10 * GIB - 4096)])
    together = plan(model=to_download(3), hardware=same)
    assert together.disk.total_bytes == without + 3 * GIB
    assert together.disk.download_free_bytes is None
    assert not together.blocked
    full = plan(model=to_download(12), hardware=same)
    assert "12.0 GiB of it downloaded" in finding(full, "disk.does_not_fit").message
    other = replace(CPU, disks=[runs, Disk(Path("/hub"), 100 * GIB, 2 * GIB)])
    apart = plan(model=to_download(3), hardware=other)
    assert apart.disk.total_bytes == without
    assert "HF_HOME" in finding(apart, "disk.download_does_not_fit").fix
    assert codes(apart, "error") == ["disk.download_does_not_fit"]
    unknown = plan(model=to_download(3), hardware=replace(CPU, disks=[runs]))
    assert unknown.disk.total_bytes == without + 3 * GIB


def test_a_hub_model_is_pinned_and_says_why() -> None:
    fetched = plan(model=to_download(1))
    assert fetched.recipe.model.revision == "c" * 40
    assert fetched.sources["model.revision"].detail == "newest commit of main"
    here = plan(model=tiny(revision="d" * 40))
    assert here.sources["model.revision"].detail == "the commit on this machine"
    chosen = plan({"model": {"revision": "v1.0"}}, model=to_download(1))
    assert chosen.recipe.model.revision == "v1.0"
    assert chosen.sources["model.revision"].kind == "you"


def test_the_freest_visible_gpu_is_taken() -> None:
    cards = [gpu(24, free_bytes=GIB), gpu(24, index=1, uuid="GPU-2"), gpu(80, index=2, free_bytes=2 * GIB)]
    assert plan(hardware=with_gpus(*cards)).device.index == 1
    assert plan(hardware=with_gpus(*cards)).device.uuid == "GPU-2"
    hidden = replace(with_gpus(*cards), visible_devices="2")
    assert plan(hardware=hidden).device.index == 2
    none = plan(hardware=replace(with_gpus(*cards), visible_devices=""))
    assert none.device.kind == "cpu"
    assert "hardware.gpus_hidden" in codes(none, "note")


def test_a_gpu_without_a_cuda_torch_is_said_and_not_used() -> None:
    found = plan(hardware=replace(with_gpus(gpu(24)), torch_cuda=Unavailable("built for the CPU only")))
    assert found.device.kind == "cpu"
    assert "hardware.torch_without_cuda" in codes(found, "warning")


@pytest.mark.parametrize(
    ("hardware", "why"),
    [
        (replace(with_gpus(), driver=Unavailable("the driver was updated; restart the machine")), "restart"),
        (with_gpus(gpu(24, name=Unavailable("has fallen off the bus"), total_bytes=Unavailable("lost"))), "fallen off"),
        (with_gpus(gpu(80, mig=True)), "MIG is on"),
    ],
    ids=["driver", "lost", "mig"],
)
def test_a_gpu_that_cannot_be_used_is_said_and_not_passed_over(hardware: Hardware, why: str) -> None:
    found = plan(hardware=hardware)
    assert found.device.kind == "cpu"
    assert why in finding(found, "hardware.gpu_unusable").message
    assert "hardware.gpu_unusable" not in codes(plan(hardware=replace(hardware, torch_cuda=CPU.torch_cuda)))


def test_a_machine_without_a_driver_has_nothing_to_say_of_gpus() -> None:
    assert not [code for code in codes(plan(hardware=replace(CPU, torch_cuda="13.0"))) if code.startswith("hardware.")]


def test_a_silent_driver_blocks_instead_of_training_on_the_processor() -> None:
    silent = replace(CPU, gpus_known=False)
    assert "hardware.driver_silent" in codes(plan(hardware=silent), "error")
    assert not plan(hardware=replace(silent, visible_devices="")).blocked


def test_unified_memory_counts_what_the_host_has_free() -> None:
    silent = Unavailable("not supported by this GPU or driver")
    shared = gpu(1, total_bytes=silent, free_bytes=silent, used_bytes=silent)
    found = plan(hardware=with_gpus(shared))
    assert found.device.kind == "cuda"
    assert found.memory.available_bytes == 24 * GIB
    assert "unified" in found.memory.where


def test_unknown_free_memory_warns_and_does_not_pretend() -> None:
    found = plan(hardware=with_gpus(gpu(24, free_bytes=Unavailable("no permission"))))
    assert found.memory.available_bytes is None
    assert "memory.unknown" in codes(found, "warning")


def test_others_on_the_gpu_are_named() -> None:
    process = GpuProcess(4711, "ann", "python\x1b[2J", 20 * GIB)
    found = plan(hardware=with_gpus(gpu(24, free_bytes=4 * GIB, processes=[process])))
    message = finding(found, "hardware.gpu_shared").message
    assert "4711" in message
    assert "ann" in message
    assert "20.0 GiB" in message


def test_a_run_that_takes_days_warns() -> None:
    one = replace(CPU, host=replace(CPU.host, cores=1, ram_available_bytes=200 * GIB))
    assert "plan.slow" in codes(plan(hardware=one, model=hub_model()), "warning")
    assert "plan.slow" not in codes(plan())


def test_the_command_starts_the_same_run() -> None:
    assert plan().command == ["ftwizard", "run", "recipe.yaml"]
    you = {"name": "[x] 1", "training": {"epochs": 2.0, "packing": True}, "data": {"mapping": {"prompt": "q"}}}
    found = plan(you, preset={"training": {"warmup": 0.1}})
    assert found.command[:3] == ["ftwizard", "run", "P"]
    tree: dict[str, Any] = {}
    for flag, change in zip(found.command[3::2], found.command[4::2], strict=True):
        assert flag == "--set"
        tree = set_value(tree, change)
    again = make_plan(lay(tree, preset={"training": {"warmup": 0.1}}, preset_name="P"), CPU, tiny(), DATA, home=HOME)
    assert again == found


@pytest.mark.parametrize("taken_back", [{"training": {"learning_rate": None}}, {"data": {"mapping": {}}}])
def test_the_command_takes_back_what_the_person_took_back_from_a_preset(taken_back: Mapping[str, Any]) -> None:
    preset = {"training": {"learning_rate": 0.5}, "data": {"mapping": {"prompt": "q"}}}
    found = plan(taken_back, preset=preset)
    tree: dict[str, Any] = {}
    for change in found.command[4::2]:
        tree = set_value(tree, change)
    again = make_plan(lay(tree, preset=preset, preset_name="P"), CPU, tiny(), DATA, home=HOME)
    assert again.recipe == found.recipe


def test_a_recipe_that_breaks_the_schema_is_refused() -> None:
    with pytest.raises(ProblemError):
        make_plan(lay({"objective": "chat"}), CPU, tiny(), DATA, home=HOME)


def test_checkpoints_and_export_are_counted_per_method() -> None:
    roomy = with_gpus(gpu(1000))
    full = plan({"method": {"name": "full"}}, hardware=roomy, model=hub_model())
    lora = plan({"method": {"name": "lora"}}, hardware=roomy, model=hub_model())
    adapter_only = plan({"method": {"name": "lora"}, "delivery": {"merge": False}}, hardware=roomy, model=hub_model())
    params = hub_model().num_params
    assert full.disk.checkpoints_bytes >= 3 * 12 * params
    assert lora.disk.checkpoints_bytes < full.disk.checkpoints_bytes / 20
    assert lora.disk.export_bytes - adapter_only.disk.export_bytes == 2 * params


@given(
    method=st.sampled_from(["full", "lora", "qlora"]),
    precision=st.sampled_from(["float32", "bfloat16"]),
    device=st.sampled_from(["cpu", "cuda"]),
    micro_batch=st.integers(1, 64),
    max_length=st.integers(8, 8192),
    checkpointing=st.booleans(),
    rank=st.integers(1, 256),
)
@settings(max_examples=60, deadline=None)
def test_memory_grows_with_what_costs_memory(
    method: Any, precision: str, device: Any, micro_batch: int, max_length: int, checkpointing: bool, rank: int
) -> None:
    model = hub_model("Qwen/Qwen3-1.7B")
    setup = Setup(device, method, precision, micro_batch, max_length, "adamw", checkpointing, rank)
    here = estimate_memory(model, setup, available_bytes=None, where="x")
    assert 0 < here.low_bytes <= here.expected_bytes <= here.high_bytes
    assert sum(here.components.values()) == here.expected_bytes
    assert all(size >= 0 for size in here.components.values())
    for change in ({"micro_batch": micro_batch + 1}, {"max_length": max_length + 8}, {"rank": rank + 1}):
        more = estimate_memory(model, setup.changed(**change), available_bytes=None, where="x")
        assert more.high_bytes >= here.high_bytes
    if not checkpointing and max_length >= 64:
        less = estimate_memory(model, setup.changed(activation_checkpointing=True), available_bytes=None, where="x")
        assert less.expected_bytes <= here.expected_bytes
    if method == "lora":
        quantized = estimate_memory(model, setup.changed(method="qlora"), available_bytes=None, where="x")
        assert quantized.expected_bytes < here.expected_bytes


@pytest.mark.parametrize(
    ("method", "checkpointing", "rows", "traced_gib"),
    # Storage traces of a Llama-2-7B step at 2048 tokens with adapters of rank 16 on all linear layers, bfloat16.
    [("lora", True, 1, 14.39), ("lora", True, 4, 18.54), ("qlora", True, 1, 5.21), ("qlora", True, 4, 9.37),
     ("lora", False, 1, 30.61), ("qlora", False, 1, 15.08)],
)  # fmt: skip
def test_the_formula_agrees_with_traces_of_a_7b(method: Any, checkpointing: bool, rows: int, traced_gib: float) -> None:
    shapes = [(f"{name}_proj", 4096, 4096) for name in "qkvo"]
    shapes += [("gate_proj", 4096, 11008), ("up_proj", 4096, 11008), ("down_proj", 11008, 4096)]
    llama = ModelProfile(
        base="x",
        architecture="LlamaForCausalLM",
        model_type="llama",
        num_params=6_738_415_616,
        vocab_size=32000,
        hidden_size=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        head_dim=128,
        intermediate_size=11008,
        context_length=4096,
        tied_embeddings=False,
        linear_shapes=shapes,
    )
    setup = Setup("cuda", method, "bfloat16", rows, 2048, activation_checkpointing=checkpointing)
    assert sum(memory_components(llama, setup).values()) / GIB == pytest.approx(traced_gib, rel=0.16)


@given(st.lists(st.integers(1, 2000), min_size=5, max_size=200), st.integers(8, 2500))
@settings(max_examples=60, deadline=None)
def test_lengths_after_cutting_stay_within_bounds(values: list[int], max_length: int) -> None:
    ordered = sorted(values)
    lengths = LengthProfile(
        count=len(values),
        mean=sum(values) / len(values),
        p50=ordered[len(values) // 2],
        p90=ordered[int(len(values) * 0.9)],
        p99=ordered[int(len(values) * 0.99)],
        longest=ordered[-1],
        total=sum(values),
    )
    assert 1 <= mean_tokens(lengths, max_length) <= max_length
    cut = rows_cut(lengths, max_length)
    assert (cut == 0) == (lengths.longest <= max_length)
    assert cut <= len(values)


def test_the_resolved_recipe_is_a_recipe() -> None:
    found = plan()
    assert Recipe.model_validate(found.recipe.model_dump()) == found.recipe


def test_a_login_manager_that_would_end_the_run_is_said_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "launch.ends_at_logout" not in codes(plan())
    warning = Problem("launch.ends_at_logout", "This machine ends your processes.", "Use tmux.", severity="warning")
    monkeypatch.setattr("engine.planning.planner.logout_problem", lambda: warning)
    found = plan()
    assert "launch.ends_at_logout" in codes(found, "warning")
    assert not found.blocked
