"""No field of a recipe is decoration: each one is changed alone, and what the run does changes with it.

Every row of `CHANGES` names a field, a value, and the view of a run in which the change must show. The views look at
what the stages made of the plan (rows, tokens, weights, trainer, events, scores, folders), never at the recipe itself.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import dynamic_module_utils

import engine.stages
import engine.training.run
from engine.catalog.methods import find_method
from engine.data.profile import profile_data
from engine.data.run_rows import load_rows
from engine.evaluation.measurement import Measurement, Phase, save_measurement
from engine.methods.bottleneck_tuner import BottleneckLayer
from engine.models.hub import profile_model
from engine.objectives.build import build_trainer
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.fields import fields_by_path
from engine.recipe.problems import ProblemError
from engine.recipe.read import check_recipe
from engine.recipe.sources import lay, unflatten
from engine.runs.checkpoints import CheckpointStore
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import HomeFolders
from engine.runs.picture import PictureWriter
from engine.stages import Carried, finish, load_learner, prepare_context
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.event_log import EventLog
from engine.training.few_shot import measure_few_shot
from engine.training.interrupt import Interrupt
from engine.training.requests import RequestDesk
from engine.training.run import evaluate
from tests.engine.forked import ForkedWorker
from tests.engine.label_rows import class_rows, tag_rows
from tests.engine.made_machine import machine_without_gpu
from tests.engine.made_pairs import pair_rows
from tests.engine.made_runs import events_of, loss_curve, write_rows
from tests.engine.spoiled_rows import chosen_rows, spoiled_rows
from tests.engine.tiny_kinds import save_encoder, save_pair_model
from tests.engine.tiny_models import command_rows, save_tiny_judge, save_tiny_model

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}: {{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)
ANSWERS_ONLY = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + '<|im_end|>' }}"
    "{% endif %}{% endfor %}"
)
OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
View = Callable[["World", dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """One field changed.

    Attributes:
        value: Its new value; `WORLD` in a text stands for the folder of the test's files.
        shows: `view.aspect` of everything that must change.
        frame: Other fields that both runs share, where the usual ones would hide the change.
    """

    value: Any
    shows: tuple[str, ...]
    frame: dict[str, Any] = field(default_factory=dict)


LEARNS_BY_HEART = {"training.max_steps": 8, "training.evaluate_every": 1, "training.early_stopping": 0}
"""With losses that `_planted_evaluation` finds."""
SHORT_RUN = {"training.max_steps": 4, "training.evaluate_every": 3, "training.checkpoint_every": 1}
BOTTLENECK = {"method.name": "bottleneck"}
UNFREEZING = SHORT_RUN | {"method.name": "gradual-unfreezing"}
LEGACY_TABLE = {"data.source": "WORLD/legacy.csv", "data.encoding": "windows-1252"}
PLAIN_TEXT = {"data.source": "WORLD/book.txt", "objective": "domain-adaptation"}
SPOILED = {"data.source": "WORLD/spoiled.jsonl", "data.held_out": 0.02}
PROMPTED = {"method.name": "prompt-tuning"}
DRAWN = {
    "objective": "reinforcement-learning",
    "reinforcement.num_generations": 4,
    "reinforcement.max_completion": 8,
}
REWARDED = DRAWN | {
    "reinforcement.rewards": ["file"],
    "reinforcement.reward_file": "WORLD/letters.py",
    "reinforcement.trust_reward_code": True,
}
OWN_METRIC = {"evaluation.metric_file": "WORLD/curt.py", "evaluation.trust_metric_code": True}
MANY_LENGTHS = REWARDED | {
    "training.effective_batch": 16,
    "reinforcement.num_generations": 16,
    "reinforcement.max_completion": 120,
}
MEASURED_LENGTH = DRAWN | {"reinforcement.rewards": ["length"], "reinforcement.wished_length": 4}
LOOKED_FOR = DRAWN | {"reinforcement.rewards": ["format"], "reinforcement.pattern": "no such words"}
JUDGED = DRAWN | {"reinforcement.rewards": ["model"], "reinforcement.reward_model": "WORLD/judge"}
PAIRS = SHORT_RUN | {"objective": "preference", "data.source": "WORLD/pairs.jsonl", "training.learning_rate": 1e-2}
KTO = PAIRS | {"preference.loss": "kto"}
SPLIT = {"data.source": "WORLD/spoiled.jsonl", "data.split.method": "group", "data.split.column": "user"}
HIDDEN = PLAIN_TEXT | SHORT_RUN | {"model.base": "WORLD/bert", "method.name": "full", "evaluation.max_new_tokens": None}
CLASSES = SHORT_RUN | {"objective": "classification", "model.base": "WORLD/bert", "data.source": "WORLD/classes.jsonl"}
TAGS = CLASSES | {"objective": "token-classification", "data.source": "WORLD/tags.jsonl"}
REWRITTEN = {"objective": "text-to-text", "model.base": "WORLD/t5"}
CHANGES: dict[str, Change] = {
    "name": Change("Lamps", ("created.name",)),
    "objective": Change("domain-adaptation", ("prepared.sequences", "measured.samples")),
    "model.base": Change("WORLD/other", ("learner.weights",)),
    "model.revision": Change("v2", ("learner.weights",), {"model.base": "made/model"}),
    "model.chat_template": Change("WORLD/template.jinja", ("prepared.sequences",)),
    "model.new_tokens": Change(["<lamp>"], ("learner.shapes", "learner.learning")),
    "model.trust_remote_code": Change(True, ("admitted.outcome",), {"model.base": "WORLD/own"}),
    "method.name": Change("full", ("learner.learning", "delivered.folders")),
    "method.rank": Change(2, ("learner.shapes",)),
    "method.alpha": Change(5.0, ("learner.scaling",)),
    "method.dropout": Change(0.2, ("learner.dropout",)),
    "method.targets": Change("attention", ("learner.learning",)),
    "method.width": Change(3, ("learner.shapes",), BOTTLENECK),
    "method.placement": Change("pfeiffer", ("learner.learning",), BOTTLENECK),
    "method.activation": Change("silu", ("learner.activations",), BOTTLENECK),
    "method.layers": Change(2, ("learner.learning",), {"method.name": "feature-extraction"}),
    "method.unfreeze_every": Change(2, ("trained.stages", "trained.losses"), UNFREEZING),
    "method.layers_per_stage": Change(2, ("trained.stages", "trained.losses"), UNFREEZING),
    "method.rate_decay": Change(0.5, ("trainer.group_rates",), UNFREEZING),
    "method.variant": Change("rslora", ("learner.scaling",)),
    "method.rank_pattern": Change({"down_proj": 2}, ("learner.shapes",)),
    "method.lora_plus_ratio": Change(4.0, ("trainer.group_rates",)),
    "method.virtual_tokens": Change(7, ("learner.shapes",), PROMPTED),
    "method.initial_text": Change("turn on the lamp", ("learner.weights",), PROMPTED),
    "method.encoder_width": Change(16, ("learner.shapes",), {"method.name": "p-tuning"}),
    "data.source": Change("WORLD/more.jsonl", ("rows.train",)),
    "data.encoding": Change("koi8-r", ("rows.train",), LEGACY_TABLE),
    "data.unwrap": Change("more", ("rows.train",), {"data.source": "WORLD/wrapped.json", "data.unwrap": "rows"}),
    "data.text_unit": Change("paragraph", ("rows.train",), PLAIN_TEXT),
    "data.format": Change("prompt_completion", ("rows.train",)),
    "data.mapping": Change({"prompt": "prompt", "completion": "curt"}, ("rows.train",)),
    "data.held_out": Change(0.5, ("rows.held_out",)),
    "data.max_rows": Change(12, ("rows.train",)),
    "data.system_prompt": Change("Be short.", ("prepared.sequences",)),
    "data.drop_duplicates": Change(False, ("rows.train",)),
    "data.allow_all_trained": Change(True, ("planned.errors",), {"model.chat_template": "WORLD/answers.jinja"}),
    "data.cleaning.near_duplicates": Change("drop", ("rows.train",), SPOILED),
    "data.cleaning.leaked_rows": Change("drop", ("rows.train",), SPOILED | {"data.held_out": "WORLD/leaked.jsonl"}),
    "data.cleaning.contradictions": Change("drop", ("rows.train",), SPOILED),
    "data.cleaning.length_outliers": Change("drop", ("rows.train",), SPOILED),
    "data.cleaning.repeated_answers": Change("drop", ("rows.train",), SPOILED),
    "data.cleaning.other_languages": Change("drop", ("rows.train",), SPOILED),
    "data.cleaning.hidden_characters": Change("remove", ("rows.train",), SPOILED),
    "data.cleaning.double_encoding": Change("repair", ("rows.train",), SPOILED),
    "data.cleaning.secrets": Change("mask", ("rows.train",), SPOILED),
    "data.cleaning.personal_data": Change("mask", ("rows.train",), SPOILED),
    "data.cleaning.class_balance": Change(
        "oversample", ("rows.train", "planned.notes"), {"data.source": "WORLD/chosen.jsonl"}
    ),
    "data.split.method": Change("stratified", ("rows.held_out",), SPLIT),
    "data.split.column": Change("place", ("rows.held_out",), SPLIT),
    "data.split.test": Change(0.2, ("rows.train",)),
    "training.epochs": Change(2.0, ("trainer.total_steps",)),
    "training.max_steps": Change(3, ("trainer.total_steps", "trained.saved"), SHORT_RUN),
    "training.early_stopping": Change(1, ("trained.evaluated", "trained.ended"), LEARNS_BY_HEART),
    "training.best_by": Change("last", ("trained.restored",), LEARNS_BY_HEART),
    "training.effective_batch": Change(8, ("trainer.batches",)),
    "training.micro_batch": Change(2, ("trainer.batches", "trained.batching"), SHORT_RUN),
    "training.num_gpus": Change(2, ("planned.errors",)),
    "training.max_length": Change(30, ("prepared.sequences",)),
    "training.learning_rate": Change(5e-4, ("trainer.rates",)),
    "training.schedule": Change("linear", ("trainer.rates",)),
    "training.warmup": Change(0.5, ("trainer.rates",)),
    "training.min_rate": Change(0.5, ("trainer.rates",)),
    "training.dropout": Change(0.3, ("learner.dropout_places", "trained.losses"), SHORT_RUN),
    "training.label_smoothing": Change(0.2, ("trained.losses",), SHORT_RUN),
    "training.neftune_alpha": Change(5.0, ("trained.losses",), SHORT_RUN),
    "training.weight_decay": Change(0.1, ("trainer.decays", "trained.losses"), SHORT_RUN),
    "training.max_grad_norm": Change(1e-3, ("trainer.clip", "trained.losses"), SHORT_RUN),
    "training.optimizer": Change("adamw_8bit", ("trainer.optimizer",)),
    "training.precision": Change("bfloat16", ("learner.dtypes", "trainer.autocast")),
    "training.attention": Change("eager", ("learner.attention",)),
    "training.activation_checkpointing": Change(True, ("trainer.recomputes",)),
    "training.packing": Change(True, ("trainer.batches", "trainer.columns")),
    "training.probe": Change("always", ("trained.probed",), SHORT_RUN),
    "training.preflight": Change("off", ("trained.checked",), SHORT_RUN),
    "training.evaluate_every": Change(2, ("trained.evaluated",), SHORT_RUN),
    "training.checkpoint_every": Change(2, ("trained.saved",), SHORT_RUN),
    "training.keep_checkpoints": Change(3, ("trained.kept",), SHORT_RUN),
    "training.seed": Change(5, ("rows.held_out", "learner.weights", "trainer.batches")),
    "evaluation.metrics": Change(["rouge"], ("measured.metrics",)),
    "evaluation.max_rows": Change(2, ("measured.num_rows",)),
    "evaluation.generate_rows": Change(1, ("measured.num_generated",)),
    "evaluation.few_shot": Change(2, ("prompted.examples", "prompted.seen"), {"evaluation.few_shot": 1}),
    "evaluation.max_new_tokens": Change(2, ("measured.answers",)),
    "evaluation.json_schema": Change("WORLD/schema.json", ("measured.metrics",)),
    "evaluation.pattern": Change("lamp", ("measured.metrics",)),
    "evaluation.metric_file": Change("WORLD/wordy.py", ("measured.metrics",), OWN_METRIC),
    "evaluation.trust_metric_code": Change(False, ("planned.errors",), OWN_METRIC),
    "evaluation.sample_prompts": Change(["turn on the sun"], ("measured.samples",)),
    "reinforcement.algorithm": Change("rloo", ("rewarded.advantages",), REWARDED),
    "reinforcement.rewards": Change(["file", "json_valid"], ("rewarded.parts",), REWARDED),
    "reinforcement.weights": Change({"file": 0.5}, ("rewarded.totals",), REWARDED),
    "reinforcement.pattern": Change(".", ("rewarded.parts",), LOOKED_FOR),
    "reinforcement.wished_length": Change(8, ("rewarded.parts",), MEASURED_LENGTH),
    "reinforcement.reward_model": Change("WORLD/other_judge", ("rewarded.parts",), JUDGED),
    "reinforcement.reward_file": Change("WORLD/vowels.py", ("rewarded.parts",), REWARDED),
    "reinforcement.trust_reward_code": Change(False, ("planned.errors",), REWARDED),
    "reinforcement.num_generations": Change(2, ("rewarded.rows",), REWARDED),
    "reinforcement.temperature": Change(0.3, ("rewarded.answers",), REWARDED),
    "reinforcement.top_p": Change(0.2, ("rewarded.answers",), REWARDED),
    "reinforcement.max_completion": Change(3, ("rewarded.answers",), REWARDED),
    "reinforcement.beta": Change(2.0, ("trained.losses",), SHORT_RUN | REWARDED),
    "reinforcement.scale_rewards": Change("none", ("rewarded.advantages",), REWARDED),
    "reinforcement.token_mean": Change("limit", ("rewarded.loss",), MANY_LENGTHS),
    "preference.loss": Change("simpo", ("trained.losses",), PAIRS),
    "preference.beta": Change(0.5, ("trained.losses",), PAIRS),
    "preference.label_smoothing": Change(0.2, ("trained.losses",), PAIRS),
    "preference.simpo_gamma": Change(0.5, ("trained.losses",), PAIRS | {"preference.loss": "simpo"}),
    "preference.desirable_weight": Change(2.0, ("trained.losses",), KTO),
    "preference.undesirable_weight": Change(2.0, ("trained.losses",), KTO),
    "preference.judge": Change("WORLD/judge", ("judged.metrics",), PAIRS),
    "reward_model.centering": Change(0.5, ("trained.losses",), PAIRS | {"objective": "reward-model"}),
    "classification.class_weights": Change("balanced", ("trained.losses",), CLASSES),
    "classification.focal_gamma": Change(2.0, ("trained.losses",), CLASSES),
    "token_classification.tag_names": Change(["O", "B-COLOUR", "B-PLACE", "I-PLACE"], ("learner.labels",), TAGS),
    "domain_adaptation.masked_share": Change(0.4, ("trained.losses", "trainer.columns_learnt"), HIDDEN),
    "text_to_text.prefix": Change("Do this: ", ("prepared.sequences",), REWRITTEN),
    "text_to_text.max_target_length": Change(3, ("prepared.sequences",), REWRITTEN),
    "text_to_text.num_beams": Change(3, ("learner.beams", "measured.answers"), REWRITTEN),
    # Their libraries are not installed here, and the plan says so; what they get is in tests/unit/test_tracking.py.
    "tracking.wandb": Change("mine", ("planned.errors",)),
    "tracking.mlflow": Change("mine", ("planned.errors",)),
    "tracking.trackio": Change("mine", ("planned.errors",)),
    "delivery.merge": Change(False, ("delivered.folders",)),
    "delivery.formats": Change(["gguf"], ("planned.errors",), {"model.base": "WORLD/opt"}),
    "delivery.output": Change("WORLD/out", ("delivered.output",)),
}


class World:
    """The files of this test, and runs made of them in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = HomeFolders(folder / "runs", folder / "cache", folder / "drafts")
        save_tiny_model(folder / "base")
        save_tiny_model(folder / "other", seed=8)
        save_pair_model(folder / "t5")
        save_encoder(folder / "bert")
        self._save_cached_revisions()
        self._save_model_with_code()
        self._save_other_architecture()
        (folder / "template.jinja").write_text(TEMPLATE)
        (folder / "answers.jinja").write_text(ANSWERS_ONLY)
        write_rows(folder / "rows.jsonl", _wide_rows(24) + _wide_rows(4))
        write_rows(folder / "more.jsonl", _wide_rows(32))
        write_rows(folder / "spoiled.jsonl", spoiled_rows())
        write_rows(folder / "leaked.jsonl", [{"prompt": "IS THE WINDOW  SHUT", "completion": "yes, it is shut."}])
        write_rows(folder / "chosen.jsonl", chosen_rows())
        write_rows(folder / "pairs.jsonl", pair_rows(24))
        # Two of three classes are rare.
        write_rows(folder / "classes.jsonl", [row for at, row in enumerate(class_rows(60)) if at % 3 == 0 or at < 20])
        numbers = {"O": 0, "B-COLOUR": 1, "B-PLACE": 2, "I-PLACE": 3}
        tagged = [row | {"ner_tags": [numbers[tag] for tag in row["ner_tags"]]} for row in tag_rows(24)]
        write_rows(folder / "tags.jsonl", tagged)
        (folder / "legacy.csv").write_bytes(_table(24).encode("cp1252"))
        (folder / "letters.py").write_text("def reward(prompt, completion, answer):\n    return len(completion)\n")
        (folder / "vowels.py").write_text("def reward(prompt, completion, answer):\n    return completion.count('e')\n")
        own = "def metric(prompt, answer, expected):\n    return len(answer)\n"
        (folder / "wordy.py").write_text(own)
        (folder / "curt.py").write_text('better = "lower"\n' + own)
        (folder / "schema.json").write_text('{"type": "object"}')
        save_tiny_judge(folder / "judge")
        save_tiny_judge(folder / "other_judge", seed=8)
        wrapped = {"rows": _wide_rows(24), "more": _wide_rows(32)}
        (folder / "wrapped.json").write_text(json.dumps(wrapped))
        paragraphs = (f"{row['text']}\n{row['text']}" for row in _wide_rows(40))
        (folder / "book.txt").write_text("\n\n".join(paragraphs))
        self._baselines: dict[tuple[str, str], dict[str, Any]] = {}

    def values(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Return the usual values of a run with some changed."""
        usual = {
            "objective": "chat",
            "model.base": "WORLD/base",
            "method.name": "lora",
            "method.rank": 4,
            "data.source": "WORLD/rows.jsonl",
            "data.held_out": 0.25,
            "training.epochs": 1.0,
            "training.effective_batch": 4,
            "evaluation.max_rows": 4,
            "evaluation.generate_rows": 3,
            "evaluation.max_new_tokens": 6,
        }
        merged = usual | changes
        # What nothing would read is refused by the plan.
        if merged["objective"] == "domain-adaptation":
            del merged["evaluation.generate_rows"]
        if merged["objective"] in ("classification", "token-classification"):
            del merged["evaluation.generate_rows"], merged["evaluation.max_new_tokens"]
        if merged["objective"] == "reinforcement-learning":
            del merged["evaluation.max_rows"]
        if merged["objective"] in ("preference", "reward-model") and "preference.judge" not in merged:
            del merged["evaluation.generate_rows"]
        if merged["objective"] == "reward-model":
            del merged["evaluation.max_new_tokens"]
        if "method.rank" not in find_method(merged["method.name"]).settings:
            del merged["method.rank"]
        return {key: _in_world(value, self.folder) for key, value in merged.items()}

    def plan(self, changes: dict[str, Any]) -> Plan:
        """Return the plan that a machine without GPU makes."""
        layered = lay(unflatten(self.values(changes)))
        recipe = check_recipe(layered.tree, name="test")
        model = profile_model(recipe.model.base, recipe.model.revision)
        return make_plan(
            layered,
            machine_without_gpu(self.home.runs),
            model,
            profile_data(recipe, folder=model.folder),
            home=self.home,
        )

    def new_run(self, changes: dict[str, Any]) -> RunDirectory:
        """Return the directory of a new run, as the front end leaves it."""
        plan = self.plan(changes)
        assert not plan.blocked, plan.findings
        return create_run(self.home, "objective: chat\n", plan)

    def carried(self, changes: dict[str, Any]) -> Carried:
        """Return a new run as the worker hands it to the stages."""
        run = self.new_run(changes)
        plan, interrupt = run.read_plan(), Interrupt()
        events = EventLog(PictureWriter(run), interrupt)
        store = CheckpointStore(run.checkpoints_folder, run.run_id, plan.recipe.training.keep_checkpoints)
        batching = Batching(plan.steps.micro_batch, plan.steps.accumulation)
        desk = RequestDesk(ControlReader(run), events)
        return Carried(run, plan, events, interrupt, desk, batching, store, None)

    def context(self, changes: dict[str, Any]) -> RunContext:
        """Return a new run that is ready to be measured and trained."""
        return prepare_context(self.carried(changes))

    def baseline(self, view: str, frame: dict[str, Any]) -> dict[str, Any]:
        """Return a view of the run without the change, after a second look that must give the same."""
        key = view, json.dumps(frame, sort_keys=True)
        if key not in self._baselines:
            first, second = VIEWS[view](self, frame), VIEWS[view](self, frame)
            assert first == second, "this view differs from run to run and proves nothing"
            self._baselines[key] = first
        return self._baselines[key]

    def _save_cached_revisions(self) -> None:
        store = self.folder / "hub" / "models--made--model"
        (store / "refs").mkdir(parents=True)
        for seed, (name, commit) in enumerate(COMMITS.items()):
            save_tiny_model(store / "snapshots" / commit, seed=seed)
            (store / "refs" / name).write_text(commit)

    def _save_model_with_code(self) -> None:
        own = self.folder / "own"
        shutil.copytree(self.folder / "base", own)
        code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
        config = json.loads((own / "config.json").read_text())
        config |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": code}
        (own / "config.json").write_text(json.dumps(config))
        (own / "own.py").write_text(OWN_CODE)

    def _save_other_architecture(self) -> None:
        """Save a model that llama.cpp cannot read, as far as its configuration says."""
        other = self.folder / "opt"
        shutil.copytree(self.folder / "base", other)
        config = json.loads((other / "config.json").read_text()) | {"architectures": ["OPTForCausalLM"]}
        (other / "config.json").write_text(json.dumps(config))


def _wide_rows(count: int) -> list[dict[str, Any]]:
    """Return rows that can be read in several ways, each with other words."""
    rows = []
    for row in command_rows(count):
        ask, answer = (message["content"] for message in row["messages"])
        rows.append(
            {
                "messages": row["messages"],
                "prompt": f"{ask} now",
                "completion": answer,
                "curt": answer[:3],
                "text": f"{ask} means {answer}",
            }
        )
    return rows


def _table(count: int) -> str:
    """Return a table with letters outside ASCII."""
    lines = (f"{row['prompt']},{row['completion']} déjà" for row in _wide_rows(count))
    return "\n".join(["prompt,completion", *lines])


def _in_world(value: Any, folder: Path) -> Any:
    return value.replace("WORLD", str(folder)) if isinstance(value, str) else value


def _created(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    event = world.new_run(changes).read_created()
    assert event is not None
    return {"name": event.payload["name"]}


def _admitted(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a model that wants to run code: refused by the plan or the loader, or the class of its code."""
    plan = world.plan(changes)
    try:
        return {"outcome": _base_class(_load(plan)) if not plan.blocked else "blocked"}
    except ProblemError as error:
        return {"outcome": error.problems[0].code}


def _load(plan: Plan) -> Any:
    from engine.models.tokenizers import load_tokenizer

    return load_learner(plan, load_tokenizer(str(plan.model.folder), plan.recipe))


def _base_class(model: Any) -> str:
    return type(model.get_base_model()).__name__


def _rows(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    carried = world.carried(changes)
    rows = load_rows(carried.run, carried.plan)
    return {"train": list(rows.train), "held_out": list(rows.held_out)}


def _prepared(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    rendered = world.context(changes).rendered
    return {"sequences": [(sequence.input_ids, sequence.trained_mask) for sequence in rendered.sequences]}


def _learner(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    model = world.context(changes).model
    parameters = dict(model.named_parameters())
    layers = [module for module in model.modules() if isinstance(getattr(module, "scaling", None), dict)]
    return {
        "weights": _fingerprint(model),
        "learning": [name for name, parameter in parameters.items() if parameter.requires_grad],
        "shapes": [tuple(parameter.shape) for parameter in parameters.values()],
        "dtypes": [str(parameter.dtype) for parameter in parameters.values()],
        "scaling": [layer.scaling["default"] for layer in layers],
        "attention": model.config._attn_implementation,
        "beams": getattr(getattr(model, "generation_config", None), "num_beams", None),
        "labels": dict(model.config.id2label),
        "activations": [type(m._activation).__name__ for m in model.modules() if isinstance(m, BottleneckLayer)],
        "dropout_places": [vars(module).get("attention_dropout") for module in model.modules()],
        "dropout": [getattr(layer.lora_dropout["default"], "p", 0.0) for layer in layers],
    }


def _fingerprint(model: torch.nn.Module) -> list[float]:
    return [float(parameter.detach().double().square().sum()) for parameter in model.parameters()]


def _trainer(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    context = world.context(changes)
    built = build_trainer(context)
    trainer, args = built.trainer, built.trainer.args
    trainer.create_optimizer_and_scheduler(built.total_steps)
    optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    batches = [batch for step in range(built.total_steps) for batch in built.order.micro_batches(step)]
    first = trainer.data_collator([trainer.train_dataset[index] for index in batches[0]])
    return {
        "total_steps": built.total_steps,
        "batches": [built.sequences.row_ids(batch) for batch in batches],
        "columns": sorted(first),
        "columns_learnt": int((first["labels"] != -100).sum()),
        "rates": [args.learning_rate * trainer.rate_share(step) for step in range(built.total_steps)],
        "group_rates": sorted({group["initial_lr"] for group in optimizer.param_groups}),
        "decays": sorted(group["weight_decay"] for group in optimizer.param_groups),
        "clip": args.max_grad_norm,
        "optimizer": f"{type(optimizer).__module__}.{type(optimizer).__name__}",
        "autocast": (args.bf16, args.fp16),
        "recomputes": bool(getattr(args, "activation_checkpointing", getattr(args, "gradient_checkpointing", False))),
    }


def _trained(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What the worker does between the evaluations before and after, which another view shows."""

    def train_only() -> None:
        vars(engine.stages).update(evaluate=lambda *_: None, finish=lambda _: None)
        if "training.early_stopping" in changes:
            vars(engine.training.run).update(evaluate=_planted_evaluation)

    run = world.new_run(changes)
    worker = ForkedWorker(run, train_only)
    assert worker.wait() == 0, worker.log()[-3000:]
    (started,) = events_of(run, "training.started")
    return {
        "losses": loss_curve(run),
        "stages": [(event["step"], event["title"]) for event in events_of(run, "stage.opened")],
        "batching": (started["micro_batch"], started["accumulation"]),
        "evaluated": [event["step"] for event in events_of(run, "evaluation.completed")],
        "probed": [event["outcome"] for event in events_of(run, "memory.probed")],
        "checked": [event["id"] for event in events_of(run, "preflight.checked")],
        "ended": [event["step"] for event in events_of(run, "training.ended_early")],
        "restored": [event["step"] for event in events_of(run, "best.restored")],
        "saved": [event["step"] for event in events_of(run, "checkpoint.committed")],
        "kept": sorted(path.name for path in run.checkpoints_folder.glob("step-*")),
    }


def _planted_evaluation(context: RunContext, phase: Phase, step: int) -> None:
    """Find losses that fall to step 2 and rise from there."""
    found = {"loss": 1.0 + abs(step - 2)}
    save_measurement(Measurement(phase, step, found, [], 4, 40, 0, 0.0), context.run.evaluation_folder)
    context.events.write("evaluation.completed", phase=phase, step=step, metrics=found, num_rows=4, elapsed_s=0.0)


def _measured(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    context = world.context(changes)
    evaluate(context, "before", 0)
    measurement: dict[str, Any] = json.loads((context.run.evaluation_folder / "before.json").read_text())
    del measurement["elapsed_s"]
    return measurement | {"metrics": sorted(measurement["metrics"])}


def _judged(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What is measured of written answers once there are those of the base model to compare with."""
    context = world.context(changes)
    evaluate(context, "before", 0)
    evaluate(context, "after", 0)
    measurement: dict[str, Any] = json.loads((context.run.evaluation_folder / "after.json").read_text())
    return {"metrics": sorted(measurement["metrics"])}


def _prompted(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What the few-shot baseline shows to the model."""
    context = world.context(changes)
    measure_few_shot(context)
    measurement: dict[str, Any] = json.loads((context.run.evaluation_folder / "few_shot.json").read_text())
    examples = [row["id"] for row in measurement["examples"]]
    return {"examples": examples, "seen": measurement["metrics"]["loss"]}


def _delivered(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    context = world.context(changes)
    finish(context)
    return {"folders": _folders(context.run), "output": (world.folder / "out" / "model.safetensors").is_file()}


def _folders(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.model_folder.iterdir() if path.is_dir())


def _planned(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What the plan refuses before anything starts, and what it only tells."""
    findings = world.plan(changes).findings
    return {
        "errors": [finding.code for finding in findings if finding.severity == "error"],
        "notes": [finding.code for finding in findings if finding.severity != "error"],
    }


def _rewarded(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    """What the first step writes, what that earns, and what its first micro-batch would learn from it."""
    context = world.context(changes)
    built = build_trainer(context)
    trainer: Any = built.trainer
    trainer.current_gradient_accumulation_steps = context.batching.accumulation
    rows = [trainer.train_dataset[place] for place in built.order.micro_batches(0)[0]]
    part = trainer._prepare_inputs(rows)
    loss = trainer.compute_loss(trainer.model, part, num_items_in_batch=built.trainer.weight_of_step(0))
    return {
        "rows": [row["id"] for row in rows],
        "answers": part["completion_ids"].tolist(),
        "parts": [each.parts for each in trainer.earned],
        "totals": [each.total for each in trainer.earned],
        "advantages": [round(float(each), 5) for each in part["advantages"]],
        "loss": round(float(loss.detach()), 6),
    }


VIEWS: dict[str, View] = {
    "rewarded": _rewarded,
    "planned": _planned,
    "created": _created,
    "admitted": _admitted,
    "rows": _rows,
    "prepared": _prepared,
    "learner": _learner,
    "trainer": _trainer,
    "trained": _trained,
    "measured": _measured,
    "judged": _judged,
    "prompted": _prompted,
    "delivered": _delivered,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.syspath_prepend(str(folder / "modules"))
        yield World(folder)


def test_every_field_is_looked_at() -> None:
    assert set(CHANGES) == set(fields_by_path()), "a new field: say below what of the run it changes"
    assert all(change.shows for change in CHANGES.values())


OF_ONE_OBJECTIVE = ("reinforcement.", "preference.", "reward_model.", "text_to_text.", "classification.")
"""Sections whose rows train or write several times: seconds each, and their objectives have tests of their own."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.startswith(OF_ONE_OBJECTIVE) else []) for path in CHANGES],
)
def test_a_changed_field_changes_the_run(path: str, world: World) -> None:
    change = CHANGES[path]
    frame = change.frame
    for view in dict.fromkeys(shown.partition(".")[0] for shown in change.shows):
        before = world.baseline(view, frame)
        after = VIEWS[view](world, frame | {path: change.value})
        for aspect in [shown.partition(".")[2] for shown in change.shows if shown.startswith(f"{view}.")]:
            assert before[aspect] != after[aspect], f"{path} leaves {view}.{aspect} as it is: {after[aspect]}"
