"""One real run of the memory benchmark, in a process of its own, through the engine's own stages.

    python benchmarks/memory_run.py make CONFIG_FOLDER MODEL_FOLDER [DTYPE]
    python benchmarks/memory_run.py measure RUN_DIR [LIMIT_BYTES]

`make` writes a model with content without meaning and a tokenizer whose tokens are words. `measure` carries a run
directory through loading, evaluation, training and export as the worker does, and prints one line of JSON: peaks of
what tensors occupy, by phase. On a processor they come from the allocator's own events (PyTorch's profiler), on a GPU
from the counters of the caching allocator.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CHATML = (
    "{% for message in messages %}{{ '<|im_start|> ' + message['role'] + ' ' + message['content'] + ' <|im_end|> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)
PATTERN_SIZE = 2**20


def make(config_folder: Path, folder: Path, dtype_name: str = "float32") -> None:
    """Write a model of a configuration with random content, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = getattr(torch, dtype_name)
    config = AutoConfig.from_pretrained(config_folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    pattern = torch.empty(PATTERN_SIZE).normal_(std=0.02, generator=torch.Generator().manual_seed(7)).to(dtype)
    content = {name: _filled(tensor, pattern) for name, tensor in model.state_dict().items()}
    model.load_state_dict(content, strict=False, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    write_tokenizer(folder, config.model_type)


def _filled(tensor: Any, pattern: Any) -> Any:
    """Return a tensor of the same shape: scales of norms are ones, all else repeats the pattern."""
    import torch

    if tensor.dim() == 1:
        return torch.ones(tensor.shape, dtype=pattern.dtype)
    repeats = -(-tensor.numel() // pattern.numel())
    return pattern.repeat(repeats)[: tensor.numel()].view(tensor.shape).clone()


def write_tokenizer(folder: Path, family: str = "") -> None:
    """Write a tokenizer that makes one token of each word, so that lengths are known.

    transformers reads the tokenizer of a Qwen2 model as byte-level BPE whatever its file says, so there it is one;
    its rows are longer in tokens, and cut.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"]
    words = ["user", "assistant", "system", *(f"w{number}" for number in range(256))]
    if family == "qwen2":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator([" ".join(words)], trainer)
    else:
        vocabulary = {word: number for number, word in enumerate([*special, *words])}
        backend = Tokenizer(models.WordLevel(vocabulary, "<|unknown|>"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>", unk_token="<|unknown|>"
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)


class Meter(Protocol):
    """Measures the peak of each phase."""

    peaks: dict[str, int]
    facts: dict[str, Any]

    def phase(self, name: str) -> Any:
        """Measure what happens inside as a phase."""

    def start(self) -> None:
        """Begin, before anything is loaded."""

    def finish(self) -> None:
        """End and fill `peaks`."""


class AllocatorEvents:
    """Meter of a processor: every allocation and release, as PyTorch's profiler reports them."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        self.peaks: dict[str, int] = {}
        self.facts: dict[str, Any] = {}
        self._windows: dict[str, tuple[int, int]] = {}
        self._profile: Any = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._seen: tuple[int, int] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._profile.__enter__()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note when a phase begins and ends."""
        if self._seen is None:
            # Weights that lie in mapped files never went through the allocator; count them once.
            self._seen = (time.time_ns(), _tensor_bytes())
        begin = time.time_ns()
        try:
            yield
        finally:
            self._windows[name] = (begin, time.time_ns())

    def finish(self) -> None:
        """Stop to listen and add up."""
        self._profile.__exit__(None, None, None)
        results = self._profile.profiler.kineto_results.events()
        events = sorted((event.start_ns(), event.nbytes()) for event in results if event.name() == "[memory]")
        if self._seen is None:
            return
        seen_at, seen_bytes = self._seen
        offset = seen_bytes - sum(num_bytes for moment, num_bytes in events if moment <= seen_at)
        self.facts |= {"outside_allocator_bytes": offset, "num_events": len(events)}
        for name, (begin, end) in self._windows.items():
            self.peaks[name] = _peak(events, begin, end) + offset


def _peak(events: list[tuple[int, int]], begin: int, end: int) -> int:
    total = peak = 0
    for moment, num_bytes in events:
        if moment > end:
            break
        if moment >= begin:
            peak = max(peak, total)
        total += num_bytes
    return max(peak, total)


def _tensor_bytes() -> int:
    """Return the bytes of all tensors that Python knows, each storage once."""
    import torch

    storages = {}
    for found in gc.get_objects():
        if isinstance(found, torch.Tensor) and found.device.type == "cpu":
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class CachingAllocatorCounters:
    """Meter of a GPU: peaks of what is allocated and reserved, and what the process holds by NVML."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.facts: dict[str, Any] = {"reserved": {}, "context_bytes": 0}

    def start(self) -> None:
        """Wake the device."""
        import torch

        torch.cuda.init()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one phase from the counters' reset to its end."""
        import torch

        torch.cuda.reset_peak_memory_stats()
        try:
            yield
        finally:
            torch.cuda.synchronize()
            self.peaks[name] = torch.cuda.max_memory_allocated()
            self.facts["reserved"][name] = torch.cuda.max_memory_reserved()
            context = _nvml_bytes() - torch.cuda.memory_reserved()
            self.facts["context_bytes"] = max(self.facts["context_bytes"], context)

    def finish(self) -> None:
        """Add what the device is."""
        import torch

        self.facts["device"] = torch.cuda.get_device_name()
        self.facts["nvml_peak_bytes"] = max(self.facts["reserved"].values(), default=0) + self.facts["context_bytes"]


def _nvml_bytes() -> int:
    """Return what the driver says this process holds; what the whole device holds where it names no processes."""
    import pynvml
    import torch

    pynvml.nvmlInit()
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    own = [process.usedGpuMemory for process in processes if process.pid == os.getpid() and process.usedGpuMemory]
    return int(own[0] if own else pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def measure(folder: Path, limit_bytes: int | None = None) -> dict[str, Any]:
    """Carry a run through its stages and return the peaks.

    Args:
        folder: A fresh run directory.
        limit_bytes: What PyTorch may take of the GPU.
    """
    from engine.worker import choose_device, set_environment

    set_environment()
    from engine.runs.directory import RunDirectory

    run = RunDirectory(folder)
    plan = run.read_plan()
    choose_device(plan)
    import torch

    on_gpu = plan.device.kind == "cuda"
    meter: Meter = CachingAllocatorCounters() if on_gpu else AllocatorEvents()
    if limit_bytes is not None and on_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total))
    meter.start()
    ran_out_in = _carry(run, plan, meter)
    meter.finish()
    return {"peaks": meter.peaks, "ran_out_in": ran_out_in, **meter.facts}


def _carry(run: Any, plan: Any, meter: Meter) -> str | None:
    """Go through the stages as `engine.stages` does; return the phase that ran out of memory."""
    from engine.recipe.problems import ProblemError
    from engine.runs.checkpoints import CheckpointStore
    from engine.runs.control import ControlReader
    from engine.runs.picture import PictureWriter
    from engine.stages import Carried, finish, prepare_context
    from engine.training.batching import Batching
    from engine.training.event_log import EventLog
    from engine.training.faults import fault_kind
    from engine.training.interrupt import Interrupt
    from engine.training.requests import RequestDesk
    from engine.training.run import TrainingFaultError, evaluate, train

    interrupt = Interrupt()
    events = EventLog(PictureWriter(run), interrupt)
    store = CheckpointStore(run.checkpoints_folder, run.run_id, plan.recipe.training.keep_checkpoints)
    batching = Batching(plan.steps.micro_batch, plan.steps.accumulation)
    phase = "loading"
    try:
        desk = RequestDesk(ControlReader(run), events)
        context = prepare_context(Carried(run, plan, events, interrupt, desk, batching, store, None))
        for phase, stage in (
            ("evaluation", lambda: evaluate(context, "before", 0)),
            ("training", lambda: train(context)),
            ("merging", lambda: finish(context)),
        ):
            with meter.phase(phase):
                stage()
    except ProblemError as error:
        if phase != "merging":
            raise
        # The export refuses what it wrote; training and evaluation are measured all the same.
        meter.facts["export_problem"] = str(error)
    except TrainingFaultError as error:
        if error.fault.kind != "out_of_memory":
            raise
        return phase
    except Exception as error:
        if fault_kind(error) != "out_of_memory":
            raise
        return phase
    return None


def main() -> None:
    """Do what the first argument says."""
    verb, *arguments = sys.argv[1:]
    if verb == "make":
        make(Path(arguments[0]), Path(arguments[1]), *arguments[2:])
        return
    limit = int(arguments[1]) if len(arguments) > 1 else None
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # Whatever a library prints is no answer.
    answers.write(json.dumps(measure(Path(arguments[0]), limit)) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
