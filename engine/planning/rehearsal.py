"""What a rehearsal found out, as plain data. The rehearsal itself runs in a process of its own (`engine.rehearsal`)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from engine.planning.profiles import Profile


class Consumer(Profile):
    """Storages of one size and origin that are alive at the peak, such as three float32 logits of 1.3 GiB each."""

    what: str
    count: int
    bytes_each: int


class RehearsalResult(Profile):
    """Memory of a run without having run it.

    Attributes:
        key: Hash of everything it depends on: configuration, plan, versions of the libraries.
        device_kind: The device that was rehearsed for.
        peaks: `{phase: bytes}` that tensors occupy at the peak of each phase.
        peak_phase: The phase with the highest peak.
        components: `{component: bytes}` alive at that peak.
        consumers: The largest groups of storages alive at that peak, largest first.
        reserved_low_bytes: Least that the caching allocator holds for it; None on a processor.
        reserved_high_bytes: Most that it holds; None on a processor.
        smallest_card_bytes: Least memory (without the CUDA context) on which the replay does not run out.
        num_layers: Transformer blocks really rehearsed; fewer than the model has when the rest was extrapolated.
        cpu_s: Processor time that it took.
        confidence: `low` when a part could not be rehearsed; `notes` says which.
        notes: Sentences for the person.
    """

    key: str
    device_kind: Literal["cuda", "cpu"]
    peaks: dict[str, int]
    peak_phase: str
    components: dict[str, int]
    consumers: list[Consumer] = Field(default_factory=list)
    reserved_low_bytes: int | None = None
    reserved_high_bytes: int | None = None
    smallest_card_bytes: int | None = None
    num_layers: int
    cpu_s: float
    confidence: Literal["normal", "low"] = "normal"
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _peak_is_known(self) -> Self:
        if self.peak_phase not in self.peaks:
            raise ValueError(f"no peak of the phase {self.peak_phase}")
        return self
