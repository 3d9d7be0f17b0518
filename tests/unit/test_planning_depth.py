"""Methods that train a part of a model, in the plan: what is derived, what it costs, what it refuses."""

import pytest

from engine.planning.case import setup_of
from engine.planning.depth import Stages, default_every, default_layers, default_layers_per_stage, default_width
from engine.planning.duration import step_flops
from engine.planning.memory import trainable_params
from engine.planning.plan import Plan
from engine.recipe.rules import check_rules
from tests.unit.made_plans import codes, finding, hub_model, plan, tiny

LLAMA = hub_model("meta-llama/Llama-3.2-1B-Instruct")
MISTRAL = hub_model("mistralai/Mistral-7B-Instruct-v0.3")


def planned(name: str, model=None, **method) -> Plan:
    return plan({"method": {"name": name, **method}}, model=model)


def reason(found: Plan, path: str) -> str:
    source = found.sources[path]
    assert source.kind == "derived", path
    return source.detail


class TestDefaults:
    def test_bottlenecks(self):
        found = planned("bottleneck", LLAMA)
        method = found.recipe.method
        assert (method.width, method.placement, method.activation) == (2048 // 16, "houlsby", "gelu")
        assert reason(found, "method.width").startswith("a sixteenth")
        assert not found.recipe.delivery.merge
        assert reason(found, "delivery.merge") == "bottleneck adapters cannot be merged"
        assert default_width(128) == 32

    def test_last_blocks(self):
        found = planned("feature-extraction", LLAMA)
        assert found.recipe.method.layers == 4
        assert reason(found, "method.layers") == "a quarter of the 16 blocks"
        assert found.recipe.delivery.merge
        assert default_layers(2, head_is_new=False) == 1
        assert default_layers(12, head_is_new=True) == 0

    def test_stages_are_open_after_half_of_the_run(self):
        found = planned("gradual-unfreezing")
        method, total = found.recipe.method, found.steps.total_steps
        assert (method.layers_per_stage, method.rate_decay) == (1, 1.0)
        stages = Stages(4, 1, head_learns_alone=False, every=method.unfreeze_every or 0)
        assert total // 3 < stages.opens_at(len(stages) - 1) <= total // 2
        assert "method.stages_never_open" not in codes(found)

    def test_what_the_person_set_stays(self):
        found = planned("feature-extraction", LLAMA, layers=7)
        assert (found.recipe.method.layers, found.sources["method.layers"].kind) == (7, "you")


class TestStages:
    @pytest.mark.parametrize("head_learns_alone", [True, False])
    @pytest.mark.parametrize(("num_blocks", "per_stage"), [(1, 1), (4, 1), (5, 2), (3, 7), (80, 14)])
    def test_every_block_opens_once_and_the_embeddings_last(self, num_blocks, per_stage, head_learns_alone):
        stages = Stages(num_blocks, per_stage, head_learns_alone)
        opened = [place for start, end in stages.blocks for place in range(start, end)]
        assert opened == list(range(num_blocks))
        assert stages.blocks[-1] == (num_blocks, num_blocks)
        assert (stages.blocks[0] == (0, 0)) is head_learns_alone

    def test_what_is_open_grows_with_the_steps_and_ends(self):
        stages = Stages(4, 1, head_learns_alone=True, every=3)
        assert [stages.num_open(step) for step in (0, 2, 3, 14, 15, 99)] == [1, 1, 2, 5, 6, 6]
        assert stages.opens_at(5) == 15

    def test_few_stages_whatever_the_depth(self):
        for num_blocks in (1, 6, 7, 32, 80):
            stages = Stages(num_blocks, default_layers_per_stage(num_blocks), head_learns_alone=True)
            assert len(stages) <= 8
        assert default_every(8, 3) == 1


class TestCost:
    def test_weights_that_learn_are_counted(self):
        bottleneck = setup_of(planned("bottleneck", LLAMA, width=64))
        assert trainable_params(LLAMA, bottleneck) == 16 * 2 * (2 * 2048 * 64 + 2048 + 64)
        pfeiffer = setup_of(planned("bottleneck", LLAMA, width=64, placement="pfeiffer"))
        assert trainable_params(LLAMA, pfeiffer) == trainable_params(LLAMA, bottleneck) // 2
        block = 2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048
        tied = setup_of(planned("feature-extraction", LLAMA, layers=2))
        assert trainable_params(LLAMA, tied) == pytest.approx(2 * block, rel=1e-4)
        head = setup_of(planned("feature-extraction", MISTRAL, layers=0))
        assert trainable_params(MISTRAL, head) == 32768 * 4096

    def test_memory_and_time_grow_with_the_blocks_that_learn(self):
        found = [planned("feature-extraction", MISTRAL, layers=layers) for layers in (0, 2, 8, 32)]
        setups = [setup_of(each).changed(micro_batch=1, activation_checkpointing=False) for each in found]
        flops = [step_flops(MISTRAL, setup, 1000.0) for setup in setups]
        assert flops == sorted(flops)
        assert flops[0] < flops[-1] / 2
        whole = step_flops(MISTRAL, setups[0].changed(method="full"), 1000.0)
        assert flops[-1] == pytest.approx(whole)
        memory = [each.memory.expected_bytes for each in found]
        assert memory == sorted(memory)
        assert memory[0] < planned("lora", MISTRAL).memory.expected_bytes < memory[-1]

    def test_unfreezing_is_planned_for_its_last_stage(self):
        full, gradual = planned("full", LLAMA), planned("gradual-unfreezing", LLAMA)
        assert "forgets less" in next(row for row in gradual.options if row.verdict == "chosen").quality
        assert gradual.memory.expected_bytes == full.memory.expected_bytes
        assert gradual.disk.checkpoints_bytes == full.disk.checkpoints_bytes
        assert gradual.recipe.training.learning_rate == full.recipe.training.learning_rate

    def test_few_weights_learn_at_a_higher_rate(self):
        rates = [
            planned("feature-extraction", LLAMA, layers=layers).recipe.training.learning_rate for layers in (1, 4, 16)
        ]
        assert rates == [1e-4, 5e-5, 5e-5]
        assert "for a learning part of" in reason(planned("feature-extraction", LLAMA), "training.learning_rate")


class TestRefusals:
    def test_more_blocks_than_the_model_has(self):
        found = finding(planned("feature-extraction", layers=5), "method.too_many_layers")
        assert found.severity == "error"
        assert "at most 4" in found.fix
        assert "method.too_many_layers" not in codes(planned("feature-extraction", layers=4))

    def test_a_head_that_is_tied_alone(self):
        assert finding(planned("feature-extraction", LLAMA, layers=0), "method.head_is_tied").severity == "error"
        assert "method.head_is_tied" not in codes(planned("feature-extraction", LLAMA, layers=1))
        assert "method.head_is_tied" not in codes(planned("feature-extraction", MISTRAL, layers=0))

    def test_stages_that_never_open(self):
        steps = {"training": {"max_steps": 20}}
        told = plan({"method": {"name": "gradual-unfreezing", "unfreeze_every": 9}, **steps})
        found = finding(told, "method.stages_never_open")
        assert found.severity == "warning"
        assert found.message.startswith("3 of 5 stages open in 20 steps")
        assert "at most 4," in found.fix
        fits = plan({"method": {"name": "gradual-unfreezing", "unfreeze_every": 4}, **steps})
        assert "method.stages_never_open" not in codes(fits)

    def test_experts_leave_no_place_for_bottlenecks(self):
        model = tiny(num_experts=4, experts_per_token=2, expert_params=10)
        assert finding(planned("bottleneck", model), "method.no_projection").severity == "error"
        offered = {option.method: option for option in planned("lora", model).options}
        assert offered["bottleneck"].verdict == "impossible"
        assert "experts" in offered["bottleneck"].why_not
        assert offered["feature-extraction"].verdict == "fits"

    @pytest.mark.parametrize(
        ("name", "path", "value"),
        [("lora", "width", 8), ("full", "layers", 2), ("feature-extraction", "unfreeze_every", 2),
         ("bottleneck", "rank", 8), ("gradual-unfreezing", "layers", 2)],
    )  # fmt: skip
    def test_a_setting_of_another_method_is_refused(self, name, path, value):
        found = plan({"method": {"name": name, path: value}})
        assert finding(found, "recipe.no_effect").path == f"method.{path}"

    def test_merging_what_cannot_be_merged(self):
        tree = {"method": {"name": "bottleneck"}, "delivery": {"merge": True}}
        problems = check_rules(plan(tree).recipe, {"method.name", "delivery.merge"})
        assert any(problem.path == "delivery.merge" and problem.severity == "error" for problem in problems)
