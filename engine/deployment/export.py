"""Leave the result behind: adapter, merged model, a copy where the person wants it; checked before it counts."""

import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.deployment.adapter import merge, save_adapter, with_adapter
from engine.deployment.base_reference import base_reference
from engine.deployment.model_card import read_card_facts, write_model_card
from engine.deployment.parity import Parity, compare, prompt_logits
from engine.deployment.staging import folder_bytes, staged_folder
from engine.deployment.weights import check_stored_tokenizer, narrower, save_whole_model, store_as, stored_dtype
from engine.evaluation.measurement import write_json
from engine.evaluation.scoring import causal_model
from engine.hardware.host import read_host
from engine.hardware.readings import known
from engine.models.loading import load_model, weights_dtype
from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.paths import typed_path
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.delivery import check_output
from engine.runs.directory import RunDirectory
from engine.runs.disk import free_bytes
from engine.text import clean_line, human_bytes

EXPORT_FILE = "export.json"
EXPORT_VERSION = 1
_HOST_RESERVE = 1.2
"""Available host memory asked for, as a multiple of the weights: a merged layer stands beside its two parts."""
_DISK_RESERVE = 1.05
"""Free space asked for, as a multiple of the weights: tokenizer, card and rounding of the file system."""

Kind = Literal["adapter", "merged"]
Emit = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """One finished folder; `folder` is relative to the run directory."""

    kind: Kind
    folder: str
    bytes: int
    elapsed_s: float


def export_run(
    run: RunDirectory,
    plan: Plan,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompts: Sequence[Sequence[int]],
    emit: Emit | None = None,
) -> list[Exported]:
    """Write `model/adapter` and `model/merged` with model cards, and the copy in `delivery.output`.

    The merged model must give the logits of the trained one on `prompts` up to rounding, and its files must hold the
    bits of the model in memory; each folder appears under its name only when it is whole. A QLoRA adapter is merged
    into the base model in full precision, never into the 4-bit one. Calling it again replaces the folders.

    Args:
        run: The run; scores and versions for the cards are read from its files.
        plan: What was carried out.
        model: The trained model; used up, as an adapter is merged in place.
        prompts: Token ids to compare logits on, see `parity_prompts`.
        emit: Called as `emit(type, **payload)` with `export.completed` and `notice.raised`.

    Raises:
        ProblemError: No space, output folder in use, or the export is not the trained model.
    """
    job = _Export(run, plan, tokenizer, prompts, emit or _ignore)
    in_the_way = [] if job.delivered_before() else check_output(plan.recipe)
    refuse(in_the_way + job.check_space(model))
    exported = job.run(model)
    job.deliver(exported)
    return exported


def merge_run(
    run: RunDirectory, plan: Plan, tokenizer: PreTrainedTokenizerBase, *, prompts: Sequence[Sequence[int]]
) -> Exported:
    """Merge the adapter of an ended run in host memory and add the result to what was exported.

    Args:
        run: Its `model/adapter` is whole.
        plan: What was carried out.
        prompts: Token ids to compare logits on, see `parity_prompts`.

    Raises:
        ProblemError: No memory, no space, or the merged model is not the trained one.
    """
    job = _Export(run, plan, tokenizer, prompts, _ignore)
    refuse([problem for problem in (_space_problem(run.path, job.whole_bytes, "FTWIZARD_HOME"),) if problem])
    merged = job.merged_on_host()
    if merged is None:
        raise ProblemError(
            Problem(
                "export.out_of_memory",
                f"Merging needs about {human_bytes(_HOST_RESERVE * job.loaded_bytes)} of host RAM.",
                "Free memory, or copy the run directory to a machine with more.",
            )
        )
    exported = [*job.recorded("adapter"), merged]
    job.record(exported)
    job.deliver(exported)
    return merged


def parity_prompts(rows: Sequence[Row], renderer: Renderer) -> list[list[int]]:
    """Return whole rows in tokens for the parity check, answers included, as those are what was learned."""
    return [list(renderer.render(row).input_ids) for row in rows[:8]]


def refuse(problems: Sequence[Problem]) -> None:
    """Raise the problems, if there are any."""
    if problems:
        raise ProblemError(*problems)


@dataclass
class _Export:
    """What the steps of one export share."""

    run_directory: RunDirectory
    plan: Plan
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Sequence[int]]
    emit: Emit
    parity: Parity | None = None
    _told_reader: bool = False
    quantization_gap: Parity | None = None

    def __post_init__(self) -> None:
        self.dtype = stored_dtype(self.plan.model.weights_dtype)

    def check_space(self, model: nn.Module) -> list[Problem]:
        """Return why the disks do not have room for what will be written."""
        is_adapter = isinstance(model, PeftModel)
        num_adapter = sum(p.numel() for p in model.parameters() if p.requires_grad) if is_adapter else 0
        num_whole = self.plan.model.num_params if not is_adapter or self._merges else 0
        needed = math.ceil(_DISK_RESERVE * (4 * num_adapter + self.dtype.itemsize * num_whole))
        home = self.run_directory.path
        if self.output is None:
            problems = [_space_problem(home, needed, "FTWIZARD_HOME")]
        elif device_of(self.output) == device_of(home):
            problems = [_space_problem(home, 2 * needed, "delivery.output")]
        else:
            problems = [
                _space_problem(home, needed, "FTWIZARD_HOME"),
                _space_problem(self.output, needed, "delivery.output"),
            ]
        return [problem for problem in problems if problem is not None]

    def run(self, model: nn.Module) -> list[Exported]:
        """Write the folders of the run directory."""
        if not isinstance(model, PeftModel):
            exported = [self._trained_whole(causal_model(model))]
        else:
            # First of all: it is small, and it is everything that was learnt.
            exported = [self._adapter(model)]
            if self._merges:
                exported += self._merged_where_it_fits(model)
        self.record(exported)
        return exported

    def _trained_whole(self, model: PreTrainedModel) -> Exported:
        """Write a model whose own weights learnt, from the host's memory where the device's does not suffice."""
        self.dtype = narrower(self.dtype, model.dtype)
        trained: list[torch.Tensor] = []

        def export() -> Exported:
            # Taken once: the weights are rounded to the format of the files right after.
            trained.extend(() if trained else prompt_logits(model, self.prompts))
            return self._whole(store_as(model, self.dtype), trained)

        exported = _unless_out_of_memory(export)
        if exported is None and not in_host_memory(model):
            model.to("cpu")
            give_back_memory()
            exported = _unless_out_of_memory(export)
        if exported is None:
            raise ProblemError(
                Problem(
                    "export.out_of_memory",
                    "There was not enough memory to write the trained model.",
                    "Free memory, then resume: the last checkpoint is whole, only the export is done again.",
                )
            )
        return exported

    def _merged_where_it_fits(self, model: PeftModel) -> list[Exported]:
        """Merge on the model's device, else in the host's memory; nothing, with a notice, where neither suffices."""
        exported = _unless_out_of_memory(lambda: self._merged(model))
        if exported is None and not in_host_memory(causal_model(model)):
            self._tell_memory("note", "The device has not enough memory to merge the adapter; trying in host RAM.")
            exported = self.merged_on_host()
        if exported is None:
            command = shlex.join(
                [sys.executable, "-P", "-m", "engine.deployment.merge_later", str(self.run_directory.path)]
            )
            self._tell_memory(
                "warning",
                "There was not enough memory to merge the adapter into the base model. The adapter is whole, and works "
                f"with the base model. To merge it later, or on another machine: `{clean_line(command)}`.",
            )
            return []
        return [exported]

    def _merged(self, model: PeftModel) -> Exported:
        trained = prompt_logits(model, self.prompts)
        if self.plan.recipe.method.facts.bits is not None:
            device = _device_with_room(causal_model(model).device, self.loaded_bytes)
            model, logits = self._adapter_on_base(device)
            # What 4-bit rounding of the base cost; not a fault of the merge, but worth knowing.
            self.quantization_gap = compare(trained, logits, self.dtype)
            trained = logits
        return self._write_merged(model, trained)

    def merged_on_host(self) -> Exported | None:
        """Merge the written adapter into the base model in host memory; None when that does not suffice either.

        The base is loaded anew: in the one at hand some layers may hold the adapter already.
        """
        available = known(read_host().ram_available_bytes)
        # Trying with less would have the system kill the process, and with it a run that has all it needs.
        if available is not None and available < _HOST_RESERVE * self.loaded_bytes:
            return None
        return _unless_out_of_memory(lambda: self._write_merged(*self._adapter_on_base(torch.device("cpu"))))

    def _write_merged(self, model: PeftModel, trained: Sequence[torch.Tensor]) -> Exported:
        # Rounding that the base model went through for training is not undone by wider files.
        self.dtype = narrower(self.dtype, causal_model(model).dtype)
        return self._whole(merge(model, self.dtype), trained)

    def _adapter_on_base(self, device: torch.device) -> tuple[PeftModel, list[torch.Tensor]]:
        """Return the written adapter on the base model in full precision, with its logits."""
        base = load_model(self.plan.recipe, str(device), bits=None, task=self.plan.task)
        whole = with_adapter(base, self.tokenizer, self.run_directory.adapter_folder)
        return whole, prompt_logits(whole, self.prompts)

    @property
    def _merges(self) -> bool:
        return self.plan.recipe.delivery.merge and self.plan.recipe.method.facts.mergeable

    @property
    def whole_bytes(self) -> int:
        """Size of the whole model in the format of its files."""
        return self.dtype.itemsize * self.plan.model.num_params

    @property
    def loaded_bytes(self) -> int:
        """Size of the base model in the format in which it is loaded, which can be wider than that of its files."""
        return max(self.dtype.itemsize, weights_dtype(self.plan.recipe).itemsize) * self.plan.model.num_params

    def _tell_memory(self, severity: str, message: str) -> None:
        self.emit("notice.raised", severity=severity, code="export.out_of_memory", message=message)

    def _adapter(self, model: PeftModel) -> Exported:
        started = time.monotonic()
        base = base_reference(self.plan.model)
        with staged_folder(self.run_directory.adapter_folder) as folder:
            vocab_size = self.plan.model.vocab_size
            save_adapter(model, self.tokenizer, folder, base=base, base_vocab_size=vocab_size)
            self._card(folder, "adapter", self._stored_tokenizer(folder))
        return self._completed("adapter", self.run_directory.adapter_folder, started)

    def _whole(self, model: PreTrainedModel, trained: Sequence[torch.Tensor]) -> Exported:
        started = time.monotonic()
        self.parity = compare(trained, prompt_logits(model, self.prompts), self.dtype)
        self._judge(self.parity)
        with staged_folder(self.run_directory.merged_folder) as folder:
            save_whole_model(model, self.tokenizer, folder)
            self._card(folder, "merged", self._stored_tokenizer(folder))
        return self._completed("merged", self.run_directory.merged_folder, started)

    @property
    def _trust(self) -> bool:
        return self.plan.recipe.model.trust_remote_code

    def _judge(self, parity: Parity) -> None:
        if parity.refused:
            raise ProblemError(
                Problem(
                    "export.not_the_same_model",
                    f"The merged model does not say what the trained one says: divergence {parity.divergence:.3g} nats "
                    f"on {parity.num_prompts} prompts, largest logit difference {parity.max_difference:.3g}.",
                    "The adapter in model/adapter is whole; use it with the base model, and report this.",
                )
            )
        if not parity.within_tolerance:
            message = (
                f"The merged model differs from the trained one by up to {parity.max_difference:.3g} in a logit "
                f"({100 * parity.relative_difference:.2g} % of the largest), more than rounding to "
                f"{str(self.dtype).removeprefix('torch.')} explains; {100 * parity.top_token_agreement:.1f} % of the "
                "most likely tokens are the same."
            )
            self.emit("notice.raised", severity="warning", code="export.parity", message=message)

    def _stored_tokenizer(self, folder: Path) -> str:
        """Check the written tokenizer and return the class that reads it right."""
        reader = check_stored_tokenizer(self.tokenizer, folder, self.prompts, trust=self._trust)
        if reader != "AutoTokenizer" and not self._told_reader:
            self._told_reader = True
            message = (
                f"Load the tokenizer of this model with {reader}: AutoTokenizer reads every "
                f"{clean_line(self.plan.model.model_type)} model with a class of its own, which cuts text into other "
                "tokens. The model card says so too."
            )
            self.emit("notice.raised", severity="warning", code="export.tokenizer_class", message=message)
        return reader

    def _card(self, folder: Path, kind: Kind, tokenizer_class: str) -> None:
        facts = read_card_facts(self.run_directory, self.plan, self.parity, self.quantization_gap)
        write_model_card(folder, replace(facts, tokenizer_class=tokenizer_class), kind)

    def _completed(self, kind: Kind, folder: Path, started: float) -> Exported:
        elapsed_s = round(time.monotonic() - started, 3)
        exported = Exported(kind, str(folder.relative_to(self.run_directory.path)), folder_bytes(folder), elapsed_s)
        self.emit("export.completed", **asdict(exported))
        return exported

    def delivered_before(self) -> bool:
        """Whether this run itself filled the output folder: an export that is repeated may replace its own work."""
        return self.output is not None and self._last_record().get("output") == str(self.output)

    def recorded(self, kind: Kind) -> list[Exported]:
        """Return what an earlier export of this run wrote of a kind."""
        return [Exported(**item) for item in self._last_record().get("exports", []) if item["kind"] == kind]

    def _last_record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    @property
    def record_file(self) -> Path:
        return self.run_directory.model_folder / EXPORT_FILE

    @property
    def output(self) -> Path | None:
        """The output folder as an absolute path."""
        output = self.plan.recipe.delivery.output
        # A link would be replaced by the folder, instead of the folder that it leads to.
        return typed_path(output).resolve() if output else None

    def record(self, exported: Sequence[Exported], *, delivered: bool = False) -> None:
        """Write `export.json`."""
        record = {
            "version": EXPORT_VERSION,
            "exports": [asdict(item) for item in exported],
            "dtype": str(self.dtype).removeprefix("torch."),
            "parity": self.parity.to_json() if self.parity else None,
            "quantization_gap": self.quantization_gap.to_json() if self.quantization_gap else None,
            "output": str(self.output) if self.output and (delivered or self.delivered_before()) else None,
        }
        write_json(self.record_file, record)

    def deliver(self, exported: Sequence[Exported]) -> None:
        """Copy the result to the output folder: the whole model at its top, the adapter beside it or alone."""
        if self.output is None:
            return
        folders = {item.kind: self.run_directory.path / item.folder for item in exported}
        # Somebody may have put files there while the model was written; those stay, and the delivery is refused.
        with staged_folder(self.output, replace=self.delivered_before()) as staging:
            if "merged" in folders:
                _copy_files(folders["merged"], staging)
            if "adapter" in folders:
                _copy_files(folders["adapter"], staging / "adapter" if "merged" in folders else staging)
            # Unlike a run directory, this is for others too: as open as the person's umask says.
            staging.chmod(0o777 & ~_umask())
        self.record(exported, delivered=True)


def in_host_memory(model: PreTrainedModel) -> bool:
    """Return whether a model lies in the host's memory, so that there is no other place to try."""
    return model.device.type == "cpu"


def _unless_out_of_memory(work: Callable[[], Exported]) -> Exported | None:
    """Return what work returns; None, with the memory given back, when it ran out."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    give_back_memory()
    return None


def _copy_files(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _umask() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077


def device_of(path: Path) -> int | None:
    """Return the file system that a path lies on or would lie on; None when the system does not say."""
    for folder in (path, *path.parents):
        try:
            return folder.stat().st_dev
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _space_problem(place: Path, needed_bytes: int, name: str) -> Problem | None:
    free = free_bytes(place)
    if free is None or free >= needed_bytes:
        return None
    return Problem(
        "export.no_space",
        f"Writing the model needs {human_bytes(needed_bytes)}, {human_bytes(free)} are free at {clean_line(place)}.",
        f"Free space there or choose another disk ({name}), then run `ftwizard resume`.",
        "delivery.output" if name == "delivery.output" else "",
    )


def _device_with_room(device: torch.device, needed_bytes: int) -> torch.device:
    """Return the GPU when a second copy of the weights fits beside the trained model, else the CPU."""
    if device.type != "cuda":
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    return device if free > 1.3 * needed_bytes else torch.device("cpu")


def _ignore(event_type: str, **payload: Any) -> None:
    """Drop an event."""
