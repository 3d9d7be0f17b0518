"""What a method does not read, cannot do or cannot be combined with is an error that names setting and way out."""

import pytest

from engine.catalog.methods import METHOD_SETTINGS, METHODS, find_method
from tests.unit.test_recipe_rules import codes, found

VALUES = {
    "method.rank": "8",
    "method.alpha": "16",
    "method.dropout": "0.1",
    "method.targets": "mlp",
    "method.variant": "dora",
    "method.rank_pattern": "{down_proj: 4}",
    "method.lora_plus_ratio": "4",
    "method.virtual_tokens": "8",
    "method.initial_text": "Answer in one word",
    "method.encoder_width": "64",
    "method.width": "8",
    "method.placement": "pfeiffer",
    "method.activation": "relu",
    "method.layers": "1",
    "method.unfreeze_every": "5",
    "method.layers_per_stage": "1",
    "method.rate_decay": "0.5",
}


def test_every_setting_of_a_method_is_tried_below():
    assert set(VALUES) == {path for path in METHOD_SETTINGS if path.startswith("method.")}


@pytest.mark.parametrize("path", VALUES)
def test_a_setting_is_read_or_refused_by_every_method(path):
    for method in METHODS:
        expected = [] if path in method.settings else [("recipe.no_effect", path)]
        assert codes(f"method.name={method.name}", f"{path}={VALUES[path]}") == expected, method.name


@pytest.mark.parametrize(
    ("method", "path", "readers"),
    [
        ("full", "method.layers", "feature-extraction"),
        ("feature-extraction", "method.rate_decay", "gradual-unfreezing"),
        ("lora", "method.width", "bottleneck"),
    ],
)
def test_the_reason_is_that_the_method_does_not_read_it(method, path, readers):
    (problem,) = found(f"method.name={method}", f"{path}={VALUES[path]}")
    assert problem.message == f"{path} has no effect: the method {method} does not read it."
    assert problem.fix == f"Remove {path}, or set method.name to {readers}."


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_merging_is_asked_for_only_where_something_can_be_merged(method):
    merged = codes(f"method.name={method.name}", "delivery.merge=true")
    apart = codes(f"method.name={method.name}", "delivery.merge=false")
    if method.mergeable:
        assert merged == apart == []
    elif method.trains_base:
        assert (merged, apart) == ([], [("recipe.no_effect", "delivery.merge")])
    else:
        assert (merged, apart) == ([("delivery.cannot_merge", "delivery.merge")], [])


def test_the_way_out_of_a_merge_names_methods_that_can():
    (problem,) = found("method.name=prompt-tuning", "delivery.merge=true")
    assert "method.name to lora" in problem.fix
    assert "prompt-tuning" not in problem.fix


@pytest.mark.parametrize(
    ("assignments", "code", "path"),
    [
        (("method.name=qlora", "method.variant=pissa"), "method.variant_quantized", "method.variant"),
        (("method.name=lora-8bit", "method.variant=pissa"), "method.variant_quantized", "method.variant"),
        (("method.name=ia3", "model.new_tokens=<a>"), "method.tokens_stay_untrained", "model.new_tokens"),
        (
            ("method.name=prefix-tuning", "training.activation_checkpointing=true"),
            "training.cannot_recompute",
            "training.activation_checkpointing",
        ),
        (("method.name=p-tuning", "training.packing=true"), "training.packing_virtual_tokens", "training.packing"),
        (("method.name=p-tuning", "delivery.formats=gguf"), "delivery.format_needs_merge", "delivery.formats"),
        (("model.new_tokens=[a, a]",), "model.new_token_twice", "model.new_tokens"),
        (("model.new_tokens=['a ', b]",), "model.new_token_blank", "model.new_tokens"),
    ],
)
def test_what_cannot_be_combined(assignments, code, path):
    assert codes(*assignments) == [(code, path)]


@pytest.mark.parametrize(
    "assignments",
    [
        ("method.name=lora", "method.variant=pissa"),
        ("method.name=qlora", "method.variant=dora"),
        ("method.name=lora", "model.new_tokens=[<a>, <b>]"),
        ("method.name=prompt-tuning", "training.activation_checkpointing=true"),
        ("method.name=prefix-tuning", "training.activation_checkpointing=false"),
        ("method.name=p-tuning", "training.packing=false"),
        ("method.name=ia3", "delivery.formats=gguf"),
        ("method.variant=pissa",),
    ],
)
def test_what_can_be_combined(assignments):
    assert codes(*assignments) == []


@pytest.mark.parametrize(
    ("method", "rate", "unusual"),
    [("lora", "0.1", True), ("prompt-tuning", "0.1", False), ("prompt-tuning", "1e-6", True), ("ia3", "0.05", False)],
)
def test_usual_rates_are_those_of_the_method(method, rate, unusual):
    problems = found(f"method.name={method}", f"training.learning_rate={rate}")
    assert [problem.code for problem in problems] == ["training.learning_rate_unusual"] * unusual
    for problem in problems:
        assert find_method(method).rates != "adapter" or "adapters" in problem.fix
