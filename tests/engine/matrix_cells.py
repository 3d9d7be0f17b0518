"""Cells of the matrix of objectives and methods: a real run from recipe to export in a tiny world.

Another objective is one entry of `OBJECTIVES`; another method or variant one of `METHODS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from engine.catalog.objectives import OBJECTIVES as CATALOGUE
from engine.catalog.objectives import Head, ModelKind, find_objective
from engine.data.profile import profile_data
from engine.deployment.adapter import with_adapter
from engine.deployment.export import export_run, parity_prompts
from engine.deployment.parity import prompt_logits
from engine.models.heads import AUTO_CLASSES
from engine.models.hub import profile_model
from engine.models.loading import load_model
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.recipe.read import check_recipe
from engine.recipe.sources import lay
from engine.runs.checkpoints import CheckpointStore
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import HomeFolders
from engine.runs.picture import PictureWriter
from engine.stages import Carried, prepare_context
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt, StopRequested
from engine.training.lookout import Lookout
from engine.training.requests import RequestDesk
from engine.training.run import train
from tests.engine.label_rows import all_words, class_rows, tag_rows
from tests.engine.made_machine import machine_without_gpu
from tests.engine.made_runs import loss_curve, write_rows
from tests.engine.tiny_encoders import save_tiny_bert
from tests.engine.tiny_kinds import save_pair_model
from tests.engine.tiny_models import command_rows, save_tiny_model, text_rows

STEPS = 6
STOPPED_IN_MICRO_STEP = 7
"""Of two in a step: in the middle of the fourth."""


@dataclass(frozen=True)
class ObjectiveCase:
    """What the matrix needs to know of an objective: rows, as people have them, and sections of its recipe.

    The loss of answers that are held against each other stays near 0 whatever is learnt.
    """

    rows: Callable[[], list[dict[str, Any]]]
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    loss_falls: bool = True


@dataclass(frozen=True)
class MethodCase:
    """One method with the settings that are tried; `model` are settings of the base model.

    In other kinds of models layers have other names, and a head that learns alone is a stage of its own: `elsewhere`
    says what differs with a kind or a head.
    """

    settings: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[ModelKind | Head, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    def settings_of(self, objective: str, kind: ModelKind) -> dict[str, Any]:
        """Return the settings for an objective with a kind of model."""
        head = find_objective(objective).head_of(kind)
        return self.settings | self.elsewhere.get(kind, {}) | self.elsewhere.get(head, {})


def pair_rows(count: int, ending: str = "") -> list[dict[str, Any]]:
    """Return prompts, which end in the same words, with an answer that is right and one that is not."""
    turns = (row["messages"] for row in command_rows(count))
    return [
        {"prompt": f"{ask['content']}{ending}", "chosen": answer["content"], "rejected": f"no({number})"}
        for number, (ask, answer) in enumerate(turns)
    ]


NEW_WORDS = "<lamp> <door>"
"""Below a new head no output layer names every token, so that new ones learn only where a text has them."""


def uneven_class_rows(count: int) -> list[dict[str, Any]]:
    """Return texts of which all but two have one class: what six steps can learn, whichever rows they read."""
    return [
        {"text": f"{row['text']} {NEW_WORDS}", "label": "food" if number > 1 else "travel"}
        for number, row in enumerate(class_rows(count))
    ]


def new_word_tag_rows(count: int) -> list[dict[str, Any]]:
    """Return words with their tags, and new words among them."""
    return [
        {"words": [*row["words"], *NEW_WORDS.split()], "ner_tags": [*row["ner_tags"], "O", "O"]}
        for row in tag_rows(count)
    ]


def _quick(metric: str) -> dict[str, dict[str, Any]]:
    """Return sections with a rate at which what a new head learns shows in six steps."""
    return {"training": {"learning_rate": 1e-2}, "evaluation": {"metrics": [metric]}}


OBJECTIVES: dict[str, ObjectiveCase] = {
    "chat": ObjectiveCase(lambda: command_rows(24)),
    "domain-adaptation": ObjectiveCase(lambda: text_rows(40), {"training": {"max_length": 32}}),
    "reinforcement-learning": ObjectiveCase(
        lambda: command_rows(24),
        {
            "reinforcement": {"rewards": ["format"], "pattern": "[ae]", "num_generations": 4, "max_completion": 6},
            "training": {"effective_batch": 8, "micro_batch": 4, "learning_rate": 1e-3},
            "evaluation": {"metrics": ["reward"], "generate_rows": 2, "max_rows": None},
        },
        loss_falls=False,
    ),
    "preference": ObjectiveCase(lambda: pair_rows(24), {"evaluation": {"metrics": ["reward_accuracy"]}}),
    "text-to-text": ObjectiveCase(lambda: command_rows(24)),
    "classification": ObjectiveCase(lambda: uneven_class_rows(24), _quick("accuracy")),
    "token-classification": ObjectiveCase(lambda: new_word_tag_rows(24), _quick("entity_f1")),
    "reward-model": ObjectiveCase(lambda: pair_rows(24, f" {NEW_WORDS}"), _quick("reward_accuracy")),
}
COLUMNS: tuple[tuple[str, ModelKind], ...] = tuple(
    (objective.name, kind) for objective in CATALOGUE for kind in objective.kinds
)
"""Every objective with every kind of model that it trains, as in docs/objectives.md."""
METHODS: dict[str, MethodCase] = {
    "full": MethodCase({"name": "full"}),
    "lora": MethodCase({"name": "lora", "rank": 4}),
    "lora-rslora": MethodCase({"name": "lora", "rank": 4, "variant": "rslora"}),
    "lora-dora": MethodCase({"name": "lora", "rank": 4, "variant": "dora"}),
    "lora-pissa": MethodCase({"name": "lora", "rank": 4, "variant": "pissa"}),
    "lora-ranks": MethodCase(
        {"name": "lora", "rank": 2, "rank_pattern": {"mlp.down_proj": 6}, "targets": "mlp"},
        elsewhere={
            "encoder": {"rank_pattern": {"intermediate.dense": 6}},
            "encoder-decoder": {"rank_pattern": {"wo": 6}},
        },
    ),
    "lora-plus": MethodCase({"name": "lora", "rank": 4, "lora_plus_ratio": 8.0}),
    "lora-tokens": MethodCase({"name": "lora", "rank": 4}, model={"new_tokens": NEW_WORDS.split()}),
    "qlora": MethodCase({"name": "qlora", "rank": 4}),
    "qlora-dora": MethodCase({"name": "qlora", "rank": 4, "variant": "dora"}),
    "lora-8bit": MethodCase({"name": "lora-8bit", "rank": 4}),
    "ia3": MethodCase({"name": "ia3"}),
    "prompt-tuning": MethodCase({"name": "prompt-tuning", "virtual_tokens": 6, "initial_text": "turn on the lamp"}),
    "prefix-tuning": MethodCase({"name": "prefix-tuning", "virtual_tokens": 6}),
    "bottleneck": MethodCase({"name": "bottleneck", "width": 6}),
    "feature-extraction": MethodCase({"name": "feature-extraction", "layers": 1}),
    "gradual-unfreezing": MethodCase(
        {"name": "gradual-unfreezing", "layers_per_stage": 1, "unfreeze_every": 2},
        elsewhere=dict.fromkeys(
            ("seq2seq-lm", "masked-lm", "sequence-classification", "token-classification"), {"layers_per_stage": 2}
        ),
    ),
    "p-tuning": MethodCase({"name": "p-tuning", "virtual_tokens": 6, "encoder_width": 16}),
}
DIAGONAL = (*(name for name, case in METHODS.items() if case.name == name), "lora-pissa")
"""Each method once, and the variant that changes weights: what every change is held against."""


class MatrixWorld:
    """Files of the matrix, and a machine without GPU to plan for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = HomeFolders(folder / "runs", folder / "cache", folder / "drafts")
        self.bases: dict[ModelKind, Path] = {
            "decoder": save_tiny_model(folder / "decoder"),
            "encoder": save_tiny_bert(folder / "encoder", all_words()),
            "encoder-decoder": save_pair_model(folder / "encoder-decoder"),
        }
        self.data = {name: write_rows(folder / f"{name}.jsonl", case.rows()) for name, case in OBJECTIVES.items()}

    def plan(self, objective: str, kind: ModelKind, method: MethodCase) -> Plan:
        """Return the plan of a cell."""
        sections = {name: dict(values) for name, values in OBJECTIVES[objective].sections.items()}
        metrics = ["masked_perplexity" if (objective, kind) == ("domain-adaptation", "encoder") else "perplexity"]
        # Neither evaluations nor checks: they have tests of their own, and would take most of the time.
        training = {"max_steps": STEPS, "effective_batch": 4, "micro_batch": 2, "preflight": "off", "probe": "never"}
        training |= {"evaluate_every": STEPS}
        tree = {
            **sections,
            "objective": objective,
            "model": {"base": str(self.bases[kind]), **method.model},
            "method": method.settings_of(objective, kind),
            "data": {"source": str(self.data[objective]), "held_out": 0.2, **sections.get("data", {})},
            "evaluation": _set({"metrics": metrics, "max_rows": 2, **sections.get("evaluation", {})}),
            "training": training | sections.get("training", {}) | method.training,
        }
        recipe = check_recipe(tree, name="cell")
        model = profile_model(recipe.model.base, None)
        data = profile_data(recipe, folder=model.folder)
        plan = make_plan(lay(tree), machine_without_gpu(self.home.runs), model, data, home=self.home)
        assert not plan.blocked, plan.findings
        return plan

    def new_run(self, plan: Plan) -> RunDirectory:
        """Return a run directory as the front end leaves it."""
        return create_run(self.home, "objective: chat\n", plan)


def _set(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section without what a case takes back."""
    return {name: value for name, value in section.items() if value is not None}


def context_of(run: RunDirectory) -> RunContext:
    """Return a run ready to train: at its start, or where its last checkpoint is."""
    plan, interrupt = run.read_plan(), Interrupt()
    events = EventLog(PictureWriter(run), interrupt)
    store = CheckpointStore(run.checkpoints_folder, run.run_id, plan.recipe.training.keep_checkpoints)
    batching = Batching(plan.steps.micro_batch, plan.steps.accumulation)
    desk = RequestDesk(ControlReader(run), events)
    return prepare_context(Carried(run, plan, events, interrupt, desk, batching, store, store.newest_whole()))


def check_training(context: RunContext) -> None:
    """Train, and hold every tensor against what it was: what learns moved, what is frozen did not, the loss fell."""
    before = {name: parameter.detach().clone() for name, parameter in context.model.named_parameters()}
    train(context)
    for name, parameter in context.model.named_parameters():
        moved = not torch.equal(before[name], parameter.detach())
        assert moved == parameter.requires_grad, f"{name} {'moved' if moved else 'did not move'}"
    curve = loss_curve(context.run)
    assert len(curve) == STEPS
    # Each step hides other words, which moves the loss more than six steps teach; that it falls is test_masked_text.py.
    hides_words = context.renderer.task.head == "masked-lm"
    if OBJECTIVES[context.recipe.objective].loss_falls and not hides_words:
        assert min(curve[STEPS], curve[STEPS - 1]) < curve[1], curve


def check_resumed(world: MatrixWorld, straight: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop another run of the same plan in the middle of a step, go on in a new context, and compare bit for bit."""
    run = world.new_run(straight.plan)
    with monkeypatch.context() as patch:
        stop_in_micro_step(patch, STOPPED_IN_MICRO_STEP)
        with pytest.raises(StopRequested):
            train(context_of(run))
    resumed = context_of(run)
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.step == (STOPPED_IN_MICRO_STEP - 1) // 2
    train(resumed)
    assert loss_curve(run) == loss_curve(straight.run)
    expected, found = last_weights(straight.run), last_weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def stop_in_micro_step(monkeypatch: pytest.MonkeyPatch, micro_step: int) -> None:
    """Let a signal arrive during the given micro-step."""
    seen = 0
    original = Lookout.after_micro_step

    def counting(self: Lookout, loss: torch.Tensor) -> None:
        nonlocal seen
        original(self, loss)
        seen += 1
        if seen == micro_step:
            self._interrupt.request("SIGTERM")

    monkeypatch.setattr(Lookout, "after_micro_step", counting)


def last_weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    """Return what the newest checkpoint holds of the model."""
    return load_file(max(run.checkpoints_folder.glob("step-*")) / "weights.safetensors")


def check_export(context: RunContext) -> None:
    """Export, read the files back with the plain libraries, and hold their logits against the trained model's."""
    run, plan, method = context.run, context.plan, context.recipe.method.facts
    prompts = parity_prompts(context.held_out_rows, context.renderer)
    trained = prompt_logits(context.model, prompts)
    folders = {item.kind for item in export_run(run, plan, context.model, context.tokenizer, prompts=prompts)}
    expected = {"merged"} if method.trains_base else {"adapter", "merged"} if method.mergeable else {"adapter"}
    assert folders == expected
    whole = trained
    if "adapter" in folders:
        assert_same(prompt_logits(_with_adapter(context, method.bits), prompts), trained)
        if "merged" in folders:
            whole = prompt_logits(_with_adapter(context, None), prompts)
    if "merged" in folders:
        merged = AUTO_CLASSES[plan.task.head].from_pretrained(run.merged_folder)
        assert_same(prompt_logits(merged, prompts), whole)


def _with_adapter(context: RunContext, bits: Any) -> PeftModel:
    """Return the base model as it was published with the written adapter on it."""
    folder = context.run.adapter_folder
    base = load_model(context.recipe, "cpu", bits=bits, task=context.plan.task)
    return with_adapter(base, AutoTokenizer.from_pretrained(folder), folder)


def assert_same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    """Hold logits against each other: the largest difference and the mean one."""
    for left, right in zip(found, expected, strict=True):
        gap = (left - right).abs()
        assert gap.max() < 1e-3, gap.max()
        assert gap.mean() < 1e-4, gap.mean()
