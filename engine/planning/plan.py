"""The plan: what this machine will do with a recipe. A JSON document in the run directory."""

from typing import Literal

from pydantic import Field

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
    """

    kind: Literal["cuda", "cpu"]
    index: int = 0
    name: str = "CPU"
    uuid: str = ""


class MemoryEstimate(Profile):
    """Peak memory of training by component, in bytes.

    Attributes:
        components: `{component: bytes}` in the order they are shown.
        expected_bytes: Sum of the components.
        low_bytes: Lower end of the range.
        high_bytes: Upper end of the range; the run must fit this.
        available_bytes: What the device has free now; None when unknown.
        where: `GPU 0` or `host RAM`.
        basis: How the estimate was made, such as `formula`.
    """

    components: dict[str, int]
    expected_bytes: int
    low_bytes: int
    high_bytes: int
    available_bytes: int | None = None
    where: str
    basis: str = "formula"


class Steps(Profile):
    """How the data is cut into steps. A step is always an optimizer step."""

    micro_batch: int
    accumulation: int
    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    checkpoint_every: int


class TimeEstimate(Profile):
    """How long training takes, in seconds, before anything was measured."""

    low_s: float
    high_s: float
    basis: str


class DiskEstimate(Profile):
    """Bytes that the run writes, and bytes free where it writes them.

    Attributes:
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


class Plan(Profile):
    """What this machine will do.

    Attributes:
        recipe: The recipe with every value filled in; the worker reads nothing else.
        sources: `{recipe path: origin}` for every leaf of `recipe`.
        command: Headless command that starts the same run.
        findings: Problems found; one of severity `error` blocks the run.
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

    @property
    def blocked(self) -> bool:
        """Whether a finding forbids the start."""
        return any(finding.severity == "error" for finding in self.findings)
