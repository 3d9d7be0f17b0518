"""The plan: what this machine will do with a recipe. A JSON document in the run directory."""

from typing import Any, Literal

from pydantic import Field

from engine.catalog.methods import MethodName
from engine.catalog.tasks import Task, task_of
from engine.planning.calibration import Calibration
from engine.planning.profiles import DataProfile, Finding, ModelProfile, Profile
from engine.recipe.schema import Recipe

PLAN_VERSION = 1


class ValueSource(Profile):
    """Origin of one resolved value, as in `engine.recipe.sources.Source`."""

    kind: Literal["default", "preset", "derived", "you"]
    detail: str = ""


class Device(Profile):
    """Where the run computes.

    Attributes:
        index: Position in NVML's order, as `nvidia-smi` shows it; CUDA may count differently.
        uuid: What names exactly this GPU in `CUDA_VISIBLE_DEVICES`; empty when the driver does not tell.
        others: The other GPUs of a run on several; the plan's `steps.num_gpus` counts them all.
    """

    kind: Literal["cuda", "cpu"]
    index: int = 0
    name: str = "CPU"
    uuid: str = ""
    others: list["OtherGpu"] = Field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        """Positions of all GPUs of the run in NVML's order, this one first."""
        return [self.index, *(other.index for other in self.others)]

    @property
    def names_for_cuda(self) -> list[str]:
        """What names each GPU of the run in `CUDA_VISIBLE_DEVICES`, this one first."""
        return [self.uuid or str(self.index), *(other.uuid or str(other.index) for other in self.others)]


class OtherGpu(Profile):
    """A further GPU of a run, as in `Device`."""

    index: int
    uuid: str = ""


class Machine(Profile):
    """What of the machine and the installation decides on a plan, so that a plan can be thought over without a look.

    Attributes:
        num_gpus: GPUs that this process may use.
        least_free_bytes: Free memory of the fullest of them; None when unknown or without GPU.
        alike_free_bytes: Free memory of the GPUs that could share a run, the one that the plan takes first.
        compute_capability: Of the GPU that the plan takes; None without one, or when the driver does not tell.
        cores: Processor cores that this process may use.
        libraries: `{distribution: version}` of the installed libraries.
        calibration: What was measured on this machine before.
        hypothetical: What was asked for when the machine is not this one, such as `24GiB`; empty for this machine.
    """

    num_gpus: int = 0
    least_free_bytes: int | None = None
    alike_free_bytes: list[int] = Field(default_factory=list)
    compute_capability: tuple[int, int] | None = None
    cores: int = 1
    libraries: dict[str, str] = Field(default_factory=dict)
    calibration: Calibration | None = None
    hypothetical: str = ""


Depth = Literal["formula", "simulated", "measured"]
"""How deep an estimate went: arithmetic on sizes, a rehearsal without the device, or the device itself."""


class MemoryEstimate(Profile):
    """Peak memory of a run by component, in bytes.

    Attributes:
        components: `{component: bytes}` at the highest peak, in the order they are shown.
        expected_bytes: Sum of the components.
        low_bytes: Lower end of the range.
        high_bytes: Upper end of the range; the run must fit this.
        available_bytes: What the device has free now; None when unknown.
        where: `GPU 0` or `host RAM`.
        basis: How the estimate was made, in words that may be shown, such as `formula`.
        depth: How deep it went; anything but `measured` is shown as an estimate.
        peaks: `{phase: bytes}` of every phase that was looked at: `training`, `evaluation`, `saving`, `merging`.
        allocated_bytes: Peak of what tensors occupy, without context and allocator slack; None when not looked at.
        smallest_card_bytes: Least memory on which a replay of the allocator does not run out; None when not replayed.
        confidence: `low` when something could not be looked at as deep as `depth` says; `notes` says what.
        notes: Sentences for the person: what was assumed, what could not be rehearsed.
    """

    components: dict[str, int]
    expected_bytes: int
    low_bytes: int
    high_bytes: int
    available_bytes: int | None = None
    where: str
    basis: str = "formula"
    depth: Depth = "formula"
    peaks: dict[str, int] = Field(default_factory=dict)
    allocated_bytes: int | None = None
    smallest_card_bytes: int | None = None
    confidence: Literal["normal", "low"] = "normal"
    notes: list[str] = Field(default_factory=list)


class Steps(Profile):
    """How the data is cut into steps. A step is always an optimizer step.

    Attributes:
        micro_batch: Rows in memory at once, on each GPU.
        accumulation: Micro-batches of one GPU in one step.
        num_gpus: GPUs that share a step; the product of the three is the effective batch.
    """

    micro_batch: int
    accumulation: int
    num_gpus: int = 1
    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    checkpoint_every: int


class TimeEstimate(Profile):
    """How long training takes, in seconds, before the run; `basis` says from what."""

    low_s: float
    high_s: float
    basis: str
    expected_s: float = 0.0


class DiskEstimate(Profile):
    """Bytes that the run writes, and bytes free where it writes them.

    Attributes:
        checkpoints_bytes: The checkpoints kept and the one that is being written.
        export_bytes: The finished model, its copy, and room for the conversions that were wished for.
        download_bytes: Weights that are fetched first.
        total_bytes: All of it; without the download when that goes to another disk.
        free_bytes: Free where runs are written.
        download_free_bytes: Free where downloads are kept, when that is another disk; else None.
    """

    checkpoints_bytes: int
    export_bytes: int
    download_bytes: int = 0
    total_bytes: int
    free_bytes: int | None = None
    download_free_bytes: int | None = None


class PlanOption(Profile):
    """One row of the ranked table: a way to carry out the recipe on this machine.

    Attributes:
        title: Short name, such as `LoRA`, `QLoRA, 4-bit` or `Full, 4 GPUs (FSDP)`.
        method: Name in the catalogue of methods.
        changes: `{recipe path: value}` that takes this option; empty for the option that the plan took.
        micro_batch: Rows per GPU at once; `micro_batch * accumulation * num_gpus` is the effective batch.
        strategy: How several GPUs share the work.
        memory: Per GPU.
        tokens_per_s: All GPUs together; None when unknown.
        time_s: Expected time of training, None when unknown; an estimate unless `time_basis` says measured.
        disk_bytes: Everything the run writes and downloads.
        quality: What the person gains or loses, in one short sentence.
        verdict: `chosen` (also when the plan does not fit: its findings say so); `fits`; `tight` (the range reaches
            beyond what is free); `too_large`; `impossible` (this machine, model or installation cannot run it at all).
        why_not: Why it was not chosen, or why it cannot be; empty for a chosen one that fits.
        folded: One of the methods that are shown when somebody asks for more.
    """

    title: str
    method: MethodName
    changes: dict[str, Any] = Field(default_factory=dict)
    micro_batch: int
    accumulation: int
    max_length: int
    activation_checkpointing: bool = False
    optimizer: str = "adamw"
    precision: str = "float32"
    attention: str = "sdpa"
    packing: bool = False
    num_gpus: int = 1
    strategy: Literal["single", "ddp", "fsdp", "zero3"] = "single"
    memory: MemoryEstimate
    tokens_per_s: float | None = None
    time_s: float | None = None
    time_basis: str = ""
    disk_bytes: int = 0
    quality: str = ""
    verdict: Literal["chosen", "fits", "tight", "too_large", "impossible"]
    why_not: str = ""
    folded: bool = False


class Way(Profile):
    """A change that makes a plan fit, with its price.

    Attributes:
        title: What to do, in a few words.
        changes: `{recipe path: value}` to set.
        price: What it costs: time, quality, cut rows; one sentence.
        memory: What the plan needs with it.
    """

    title: str
    changes: dict[str, Any]
    price: str
    memory: MemoryEstimate


class LengthChoice(Profile):
    """One sequence length and what it means.

    Attributes:
        max_length: Tokens.
        covered_share: Share of the rows that it does not cut, from 0 to 1.
        memory_bytes: Expected peak of the chosen option at that length.
    """

    max_length: int
    covered_share: float
    memory_bytes: int


class Plan(Profile):
    """What this machine will do.

    Attributes:
        recipe: The recipe with every value filled in; the worker reads nothing else.
        sources: `{recipe path: origin}` for every leaf of `recipe`.
        command: Headless command that starts the same run.
        findings: Problems found; one of severity `error` blocks the run.
        options: The ranked table, best first; the chosen option is among them.
        ways: Up to three ways that fit, for a plan that does not.
        lengths: What other sequence lengths would cover and cost.
        machine: What of the machine decided; with it the tables can be made anew without looking at the machine.
    """

    version: int = PLAN_VERSION
    recipe: Recipe
    sources: dict[str, ValueSource]
    device: Device
    model: ModelProfile
    data: DataProfile
    memory: MemoryEstimate
    steps: Steps
    time: TimeEstimate | None = None
    disk: DiskEstimate
    command: list[str] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)
    options: list[PlanOption] = Field(default_factory=list)
    ways: list[Way] = Field(default_factory=list)
    lengths: list[LengthChoice] = Field(default_factory=list)
    machine: Machine = Field(default_factory=Machine)

    @property
    def task(self) -> Task:
        """What the model is asked to give out."""
        data = self.data
        return task_of(
            self.recipe.objective,
            self.model.kind,
            data.labels,
            multi_label=data.multi_label,
            prefix=self.recipe.text_to_text.prefix or "",
        )

    @property
    def blocked(self) -> bool:
        """Whether a finding forbids the start."""
        return any(finding.severity == "error" for finding in self.findings)
