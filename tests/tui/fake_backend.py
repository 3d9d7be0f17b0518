"""An engine with fixed facts, so that screens look the same on every machine and at every time."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.planning.plan import (
    Device,
    DiskEstimate,
    LengthChoice,
    MemoryEstimate,
    Plan,
    PlanOption,
    Steps,
    TimeEstimate,
    ValueSource,
    Way,
)
from engine.planning.profiles import CheckResult, DataProfile, Finding, LengthCut, LengthProfile, ModelProfile
from engine.planning.rate_curve import RatePoint, sweep_rates
from engine.recipe.fields import recipe_fields
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.sources import Layered, flatten
from tests.tui.fake_talkers import FakeTalker, FakeTalkers
from tests.tui.fake_xray import FakeXray
from tui.backend import (
    Choice,
    HubAnswer,
    HubModel,
    Machine,
    ModelOffer,
    PresetRow,
    ProgressListener,
    RunRow,
    ShapeLook,
    ShapeOffer,
    WorkProgress,
    XrayOrder,
    XrayPage,
)
from tui.engine_backend import EngineBackend, with_stand_ins

GIB = 2**30
CPU_ONLY = Machine("CPU only: 2 cores, 5.2 GiB of 7.6 GiB RAM free", (), int(5.2 * GIB), "host RAM")
ONE_GPU = Machine(
    "NVIDIA GeForce RTX 4090, 22.9 GiB free",
    ("GPU 0  NVIDIA GeForce RTX 4090  22.9 GiB of 24.0 GiB free", "16 cores, 51.3 GiB of 62.7 GiB RAM free"),
    int(22.9 * GIB),
    "GPU 0",
)
MIB = 2**20
COVERED = [(48, 12), (64, 96), (80, 271), (96, 560), (112, 842), (128, 1108), (160, 1533), (192, 1996), (224, 2281)]
COVERED += [(256, 2439), (320, 2580), (384, 2655), (448, 2673), (512, 2683), (611, 2689)]
LENGTHS = {128: 0.412, 256: 0.907, 512: 0.9914, 640: 1.0}
TITLES = {"full": "Full fine-tuning", "lora": "LoRA", "qlora": "QLoRA, 4-bit"}
QUALITY = {
    "full": "Learns the most; every weight changes.",
    "lora": "Learns most of what full fine-tuning does.",
    "qlora": "Close to LoRA; rounding the base model costs a little.",
}
NEEDED_BYTES = {"full": int(9.6 * GIB), "lora": int(2.1 * GIB), "qlora": int(1.3 * GIB)}


def model_profile(base: str = "Qwen/Qwen3-0.6B", **changes: Any) -> ModelProfile:
    """Return the profile of a small model."""
    facts: dict[str, Any] = {
        "base": base,
        "folder": "/models/qwen3",
        "architecture": "Qwen3ForCausalLM",
        "model_type": "qwen3",
        "num_params": 596_049_920,
        "vocab_size": 151936,
        "hidden_size": 1024,
        "num_layers": 28,
        "num_heads": 16,
        "num_kv_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
        "context_length": 40960,
        "tied_embeddings": True,
        "weights_bytes": 1_192_099_840,
        "weights_dtype": "bfloat16",
        "has_chat_template": True,
    }
    return ModelProfile(**(facts | changes))


def data_profile(**changes: Any) -> DataProfile:
    """Return the profile of clean question and answer rows."""
    facts: dict[str, Any] = {
        "format": "prompt_completion",
        "mapping": {"prompt": "question", "completion": "answer"},
        "evidence": "Columns question and answer are usual names of prompt and completion.",
        "columns": ["question", "answer", "topic"],
        "num_rows": 3000,
        "num_train": 2689,
        "num_held_out": 299,
        "dropped": {"duplicate": 9, "empty_answer": 3},
        "lengths": LengthProfile(
            count=2689, mean=161.4, p50=148, p90=251, p99=402, longest=611, total=434_005, covered=COVERED
        ),
        "answer_lengths": LengthProfile(count=2689, mean=98.2, p50=90, p90=170, p99=290, longest=455, total=264_060),
        "cuts": [
            LengthCut(length=128, num_cut=1581, num_answers_cut=1490, num_answers_lost=212, lost_tokens=92_417),
            LengthCut(length=256, num_cut=250, num_answers_cut=241, num_answers_lost=9, lost_tokens=15_802),
            LengthCut(length=512, num_cut=6, num_answers_cut=6, num_answers_lost=0, lost_tokens=301),
            LengthCut(length=1024, num_cut=0, num_answers_cut=0, num_answers_lost=0, lost_tokens=0),
        ],
        "checks": [
            CheckResult(name="near_duplicates", action="report", count=14, places=["tickets.jsonl:18"]),
            CheckResult(name="secrets", action="report"),
            CheckResult(name="other_languages", action="off"),
        ],
        "findings": [
            Finding(
                code="data.near_duplicates",
                message="14 rows are nearly equal to an earlier row: tickets.jsonl:18, tickets.jsonl:40 and 12 more.",
                fix="Set data.cleaning.near_duplicates: drop to keep the first of each.",
                path="data.cleaning.near_duplicates",
                severity="warning",
            )
        ],
        "sha256": "ab" * 32,
        "bytes": 1_830_000,
        "examples": [
            {
                "prompt": "Natalia sold clips to 48 of her friends in April, and then half as many in May. How many?",
                "completion": "Natalia sold 48/2 = 24 clips in May.\nAltogether 48+24 = 72 clips.",
            },
            {"prompt": "Weng earns $12 an hour. Yesterday she worked 50 minutes.", "completion": "12/60*50 = $10."},
        ],
    }
    return DataProfile(**(facts | changes))


def shape_look(**changes: Any) -> ShapeLook:
    """Return the look of rows that are surely questions and answers."""
    example = {"prompt": "Natalia sold clips to 48 of her friends in April.", "completion": "24 clips in May."}
    offer = ShapeOffer(
        "prompt_completion",
        {"prompt": "question", "completion": "answer"},
        "Read as prompt_completion: 'question' as prompt and 'answer' as completion, by their names; ignored: 'topic'.",
        0.95,
        example,
    )
    columns = {"question": example["prompt"], "answer": example["completion"], "topic": "arithmetic"}
    return ShapeLook(**({"offers": (offer,), "columns": columns, "num_rows": 1000} | changes))


class FakeBackend:
    """Answers with fixed facts and remembers what was asked of it."""

    def __init__(self, drafts: Path, machine: Machine = CPU_ONLY) -> None:
        self.drafts = drafts
        self.fixed_machine = machine
        self.run_rows: list[RunRow] = []
        self.data = data_profile()
        self.look = shape_look()
        self.look_error: ProblemError | None = None
        self.recent: list[str] = []
        self.data_words: list[WorkProgress] = []
        self.xray_pages = FakeXray()
        self.xray_error: Exception | None = None
        self.xray_gate: asyncio.Event | None = None
        self.xray_cancelled = 0
        self.xrayed: list[tuple[dict[str, Any], int, str]] = []
        self.data_error: ProblemError | None = None
        self.model_error: ProblemError | None = None
        self.launch_error: ProblemError | None = None
        self.data_gate: asyncio.Event | None = None
        self.model_gate: asyncio.Event | None = None
        self.hub_gate: asyncio.Event | None = None
        self.hub_error: ProblemError | None = None
        self.hub_answer = HubAnswer(
            (
                HubModel("made/one", 494_032_768, "apache-2.0", "en, de", False, 1_200_000),
                HubModel("made/gated-two", 8_030_261_248, "llama3.1", "8 languages", True, 900),
            ),
            3,
        )
        self.searched: list[tuple[str, str]] = []
        self.findings: list[Finding] = []
        self.launched: list[tuple[dict[str, Any], Plan]] = []
        self.profiled: list[dict[str, Any]] = []
        self.warm = threading.Event()
        self.rehearsed: list[Plan] = []
        self.rehearsal_gate: asyncio.Event | None = None
        self.rehearsal_error: Exception | None = None
        self.sweep_error: Exception | None = None
        self.sweep_gate = threading.Event()
        self.sweep_gate.set()
        self.sweeps: list[FakeSweep] = []
        self.planned = 0
        self.plan_error: Exception | None = None
        self.launch_gate = threading.Event()
        self.launch_gate.set()
        self.talkers = FakeTalkers(lambda which, prompt: f"{which} answers {prompt}")
        self._real = EngineBackend()

    @property
    def drafts_folder(self) -> Path:
        return self.drafts

    def machine(self) -> Machine:
        return self.fixed_machine

    def runs(self, limit: int) -> list[RunRow]:
        return self.run_rows[:limit]

    def presets(self) -> list[PresetRow]:
        return [
            PresetRow("quick-start", "Starter model on built-in data", "Shows learning in minutes on any machine."),
            PresetRow("chat-lora", "Chat LoRA on a small instruct model", "Qwen3 0.6B learns your answers.", "6 GB"),
            PresetRow("qlora-8b-24gb", "QLoRA of an 8B model", "One 24 GB card is enough.", "a 24 GB GPU"),
        ]

    def preset_tree(self, name: str) -> dict[str, Any]:
        if name != "quick-start":
            raise ProblemError(Problem("preset.unknown", f"No preset {name}.", "Try quick-start."))
        return {
            "objective": "chat",
            "model": {"base": "builtin:starter"},
            "data": {"source": "builtin:commands"},
            "method": {"name": "lora"},
            "training": {"epochs": 5.0},
        }

    def objectives(self) -> list[Choice]:
        return self._real.objectives()

    def methods(self) -> list[Choice]:
        return self._real.methods()

    def model_offers(self, machine: Machine | None, objective: str | None = None) -> list[ModelOffer]:
        return [
            ModelOffer(
                "Qwen/Qwen3-0.6B",
                "Qwen3 0.6B",
                "Small multilingual chat model, able for its size.",
                596_049_920,
                1_192_099_840,
                "apache-2.0",
                "on this machine",
                "fits with LoRA",
                context_length=40960,
                languages="Many",
            ),
            ModelOffer(
                "HuggingFaceTB/SmolLM2-135M-Instruct",
                "SmolLM2 135M Instruct",
                "Very small English chat model.",
                134_515_008,
                269_030_016,
                "apache-2.0",
                "download",
                "fits, even full",
                context_length=8192,
                languages="English",
            ),
            ModelOffer(
                "Qwen/Qwen3-8B",
                "Qwen3 8B",
                "Strong for its size.",
                8_190_735_360,
                16_381_470_720,
                "apache-2.0",
                "download",
                "does not fit",
                "Needs about 5.2 GiB even with QLoRA; 5.2 GiB of host RAM is free.",
                context_length=40960,
                languages="Many",
            ),
            ModelOffer(
                "builtin:starter",
                "Starter",
                "Ships with ftwizard and works everywhere.",
                1_100_000,
                2_200_000,
                "apache-2.0",
                "built in",
                "fits, even full",
                context_length=1024,
                languages="English",
            ),
        ]

    def builtin_data(self) -> list[Choice]:
        return self._real.builtin_data()

    def recent_data(self) -> list[str]:
        return self.recent

    def fields(self) -> Any:
        return recipe_fields()

    def parse(self, path: str, text: str) -> Any:
        return self._real.parse(path, text)

    def check(self, layered: Layered) -> list[Problem]:
        return self._real.check(layered)

    async def model_profile(self, base: str, revision: str | None) -> ModelProfile:
        if self.model_gate is not None:
            await self.model_gate.wait()
        if self.model_error is not None:
            raise self.model_error
        return model_profile(base)

    async def search_hub(self, words: str, objective: str) -> HubAnswer:
        self.searched.append((words, objective))
        if self.hub_gate is not None:
            await self.hub_gate.wait()
        if self.hub_error is not None:
            raise self.hub_error
        return self.hub_answer

    async def shape_look(self, tree: Mapping[str, Any], on_progress: ProgressListener) -> ShapeLook:
        if self.look_error is not None:
            raise self.look_error
        return self.look

    async def profile_data(
        self, tree: Mapping[str, Any], folder: str | None, on_progress: ProgressListener
    ) -> DataProfile:
        self.profiled.append(dict(tree))
        for word in self.data_words:
            on_progress(word)
        if self.data_gate is not None:
            await self.data_gate.wait()
        if self.data_error is not None:
            raise self.data_error
        return self.data

    async def xray(
        self,
        tree: Mapping[str, Any],
        folder: str | None,
        start: int,
        count: int,
        order: XrayOrder,
        on_progress: Callable[[WorkProgress], None] | None = None,
    ) -> XrayPage:
        self.xrayed.append((dict(tree), start, order))
        if self.xray_gate is not None:
            if on_progress is not None:
                on_progress(WorkProgress("Tokenising", 400, 1000))
            try:
                await self.xray_gate.wait()
            except asyncio.CancelledError:
                self.xray_cancelled += 1
                raise
        if self.xray_error is not None:
            raise self.xray_error
        return self.xray_pages.page(start, count, order)

    def plan(self, layered: Layered, model: ModelProfile, data: DataProfile) -> Plan:
        self.planned += 1
        if self.plan_error is not None:
            raise self.plan_error
        return make_plan(layered, model, data, self.fixed_machine, self.findings)

    async def rehearse(self, plan: Plan) -> Plan:
        self.rehearsed.append(plan)
        if self.rehearsal_gate is not None:
            await self.rehearsal_gate.wait()
        if self.rehearsal_error is not None:
            raise self.rehearsal_error
        return rehearsed_plan(plan)

    def sweep_rates(self, plan: Plan) -> "FakeSweep":
        if self.sweep_error is not None:
            raise self.sweep_error
        self.sweeps.append(FakeSweep(plan.recipe.training.learning_rate or 0.0, self.sweep_gate))
        return self.sweeps[-1]

    def recipe_text(self, tree: Mapping[str, Any]) -> str:
        return self._real.recipe_text(tree)

    def warm_up(self) -> None:
        self.warm.set()

    def cool_down(self) -> None:
        self.warm.clear()

    def talk_to(self, folder: Path, which: str, name: str) -> FakeTalker:
        return self.talkers(folder, which, name)

    def win_rate(self, ids: Sequence[str], wins: Sequence[float]) -> dict[str, Any]:
        return self._real.win_rate(ids, wins)

    def launch(self, tree: Mapping[str, Any], plan: Plan) -> Path:
        self.launch_gate.wait(30)
        if self.launch_error is not None:
            raise self.launch_error
        self.launched.append((dict(tree), plan))
        folder = self.drafts.parent / "runs" / "20260101-120000-test-k3f9"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def needed_bytes(name: str, length: int) -> int:
    """Return what a method needs; a third of it grows with the length."""
    return int(NEEDED_BYTES[name] * (2 / 3 + length / 512 / 3))


def memory_of(name: str, length: int, machine: Machine) -> MemoryEstimate:
    """Return the estimate of a method at a sequence length."""
    needed = needed_bytes(name, length)
    shares = {"model weights": 0.55, "gradients": 0.05, "optimizer states": 0.1, "activations": 0.2, "process": 0.1}
    return MemoryEstimate(
        components={part: int(needed * share) for part, share in shares.items()},
        expected_bytes=needed,
        low_bytes=int(needed * 0.85),
        high_bytes=int(needed * 1.25),
        available_bytes=machine.training_bytes,
        where=machine.where,
    )


class FakeSweep:
    """A sweep whose loss falls, is lowest at twenty times the usual rate, and explodes behind it."""

    def __init__(self, usual: float, gate: threading.Event) -> None:
        self.usual = usual
        self.cancelled = False
        self._gate = gate

    def points(self) -> Iterator[RatePoint]:
        for number, rate in enumerate(sweep_rates(self.usual)):
            if number == 12:
                self._gate.wait(20)
            if self.cancelled:
                raise ProblemError(Problem("rate.cancelled", "Cancelled.", severity="note"))
            place = math.log10(rate / (20 * self.usual))
            yield RatePoint(rate, 5 - 3 / (1 + math.exp(-4 * (place + 1))) + 6 * max(0.0, place - 0.3))

    def cancel(self) -> None:
        self.cancelled = True
        self._gate.set()


def rehearsed_plan(plan: Plan) -> Plan:
    """Return the plan as a rehearsal leaves it: a narrower range, and phases whose peaks differ."""
    needed = int(plan.memory.expected_bytes * 1.1)
    memory = plan.memory.model_copy(
        update={
            "depth": "simulated",
            "expected_bytes": needed,
            "low_bytes": int(needed * 0.96),
            "high_bytes": int(needed * 1.05),
            "components": {part: int(size * 1.1) for part, size in plan.memory.components.items()},
            "peaks": {"training": int(needed * 0.8), "evaluation": needed, "merging": int(needed * 0.6)},
            "notes": ["The longest batch of the data was rehearsed for two steps."],
        }
    )
    options = [
        option.model_copy(update={"memory": memory}) if option.verdict == "chosen" else option
        for option in plan.options
    ]
    return plan.model_copy(update={"memory": memory, "options": options})


FOLDED = {"ia3": "(IA)3", "prompt-tuning": "Prompt tuning", "prefix-tuning": "Prefix tuning"}


def _folded(option: PlanOption, name: str, title: str) -> PlanOption:
    """Return a row of a method that is shown when somebody asks for more; the last cannot run here."""
    fits = name != "prefix-tuning"
    facts = {"title": title, "method": name, "changes": {"method.name": name}, "quality": "Small.", "folded": True}
    verdict = {"verdict": "fits" if fits else "impossible"}
    why = {"why_not": "Taken only when it is asked for." if fits else "Not with this recipe."}
    return option.model_copy(update=facts | verdict | why)


def options_of(chosen: str, length: int, batch: int, machine: Machine) -> list[PlanOption]:
    """Return the ranked table: what fits best first, then what does not, then what this machine cannot run."""
    free = machine.training_bytes
    micro = next(size for size in (4, 2, 1) if batch % size == 0)
    options: list[PlanOption] = []
    for speed, name in enumerate(("qlora", "lora", "full"), 1):
        memory = memory_of(name, length, machine)
        too_large = free is not None and memory.expected_bytes > free
        tight = free is not None and memory.high_bytes > free
        why = f"needs {memory.expected_bytes / GIB:.1f} GiB" if too_large else "slower" if name == "qlora" else ""
        options.append(
            PlanOption(
                title=TITLES[name],
                method=name,
                changes={} if name == chosen else {"method.name": name},
                micro_batch=micro,
                accumulation=batch // micro,
                max_length=length,
                optimizer="paged_adamw_8bit" if name == "qlora" else "adamw",
                precision="bfloat16" if machine is not CPU_ONLY else "float32",
                memory=memory,
                tokens_per_s=400.0 * speed,
                time_s=7200.0 / speed,
                time_basis="estimate",
                disk_bytes=1440 * MIB,
                quality=QUALITY[name],
                verdict="chosen" if name == chosen else "too_large" if too_large else "tight" if tight else "fits",
                why_not="" if name == chosen else why or "fits with less room",
            )
        )
    order = {"lora": 0, "qlora": 1, "full": 2}
    options.sort(key=lambda option: (option.verdict == "too_large", order[option.method]))
    several = options[0].model_copy(
        update={
            "title": "LoRA, 2 GPUs (DDP)",
            "changes": {"method.name": "lora"},
            "method": "lora",
            "num_gpus": 2,
            "strategy": "ddp",
            "verdict": "impossible",
            "why_not": "one run uses one GPU in this version",
        }
    )
    more = [_folded(options[0], name, title) for name, title in FOLDED.items()]
    return [*options, several, *(more if chosen not in FOLDED else [])]


def ways_of(chosen: str, length: int, machine: Machine) -> list[Way]:
    """Return what makes a plan fit that does not."""
    free = machine.training_bytes
    if free is None or memory_of(chosen, length, machine).expected_bytes <= free:
        return []
    return [
        Way(
            title="Take LoRA",
            changes={"method.name": "lora"},
            price="The base model stays as it is; it learns most of the same.",
            memory=memory_of("lora", length, machine),
        ),
        Way(
            title="Cut rows at 128 tokens",
            changes={"training.max_length": 128},
            price="Cuts 59 % of the rows.",
            memory=memory_of("qlora", 128, machine),
        ),
    ]


def findings_of(chosen: str, length: int, machine: Machine) -> list[Finding]:
    """Return the finding of a plan that does not fit."""
    free, needed = machine.training_bytes, memory_of(chosen, length, machine).expected_bytes
    if free is None or needed <= free:
        return []
    message = f"Needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB free."
    return [Finding(code="memory.does_not_fit", message=message, fix="Choose LoRA.")]


def make_plan(
    layered: Layered, model: ModelProfile, data: DataProfile, machine: Machine, findings: list[Finding]
) -> Plan:
    """Return a plan with fixed numbers for each method."""
    tree = with_stand_ins(layered.tree)
    recipe = Recipe.model_validate(tree)
    name = recipe.method.name or "lora"
    method = recipe.method.model_copy(update={"name": name, "rank": recipe.method.rank or 16})
    training = recipe.training.model_copy(
        update={
            "max_length": recipe.training.max_length or 512,
            "learning_rate": recipe.training.learning_rate or 2e-4,
            "micro_batch": recipe.training.micro_batch or 4,
        }
    )
    metrics = recipe.evaluation.metrics or ["perplexity", "token_accuracy", "exact_match", "rouge", "general_text"]
    evaluation = recipe.evaluation.model_copy(update={"metrics": metrics})
    data_section = recipe.data.model_copy(update={"held_out": recipe.data.held_out or 0.1})
    recipe = recipe.model_copy(
        update={
            "method": method,
            "training": training,
            "evaluation": evaluation,
            "data": data_section,
            "name": recipe.name or "qwen3 on tickets",
        }
    )
    sources = {path: ValueSource(kind="default") for path in flatten(recipe.model_dump())}
    derived = {"method.name": "fits", "method.rank": "usual", "training.learning_rate": "LoRA"}
    sources |= {path: ValueSource(kind="derived", detail=why) for path, why in derived.items()}
    sources |= {path: ValueSource(kind=source.kind, detail=source.detail) for path, source in layered.sources.items()}
    length, batch = training.max_length or 512, recipe.training.effective_batch
    options = options_of(name, length, batch, machine)
    chosen = next(option for option in options if option.verdict == "chosen")
    steps = max(1, int(data.num_train * recipe.training.epochs) // recipe.training.effective_batch)
    return Plan(
        recipe=recipe,
        sources=sources,
        device=Device(kind="cpu") if machine.where == "host RAM" else Device(kind="cuda", name="RTX 4090"),
        model=model,
        data=data,
        memory=chosen.memory,
        steps=Steps(
            micro_batch=chosen.micro_batch,
            accumulation=chosen.accumulation,
            steps_per_epoch=168,
            total_steps=steps,
            evaluate_every=63,
            checkpoint_every=50,
        ),
        time=TimeEstimate(low_s=1500, high_s=3100, basis="a rule of thumb for this processor"),
        disk=DiskEstimate(
            checkpoints_bytes=240 * MIB, export_bytes=1200 * MIB, total_bytes=1440 * MIB, free_bytes=40 * GIB
        ),
        command=["ftwizard", "run", "recipe.yaml"],
        findings=[*findings, *findings_of(name, length, machine)],
        options=options,
        ways=ways_of(name, length, machine),
        lengths=[
            LengthChoice(max_length=tokens, covered_share=share, memory_bytes=needed_bytes(name, tokens))
            for tokens, share in LENGTHS.items()
        ],
    )
