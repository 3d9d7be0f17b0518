"""Configurations of the memory benchmark, fixed before anything was run, and their plans."""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.hardware.devices import Hardware
from engine.planning.model_profile import profile_folder
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.planning.profiles import DataProfile, LengthProfile
from engine.recipe.sources import lay
from engine.runs.home import HomeFolders

DATA = Path(__file__).resolve().parent / "data"
NUM_ROWS = 24
WORDS = 256
PROMPT_WORDS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration.

    Attributes:
        model: Name in `data/memory-models.json`.
        length: Tokens of every row; rows are made a little longer and cut.
        merge: Merge the adapter after training; a phase of its own that may need more than training.
        generate: Also generate answers at each evaluation; its keys and values may need more than training.
        mixed: Rows of a quarter to the whole of the length instead, padded to the longest of their micro-batch.
    """

    name: str
    model: str
    method: str
    micro_batch: int
    length: int
    precision: str = "bfloat16"
    accumulation: int = 1
    optimizer: str = "adamw"
    checkpointing: bool = False
    packing: bool = False
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    dropout: float = 0.0
    merge: bool = True
    generate: bool = True
    mixed: bool = False

    def tree(self, base: Path, source: Path) -> dict[str, Any]:
        """Return the recipe, with everything set that memory depends on."""
        method: dict[str, Any] = {"name": self.method}
        generate = self.generate and not self.packing
        if self.method != "full":
            targets = self.targets if isinstance(self.targets, str) else list(self.targets)
            method |= {"rank": self.rank, "dropout": self.dropout, "targets": targets}
        return {
            "name": self.name,
            "objective": "domain-adaptation" if self.packing else "chat",
            "model": {"base": str(base)},
            "method": method,
            "data": {"source": str(source), "held_out": 0.25},
            "training": {
                "max_steps": 2,
                "effective_batch": self.micro_batch * self.accumulation,
                "micro_batch": self.micro_batch,
                "max_length": self.length,
                "precision": self.precision,
                "optimizer": self.optimizer,
                "activation_checkpointing": self.checkpointing,
                "packing": self.packing,
                "evaluate_every": 1000,
                "checkpoint_every": 1000,
                # A probe could cut the case smaller, and what it taught would improve the next case's prediction.
                "probe": "never",
            },
            "evaluation": {
                "metrics": ["perplexity", *(["exact_match"] if generate else [])],
                "max_rows": 4,
                **({"generate_rows": 1} if generate else {}),
                "max_new_tokens": 8,
            },
            **({} if self.merge or self.method == "full" else {"delivery": {"merge": False}}),
        }

    def facts(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the tables."""
        defaults = {item.name: item.default for item in Case.__dataclass_fields__.values()}
        changed = {key: value for key, value in asdict(self).items() if key != "name" and value != defaults[key]}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}


@dataclass(slots=True)
class Workshop:
    """Where models, rows and runs of the benchmark are made.

    Attributes:
        folder: Holds everything; may be deleted afterwards.
        configs: `{name: content of config.json}`.
    """

    folder: Path
    configs: dict[str, dict[str, Any]] = field(
        default_factory=lambda: json.loads((DATA / "memory-models.json").read_text(encoding="utf-8"))
    )

    @property
    def home(self) -> HomeFolders:
        """Folders as `FTWIZARD_HOME` would give them."""
        return HomeFolders(self.folder / "home/runs", self.folder / "home/cache", self.folder / "home/drafts")

    def config_folder(self, model: str) -> Path:
        """Return a folder with `config.json` alone."""
        folder = self.folder / "configs" / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.configs[model]), encoding="utf-8")
        return folder

    def rows(self, case: Case) -> Path:
        """Write rows that fill the length (words are tokens, see `memory_run.write_tokenizer`) and return the file."""
        folder = self.folder / "rows"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{case.name}.jsonl"
        chance = random.Random(case.length)
        num_rows = max(NUM_ROWS, 4 * case.micro_batch * case.accumulation)
        lines = [_row(case, index, num_rows, chance) for index in range(num_rows)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return file


def _row(case: Case, index: int, num_rows: int, chance: random.Random) -> dict[str, Any]:
    longest = case.length
    if case.mixed:
        longest = case.length // 4 + (case.length - case.length // 4) * (index + 1) // num_rows
    words = [f"w{chance.randrange(WORDS)}" for _ in range(longest)]
    if case.packing:
        return {"text": " ".join(words)}
    prompt, answer = words[:PROMPT_WORDS], words[PROMPT_WORDS:]
    messages = [{"role": "user", "content": " ".join(prompt)}, {"role": "assistant", "content": " ".join(answer)}]
    return {"messages": messages}


def full_rows(case: Case) -> DataProfile:
    """Return the profile of data whose rows all have the case's length."""
    length = case.length
    lengths = LengthProfile(
        count=1000, mean=length, p50=length, p90=length, p99=length, longest=length, total=1000 * length
    )
    return DataProfile(
        format="text" if case.packing else "messages",
        num_rows=1100,
        num_train=1000,
        num_held_out=100,
        lengths=lengths,
        answer_lengths=None if case.packing else lengths.model_copy(update={"mean": length / 2}),
        held_out_answer_longest=8,
        bytes=10**6,
    )


def plan_for(case: Case, base: Path, hardware: Hardware, data: DataProfile, source: Path, home: HomeFolders) -> Plan:
    """Return the engine's own plan of a case; its memory is the formula's."""
    return make_plan(lay(case.tree(base, source)), hardware, profile_folder(base, base=str(base)), data, home=home)


def unique(cases: Iterable[Case]) -> list[Case]:
    """Return the cases; two of one name are a mistake.

    Raises:
        ValueError: Naming the case.
    """
    found: dict[str, Case] = {}
    for case in cases:
        if case.name in found:
            raise ValueError(f"two cases are called {case.name}")
        found[case.name] = case
    return list(found.values())


def _case(model: str, method: str, micro_batch: int, length: int, *marks: str, **changes: Any) -> Case:
    """Return a case named after what it is; `marks` go into the name."""
    name = "-".join([model, method, f"b{micro_batch}", f"s{length}", *marks])
    return Case(name, model, method, micro_batch, length, **changes)


CPU_CASES = unique(
    [
        _case("llama-14m", "full", 1, 128, "fp32", precision="float32"),
        _case("llama-14m", "full", 4, 256, "fp32", precision="float32"),
        _case("llama-14m", "full", 4, 256, "gc", "fp32", precision="float32", checkpointing=True),
        _case("llama-14m", "full", 4, 256, "bf16"),
        _case("llama-14m", "full", 2, 256, "acc2", precision="float32", accumulation=2),
        _case("llama-14m", "lora", 1, 128, "fp32", precision="float32"),
        _case("llama-14m", "lora", 4, 256, "fp32", precision="float32"),
        _case("llama-14m", "lora", 4, 256, "gc", precision="float32", checkpointing=True),
        _case("llama-14m", "lora", 8, 256, "mixed", precision="float32", mixed=True),
        _case("llama-14m", "lora", 2, 512, "packed", precision="float32", packing=True),
        _case("llama-14m", "qlora", 2, 256, "fp32", precision="float32"),
        _case("llama-52m", "full", 2, 256, "fp32", precision="float32"),
        _case("llama-52m", "full", 2, 512, "gc-bf16", checkpointing=True),
        _case("llama-52m", "lora", 2, 512, "bf16"),
        _case("llama-52m", "lora", 2, 512, "attention", targets="attention", rank=64),
        _case("llama-52m", "lora", 2, 256, "dropout", dropout=0.1, precision="float32"),
        _case("llama-52m", "qlora", 2, 512, "bf16"),
        _case("llama-52m", "qlora", 4, 256, "gc-bf16", checkpointing=True),
        _case("qwen3-37m", "full", 2, 256, "fp32", precision="float32"),
        _case("qwen3-37m", "lora", 4, 256, "bf16"),
        _case("qwen3-37m", "lora", 1, 1024, "gc", precision="float32", checkpointing=True),
        _case("qwen2-20m", "full", 2, 256, "bf16"),
        _case("qwen2-20m", "lora", 4, 128, "fp32", precision="float32"),
        _case("mistral-25m", "lora", 2, 512, "fp32", precision="float32"),
        _case("mistral-25m", "full", 2, 256, "mixed", precision="float32", mixed=True),
        _case("gpt2-17m", "full", 4, 256, "fp32", precision="float32"),
        _case("gpt2-17m", "lora", 4, 256, "fp32", precision="float32"),
        _case("gemma3-23m", "full", 2, 256, "fp32", precision="float32"),
        _case("gemma3-23m", "lora", 2, 512, "fp32", precision="float32"),
        _case("phi3-22m", "lora", 4, 256, "fp32", precision="float32"),
        _case("neox-20m", "lora", 4, 256, "fp32", precision="float32"),
        _case("SmolLM2-135M", "lora", 2, 256, "bf16"),
    ]
)

_MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full8": {"optimizer": "paged_adamw_8bit"},
    "lora": {},
    "lora-attention": {"targets": "attention"},
    "qlora": {"optimizer": "paged_adamw_8bit"},
}
_GPU_GRID: dict[str, tuple[tuple[str, int, int, bool], ...]] = {
    "Qwen2.5-0.5B": (
        ("full", 8, 1024, False), ("full", 4, 2048, True), ("lora", 8, 2048, False), ("lora", 2, 8192, True),
        ("qlora", 4, 1024, False), ("qlora", 16, 512, True), ("lora-attention", 4, 4096, False),
    ),
    "Llama-3.2-1B": (
        ("full", 2, 1024, False), ("full", 1, 8192, True), ("full8", 4, 1024, True), ("lora", 4, 1024, False),
        ("lora", 8, 2048, True), ("qlora", 2, 2048, False), ("qlora", 1, 8192, True),
    ),
    "Qwen3-1.7B": (
        ("full", 2, 2048, True), ("full8", 1, 1024, False), ("lora", 2, 2048, False), ("lora", 1, 8192, True),
        ("qlora", 4, 1024, False), ("qlora", 8, 2048, True), ("lora-attention", 8, 512, False),
    ),
    "Qwen3-4B": (
        ("full", 1, 1024, True), ("full8", 2, 1024, True), ("lora", 1, 2048, False), ("lora", 4, 2048, True),
        ("qlora", 2, 1024, False), ("qlora", 1, 8192, True),
    ),
    "Qwen2.5-7B": (
        ("lora", 1, 1024, False), ("lora", 4, 2048, True), ("qlora", 1, 1024, False), ("qlora", 4, 2048, True),
        ("qlora", 1, 8192, True), ("lora-attention", 2, 1024, False),
    ),
    "Qwen3-8B": (
        ("full8", 1, 1024, True), ("lora", 1, 2048, False), ("lora", 2, 4096, True), ("lora", 1, 8192, True),
        ("qlora", 1, 2048, False), ("qlora", 8, 1024, True), ("qlora", 2, 8192, True),
    ),
}  # fmt: skip


def _gpu_cases() -> Iterable[Case]:
    for model, rows in _GPU_GRID.items():
        for mode, micro_batch, length, checkpointing in rows:
            method = mode.split("-")[0].rstrip("8")
            marks = [*(["8bit"] if mode == "full8" else []), *(["attention"] if "-" in mode else [])]
            marks += ["gc"] if checkpointing else []
            yield _case(model, method, micro_batch, length, *marks, "gpu", checkpointing=checkpointing, **_MODES[mode])


GPU_CASES = unique(_gpu_cases())
"""Fixed in advance. The engine always takes TRL's fused output layer on a GPU, so there is no case without it."""
SMOKE_CASES = [
    _case("llama-14m", "lora", 2, 64, "smoke", precision="float32"),
    _case("llama-14m", "full", 1, 64, "smoke", precision="float32"),
]
BOUNDARY_FACTORS = (0.90, 0.97, 1.00, 1.05, 1.15)
"""Memory given to a case, as shares of what the plan says it needs; five for each of 40 cases."""
