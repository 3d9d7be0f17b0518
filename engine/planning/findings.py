"""What the plan finds wrong, each with a stable code and the next action."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Literal

from engine.catalog import matrix
from engine.catalog.exports import EXPORT_FORMATS, find_format
from engine.catalog.methods import METHODS
from engine.catalog.optimizers import EIGHT_BIT_OPTIMIZERS
from engine.hardware.devices import Gpu, Hardware
from engine.hardware.nvml import NO_DRIVER, NOT_INSTALLED
from engine.hardware.readings import Unavailable, known, shown
from engine.planning.capabilities import Capability, Surroundings, native_precision, quantization_of, reason_against
from engine.planning.memory import adapted_shapes, linear_params
from engine.planning.memory_setup import is_named
from engine.planning.plan import DiskEstimate, MemoryEstimate, Steps, TimeEstimate, Way
from engine.planning.profiles import DataProfile, Finding, LengthCut, LengthProfile, ModelProfile
from engine.planning.steps import rows_cut
from engine.planning.virtual_prompt import num_virtual_tokens, text_context
from engine.recipe.schema import Recipe
from engine.recipe.values import change_argument
from engine.text import clean_line, human_bytes, human_duration

Severity = Literal["error", "warning", "note"]
MEMORY_CODES = frozenset({"memory.unknown", "memory.does_not_fit"})
MANY_CUT = 0.01
CUT_CHECK, CUT_CODE = "P7", "preflight.p7"
"""What the checks of the rendered rows say of rows that are cut."""
FOREIGN_BYTES = 256 * 2**20
SLOW_S = 6 * 3600


def _finding(code: str, message: str, fix: str = "", *, path: str = "", severity: Severity = "error") -> Finding:
    return Finding(code=code, message=message, fix=fix, path=path, severity=severity)


def fits(memory: MemoryEstimate) -> bool:
    """Return whether the whole range is free; what is not known counts as free, with a warning beside it."""
    return memory.available_bytes is None or memory.high_bytes <= memory.available_bytes


def memory_findings(memory: MemoryEstimate, ways: Sequence[Way]) -> Iterator[Finding]:
    """Yield whether the run fits, with the ways that do when it does not."""
    if memory.available_bytes is None:
        yield _finding(
            "memory.unknown",
            f"Free memory of {memory.where} is not known; the run needs about {human_bytes(memory.expected_bytes)}.",
            "Compare it with the size of the device.",
            severity="warning",
        )
    elif not fits(memory):
        offered = " Or: ".join(f"{way_words(way)}." for way in ways)
        yield _finding("memory.does_not_fit", _too_large(memory), _ways_out(memory, offered))


def _too_large(memory: MemoryEstimate) -> str:
    free = f"{memory.where} has {human_bytes(memory.available_bytes)} free"
    if memory.low_bytes > (memory.available_bytes or 0):
        return f"Training needs {human_bytes(memory.expected_bytes)}, up to {human_bytes(memory.high_bytes)}; {free}."
    span = f"{human_bytes(memory.low_bytes)} to {human_bytes(memory.high_bytes)}"
    return f"It is not sure that training fits: it needs {span} ({memory.basis}); {free}."


def _ways_out(memory: MemoryEstimate, offered: str) -> str:
    ways = f"Choose {offered}" if offered else "Choose a machine with more memory."
    unsure = memory.depth == "formula" and memory.low_bytes <= (memory.available_bytes or 0)
    return f"A rehearsal decides. {ways}" if unsure and offered else ways


def way_words(way: Way) -> str:
    """Return a way as the settings that take it."""
    changes = " and ".join(change_argument(path, value) for path, value in way.changes.items())
    return f"{changes} (needs up to {human_bytes(way.memory.high_bytes)})"


def disk_findings(disk: DiskEstimate) -> Iterator[Finding]:
    """Yield whether the run's files fit on the disk."""
    together = disk.download_bytes and disk.download_free_bytes is None
    download = f", {human_bytes(disk.download_bytes)} of it downloaded weights" if together else ""
    if disk.free_bytes is not None and disk.total_bytes > disk.free_bytes:
        yield _finding(
            "disk.does_not_fit",
            f"The run writes {human_bytes(disk.total_bytes)}{download}; {human_bytes(disk.free_bytes)} are free.",
            "Free some space, or set FTWIZARD_HOME to a folder on a larger disk.",
        )
    if disk.download_free_bytes is not None and disk.download_bytes > disk.download_free_bytes:
        yield _finding(
            "disk.download_does_not_fit",
            f"{human_bytes(disk.download_bytes)} of weights are to be downloaded; "
            f"{human_bytes(disk.download_free_bytes)} are free in the model cache.",
            "Free some space, or set HF_HOME to a folder on a larger disk.",
        )


def data_findings(recipe: Recipe, model: ModelProfile, data: DataProfile) -> Iterator[Finding]:
    """Yield the data's own findings, and what its size and lengths mean for this run."""
    told = _told_of_cuts(recipe, data)
    for finding in data.findings:
        if finding.code == CUT_CODE and not told:
            continue  # It is about another sequence length than the plan's.
        # `suitability_findings` says the same with the better tool.
        said = recipe.goal.signal == "answers" and model.kind == "decoder" and data.lengths is not None
        if finding.code != "data.few_rows" or not said:
            yield finding
    blocked = any(finding.severity == "error" for finding in data.findings)
    if not data.num_train:
        if not blocked:
            yield _finding(
                "data.no_training_rows",
                f"No row of {data.num_rows} is left for training.",
                "Look at what was dropped and why, and correct the columns or the rows.",
                path="data.source",
            )
        return
    if not data.num_held_out:
        yield _finding(
            "data.no_held_out_rows",
            "No rows are held out, so nothing can be measured before and after.",
            "Set data.held_out to a share such as 0.1, or to a file with rows of their own.",
            path="data.held_out",
            severity="warning",
        )
    if recipe.training.effective_batch > data.num_train and not recipe.goal.plain_text:
        yield _finding(
            "plan.batch_exceeds_rows",
            f"A step takes {recipe.training.effective_batch} rows, and there are only {data.num_train}.",
            "Set a smaller training.effective_batch, or add rows.",
            path="training.effective_batch",
            severity="warning",
        )
    # The rows themselves tell it more exactly, and by name, where they were looked at.
    if not recipe.goal.plain_text and not told:
        yield from _cut_rows(recipe, model, data)
        yield from _cut_targets(recipe, data)


def _told_of_cuts(recipe: Recipe, data: DataProfile) -> bool:
    """Return whether the data's own findings say what this recipe's lengths cut."""
    if CUT_CODE not in {finding.code for finding in data.findings}:
        return False
    lengths = {"max_length": recipe.row_tokens, "max_target": recipe.text_to_text.max_target_length or 0}
    return any(
        check.id == CUT_CHECK and all(check.measured.get(name) == length for name, length in lengths.items())
        for check in data.preflight
    )


def _fills_context(recipe: Recipe, model: ModelProfile) -> bool:
    return (recipe.training.max_length or 0) >= text_context(model, recipe.method)


def _cut_targets(recipe: Recipe, data: DataProfile) -> Iterator[Finding]:
    length, targets = recipe.text_to_text.max_target_length, data.answer_lengths
    if targets is None or length is None or not (cut := rows_cut(targets, length)):
        return
    share = cut / targets.count
    yield _finding(
        "data.targets_cut",
        f"About {cut:,} of {targets.count:,} texts to write ({share:.1%}) are longer than {length:,} tokens and lose "
        f"their end; the longest has {targets.longest:,}.",
        "Raise text_to_text.max_target_length, or shorten those texts." if share > MANY_CUT else "",
        path="text_to_text.max_target_length",
        severity="warning" if share > MANY_CUT else "note",
    )


def _cut_rows(recipe: Recipe, model: ModelProfile, data: DataProfile) -> Iterator[Finding]:
    length = recipe.row_tokens
    lengths = data.cut_lengths
    if lengths is None or length is None or not (cut := _rows_cut(data, lengths, length)):
        return
    share = cut.num_cut / cut.num_sequences
    longer = "Choose a model with a longer context" if _fills_context(recipe, model) else "Raise training.max_length"
    about = "About " if lengths.estimated or cut.sampled else ""
    yield _finding(
        "data.rows_cut",
        f"{about}{cut.num_cut:,} of {cut.num_sequences:,} {_cut_words(recipe, data, cut, share)}; "
        f"the longest has {lengths.longest:,}.",
        f"{longer}, or shorten those rows." if share > MANY_CUT else "",
        path="training.max_length",
        severity="warning" if share > MANY_CUT else "note",
    )


def _rows_cut(data: DataProfile, lengths: LengthProfile, length: int) -> LengthCut | None:
    """Return what a length cuts: as counted, else guessed from the shares of a few lengths; None for nothing."""
    counted = data.cut_at(length)
    if counted is not None and counted.num_sequences:
        return counted if counted.num_cut else None
    guessed = rows_cut(lengths, length)
    nothing = {"num_answers_cut": 0, "num_answers_lost": 0, "lost_tokens": 0}
    guess = LengthCut(length=length, num_cut=guessed, num_sequences=lengths.count, sampled=True, **nothing)
    return guess if guessed else None


def _cut_words(recipe: Recipe, data: DataProfile, cut: LengthCut, share: float) -> str:
    """Return what becomes of rows that are too long: cut and left out are two things, and told apart where counted."""
    if recipe.goal.signal == "prompts":
        room = f"have more than {cut.length:,} tokens, which leaves no room for an answer, and will be left out"
        return f"prompts ({share:.1%}) {room}"
    rows = "answers with their prompts" if data.compared else "rows"
    words = f"{rows} ({share:.1%}) are longer than {cut.length:,} tokens"
    lost = "nothing is left of an answer" if data.compared else "nothing of them is left to learn"
    if not cut.num_left_out:
        unknown = data.compared and cut.num_left_out is None
        return f"{words} and will be cut{f', or left out where {lost}' if unknown else ''}"
    left_out = f"{cut.num_left_out:,} {'row is' if cut.num_left_out == 1 else 'rows are'} left out"
    kept = f"{cut.num_kept:,} will be cut, and " if cut.num_kept else ""
    return f"{words}: {kept}{left_out}, because {lost}"


def length_findings(recipe: Recipe, model: ModelProfile) -> Iterator[Finding]:
    """Yield whether the sequences are longer than the model can read."""
    length = recipe.training.max_length
    room, ahead = text_context(model, recipe.method), num_virtual_tokens(recipe.method)
    if ahead > model.context_length // 2:
        yield _finding(
            "method.virtual_tokens_fill_context",
            f"{ahead} virtual tokens take more than half of the {model.context_length} tokens that the model reads.",
            f"Set method.virtual_tokens to {model.context_length // 2} or less.",
            path="method.virtual_tokens",
        )
        return
    if model.kind in ("vision", "audio") or length is None or length <= room:
        return
    if model.relative_positions:
        yield _finding(
            "plan.length_beyond_training",
            f"training.max_length is {length}; the model was pre-trained on {model.context_length} tokens. It knows "
            "distances instead of places and reads further, but it has not learned to.",
            path="training.max_length",
            severity="note",
        )
        return
    behind = f" behind {ahead} virtual tokens" if ahead else ""
    yield _finding(
        "plan.length_exceeds_context",
        f"training.max_length is {length}; the model reads at most {room} tokens{behind}.",
        f"Set training.max_length to {room} or less.",
        path="training.max_length",
    )


def method_findings(recipe: Recipe, model: ModelProfile, where: Surroundings) -> Iterator[Finding]:
    """Yield what method, number format and kernels cannot do on this machine or with this model."""
    method = recipe.method.facts
    if reason := matrix.reason_against(recipe.objective, method.name, model.kind):
        allowed = [one.title for one in METHODS if not matrix.reason_against(recipe.objective, one.name, model.kind)]
        # A kind that the objective does not train is told of the model.
        if allowed:
            yield _finding(
                "method.objective",
                f"{method.title} does not suit {recipe.goal.title.lower()}: {reason}.",
                f"Choose one of: {', '.join(allowed)}.",
                path="method.name",
            )
    yield from _missing_bitsandbytes(recipe, where)
    yield from _capability_findings(recipe, where)
    if "method.targets" in method.settings and not adapted_shapes(model, recipe.method.targets or "all-linear"):
        names = ", ".join(dict.fromkeys(name for name, _, _ in model.linear_shapes))
        yield _finding(
            "method.targets_match_nothing",
            "method.targets matches no layer of this model.",
            f"Its layers are {names}; or use all-linear.",
            path="method.targets",
        )
    yield from _pattern_findings(recipe, model)
    if method.bits is not None and linear_params(model) < model.num_params // 3:
        yield _finding(
            "method.quantizes_little",
            f"Most weights of this model are not in linear layers that {method.bits}-bit loading covers, so "
            f"{method.words} saves little.",
            "Compare with method.name=lora.",
            path="method.name",
            severity="warning",
        )


def _pattern_findings(recipe: Recipe, model: ModelProfile) -> Iterator[Finding]:
    """Yield ranks of layers that carry no adapter."""
    names = dict.fromkeys(name for name, _, _ in adapted_shapes(model, recipe.method.targets or "all-linear"))
    for pattern in recipe.method.rank_pattern:
        if not any(is_named(name, pattern) for name in names):
            near = get_close_matches(pattern, list(names), n=1)
            yield _finding(
                "method.unknown_pattern",
                f"method.rank_pattern names {clean_line(pattern, max_chars=60)}, and no adapter sits there.",
                f"Did you mean {near[0]}?" if near else f"Layers with an adapter are {', '.join(names)}.",
                path="method.rank_pattern",
            )


def _missing_bitsandbytes(recipe: Recipe, where: Surroundings) -> Iterator[Finding]:
    quantizing = recipe.method.facts.bits is not None
    needed = quantizing or recipe.training.optimizer in EIGHT_BIT_OPTIMIZERS
    if "bitsandbytes" in where.machine.libraries or not needed:
        return
    yield _finding(
        "plan.bitsandbytes_missing",
        "4-bit and 8-bit base models and the 8-bit optimizers need bitsandbytes, which is not installed.",
        "Install bitsandbytes, or choose method.name=lora with training.optimizer=adamw.",
        path="method.name" if quantizing else "training.optimizer",
    )


def _capability_findings(recipe: Recipe, where: Surroundings) -> Iterator[Finding]:
    """Yield what the GPU is too old for, or what is not installed; `check_rules` says what a processor cannot."""
    training = recipe.training
    instead = "eager" if reason_against("sdpa", where) else "sdpa"
    wanted: list[tuple[Capability | None, str, str]] = [
        (training.attention, "training.attention", f"Set training.attention to {instead}."),
    ]
    if where.device.kind == "cuda":
        native = native_precision(where)
        wanted.append((training.precision, "training.precision", f"Set training.precision to {native}."))
    if where.device.kind == "cuda" and "bitsandbytes" in where.machine.libraries:
        optimizer_fix = "Set training.optimizer to adamw."
        wanted.append((quantization_of(recipe.method.facts), "method.name", "Set method.name to lora."))
        wanted.append((training.optimizer, "training.optimizer", optimizer_fix))
    for capability, path, fix in wanted:
        reason = reason_against(capability, where) if capability is not None else ""
        if reason:
            message = f"{path} cannot be {capability}: {reason}."
            yield _finding("plan.not_capable", message, fix, path=path)


def export_findings(recipe: Recipe, model: ModelProfile) -> Iterator[Finding]:
    """Yield formats that the finished model could not be converted to."""
    for name in dict.fromkeys(recipe.delivery.formats):
        wished = find_format(name)
        if model.architecture in wished.architectures:
            continue
        others = [other.title for other in EXPORT_FORMATS if model.architecture in other.architectures]
        instead = f"{' and '.join(others)} would work for this model" if others else "No other format is offered for it"
        yield _finding(
            "delivery.format_impossible",
            f"{clean_line(model.architecture, max_chars=60)} cannot become {wished.title} for {wished.used_by}: "
            f"{wished.converter} does not take it.",
            f"Remove {name} from delivery.formats; {instead}. Or take a base model of the Llama, Mistral, Qwen, Gemma "
            "or Phi families.",
            path="delivery.formats",
        )


def step_findings(recipe: Recipe, steps: Steps) -> Iterator[Finding]:
    """Yield what is odd about the cut into steps."""
    if 0 < steps.total_steps < 10:
        limited = recipe.training.max_steps is not None
        yield _finding(
            "plan.few_steps",
            f"The whole run has {steps.total_steps} optimizer step{'s' if steps.total_steps > 1 else ''}; "
            "that is hardly enough to learn from.",
            "Raise training.max_steps." if limited else "Raise training.epochs, or lower training.effective_batch.",
            path="training.max_steps" if limited else "training.epochs",
            severity="warning",
        )


def time_findings(time: TimeEstimate | None) -> Iterator[Finding]:
    """Yield whether the run takes days."""
    if time is not None and time.low_s > SLOW_S:
        yield _finding(
            "plan.slow",
            f"Training may take {human_duration(time.low_s)} to {human_duration(time.high_s)} on this machine.",
            "Choose a smaller base model, fewer rows (data.max_rows) or a step limit (training.max_steps).",
            severity="warning",
        )


def hardware_findings(hardware: Hardware, gpu: Gpu | None) -> Iterator[Finding]:
    """Yield what the machine has that the run cannot use, and who else uses the GPU."""
    if not hardware.gpus_known and hardware.visible_devices not in ("", "-1"):
        yield _finding(
            "hardware.driver_silent",
            "The NVIDIA driver did not answer in time, so it is not known what the GPUs have free.",
            "Try again; to use the processor all the same, set CUDA_VISIBLE_DEVICES to nothing.",
        )
    if gpu is None:
        if hardware.gpus_known:
            yield from _unused_gpus(hardware)
        return
    for process in known(gpu.processes) or []:
        used = known(process.used_bytes)
        if used is None or used >= FOREIGN_BYTES:
            held = shown(process.used_bytes, human_bytes)
            yield _finding(
                "hardware.gpu_shared",
                f"GPU {gpu.label} is also used by process {process.pid} "
                f"({shown(process.name)}, user {shown(process.user)}): {held}.",
                severity="note",
            )


def _unused_gpus(hardware: Hardware) -> Iterator[Finding]:
    """Yield why a run computes on the processor where there is, or should be, a GPU."""
    if hardware.gpus and isinstance(hardware.torch_cuda, Unavailable):
        yield _finding(
            "hardware.torch_without_cuda",
            f"This machine has a GPU, but {hardware.torch_cuda.reason}; the run will use the processor.",
            "Install a CUDA build of torch.",
            severity="warning",
        )
    elif hardware.gpus and hardware.visible_devices is not None and not hardware.usable_gpus():
        value = clean_line(hardware.visible_devices, max_chars=40) or "empty"
        yield _finding(
            "hardware.gpus_hidden",
            f"CUDA_VISIBLE_DEVICES is {value}, which hides every GPU; the run will use the processor.",
            "Unset it to use a GPU.",
            severity="note",
        )
    elif why := _why_no_gpu(hardware):
        yield _finding(
            "hardware.gpu_unusable",
            f"No GPU can be used: {why}. The run will use the processor.",
            "Run ftwizard doctor: it says how to mend that.",
            severity="warning",
        )


def _why_no_gpu(hardware: Hardware) -> str:
    """Return what is wrong with GPUs or driver; empty where there is none, or torch would not use it anyway."""
    if isinstance(hardware.torch_cuda, Unavailable):
        return ""
    if hardware.gpus:
        first = hardware.gpus[0]
        reason = first.name.reason if isinstance(first.name, Unavailable) else "MIG is on, and has no instance"
        return f"GPU {first.label}: {reason}"
    absent = hardware.driver in (NO_DRIVER, NOT_INSTALLED) or hardware.hypothetical
    return hardware.driver.reason if isinstance(hardware.driver, Unavailable) and not absent else ""


def unique(findings: list[Finding]) -> list[Finding]:
    """Return findings without repeats, errors first, otherwise in order."""
    rank = {"error": 0, "warning": 1, "note": 2}
    seen = {(finding.code, finding.message): finding for finding in findings}
    return sorted(seen.values(), key=lambda finding: rank[finding.severity])
