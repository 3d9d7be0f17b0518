"""Who is compared with whom, and whether all of them fit into memory at once. Reads run directories."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.chat_client import Which
from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory, plain_name
from engine.runs.held_out_prompts import HeldOutPrompt, held_out_prompts, recipe_prompts
from engine.text import clean_line, human_bytes
from tui.backend import Machine
from tui.widgets.labels import tail

PROMPTS_SHOWN = 50
DEFAULT_NEW_TOKENS = 256
_TITLE_CHARS = 28
NO_BASE = "The base model names no such labels, so there is none to compare with; o puts another run beside."
_PROCESS_BYTES = 700 * 1024**2
"""What a chat process takes beside the weights: 560 MiB with torch and transformers on a processor, measured; the
context of a GPU is about as much there."""
_WEIGHTS_FACTOR = 1.2
"""Keys and values, activations, and a copy of the largest tensor while files are read."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the models.

    Attributes:
        key: Which it is, for files: `base`, `tuned` or `run:NAME`.
        title: What stands over its answers.
        folder: Run directory that it is loaded from.
        which: Its model of the run.
        needed_bytes: Memory for it, roughly; 0 when unknown.
    """

    key: str
    title: str
    folder: Path
    which: Which
    needed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """What a comparison shows.

    Attributes:
        sides: The base model first, then the tuned one, then another run's.
        prompts: To turn through; may be empty.
        together: All models fit into memory at once; else they take turns.
        memory_words: Why they take turns; empty where they do not.
        max_new_tokens: Longest answer, as the run was measured.
        held_out: The prompts of held-out rows among `prompts`.
        writes: The models write text; others name classes or words.
        note: What to know of the sides; empty where there is nothing.
    """

    sides: tuple[Side, ...]
    prompts: tuple[HeldOutPrompt, ...]
    together: bool = True
    memory_words: str = ""
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    held_out: tuple[HeldOutPrompt, ...] = ()
    writes: bool = True
    note: str = ""


def read_material(run: RunDirectory, machine: Machine, other: RunDirectory | None = None) -> Material:
    """Return what there is to compare of a run.

    Args:
        run: A finished run.
        machine: This machine; its free memory decides whether the models take turns.
        other: A second run, whose tuned model stands beside.

    Raises:
        ProblemError: The plan of a run cannot be read.
    """
    plan = run.read_plan()
    held_out = tuple(held_out_prompts(run, PROMPTS_SHOWN))
    base = Side("base", "base", run.path, "base", _needed(plan.model.weights_bytes))
    tuned = Side("tuned", "tuned", run.path, "auto", _needed(_tuned_bytes(run)))
    has_base = plan.task.writes or plan.task.head == "masked-lm"
    sides = [base, tuned] if has_base else [tuned]
    if other is not None:
        other.read_plan()
        name = _title(other, run)
        sides.append(Side(f"run:{other.folder_name}", name, other.path, "auto", _needed(_tuned_bytes(other))))
    on_gpu = plan.device.kind == "cuda"
    together, words = fits(sides, _free_bytes(machine, on_gpu=on_gpu))
    return Material(
        sides=tuple(sides),
        prompts=(*recipe_prompts(run), *held_out),
        together=together,
        memory_words=words,
        max_new_tokens=plan.recipe.evaluation.max_new_tokens or DEFAULT_NEW_TOKENS,
        held_out=held_out,
        writes=plan.task.writes,
        note="" if has_base else NO_BASE,
    )


def fits(sides: Sequence[Side], free_bytes: int | None) -> tuple[bool, str]:
    """Return whether the models fit at once, and what to say where they do not."""
    needed = sum(side.needed_bytes for side in sides)
    if free_bytes is None or needed <= free_bytes:
        return True, ""
    number = "Both models" if len(sides) == 2 else f"All {len(sides)} models"
    return False, (
        f"{number} at once need about {human_bytes(needed)}, {human_bytes(free_bytes)} are free: "
        "they take turns, each loaded anew for every prompt."
    )


def _title(other: RunDirectory, run: RunDirectory) -> str:
    """Return what stands over the other run's answers: its name, or the end of its id where both have one name."""
    name = plain_name(other.folder_name)
    if name == plain_name(run.folder_name):
        return tail(other.folder_name, _TITLE_CHARS)
    return clean_line(name, max_chars=_TITLE_CHARS)


def _needed(weights_bytes: int) -> int:
    return int(weights_bytes * _WEIGHTS_FACTOR) + _PROCESS_BYTES


def _tuned_bytes(run: RunDirectory) -> int:
    if run.merged_folder.is_dir():
        return sum(file.stat().st_size for file in run.merged_folder.glob("*.safetensors"))
    try:
        return run.read_plan().model.weights_bytes
    except ProblemError:
        return 0


def _free_bytes(machine: Machine, *, on_gpu: bool) -> int | None:
    """Return what is free where a chat process computes: on the GPU when there is one and the run used it."""
    on_host = machine.where == "host RAM"
    if on_gpu or on_host or machine.hardware is None:
        return machine.training_bytes
    from engine.hardware.readings import known

    return known(machine.hardware.host.ram_available_bytes)
