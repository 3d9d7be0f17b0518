"""Choices of the plan, each with its reason in a few words. Pure arithmetic over model, data and machine."""

import math
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from engine.catalog.learning_rates import RATE_FAMILIES
from engine.catalog.methods import MethodName, find_method
from engine.catalog.objectives import ModelKind, find_objective
from engine.catalog.optimizers import find_optimizer
from engine.catalog.preference_losses import PreferenceLoss
from engine.hardware.devices import Gpu, Hardware
from engine.hardware.readings import known
from engine.planning.capabilities import Surroundings, native_precision
from engine.planning.plan import Device
from engine.planning.profiles import DataProfile, LengthProfile, ModelProfile
from engine.recipe.schema_data import source_paths
from engine.runs.directory import plain_name
from engine.runs.references import is_run_reference
from engine.text import clean_line, human_count

Reasoned = tuple[int, str]

PACKED_LENGTH = 1024
MIN_PACKED_STEPS = 8
DEFAULT_LENGTH = 512
MAX_ANSWER_TOKENS = 256
CPU_BFLOAT16_PARAMS = 60_000_000
"""Below this size float32 is as fast on a processor: 44M weights gain a quarter, smaller ones nothing."""
_PLAN_NAME_CHARS = 80


def choose_device(hardware: Hardware) -> tuple[Device, Gpu | None]:
    """Return where the run computes: the usable GPU with the most free memory, else the processor."""
    gpu = hardware.training_gpu()
    if gpu is None:
        return Device(kind="cpu", name=known(hardware.host.cpu_name) or "CPU"), None
    name = known(gpu.name) or f"GPU {gpu.index}"
    return Device(kind="cuda", index=gpu.index, name=name, uuid=known(gpu.uuid) or ""), gpu


def choose_precision(hardware: Hardware, where: Surroundings, model: ModelProfile) -> tuple[str, str]:
    """Return the number format and why."""
    if where.device.kind == "cpu":
        flags = hardware.host.cpu_flags & {"avx512_bf16", "amx_bf16", "bf16"}
        if flags and model.num_params >= CPU_BFLOAT16_PARAMS:
            return "bfloat16", f"the processor computes in it ({sorted(flags)[0]})"
        return "float32", "fastest on this processor" if not flags else "as fast as bfloat16 for so small a model"
    capability = where.machine.compute_capability
    if capability is None:
        return "float32", "the GPU does not tell what it computes in"
    shown = f"compute capability {capability[0]}.{capability[1]}"
    precision = native_precision(where)
    reasons = {"bfloat16": shown, "float16": f"{shown} has no bfloat16", "float32": f"{shown} is slow in 16 bits"}
    return precision, reasons[precision]


def choose_length(
    objective: str, model: ModelProfile, data: DataProfile, effective_batch: int, *, written: int = 0
) -> Reasoned:
    """Return the sequence length and why.

    Args:
        objective: A name of the catalogue.
        model: Its context length is never exceeded.
        data: Lengths of the rows.
        effective_batch: Rows per optimizer step.
        written: Tokens that the model itself adds to a row while it learns.
    """
    context = model.context_length
    lengths = data.cut_lengths
    if written:
        return _length_with_answers(context, data, written)
    if lengths is None or data.lengths is None or not lengths.count:
        length = min(context, DEFAULT_LENGTH)
        return length, "the lengths of the rows are not known yet"
    if find_objective(objective).plain_text:
        words = "packed text" if model.kind == "decoder" else "windows of text"
        return _packed_length(context, data.lengths.total, effective_batch, words)
    # A little more that spares every row from being cut is worth it.
    wanted = lengths.longest if lengths.longest <= 1.25 * lengths.p99 + 8 else lengths.p99
    length = max(8, math.ceil(wanted / 8) * 8)
    about = "about " if lengths.estimated else ""
    what = "row" if data.source_lengths is None else "source"
    if length > context:
        return context, f"the model's context; the longest {what} has {about}{lengths.longest:,} tokens"
    if lengths.longest <= length:
        return length, f"the longest {what} has {about}{lengths.longest:,} tokens"
    return length, f"99 % of the {what}s have at most {about}{lengths.p99:,} tokens, the longest {lengths.longest:,}"


def _length_with_answers(context: int, data: DataProfile, written: int) -> Reasoned:
    longest = data.lengths.longest if data.lengths is not None and data.lengths.count else DEFAULT_LENGTH
    length = max(8, math.ceil((longest + written) / 8) * 8)
    if length > context:
        return context, f"the model's context; the longest prompt has {longest:,} tokens, an answer up to {written}"
    return length, f"the longest prompt has {longest:,} tokens, an answer up to {written}"


def _packed_length(context: int, total_tokens: int, effective_batch: int, words: str) -> Reasoned:
    length = min(context, PACKED_LENGTH)
    while length > 64 and total_tokens / length < effective_batch * MIN_PACKED_STEPS:
        length //= 2
    reason = "the model's context" if length == context else f"enough sequences from {human_count(total_tokens)} tokens"
    return length, f"{words}: {reason if length != PACKED_LENGTH else 'long enough for its context'}"


def usual_rate(method: str, num_params: int, optimizer: str = "adamw") -> float:
    """Return the learning rate that is usual for a method, a size of model and an optimizer."""
    rate = RATE_FAMILIES[find_method(method).rates].default(num_params)
    # The product of two short numbers, without the digits that floating point adds to it.
    return float(f"{rate * find_optimizer(optimizer).rate_share:.3g}")


def choose_rate(
    method: MethodName, num_params: int, optimizer: str = "adamw", loss: PreferenceLoss | None = None
) -> tuple[float, str]:
    """Return the learning rate and why.

    Args:
        method: Which weights learn.
        num_params: Weights of the model; where a part of it learns, of that part.
        optimizer: What steps.
        loss: How answers are compared, where they are.
    """
    family, less = RATE_FAMILIES[find_method(method).rates], find_optimizer(optimizer).rate_why
    usual = usual_rate(method, num_params, optimizer)
    reason = f"usual for {family.words} of {human_count(num_params)} weights"
    reason = f"{reason}, {less}" if less else reason
    if loss is None:
        return usual, reason
    return float(f"{loss.rate_share * usual:.3g}"), f"{loss.rate_share:g} of what is {reason}: {loss.title} needs less"


def choose_metrics(
    objective: str, kind: ModelKind, judge: str | None, asked: Sequence[str] = ()
) -> tuple[list[str], str]:
    """Return what is measured and why.

    Args:
        objective: A name of the catalogue.
        kind: Kind of the base model.
        judge: Who compares written answers, where somebody does.
        asked: Metrics that the recipe says what to look for of.
    """
    goal = find_objective(objective)
    metrics = [*goal.metrics_of(kind), *(name for name in asked if name in goal.asked)]
    if judge is None and "win_rate" in metrics:
        return [name for name in metrics if name != "win_rate"], "all that need no judge"
    return metrics, "all that fit the objective, and what you ask for" if asked else "all that fit the objective"


def choose_completion(answers: LengthProfile | None, model: ModelProfile) -> Reasoned:
    """Return the longest answer that a model writes while it learns from rewards, and why.

    Args:
        answers: Lengths of the answers in the data, where it has any.
        model: Half of its context stays for the prompt.
    """
    longest = answers.longest if answers else 0
    return _answer_tokens(longest, model, f"the longest answer in the data has {longest} tokens")


def choose_answer_tokens(data: DataProfile, model: ModelProfile) -> Reasoned:
    """Return the longest answer to generate and why."""
    longest = data.held_out_answer_longest or (data.answer_lengths.longest if data.answer_lengths else 0)
    return _answer_tokens(longest, model, f"the longest held-out answer has {longest} tokens")


def _answer_tokens(longest: int, model: ModelProfile, reason: str) -> Reasoned:
    if not longest:
        return min(128, model.context_length // 2), "there are no answers to measure"
    tokens = max(8, math.ceil(longest * 1.1))
    # Half of the context stays for the question, unless that has a context of its own.
    most = min(MAX_ANSWER_TOKENS, model.context_length // (1 if model.kind == "encoder-decoder" else 2))
    if tokens > most:
        return most, f"the longest answer has {longest} tokens, capped"
    return tokens, reason


def choose_held_out(data: DataProfile) -> float | None:
    """Return the share of held-out rows that gives the split of the profile."""
    rows = data.num_divided or data.num_train + data.num_held_out
    held_out = data.num_to_hold_out or data.num_held_out
    if not data.num_held_out or not data.num_train:
        return None
    share = held_out / rows
    short = round(share, 4)
    return short if 0 < short < 1 and round(short * rows) == held_out else share


def choose_name(objective: str, base: str, source: Any) -> str:
    """Return a title for the run, from the model and the data."""
    first = source_paths(source)[0]
    data = _source_title(first)
    model = PurePath(base.split(":", 1)[-1]).name or base
    if is_run_reference(base):
        # After the model at the start of the chain: lists show the beginning of a title, and its data tells runs apart.
        model = re.split("-on-|-reads-", plain_name(model))[0]
    verb = "reads" if find_objective(objective).plain_text else "on"
    return clean_line(f"{model} {verb} {data}", max_chars=_PLAN_NAME_CHARS)


def _source_title(source: str) -> str:
    """Return a word for a source: the name of a file, of a pattern's folder, of a hub data set."""
    name = re.split("[@#]", source.split(":", 1)[1])[0] if source.startswith(("hub:", "builtin:")) else source
    path = PurePath(name)
    plain = [part for part in (path.stem, *reversed(path.parts[:-1])) if not set(part) & set("*?[/")]
    return plain[0] if plain else source


def revision_reason(model: ModelProfile) -> str:
    """Return why a hub model is pinned to its commit."""
    return "newest commit of main" if model.download_bytes else "the commit on this machine"
