"""Rules between fields: each fires on its fault, names the field, and is silent on recipes that are right."""

from typing import Any

import pytest

from engine.catalog.methods import METHODS
from engine.recipe.presets import list_presets
from engine.recipe.problems import Problem
from engine.recipe.read import check_recipe, set_value
from engine.recipe.rules import check_rules
from engine.recipe.sources import flatten, lay

SMALLEST = {"objective": "chat", "model": {"base": "some/model"}, "data": {"source": "rows.jsonl"}}


def found(*assignments: str, device: Any = None) -> list[Problem]:
    """Return the findings on the smallest recipe with some values set."""
    tree: dict[str, Any] = SMALLEST
    for assignment in assignments:
        tree = set_value(tree, assignment)
    return check_rules(check_recipe(tree, name="r"), set(flatten(tree)), device)


def codes(*assignments: str, device: Any = None) -> list[tuple[str, str]]:
    """Return `(code, path)` of the findings."""
    return [(problem.code, problem.path) for problem in found(*assignments, device=device)]


def test_the_smallest_recipe_has_no_findings():
    assert found() == []
    assert found(device="cpu") == []
    assert found(device="cuda") == []


@pytest.mark.parametrize(
    "assignment", ["method.rank=8", "method.alpha=16", "method.dropout=0", "method.targets=all-linear"]
)
def test_adapter_settings_need_an_adapter(assignment):
    path = assignment.partition("=")[0]
    assert codes("method.name=full", assignment) == [("recipe.no_effect", path)]
    assert codes("method.name=lora", assignment) == []
    assert codes("method.name=qlora", assignment) == []
    assert codes(assignment) == [], "the plan has not chosen the method yet"


def test_every_method_is_silent_on_all_settings_that_it_reads():
    values = {"method.rank": "8", "method.alpha": "16", "method.dropout": "0.1", "method.targets": "attention"}
    values["delivery.merge"] = "false"
    for method in METHODS:
        read = [f"{path}={value}" for path, value in values.items() if path in method.settings]
        assert codes(f"method.name={method.name}", *read) == []


def test_a_derived_rank_is_no_finding():
    tree = set_value(set_value(SMALLEST, "method.name=full"), "method.rank=8")
    assert check_rules(check_recipe(tree, name="r"), {"method.name"}) == []


def test_what_a_preset_set_for_another_method_is_a_note():
    layers = lay(
        {"method": {"name": "full"}}, preset={**SMALLEST, "method": {"name": "lora", "rank": 8}}, preset_name="p"
    )
    (problem,) = check_rules(check_recipe(layers.tree, name="r"), layers.sources)
    assert (problem.code, problem.severity) == ("recipe.no_effect", "note")
    layers = lay({"method": {"name": "full", "rank": 8}}, preset=SMALLEST, preset_name="p")
    (problem,) = check_rules(check_recipe(layers.tree, name="r"), layers.sources)
    assert problem.severity == "error"


def test_taking_a_value_back_is_no_finding():
    assert codes("method.name=full", "method.rank=null") == []


def test_merging_needs_an_adapter_but_a_whole_model_is_what_it_asks_for():
    assert codes("method.name=full", "delivery.merge=false") == [("recipe.no_effect", "delivery.merge")]
    assert codes("method.name=full", "delivery.merge=true") == []


@pytest.mark.parametrize(("micro", "effective", "lower", "higher"), [(3, 16, 2, 18), (32, 16, 16, 32), (5, 12, 4, 15)])
def test_the_micro_batch_divides_the_effective_batch(micro, effective, lower, higher):
    (problem,) = found(f"training.micro_batch={micro}", f"training.effective_batch={effective}")
    assert problem.code == "training.batch_split"
    assert f"training.micro_batch to {lower}" in problem.fix
    assert f"training.effective_batch to {higher}" in problem.fix
    assert effective % lower == 0
    assert higher % micro == 0
    assert found(f"training.micro_batch={lower}", f"training.effective_batch={effective}") == []


def test_two_limits_of_the_run_are_a_warning():
    (problem,) = found("training.max_steps=10", "training.epochs=3")
    assert (problem.code, problem.severity) == ("training.two_limits", "warning")
    assert found("training.max_steps=10") == []


@pytest.mark.parametrize("path", ["training.evaluate_every", "training.checkpoint_every"])
def test_intervals_longer_than_the_run(path):
    assert codes("training.max_steps=10", f"{path}=11") == [("training.interval_too_long", path)]
    assert codes("training.max_steps=10", f"{path}=10") == []


@pytest.mark.parametrize(("rate", "count"), [("5e-1", 1), ("1e-9", 1), ("2e-4", 0), ("1e-2", 0), ("2e-5", 0)])
def test_learning_rates_that_are_rarely_meant(rate, count):
    assert (
        codes(f"training.learning_rate={rate}")
        == [("training.learning_rate_unusual", "training.learning_rate")] * count
    )


def test_what_a_processor_does_not_do():
    assert codes("training.precision=float16", device="cpu") == [("training.precision_device", "training.precision")]
    assert codes("training.precision=float16", device="cuda") == codes("training.precision=float16") == []
    paged = "training.optimizer=paged_adamw_8bit"
    assert codes(paged, device="cpu") == [("training.optimizer_device", "training.optimizer")]
    assert codes(paged, device="cuda") == []


def test_metrics_that_do_not_fit_the_objective():
    text = "objective=domain-adaptation"
    assert codes(text, "evaluation.metrics=perplexity,rouge") == [("evaluation.metric_objective", "evaluation.metrics")]
    assert len(codes(text, "evaluation.metrics=exact_match,rouge")) == 2
    assert codes(text, "evaluation.metrics=perplexity,token_accuracy") == []
    assert codes("evaluation.metrics=perplexity,token_accuracy,exact_match,rouge") == []


def test_rows_to_generate_need_a_metric_that_generates():
    rows = "evaluation.generate_rows=10"
    unread = [("recipe.no_effect", "evaluation.generate_rows")]
    assert codes("evaluation.metrics=perplexity", rows) == unread
    assert codes("objective=domain-adaptation", rows) == unread
    assert codes("evaluation.metrics=rouge", rows) == codes(rows) == []


def test_shapes_of_rows_fit_the_objective():
    assert codes("data.format=text") == [("data.format_objective", "data.format")]
    assert codes("objective=domain-adaptation", "data.format=alpaca") == [("data.format_objective", "data.format")]
    assert codes("objective=domain-adaptation", "data.format=text") == codes("data.format=alpaca") == []


def test_plain_text_has_no_system_prompt():
    prompt = "data.system_prompt=Be brief."
    assert codes("objective=domain-adaptation", prompt) == [("recipe.no_effect", "data.system_prompt")]
    assert codes(prompt) == []


@pytest.mark.parametrize(
    ("held_out", "code"),
    [
        ("0", "data.held_out_share"),
        ("-0.1", "data.held_out_share"),
        ("0.6", "data.held_out_share"),
        ("200", "data.held_out_share"),
        ("'0.1'", "data.held_out_text"),
        ("rows.jsonl", "data.held_out_trained"),
        ("0.5", None),
        ("0.001", None),
        ("other.jsonl", None),
    ],
)
def test_held_out_rows(held_out, code):
    assert codes(f"data.held_out={held_out}") == ([(code, "data.held_out")] if code else [])


def test_a_number_of_held_out_rows_is_told_from_a_share():
    (problem,) = found("data.held_out=200")
    assert "not a number of rows" in problem.message


@pytest.mark.parametrize(
    ("source", "code"), [("[]", "data.source_empty"), ("['']", "data.source_empty"), ("[a, b, a]", "data.source_twice")]
)
def test_data_sources(source, code):
    assert codes(f"data.source={source}") == [(code, "data.source")]


def test_packing_conversations_is_allowed():
    assert codes("training.packing=true") == []


def test_the_builtin_model_has_one_version_and_no_code():
    assert codes("model.base=builtin:starter", "model.revision=main") == [("recipe.no_effect", "model.revision")]
    code = "model.trust_remote_code=true"
    assert codes("model.base=builtin:starter", code) == [("recipe.no_effect", "model.trust_remote_code")]
    assert codes("model.base=builtin:starter") == codes("model.revision=main") == []


def test_code_of_a_model_is_never_let_in_without_a_word():
    (problem,) = found("model.trust_remote_code=true")
    assert (problem.code, problem.severity) == ("model.remote_code", "warning")
    assert "some/model" in problem.message
    assert found("model.trust_remote_code=false") == []


def test_sample_prompts():
    assert codes("evaluation.sample_prompts=['', a]") == [("evaluation.prompt_empty", "evaluation.sample_prompts")]
    many = ", ".join(f"p{number}" for number in range(40))
    assert codes(f"evaluation.sample_prompts=[{many}]") == [("evaluation.many_prompts", "evaluation.sample_prompts")]
    assert codes("evaluation.sample_prompts=[]") == codes("evaluation.sample_prompts=[a, b]") == []


def test_targets_name_modules():
    assert codes("method.targets=[]") == [("method.targets_empty", "method.targets")]


@pytest.mark.parametrize("name", ["' '", '"a\\nb"', '"\\e[2J"'])
def test_names_are_one_visible_line(name):
    assert codes(f"name={name}") == [("recipe.name", "name")]


def test_variables_are_not_filled_in():
    assert codes("data.source=${HOME}/x.jsonl") == [("recipe.no_expansion", "data.source")]
    assert codes("data.system_prompt=Write ${x}.") == [], "a prompt may speak of variables"


@pytest.mark.parametrize("path", ["data.system_prompt", "model.base", "data.mapping.prompt", "data.source"])
def test_access_tokens_are_found_and_not_repeated(path):
    token = "hf_" + "aB3" * 12
    (problem,) = found(f"{path}={token}")
    assert problem.code == "recipe.access_token"
    assert token not in problem.sentence()


def test_errors_come_first():
    problems = found("training.max_steps=1", "training.epochs=1", "training.evaluate_every=5", "data.held_out=0.9")
    severities = [problem.severity for problem in problems]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert severities[0] == "error"


def test_every_finding_names_object_cause_and_next_action():
    faults = [
        ("method.name=full", "method.rank=8"),
        ("training.micro_batch=3",),
        ("training.learning_rate=0.9",),
        ("data.held_out=0.9",),
        ("evaluation.generate_rows=3", "evaluation.metrics=perplexity"),
        ("data.source=[a, a]",),
    ]
    for fault in faults:
        for problem in found(*fault):
            assert problem.path.rpartition(".")[2] in problem.message
            assert problem.message.endswith(".")
            assert problem.fix.endswith(".")


def test_shipped_presets_pass_on_gpu_and_cpu():
    for preset in list_presets():
        tree = preset.tree
        for hole in preset.holes:
            tree = set_value(tree, f"{hole}=rows.jsonl")
        for device in ("cpu", "cuda"):
            assert check_rules(check_recipe(tree, name=preset.name), set(flatten(tree)), device) == [], preset.name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["data.split.method=group"], ("data.split_column", "data.split.column")),
        (["data.split.method=time"], ("data.split_column", "data.split.column")),
        (["data.split.column=user"], ("recipe.no_effect", "data.split.column")),
        (["data.split.method=group", "data.split.column=user"], None),
        (["data.split.method=stratified"], None),
        (["data.split.method=stratified", "data.held_out=other.jsonl"], ("recipe.no_effect", "data.split.method")),
        (["data.split.method=stratified", "data.held_out=other.jsonl", "data.split.test=0.1"], None),
        (["data.cleaning.leaked_rows=drop"], ("recipe.no_effect", "data.cleaning.leaked_rows")),
        (["data.cleaning.leaked_rows=drop", "data.held_out=other.jsonl"], None),
    ],
)
def test_splits_have_what_they_need(changes, code):
    assert codes(*changes) == ([code] if code else [])


def test_settings_of_the_form_of_answers_are_read_by_a_metric_and_code_needs_a_yes():
    file, trust = "evaluation.metric_file=m.py", "evaluation.trust_metric_code=true"
    assert codes("evaluation.pattern=x", "evaluation.json_schema=s.json") == []
    assert codes("evaluation.metrics=regex") == [("evaluation.setting_missing", "evaluation.pattern")]
    assert codes("evaluation.metrics=regex,json_valid", "evaluation.pattern=x") == []
    assert codes("evaluation.metrics=rouge", "evaluation.pattern=x") == [("recipe.no_effect", "evaluation.pattern")]
    assert codes(file) == [("metric.file_not_trusted", "evaluation.trust_metric_code")]
    assert codes(file, trust) == [("metric.file_code", "evaluation.trust_metric_code")]
    assert codes(trust) == [("recipe.no_effect", "evaluation.trust_metric_code")]
    assert ("recipe.no_effect", "evaluation.pattern") in codes("objective=classification", "evaluation.pattern=x")
    assert ("evaluation.metric_objective", "evaluation.metrics") in codes("evaluation.metrics=wer")
    assert codes("objective=text-to-text", "evaluation.metrics=wer,cer") == []
