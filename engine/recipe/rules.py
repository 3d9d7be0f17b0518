"""Rules between fields: settings that contradict each other, that nothing would read, or that are rarely meant.

Wizard, command line, planner and worker call `check_rules`; types and ranges of single fields are the schema's. A
setting that the chosen path does not read is an error and never ignored, because its author believes that it works.

Packing conversations is allowed on purpose: packed rows are kept apart by the attention mask, and packed and unpacked
losses were measured equal to 1e-6 on this stack.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.catalog.builtin import is_builtin
from engine.catalog.learning_rates import RATE_FAMILIES
from engine.catalog.methods import METHOD_SETTINGS, METHODS, Method, find_method, readers_of
from engine.catalog.metrics import best_choices, find_metric
from engine.catalog.objectives import OBJECTIVE_SETTINGS, OBJECTIVES, find_objective
from engine.catalog.preference_losses import LOSS_SETTINGS, find_loss, losses_reading
from engine.recipe.check import ACCESS_TOKEN
from engine.recipe.fields import fields_by_path
from engine.recipe.places import PLACES
from engine.recipe.problems import Problem
from engine.recipe.rules_evaluation import evaluation_rules
from engine.recipe.rules_model import model_rules
from engine.recipe.rules_reinforcement import reinforcement_rules
from engine.recipe.rules_results import result_rules
from engine.recipe.schema import Recipe
from engine.recipe.sources import Source, flatten
from engine.recipe.strict_yaml import resolve_scalar
from engine.text import clean_line

DeviceKind = Literal["cuda", "cpu"]

MAX_HELD_OUT_SHARE = 0.5

_WHY_UNREAD: dict[str, str] = {
    "data.system_prompt": "has no conversation to put it in front of",
    "model.chat_template": "has no conversation to write out",
    "evaluation.few_shot": "asks no questions that examples could answer",
    "evaluation.generate_rows": "writes nothing",
    "evaluation.max_new_tokens": "writes nothing",
    "evaluation.sample_prompts": "answers no prompts",
    "training.packing": "gives each row a sequence of its own",
}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rules look at: the recipe, its leaves, which of them somebody set, and the device if known."""

    recipe: Recipe
    values: dict[str, Any]
    set_paths: frozenset[str]
    device: DeviceKind | None

    def is_set(self, path: str) -> bool:
        """Return whether somebody gave this value (null takes one back)."""
        return path in self.set_paths and self.values[path] not in (None, {}, [])


def check_rules(
    recipe: Recipe, set_paths: Collection[str] | Mapping[str, Source], device_kind: DeviceKind | None = None
) -> list[Problem]:
    """Return what is wrong between the fields of a recipe, errors first.

    Args:
        recipe: A recipe, resolved or not; rules about a value that is still derived later say nothing.
        set_paths: Paths that somebody set; with sources, what only a preset set and what nothing reads is a note.
        device_kind: Where the run computes, when it is known.
    """
    values = flatten(recipe.model_dump(mode="json"))
    facts = _Facts(recipe, values, frozenset(path for path in set_paths if path in values), device_kind)
    problems = [problem for rule in _RULES for problem in rule(facts)]
    if isinstance(set_paths, Mapping):
        problems = [_softened(problem, set_paths) for problem in problems]
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.severity))


def _softened(problem: Problem, sources: Mapping[str, Source]) -> Problem:
    source = sources.get(problem.path)
    if problem.code != "recipe.no_effect" or source is None or source.kind != "preset":
        return problem
    fix = f"Nothing to do: the preset {clean_line(source.detail)} set it for another choice."
    return Problem(problem.code, problem.message, fix, problem.path, "note")


def _no_effect(path: str, because: str, fix: str = "") -> Problem:
    message = f"{path} has no effect: {because}."
    return Problem("recipe.no_effect", message, fix or f"Remove {path}.", path)


def _method_settings(facts: _Facts) -> Iterator[Problem]:
    name = facts.recipe.method.name
    if name is None:
        return
    method = find_method(name)
    for path in METHOD_SETTINGS:
        if not facts.is_set(path) or path in method.settings or _asks_for_what_is(facts, path, method):
            continue
        if path == "delivery.merge" and method.makes_adapter:
            yield Problem(
                "delivery.cannot_merge",
                f"delivery.merge asks for one whole model, and {method.words} changes no weight that could be merged.",
                f"Set delivery.merge to false, or method.name to {' or '.join(readers_of(path))}.",
                path,
            )
        else:
            fix = f"Remove {path}, or set method.name to {' or '.join(readers_of(path))}."
            yield _no_effect(path, f"the method {name} does not read it", fix)


def _asks_for_what_is(facts: _Facts, path: str, method: Method) -> bool:
    """Return whether a setting that is not read asks for what happens anyway.

    Full fine-tuning writes a whole model, which is what `merge: true` asks for; what cannot be merged is not.
    """
    return path == "delivery.merge" and facts.values[path] == method.trains_base


def _variants(facts: _Facts) -> Iterator[Problem]:
    """Yield what variants of LoRA, new tokens and virtual tokens cannot be combined with."""
    recipe, method = facts.recipe, facts.recipe.method.facts
    if recipe.method.name is None:
        return
    if recipe.method.variant == "pissa" and method.bits is not None:
        message = f"PiSSA changes the weights of the base model, and {method.words} holds them in {method.bits} bits."
        yield Problem(
            "method.variant_quantized",
            message,
            "Set method.name to lora, or method.variant to plain.",
            "method.variant",
        )
    if recipe.model.new_tokens and not method.trains_tokens:
        names = " or ".join(other.name for other in METHODS if other.trains_tokens)
        yield Problem(
            "method.tokens_stay_untrained",
            f"model.new_tokens adds rows to the embeddings, and none of them would learn with {method.words}.",
            f"Set method.name to {names}, or remove model.new_tokens.",
            "model.new_tokens",
        )
    if recipe.training.activation_checkpointing and not method.recomputes:
        yield Problem(
            "training.cannot_recompute",
            f"training.activation_checkpointing does not work with {method.words}: the learned keys would be lost.",
            "Set training.activation_checkpointing to false, or choose another method.",
            "training.activation_checkpointing",
        )
    if recipe.training.packing and method.adds_tokens:
        yield Problem(
            "training.packing_virtual_tokens",
            "training.packing puts rows behind one another, and virtual tokens stand in front of the first only.",
            "Set training.packing to false.",
            "training.packing",
        )


def _new_tokens(facts: _Facts) -> Iterator[Problem]:
    tokens = facts.recipe.model.new_tokens
    if any(not token.strip() or token != token.strip() or not token.isprintable() for token in tokens):
        message = "model.new_tokens holds one that is empty, has spaces around it or does not print."
        yield Problem("model.new_token_blank", message, "Write words such as <tool>.", "model.new_tokens")
    if len(set(tokens)) < len(tokens):
        message = "model.new_tokens names a token twice."
        yield Problem("model.new_token_twice", message, "Name each once.", "model.new_tokens")


def _targets(facts: _Facts) -> Iterator[Problem]:
    targets = facts.recipe.method.targets
    if isinstance(targets, list) and not [name for name in targets if name.strip()]:
        fix = "Name modules such as q_proj, or write all-linear."
        yield Problem(
            "method.targets_empty", "method.targets names no module, so nothing would train.", fix, "method.targets"
        )


def _batches(facts: _Facts) -> Iterator[Problem]:
    micro, effective = facts.recipe.training.micro_batch, facts.recipe.training.effective_batch
    if micro is None or effective % micro == 0:
        return
    lower = next(size for size in range(min(micro, effective), 0, -1) if effective % size == 0)
    higher = -(-effective // micro) * micro
    yield Problem(
        "training.batch_split",
        f"training.micro_batch {micro} does not divide training.effective_batch {effective}.",
        f"Set training.micro_batch to {lower}, or training.effective_batch to {higher}.",
        "training.micro_batch",
    )


def _length_of_run(facts: _Facts) -> Iterator[Problem]:
    steps = facts.recipe.training.max_steps
    if steps is None:
        return
    if facts.is_set("training.max_steps") and facts.is_set("training.epochs"):
        yield Problem(
            "training.two_limits",
            f"training.max_steps {steps} and training.epochs are both set; the step limit wins.",
            "Remove the one that you do not mean.",
            "training.max_steps",
            "warning",
        )
    for path, what in (("training.evaluate_every", "evaluation"), ("training.checkpoint_every", "checkpoint")):
        if facts.is_set(path) and facts.values[path] > steps:
            yield Problem(
                "training.interval_too_long",
                f"{path} is {facts.values[path]}, and the run ends after {steps} steps: no {what} before the end.",
                f"Set {path} to at most {steps}, or remove it.",
                path,
                "warning",
            )


def _best(facts: _Facts) -> Iterator[Problem]:
    """Yield what is wrong with the metric that says which step was best."""
    wished, path = facts.recipe.training.best_by, "training.best_by"
    if wished == "last":
        if facts.is_set("training.early_stopping") and facts.recipe.training.early_stopping:
            because = "training.best_by last compares no steps"
            yield _no_effect("training.early_stopping", because, "Set it to 0, or training.best_by to loss.")
        return
    if wished is None or wished == "loss":
        return
    objective, asked = find_objective(facts.recipe.objective), facts.recipe.evaluation.metrics
    choice = find_metric(wished).choice
    if choice not in objective.measurable:
        names = ", ".join(best_choices(objective.metrics))
        message = f"training.best_by {wished} is not measured with the objective {objective.name}."
        yield Problem("training.best_by_objective", message, f"Use {names}.", path)
    elif asked is not None and choice not in asked:
        message = f"training.best_by {wished} is not measured: evaluation.metrics leaves {choice} out."
        yield Problem("training.best_by_not_measured", message, f"Add {choice} to evaluation.metrics.", path)


def _softening(facts: _Facts) -> Iterator[Problem]:
    """Yield settings against learning by heart that the objective's loss, or its schedule, does not read."""
    training, objective = facts.recipe.training, find_objective(facts.recipe.objective)
    if facts.is_set("training.label_smoothing") and training.label_smoothing and not objective.expects_targets:
        because = f"the loss of {objective.name} has no targets whose probability could be spread"
        yield _no_effect("training.label_smoothing", because)
    if facts.is_set("training.neftune_alpha") and objective.signal == "prompts":
        yield _no_effect("training.neftune_alpha", "answers are sampled from the model as it is, without noise")
    if facts.is_set("training.min_rate") and training.min_rate and training.schedule == "constant":
        yield _no_effect("training.min_rate", "the constant schedule never falls")


def _learning_rate(facts: _Facts) -> Iterator[Problem]:
    rate = facts.recipe.training.learning_rate
    family = RATE_FAMILIES[facts.recipe.method.facts.rates]
    if rate is None or family.lowest <= rate <= family.highest:
        return
    consequence = "training will most likely diverge" if rate > family.highest else "nearly nothing will be learned"
    usual = f"{family.rates[-1][1]:g} for {family.words}"
    yield Problem(
        "training.learning_rate_unusual",
        f"training.learning_rate {rate:g} is far outside the usual range: {consequence}.",
        f"Usual is {usual}, more for small models; remove it to have it chosen.",
        "training.learning_rate",
        "warning",
    )


def _device(facts: _Facts) -> Iterator[Problem]:
    training = facts.recipe.training
    if facts.device != "cpu":
        return
    if training.precision == "float16":
        yield Problem(
            "training.precision_device",
            "training.precision float16 needs a GPU; a processor would compute in float32 without a word.",
            "Use bfloat16 or float32, or remove training.precision.",
            "training.precision",
        )
    if training.optimizer == "paged_adamw_8bit":
        yield Problem(
            "training.optimizer_device",
            "training.optimizer paged_adamw_8bit moves its states out of GPU memory, and there is no GPU.",
            "Use adamw_8bit or adamw, or remove training.optimizer.",
            "training.optimizer",
        )


def _evaluation(facts: _Facts) -> Iterator[Problem]:
    yield from evaluation_rules(facts.recipe, facts.values, facts.is_set)


def _objective_data(facts: _Facts) -> Iterator[Problem]:
    objective = find_objective(facts.recipe.objective)
    shape = facts.recipe.data.format
    if shape is not None and shape not in objective.formats:
        other = next(o.name for o in OBJECTIVES if shape in o.formats)
        yield Problem(
            "data.format_objective",
            f"data.format {shape} does not fit the objective {objective.name}, "
            f"which reads {', '.join(objective.formats)}.",
            f"Set objective to {other}, or change data.format.",
            "data.format",
        )


def _preference(facts: _Facts) -> Iterator[Problem]:
    """Refuse settings that the chosen loss does not read, and rows that it cannot learn from."""
    recipe = facts.recipe
    if recipe.objective != "preference":
        return
    unpaired, chosen = recipe.data.format == "unpaired_preference", facts.is_set("preference.loss")
    # Where nobody chose a loss, the plan takes one that reads the rows.
    loss = find_loss("kto" if unpaired and not chosen else recipe.preference.loss)
    possible = {*loss.settings, *(find_loss("kto").settings if not chosen and recipe.data.format is None else ())}
    for path in LOSS_SETTINGS:
        neutral = facts.values[path] == fields_by_path()[path].default
        if path not in possible and facts.is_set(path) and not neutral:
            fix = f"Remove {path}, or set preference.loss to {' or '.join(losses_reading(path))}."
            yield _no_effect(path, f"the loss {loss.name} does not read it", fix)
    if unpaired and not loss.reads_unpaired:
        yield Problem(
            "preference.unpaired",
            f"The loss {loss.name} compares two answers, and these rows have one each.",
            "Set preference.loss to kto, or use rows with a chosen and a rejected answer.",
            "preference.loss",
        )
    if loss.name == "kto" and recipe.training.effective_batch < 2:
        yield Problem(
            "preference.batch",
            "KTO compares an answer with those to other prompts in the same step, and a step has one row.",
            "Set training.effective_batch to at least 2; 16 is a good start.",
            "training.effective_batch",
        )
    asked = recipe.evaluation.metrics
    if recipe.preference.judge is None and facts.is_set("evaluation.generate_rows"):
        fix = "Remove it, or set preference.judge to a reward model."
        yield _no_effect("evaluation.generate_rows", "without a judge no answer is compared", fix)
    if asked is not None and "win_rate" in asked and recipe.preference.judge is None:
        yield Problem(
            "preference.no_judge",
            "The win rate needs somebody who says which of two answers is better.",
            "Set preference.judge to a reward model or its run, or take win_rate out of evaluation.metrics.",
            "preference.judge",
        )
    if asked is not None and "win_rate" not in asked and recipe.preference.judge is not None:
        yield _no_effect(
            "preference.judge", "only the win rate asks it", "Remove it, or add win_rate to evaluation.metrics."
        )


def _objective_settings(facts: _Facts) -> Iterator[Problem]:
    objective = find_objective(facts.recipe.objective)
    for path in OBJECTIVE_SETTINGS:
        # A switch that is off, or a number that is nothing, asks for nothing.
        if path in objective.settings or not facts.is_set(path) or not facts.values[path]:
            continue
        if facts.values[path] == fields_by_path()[path].default:
            continue
        readers = [other.name for other in OBJECTIVES if path in other.settings]
        because = f"the objective {objective.name} {_WHY_UNREAD.get(path, 'does not read it')}"
        yield _no_effect(path, because, f"Remove {path}, or set objective to {' or '.join(readers)}.")


def _held_out(facts: _Facts) -> Iterator[Problem]:
    held_out = facts.recipe.data.held_out
    path = "data.held_out"
    if isinstance(held_out, float) and not 0 < held_out <= MAX_HELD_OUT_SHARE:
        fix = f"Use a share such as 0.1, at most {MAX_HELD_OUT_SHARE}, or name a file with rows of their own."
        message = f"data.held_out {held_out:g} must be above 0 and at most {MAX_HELD_OUT_SHARE}."
        if held_out > 1:
            message += " It is a share of the rows, not a number of rows."
        yield Problem("data.held_out_share", message, fix, path)
    elif isinstance(held_out, str) and isinstance(resolve_scalar(held_out.strip()[:40]), int | float):
        message = f'data.held_out "{clean_line(held_out, max_chars=40)}" is a number in quotes, and would name a file.'
        yield Problem("data.held_out_text", message, "Remove the quotes to hold out that share of the rows.", path)
    elif isinstance(held_out, str) and held_out in _sources(facts):
        message = "data.held_out is a file of data.source: the model would be judged on rows that it learned."
        yield Problem("data.held_out_trained", message, "Name a file with other rows, or a share such as 0.1.", path)


def _split(facts: _Facts) -> Iterator[Problem]:
    data, path = facts.recipe.data, "data.split.column"
    by_file = isinstance(data.held_out, str)
    if data.split.method in ("group", "time") and data.split.column is None:
        message = f"data.split.method {data.split.method} needs the column that rows are split by."
        yield Problem("data.split_column", message, "Set data.split.column to its name.", path)
    if facts.is_set(path) and data.split.method == "random":
        yield _no_effect(path, "a random split looks at no column", "Set data.split.method too, or remove it.")
    if data.split.method != "random" and by_file and data.split.test is None:
        yield _no_effect("data.split.method", "data.held_out is a file, so no rows are divided")
    if facts.is_set("data.cleaning.leaked_rows") and not by_file:
        yield _no_effect("data.cleaning.leaked_rows", "the held-out rows are drawn, and equal rows never part")


def _sources(facts: _Facts) -> list[str]:
    return facts.recipe.data.sources()


def _data_sources(facts: _Facts) -> Iterator[Problem]:
    sources = _sources(facts)
    if not sources or any(not source.strip() for source in sources):
        fix = "Name a file, or builtin:commands."
        yield Problem("data.source_empty", "data.source names no file.", fix, "data.source")
    twice = sorted({source for source in sources if sources.count(source) > 1})
    if twice:
        message = f"data.source names {clean_line(twice[0], max_chars=80)} twice."
        yield Problem("data.source_twice", message, "Name each file once.", "data.source")


def _builtin_model(facts: _Facts) -> Iterator[Problem]:
    if not is_builtin(facts.recipe.model.base):
        return
    if facts.is_set("model.revision"):
        yield _no_effect("model.revision", "the built-in model has one version")
    if facts.is_set("model.trust_remote_code") and facts.recipe.model.trust_remote_code:
        yield _no_effect("model.trust_remote_code", "the built-in model ships no code")


def _model_and_results(facts: _Facts) -> Iterator[Problem]:
    yield from model_rules(facts.recipe)
    yield from result_rules(facts.recipe)


def _reinforcement(facts: _Facts) -> Iterator[Problem]:
    yield from reinforcement_rules(facts.recipe, facts.values, facts.set_paths)


def _names(facts: _Facts) -> Iterator[Problem]:
    name = facts.recipe.name
    if name is not None and (not name.strip() or not name.isprintable()):
        message = "name is empty or has characters that do not print."
        yield Problem("recipe.name", message, "Give a title on one line, or remove it.", "name")


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _expansion(facts: _Facts) -> Iterator[Problem]:
    for path in PLACES:
        if any("${" in text for text in _texts(facts.values[path])):
            message = f"{path} holds ${{...}}, and variables are not filled in."
            yield Problem("recipe.no_expansion", message, "Write the value out.", path)


def _access_tokens(facts: _Facts) -> Iterator[Problem]:
    for path, value in facts.values.items():
        if any(ACCESS_TOKEN.search(text) for text in _texts(value)):
            message = f"{path} holds what looks like an access token, and recipes are copied and shown."
            fix = "Remove it, make a new token, and set it as HF_TOKEN in the environment."
            yield Problem("recipe.access_token", message, fix, path)


_RULES: tuple[Callable[[_Facts], Iterator[Problem]], ...] = (
    _method_settings,
    _variants,
    _new_tokens,
    _targets,
    _batches,
    _length_of_run,
    _best,
    _softening,
    _learning_rate,
    _device,
    _evaluation,
    _objective_data,
    _objective_settings,
    _preference,
    _held_out,
    _split,
    _data_sources,
    _builtin_model,
    _model_and_results,
    _reinforcement,
    _names,
    _expansion,
    _access_tokens,
)
