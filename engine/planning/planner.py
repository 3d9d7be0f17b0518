"""The plan: a pure function of recipe, machine, model and data. No clock, no chance, no disk, no network."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from engine.catalog.methods import METHOD_SETTINGS, find_method
from engine.catalog.metrics import SETTING_CHOICES
from engine.catalog.objectives import Objective, find_objective
from engine.catalog.preference_losses import PreferenceLoss, find_loss
from engine.hardware.devices import Gpu, Hardware
from engine.hardware.readings import known
from engine.planning import derive
from engine.planning import findings as find
from engine.planning.adapter_scale import alpha_reason, default_alpha
from engine.planning.advice import ways_that_fit
from engine.planning.answer_checks import beside_findings, settle_answer_checks
from engine.planning.calibration import Calibration
from engine.planning.capabilities import Surroundings, reason_against
from engine.planning.case import Facts, case_of, space_of
from engine.planning.depth import Stages, default_every, default_layers_per_stage, head_learns_alone
from engine.planning.depth_findings import depth_findings
from engine.planning.derive_targets import choose_prefix, choose_target
from engine.planning.duration import estimate_time, reference_seconds
from engine.planning.few_shot import affordable, choose_few_shot
from engine.planning.free_space import download_free_bytes, free_bytes
from engine.planning.head_settings import unread_findings, unread_settings
from engine.planning.heads import with_head
from engine.planning.judges import judge_findings, settle_judge
from engine.planning.lengths import length_choices
from engine.planning.memory import Setup
from engine.planning.model_findings import model_findings
from engine.planning.named_memory import with_named_memory
from engine.planning.options import make_options
from engine.planning.pins import with_commits
from engine.planning.plan import Device, Machine, MemoryEstimate, OtherGpu, Plan, Steps
from engine.planning.profiles import DataProfile, Finding, ModelProfile
from engine.planning.reinforcement import calmer, derive_reinforcement, reinforcement_findings
from engine.planning.search import Choice, Space, find_setup
from engine.planning.settings import Settings
from engine.planning.sharing import gpus_alike, share_work, sharing_findings, sharing_reason
from engine.planning.steps import count_sequences, make_steps
from engine.planning.storage import estimate_disk
from engine.planning.suitability import suitability_findings
from engine.planning.training_choices import choose_best_by, choose_patience, rate_params, training_findings
from engine.planning.virtual_prompt import default_encoder_width, for_text, num_virtual_tokens
from engine.recipe.problems import Problem
from engine.recipe.read import check_recipe
from engine.recipe.rules import check_rules
from engine.recipe.sources import Layered
from engine.recipe.values import change_words
from engine.runs.delivery import check_output
from engine.runs.home import HomeFolders
from engine.runs.logind import logout_problem
from engine.text import human_bytes, human_count

SMALLER = 0.8
"""A base model to fall back on has at most this share of the weights of the last one; less would save little."""
LABELLED_ROWS = 2000
"""Held-out rows whose classes or tags are measured: at 200, a class of one row in a hundred would stand on two."""


def make_plan(
    layered: Layered,
    hardware: Hardware,
    model: ModelProfile,
    data: DataProfile,
    *,
    home: HomeFolders,
    calibration: Calibration | None = None,
) -> Plan:
    """Return what a machine will do with a recipe.

    Args:
        layered: The recipe with the source of each value that somebody set.
        hardware: What the machine has.
        model: Facts of the base model.
        data: Facts of the data.
        home: Where runs are written; its free space is looked up in `hardware`.
        calibration: What was measured on this machine before.

    Raises:
        ProblemError: The recipe does not pass the schema. Everything else is a finding of the plan.
    """
    recipe = check_recipe(layered.tree, name="")
    settings = Settings(recipe, layered)
    model = with_head(model, recipe.objective, data)
    device, gpu = derive.choose_device(hardware)
    machine = _machine(hardware, gpu, calibration)
    facts = _Facts(settings, hardware, gpu, Facts(device, machine, model, data, *hardware.training_memory()))
    _derive_frame(facts)
    space = space_of(settings.values(), settings.paths_set(), facts.of)
    space, choice = _derive_sharing(facts, space, find_setup(space))
    _derive_method(facts, space, choice)
    steps = _derive_steps(facts, choice)
    _derive_stages(facts, steps)
    _derive_rest(facts)
    _derive_few_shot(facts, space, choice, steps)
    return with_memory(_plan(facts, home, space, choice, steps), choice.memory)


def with_memory(plan: Plan, estimate: MemoryEstimate) -> Plan:
    """Return a plan with another estimate of its memory: tables, ways and verdicts are made anew.

    Args:
        plan: A plan, of whatever depth.
        estimate: What its run needs, such as a rehearsal found out.
    """
    sources = with_named_memory(plan.sources, plan.memory, estimate)
    plan = plan.model_copy(update={"memory": estimate, "sources": sources})
    case = case_of(plan)
    ways = [] if find.fits(estimate) else ways_that_fit(case, smaller=lambda: _smaller_models(plan))
    others = [finding for finding in plan.findings if finding.code not in find.MEMORY_CODES]
    return plan.model_copy(
        update={
            "options": make_options(case),
            "lengths": length_choices(case),
            "ways": ways,
            "findings": find.unique([*others, *find.memory_findings(estimate, ways)]),
        }
    )


def _smaller_models(plan: Plan) -> list[ModelProfile]:
    """Return the catalogue's models of the same kind below a size that the objective can start from, largest first."""
    from engine.catalog.base_models import models_for

    model, objective = plan.model, plan.recipe.objective
    # The starter model is no stand-in for a model that somebody wants to use, and a gated one may not be had.
    cards = [card for card in models_for(objective) if not card.builtin and not card.gated and card.kind == model.kind]
    found: list[ModelProfile] = []
    least = float(model.num_params)
    for card in sorted(cards, key=lambda card: -(card.num_params or 0)):
        if (size := card.num_params or 0) < least:
            found.append(with_head(card.profile, objective, plan.data))
            least = SMALLER * size
    return found


def _machine(hardware: Hardware, gpu: Gpu | None, calibration: Calibration | None) -> Machine:
    """Return what of the machine decides on the plan."""
    gpus = [] if gpu is None else hardware.usable_gpus()
    free = [known(one.free_bytes) for one in gpus]
    return Machine(
        num_gpus=len(gpus),
        least_free_bytes=min((size for size in free if size is not None), default=None) if None not in free else None,
        alike_free_bytes=[known(one.free_bytes) or 0 for one in gpus_alike(hardware, gpu)],
        compute_capability=None if gpu is None else known(gpu.compute_capability),
        cores=hardware.host.cores,
        libraries=dict(hardware.libraries),
        calibration=calibration,
        hypothetical=hardware.hypothetical,
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    settings: Settings
    hardware: Hardware
    gpu: Gpu | None
    of: Facts

    @property
    def model(self) -> ModelProfile:
        return self.of.model

    @property
    def data(self) -> DataProfile:
        return self.of.data

    @property
    def ahead(self) -> int:
        """Virtual tokens in front of every text, where the method is known to add them."""
        return num_virtual_tokens(self.settings.recipe().method)

    @property
    def reading(self) -> ModelProfile:
        """The model with what virtual tokens leave of its context."""
        return for_text(self.model, self.settings.recipe().method)

    @property
    def cuda(self) -> bool:
        return self.of.device.kind == "cuda"

    @property
    def goal(self) -> Objective:
        return find_objective(self.settings["objective"])

    @property
    def text(self) -> bool:
        return self.goal.plain_text

    @property
    def loss(self) -> PreferenceLoss | None:
        return find_loss(self.settings["preference.loss"]) if self.goal.signal == "preferences" else None

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.of.device, self.of.machine, self.model, self.settings["training.precision"] or "")


def _derive_frame(facts: _Facts) -> None:
    """Derive what the memory search needs: precision, length, packing, what an evaluation generates."""
    settings, model, data = facts.settings, facts.model, facts.data
    if facts.goal.signal == "preferences" and data.format == "unpaired_preference":
        settings.derive("preference.loss", "kto", "these rows have one answer each")
    settings.derive("training.precision", *derive.choose_precision(facts.hardware, facts.surroundings, model))
    written_out = reason_against("sdpa", facts.surroundings)
    settings.derive("training.attention", "eager" if written_out else "sdpa", written_out or "always there, and fast")
    batch = settings["training.effective_batch"]
    written = derive_reinforcement(settings, facts.reading, data) if facts.goal.signal == "prompts" else 0
    settings.derive(
        "training.max_length",
        *derive.choose_length(settings["objective"], facts.reading, data, batch, written=written),
    )
    _clear_unread(facts)
    settings.derive("training.packing", *_packing(facts))
    if "text_to_text.prefix" in facts.goal.settings:
        settings.derive("text_to_text.prefix", *choose_prefix(model, data.traits))
    if "text_to_text.max_target_length" in facts.goal.settings_of(model.kind):
        settings.derive("text_to_text.max_target_length", *choose_target(model, data.answer_lengths))
    settle_answer_checks(settings)
    asked = [choice for path, choice in SETTING_CHOICES.items() if settings[path] is not None]
    metrics = derive.choose_metrics(settings["objective"], model.kind, settings["preference.judge"], asked)
    settings.derive("evaluation.metrics", *metrics)
    if "evaluation.max_new_tokens" in facts.goal.settings:
        settings.derive("evaluation.max_new_tokens", *derive.choose_answer_tokens(data, facts.reading))
    if settings.set_by_person("method.name"):
        method = find_method(settings["method.name"])
        for path in METHOD_SETTINGS:
            if path.startswith("method.") and path not in method.settings:
                settings.clear_preset(path, f"{method.words} does not read it")


def _clear_unread(facts: _Facts) -> None:
    """Take back what a preset says and the kind of model that the person chose does not read."""
    for path, because in unread_settings(facts.goal, facts.model).items():
        facts.settings.clear_preset(path, because)


def _derive_sharing(facts: _Facts, space: Space, alone: Choice) -> tuple[Space, Choice]:
    """Derive how many GPUs share the run, and return space and choice with that many."""
    settings, machine = facts.settings, facts.of.machine
    wanted = settings["training.num_gpus"] if settings["training.num_gpus"] is not None else None
    shared, choice = share_work(space, alone, machine.alike_free_bytes, wanted=wanted)
    settings.derive("training.num_gpus", choice.setup.num_gpus, sharing_reason(machine, alone, choice, space))
    return shared, choice


def _device(facts: _Facts, num_gpus: int) -> Device:
    """Return the device of the plan with the other GPUs that share the run."""
    others = gpus_alike(facts.hardware, facts.gpu)[1:num_gpus]
    return facts.of.device.model_copy(
        update={"others": [OtherGpu(index=gpu.index, uuid=known(gpu.uuid) or "") for gpu in others]}
    )


def _derive_method(facts: _Facts, space: Space, choice: Choice) -> None:
    settings, setup = facts.settings, choice.setup
    settings.derive("method.name", setup.method, _method_reason(facts, choice))
    _derive_adapter(facts, setup)
    _derive_depth(facts, setup)
    counted = rate_params(facts.model, setup)
    reasoned = derive.choose_rate(setup.method, counted, setup.optimizer, facts.loss)
    settings.derive("training.learning_rate", *(calmer(*reasoned) if facts.goal.signal == "prompts" else reasoned))
    need = human_bytes(choice.memory.expected_bytes)
    rows = settings["training.effective_batch"] // space.num_gpus
    divisor = f"largest useful divisor of {rows} that fits"
    settings.derive(
        "training.micro_batch",
        setup.micro_batch,
        f"{divisor} ({need})" if choice.fits else "the smallest; nothing fits",
    )
    settings.derive(
        "training.activation_checkpointing", setup.activation_checkpointing, _recomputing_reason(space, choice)
    )
    settings.derive("training.optimizer", setup.optimizer, _optimizer_reason(facts, choice))


def _derive_adapter(facts: _Facts, setup: Setup) -> None:
    """Derive the settings that the chosen method reads."""
    settings, method = facts.settings, setup.facts
    if method.learns == "low-rank":
        rank = settings.derive("method.rank", setup.rank, "enough for most tasks")
        variant = settings.derive("method.variant", "plain", "the fastest, and rarely worse")
        settings.derive("method.alpha", default_alpha(variant, rank), alpha_reason(variant))
        settings.derive("method.dropout", 0.0, "short fine-tunes gain nothing from it")
        settings.derive("method.targets", "all-linear", "closest to full fine-tuning")
        settings.derive("method.lora_plus_ratio", 1.0, "both matrices learn at one rate")
    if method.adds_tokens:
        settings.derive("method.virtual_tokens", setup.virtual_tokens, "enough for most tasks")
    if method.learns == "encoded-tokens":
        width = default_encoder_width(facts.model.hidden_size)
        settings.derive("method.encoder_width", width, "the width of the model, at most 1024")


def _packing(facts: _Facts) -> tuple[bool, str]:
    if facts.ahead:
        return False, "virtual tokens stand in front of each row"
    if "training.packing" not in facts.goal.settings_of(facts.model.kind):
        return False, "rows apart"
    return facts.text, "plain text fills its sequences" if facts.text else "rows apart"


def _derive_depth(facts: _Facts, setup: Setup) -> None:
    """Derive where in the model a method trains that trains a part of it."""
    settings, depth, learns = facts.settings, setup.depth, setup.facts.learns
    if learns == "bottleneck":
        settings.derive("method.width", depth.bottleneck, "a sixteenth of the model's width, at least 32")
        settings.derive("method.placement", depth.placement, "learns more than behind the feed-forward network alone")
        settings.derive("method.activation", "gelu", "no unit falls silent for good")
    if learns == "part":
        quarter = f"a quarter of the {facts.model.num_layers} blocks"
        settings.derive("method.layers", depth.layers, "the new head alone" if depth.head_is_new else quarter)
    if setup.facts.makes_adapter and not setup.facts.mergeable:
        settings.derive("delivery.merge", False, f"{setup.facts.words} cannot be merged")


def _derive_stages(facts: _Facts, steps: Steps) -> None:
    """Derive when the parts of a model begin to learn; the number of steps is known by now."""
    settings, num_blocks = facts.settings, facts.model.num_layers
    if not find_method(settings["method.name"]).staged:
        return
    per_stage = settings.derive(
        "method.layers_per_stage", default_layers_per_stage(num_blocks), f"few stages for {num_blocks} blocks"
    )
    stages = Stages(num_blocks, per_stage, head_learns_alone(settings["objective"], facts.model))
    every = default_every(len(stages), steps.total_steps)
    settings.derive("method.unfreeze_every", every, f"{len(stages)} stages in half of {steps.total_steps} steps")
    settings.derive("method.rate_decay", 1.0, "one rate for all")


def _method_reason(facts: _Facts, choice: Choice) -> str:
    count = human_count(facts.model.num_params)
    need = human_bytes(choice.memory.expected_bytes)
    method = choice.setup.facts
    if method.trains_whole:
        return f"{count} weights all train in {need}"
    if method.bits is not None:
        return f"{count} weights fit in {method.bits} bits only ({need})" if choice.fits else "needs the least memory"
    return f"{count} weights fit in {choice.setup.precision} ({need})" if choice.fits else "the only method at hand"


def _recomputing_reason(space: Space, choice: Choice) -> str:
    """Return why activations are recomputed or not."""
    if not choice.setup.activation_checkpointing:
        return "it fits without"
    if find_setup(space.changed(checkpointing=(False,), methods=(choice.setup.method,))).fits:
        return "the larger micro-batches save more time than it costs"
    return "it does not fit without"


def _optimizer_reason(facts: _Facts, choice: Choice) -> str:
    if choice.setup.optimizer == "adamw":
        return "exact 32-bit states" if facts.cuda else "8-bit states gain nothing on a processor"
    return "its states can move to host RAM when the GPU is full"


def _derive_steps(facts: _Facts, choice: Choice) -> Steps:
    settings = facts.settings
    sequences = count_sequences(
        facts.data, settings["training.max_length"], packing=settings["training.packing"], text=facts.text
    )
    if facts.goal.signal == "prompts":
        # A step reads each of its prompts once for every answer that is written to it.
        sequences *= settings["reinforcement.num_generations"]
    steps = make_steps(
        sequences,
        effective_batch=settings["training.effective_batch"],
        micro_batch=choice.setup.micro_batch,
        num_gpus=choice.setup.num_gpus,
        epochs=settings["training.epochs"],
        max_steps=settings["training.max_steps"],
        evaluate_every=settings["training.evaluate_every"],
        checkpoint_every=settings["training.checkpoint_every"],
    )
    settings.derive("training.evaluate_every", steps.evaluate_every, f"about 8 times in {steps.total_steps} steps")
    settings.derive("training.checkpoint_every", steps.checkpoint_every, f"about 10 times in {steps.total_steps} steps")
    held_out = bool(facts.data.num_held_out)
    best_by = settings.derive("training.best_by", *choose_best_by(settings["objective"], held_out=held_out))
    settings.derive("training.early_stopping", *choose_patience(best_by, steps))
    return steps


def _derive_rest(facts: _Facts) -> None:
    settings, model, data = facts.settings, facts.model, facts.data
    if facts.loss is not None:
        settings.derive("preference.beta", facts.loss.beta, facts.loss.beta_why)
        settle_judge(settings, "preference.judge")
    # `run:latest` is a name for a day; the profile has that of the run.
    base = model.base if model.from_run else settings["model.base"]
    settings.derive("name", derive.choose_name(settings["objective"], base, settings["data.source"]), "model and data")
    if model.from_run and model.folder:
        settings.pin("model.base", model.folder)
    if model.revision:
        settings.derive("model.revision", model.revision, derive.revision_reason(model))
    if facts.goal.converses and model.kind == "decoder" and not model.has_chat_template:
        settings.derive("model.chat_template", "chatml", "the tokenizer brings none")
    for path in ("data.source", "data.held_out"):
        settings.pin(path, with_commits(settings[path], data.commits))
    if data.format:
        settings.derive("data.format", data.format, "detected from the columns")
    if data.mapping:
        settings.derive("data.mapping", dict(data.mapping), "detected from the columns")
    if share := derive.choose_held_out(data):
        settings.derive("data.held_out", share, f"{data.num_held_out} rows, a tenth but at most 500")
    settings.derive("evaluation.sample_prompts", None, "the first three held-out rows")
    if facts.goal.signal in ("labels", "tags"):
        settings.derive("evaluation.max_rows", LABELLED_ROWS, "reading is quick, and rare classes need many rows")
    settings.derive("training.dropout", None, "as the model's configuration says")
    settings.derive("training.neftune_alpha", None, "no noise")


def _derive_few_shot(facts: _Facts, space: Space, choice: Choice, steps: Steps) -> None:
    """Derive the few-shot baseline last: it takes the time and memory that the run leaves it."""
    recipe, model, data = facts.settings.recipe(), facts.model, facts.data
    doubted = any(suitability_findings(recipe, model, data))
    training_s = choice.step_s * steps.total_steps
    count, reason = choose_few_shot(recipe, facts.reading, data, training_s=training_s, doubted=doubted)
    fitting = affordable(count, choice, space, data)
    if fitting < count:
        count, reason = fitting, "more examples would need more memory than training"
    facts.settings.derive("evaluation.few_shot", count, reason)


def _plan(facts: _Facts, home: HomeFolders, space: Space, choice: Choice, steps: Steps) -> Plan:
    """Return the plan with all findings but those about memory."""
    recipe = facts.settings.recipe()
    disk = estimate_disk(
        facts.model,
        choice.setup,
        facts.data,
        keep=recipe.training.keep_checkpoints + (recipe.training.best_by != "last"),
        delivery=recipe.delivery,
        free_bytes=free_bytes(facts.hardware, home.runs),
        download_free_bytes=download_free_bytes(facts.hardware, facts.model, home.runs),
    )
    before_s = reference_seconds(facts.model, choice.setup, space.work, space.rate, steps)
    time = estimate_time(choice.step_s, steps, space.rate, before_s)
    return Plan(
        recipe=recipe,
        sources=facts.settings.sources(),
        device=_device(facts, steps.num_gpus),
        model=facts.model,
        data=facts.data,
        memory=choice.memory,
        steps=steps,
        time=time,
        disk=disk,
        command=command(facts.settings),
        machine=facts.of.machine,
        findings=[
            *_rule_findings(facts),
            *unread_findings(facts.settings, facts.goal, facts.model),
            *model_findings(facts.model, recipe.objective, trusted=recipe.model.trust_remote_code),
            *find.data_findings(recipe, facts.model, facts.data),
            *suitability_findings(recipe, facts.model, facts.data),
            *find.method_findings(recipe, facts.model, facts.surroundings),
            *find.export_findings(recipe, facts.model),
            *sharing_findings(recipe, facts.of.machine),
            *find.length_findings(recipe, facts.model),
            *find.step_findings(recipe, steps),
            *depth_findings(recipe, facts.model, steps),
            *judge_findings(recipe),
            *beside_findings(recipe),
            *reinforcement_findings(recipe, facts.data, steps.total_steps),
            *find.disk_findings(disk),
            *find.time_findings(time),
            *training_findings(recipe, facts.model, facts.data, facts.settings.paths_set(), choice.setup),
            *find.hardware_findings(facts.hardware, facts.gpu),
        ],
    )


def _rule_findings(facts: _Facts) -> Iterator[Finding]:
    recipe = facts.settings.recipe()
    for problem in check_rules(recipe, facts.settings.given(), device_kind=facts.of.device.kind):
        yield as_finding(problem)
    for problem in check_output(recipe):
        yield as_finding(problem)
    at_logout = logout_problem()
    if at_logout is not None:
        yield as_finding(at_logout)


def as_finding(problem: Problem) -> Finding:
    """Return a problem as a finding of the plan."""
    return Finding.model_validate(asdict(problem))


def command(settings: Settings, recipe_file: str = "recipe.yaml") -> list[str]:
    """Return the headless command that starts the same run.

    With a preset it is the preset and what the person changed; otherwise the recipe file that the run directory holds.
    """
    preset = settings.preset_name()
    if not preset:
        return ["ftwizard", "run", recipe_file]
    return ["ftwizard", "run", preset, *change_words(settings.chosen_by_person())]
