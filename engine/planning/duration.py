"""How long training takes before the run: floating point operations over a rate, measured here or from a table."""

from dataclasses import dataclass

from engine.planning.evaluation_cut import answered_rows, cached_share
from engine.planning.memory import Setup, learning_blocks, linear_params
from engine.planning.memory_phases import gives_words
from engine.planning.plan import Device, Machine, Steps, TimeEstimate
from engine.planning.profiles import DataProfile, ModelProfile
from engine.planning.sides import Sides
from engine.planning.steps import count_sequences, mean_tokens, total_steps

PADDING = 1.1
"""Tokens computed per token of a row; rows of similar length share a micro-batch."""
CPU_FLOPS_PER_CORE = {"float32": 45e9, "bfloat16": 65e9, "float16": 45e9}
"""Reached in training a 135M Llama on one AVX-512 core: 58e9 in float32, 80e9 under bfloat16 autocast."""
STEP_OVERHEAD_S = {"cpu": 0.03, "cuda": 0.06}
"""Time of a micro-step that does not depend on its size: Python, launches, data."""
TOKEN_OVERHEAD_S = {"cpu": 0.004, "cuda": 0.025}
"""Time of one more token of an answer in a small model: 2 layers took 3 ms on one core; transformers' loop on a GPU is
bound by launches."""
BYTES_PER_S = {"cpu": 15e9, "cuda": 800e9}
"""Assumed speed at which weights are read while an answer is written; not measured here."""
# Dense bfloat16 (float16 below 8.0) peak by compute capability; training reaches about a third of it.
_PEAK_FLOPS = {
    (7, 0): 112e12,
    (7, 5): 65e12,
    (8, 0): 312e12,
    (8, 6): 75e12,
    (8, 9): 165e12,
    (9, 0): 989e12,
    (10, 0): 2250e12,
    (10, 3): 2500e12,
    (12, 0): 210e12,
}
_UTILISATION = 0.33
FORWARD = 2
"""Operations of a forward pass for each weight and token."""
_WIDE_ENOUGH = {"cpu": 512, "cuda": 2048}
"""Narrower models spend their time between the matrix products: a 128-wide one reached a sixth of the rate."""
_UNKNOWN_GPU_FLOPS = 60e12
_ASSUMED_RANGE = (0.4, 3.0)
_MEASURED_RANGE = (0.65, 1.6)
_LEAST_COMPUTING = 0.25
_QUANTIZED_WORK = 1.3
"""Unpacking 4-bit weights at each use."""
_SHARING_EFFICIENCY = {"single": 1.0, "ddp": 0.9, "fsdp": 0.75, "zero3": 0.65}
"""What is left of n GPUs' rate after they have spoken to each other; assumed, nothing of it was measured here."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Floating point operations per second that training is taken to reach.

    Attributes:
        flops: For a model that is wide enough; `width_share` takes the rest off.
        measured: Whether it was measured on this machine.
    """

    flops: float
    measured: bool

    @property
    def basis(self) -> str:
        """Return where the rate is from, in words."""
        tera = self.flops / 1e12
        shown = f"{tera:.0f} TFLOP/s" if tera >= 10 else f"{tera:.2g} TFLOP/s"
        return (
            f"measured rate of {shown} on this machine" if self.measured else f"assumed rate of {shown}, not measured"
        )

    @property
    def range(self) -> tuple[float, float]:
        """Return the factors on the expected time between which the truth is expected."""
        return _MEASURED_RANGE if self.measured else _ASSUMED_RANGE


def width_share(device_kind: str, hidden_size: int) -> float:
    """Return the share of the rate that a model of this width reaches."""
    return min(1.0, hidden_size / _WIDE_ENOUGH[device_kind])


def training_rate(device: Device, machine: Machine, precision: str) -> Rate:
    """Return the rate of a device in a number format: what a run measured here, else what a table says."""
    if machine.calibration is not None and (measured := machine.calibration.flops.get(precision)):
        return Rate(measured, measured=True)
    if device.kind == "cpu":
        return Rate(CPU_FLOPS_PER_CORE.get(precision, 45e9) * machine.cores, measured=False)
    capability = machine.compute_capability
    peak = _PEAK_FLOPS.get(capability, _UNKNOWN_GPU_FLOPS) if capability else _UNKNOWN_GPU_FLOPS
    # Without tensor cores for float32 (TF32 is off by default) the rate is about a tenth.
    return Rate(peak * _UTILISATION * (0.12 if precision == "float32" else 1.0), measured=False)


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to learn from, as far as time depends on it.

    Attributes:
        effective_batch: Sequences per optimizer step.
        max_steps: Step limit; None lets the epochs decide.
        text: The rows are plain text.
        written: Tokens that the model writes to a row while it learns; 0 where it only reads.
        repeats: Times that a step reads each of its rows.
        sides: Sequences of a row, and what is read beside them.
    """

    data: DataProfile
    effective_batch: int
    epochs: float
    max_steps: int | None
    text: bool
    written: int = 0
    repeats: int = 1
    sides: Sides = Sides()

    def total_steps(self, max_length: int, *, packing: bool) -> int:
        """Return the optimizer steps of the run."""
        sequences = count_sequences(self.data, max_length, packing=packing, text=self.text)
        return total_steps(sequences * self.repeats, self.effective_batch, self.epochs, self.max_steps)[1]

    def tokens_per_step(self, max_length: int, *, packing: bool) -> float:
        """Return the tokens of one optimizer step, without padding."""
        lengths = self.data.lengths
        if lengths is None:
            return float(self.sides.count * self.effective_batch * max_length)
        if packing:
            filled = max(1, count_sequences(self.data, max_length, packing=True, text=self.text))
            return min(float(max_length), lengths.total / filled) * self.effective_batch
        rows = min(self.effective_batch, max(1, self.data.num_train * self.repeats))
        # Lengths are those of sequences.
        return (mean_tokens(lengths, max_length - self.written) + self.written) * self.sides.count * rows


def step_flops(model: ModelProfile, setup: Setup, tokens: float) -> float:
    """Return the floating point operations of an optimizer step.

    Args:
        model: Facts of the base model.
        setup: Method, recomputation and length.
        tokens: Tokens of the step, padding included.
    """
    # A token passes a few experts; those that every token passes are linear layers like others.
    experts = model.expert_params * model.experts_per_token // model.num_experts if model.num_experts else 0
    outputs = model.vocab_size if gives_words(model) else model.num_labels
    head = outputs * model.hidden_size
    blocks = linear_params(model) + experts
    # Scores and weighted sums, causal: half of 2 x 2 x length x width per token and block.
    attention = model.num_layers * model.num_heads * model.head_dim * setup.max_length
    if model.kind == "encoder":
        attention *= 2  # It looks both ways.
    # Two per weight and token forward, two for the gradients of the inputs, two for those of the weights that learn.
    recomputed = 2 if setup.activation_checkpointing else 0
    quantized = _QUANTIZED_WORK if setup.facts.bits is not None else 1.0
    if setup.part:
        # Below the first block that learns there is no backward pass.
        share = learning_blocks(model, setup) / max(1, model.num_layers)
        return ((FORWARD * (1 + setup.beside) + share * (4 + recomputed)) * (blocks + attention) + 6 * head) * tokens
    passes = (6 if setup.full else 4) + recomputed + FORWARD * setup.beside
    return passes * (blocks + head + attention) * tokens * quantized


def step_seconds(model: ModelProfile, setup: Setup, work: Work, rate: Rate) -> float:
    """Return the expected time of one optimizer step.

    Args:
        model: Facts of the base model.
        setup: How it is carried out.
        work: What there is to learn from.
        rate: Of one device.
    """
    tokens = work.tokens_per_step(setup.max_length, packing=setup.packed)
    padded = (
        tokens if setup.packed else min(tokens * PADDING, float(setup.sides * work.effective_batch * setup.max_length))
    )
    flops = rate.flops * width_share(setup.device, model.hidden_size)
    flops *= setup.num_gpus * _SHARING_EFFICIENCY[setup.strategy]
    micro_steps = -(-work.effective_batch // (setup.micro_batch * setup.num_gpus))
    learning_s = step_flops(model, setup, padded) / flops + micro_steps * STEP_OVERHEAD_S[setup.device]
    return learning_s + (writing_seconds(model, setup, work, rate) if work.written else 0.0)


def writing_seconds(model: ModelProfile, setup: Setup, work: Work, rate: Rate) -> float:
    """Return the expected time in which the answers of a step are written: token by token, and all as long as allowed.

    Args:
        model: Facts of the base model.
        setup: How it is carried out.
        work: What there is to learn from.
        rate: Of one device.
    """
    prompt = max(1, setup.max_length - work.written)
    share = cached_share(
        hidden=model.hidden_size,
        kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        activation_checkpointing=setup.activation_checkpointing,
    )
    at_once = answered_rows(setup.tokens, prompt, work.written, share)
    batches = -(-work.effective_batch // at_once)
    # Every token reads all weights once, whatever the number of rows.
    token_s = max(TOKEN_OVERHEAD_S[setup.device], setup.width * model.num_params / BYTES_PER_S[setup.device])
    tokens = work.effective_batch * (prompt + work.written)
    forward = step_flops(model, setup, tokens) / (3.0 if setup.full else 2.0)
    flops = rate.flops * width_share(setup.device, model.hidden_size)
    # Besides what is written, the reference reads it once.
    return batches * work.written * token_s + forward * (2.0 if setup.reference else 1.0) / flops


def reference_seconds(model: ModelProfile, setup: Setup, work: Work, rate: Rate, steps: Steps) -> float:
    """Return how long the untouched model reads the rows before the first step; 0 where no loss compares with it."""
    if not work.sides.reference:
        return 0.0
    tokens = work.tokens_per_step(setup.max_length, packing=False) * (1 + setup.beside)
    # What one more reading at each step would take is what one reading takes.
    more = setup.changed(beside=setup.beside + 1)
    reading = step_flops(model, more, tokens) - step_flops(model, setup, tokens)
    once = min(steps.total_steps, steps.steps_per_epoch)
    return once * reading / (rate.flops * width_share(setup.device, model.hidden_size))


def estimate_time(step_s: float, steps: Steps, rate: Rate, before_s: float = 0.0) -> TimeEstimate | None:
    """Return how long training takes; None when there are no steps.

    Args:
        step_s: Of one optimizer step, in seconds.
        steps: How many there are.
        rate: What that was computed from.
        before_s: What is done once before the first step, in seconds.
    """
    if not steps.total_steps:
        return None
    total_s = step_s * steps.total_steps + before_s
    low, high = rate.range
    return TimeEstimate(
        low_s=round(low * total_s, 3), high_s=round(high * total_s, 3), basis=rate.basis, expected_s=round(total_s, 3)
    )


def reached_flops(
    model: ModelProfile, setup: Setup, *, tokens_per_step: float, accumulation: int, step_s: float
) -> float | None:
    """Return the rate that a measured step stands for, as a wide model would have reached it: the terms of `Rate`.

    None when most of the step was time that does not depend on its size, so that nothing can be said of the rate.

    Args:
        model: Facts of the base model.
        setup: Method and number format of the run.
        tokens_per_step: Tokens of one optimizer step, padding included.
        accumulation: Micro-batches of one step.
        step_s: Measured time of one optimizer step, in seconds.
    """
    computing_s = step_s - accumulation * STEP_OVERHEAD_S[setup.device]
    if computing_s < _LEAST_COMPUTING * step_s:
        return None
    rate = step_flops(model, setup, tokens_per_step) / computing_s
    return rate / width_share(setup.device, model.hidden_size)
