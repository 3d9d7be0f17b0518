"""Machines, models, data and plans of them, for tests of the plan."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.catalog.base_models import find_base_model
from engine.hardware.devices import Disk, Gpu, Hardware, Host
from engine.hardware.readings import Unavailable
from engine.planning.calibration import Calibration
from engine.planning.plan import Plan
from engine.planning.planner import make_plan
from engine.planning.profiles import DataProfile, Finding, LengthProfile, ModelProfile
from engine.recipe.sources import flatten, lay
from engine.runs.home import HomeFolders

GIB = 2**30
HOME = HomeFolders(Path("/home/x/runs"), Path("/home/x/cache"), Path("/home/x/drafts"))
NONE = Unavailable("no NVIDIA driver on this machine")
CPU = Hardware(
    gpus=[],
    host=Host(32 * GIB, 24 * GIB, 0, 4, "Some CPU", frozenset({"avx2"})),
    disks=[Disk(HOME.runs, 500 * GIB, 200 * GIB)],
    driver=NONE,
    cuda=NONE,
    torch_cuda=Unavailable("built for the CPU only"),
    libraries={"torch": "2.13.0", "bitsandbytes": "0.50.2"},
)
LENGTHS = LengthProfile(count=900, mean=150, p50=140, p90=220, p99=300, longest=700, total=135_000)
ANSWERS = LengthProfile(count=900, mean=50, p50=45, p90=80, p99=95, longest=100, total=45_000)
DATA = DataProfile(
    format="prompt_completion",
    mapping={"prompt": "question", "completion": "answer"},
    num_rows=1000,
    num_train=900,
    num_held_out=100,
    lengths=LENGTHS,
    answer_lengths=ANSWERS,
    held_out_answer_longest=90,
    bytes=10**6,
)
TEXT = DataProfile(format="text", num_rows=400, num_train=360, num_held_out=40, lengths=LENGTHS, bytes=10**6)


def gpu(gib: float, capability: tuple[int, int] = (8, 9), **changes: Any) -> Gpu:
    size = int(gib * GIB)
    return replace(Gpu(0, "Card", "GPU-1", capability, size, size, 0, 0, 40, 50.0, []), **changes)


def with_gpus(*gpus: Gpu) -> Hardware:
    return replace(CPU, gpus=list(gpus), driver="590", cuda="13.1", torch_cuda="13.0")


def hub_model(name: str = "Qwen/Qwen3-8B") -> ModelProfile:
    card = find_base_model(name)
    assert card is not None
    return card.profile


def tiny(**changes: Any) -> ModelProfile:
    profile = hub_model("HuggingFaceTB/SmolLM2-135M-Instruct")
    small = {"num_params": 1_000_000, "hidden_size": 128, "num_layers": 4, "vocab_size": 1024, "context_length": 512}
    sizes = {"num_heads": 4, "num_kv_heads": 4, "head_dim": 32, "intermediate_size": 384}
    shapes = [("q_proj", 128, 128), ("up_proj", 128, 384)]
    return profile.model_copy(update={"base": "/models/tiny", **small, **sizes, "linear_shapes": shapes, **changes})


def plan(
    you: Mapping[str, Any] | None = None,
    *,
    hardware: Hardware = CPU,
    model: ModelProfile | None = None,
    data: DataProfile = DATA,
    objective: str = "chat",
    preset: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> Plan:
    model = model or tiny()
    tree: dict[str, Any] = {"objective": objective, "model": {"base": model.base}, "data": {"source": "x/rows.jsonl"}}
    for path, value in flatten(you or {}).items():
        section, _, key = path.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[key] = value
    layered = lay(tree, preset=preset, preset_name="P" if preset else "")
    return make_plan(layered, hardware, model, data, home=HOME, calibration=calibration)


def codes(found: Plan, severity: str | None = None) -> list[str]:
    return [finding.code for finding in found.findings if severity in (None, finding.severity)]


def finding(found: Plan, code: str) -> Finding:
    return next(item for item in found.findings if item.code == code)
