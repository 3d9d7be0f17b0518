"""What somebody wants measured apart from a run's own measurements: a folder, an adapter, a hub model, a run's."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalog.builtin import is_builtin
from engine.catalog.objectives import Head, ModelKind
from engine.models.hub import resolve_model
from engine.models.verified import VerifiedFiles, hash_of
from engine.paths import typed_path
from engine.planning.layer_sums import head_of_class
from engine.planning.model_folder import read_config
from engine.planning.model_profile import is_hub_id, read_model_profile
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import DataSection
from engine.runs.directory import RunDirectory, find_run, is_run
from engine.runs.home import home_folders
from engine.runs.references import PREFIX, is_run_reference
from engine.text import clean_line

_ADAPTER_HEADS: dict[str, Head] = {
    "CAUSAL_LM": "causal-lm",
    "SEQ_2_SEQ_LM": "seq2seq-lm",
    "SEQ_CLS": "sequence-classification",
    "TOKEN_CLS": "token-classification",
}
_LISTS = "`ftwizard runs` lists the runs; a model is a folder or OWNER/NAME."
_SMALL_FILES = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""Files beside the weights that decide what a model answers."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that can be measured.

    Attributes:
        name: What it is called in tables.
        reference: What finds it again.
        folder: The whole model, or the base model of an adapter.
        adapter: The adapter that is put on it; None for a whole model.
        kind: Kind of the model.
        head: What it gives out.
        labels: Names of its classes or tags, in their order; empty for other heads.
        several: A text can have several of them.
        rewards: It gives a number for an answer.
        context_length: Longest sequence it was built for.
        sha256: Hash over all files that decide what it answers.
        run: The run that left it; None for others.
        objective: That of the run; empty for others.
        data: How the run reads its data, for a file of the same columns; None for others.
        prefix: Words that the run puts in front of each text.
        trust: Code that comes with the model may run: somebody said yes for that run.
    """

    name: str
    reference: str
    folder: Path
    adapter: Path | None
    kind: ModelKind
    head: Head
    labels: tuple[str, ...]
    several: bool
    rewards: bool
    context_length: int
    sha256: str
    run: RunDirectory | None = None
    objective: str = ""
    data: DataSection | None = None
    prefix: str = ""
    trust: bool = False


def find_subject(reference: str, revision: str | None = None) -> Subject:
    """Return the model that a person means.

    A folder is what it holds; a name without a slash is first looked for among the runs, then on the hub.

    Args:
        reference: `run:ID`, a run's name or part of it, `latest`, a folder, `builtin:` model or hub id.
        revision: Of a hub model.

    Raises:
        ProblemError: There is no such run or model, or it holds nothing that can be measured.
    """
    run = run_meant(reference)
    if run is not None:
        return _of_run(run)
    folder = typed_path(reference)
    if not is_builtin(reference) and os.path.isdir(folder):
        return _of_folder(folder.absolute())
    if not is_builtin(reference) and not is_hub_id(reference):
        message = f"{clean_line(reference, max_chars=160)} is no run, no folder and no name of a model."
        raise _problem("no_such_model", message, _LISTS)
    try:
        folder = resolve_model(reference, revision).folder
    except ProblemError as error:
        if os.sep in reference or is_builtin(reference):
            raise
        message = f"There is no run {clean_line(reference, max_chars=120)}, and no such model was found."
        raise ProblemError(*_problem("no_such_model", message, _LISTS).problems, *error.problems) from error
    return _whole(folder, name=reference, reference=reference)


def run_meant(reference: str) -> RunDirectory | None:
    """Return the run that a reference names; None where it names something else.

    Raises:
        ProblemError: It can only be a run, and there is none; or several have that name.
    """
    if is_run_reference(reference):
        return find_run(home_folders(), reference.removeprefix(PREFIX))
    if reference == "latest":
        return find_run(home_folders(), reference)
    folder = typed_path(reference)
    if os.path.isdir(folder):
        return RunDirectory(folder.absolute()) if is_run(RunDirectory(folder)) else None
    if os.sep in reference or is_builtin(reference):
        return None
    try:
        return find_run(home_folders(), reference)
    except ProblemError as error:
        # Several runs of that name are no reason to ask the hub for a model of it.
        if error.problems[0].code == "run.ambiguous":
            raise
        return None


def _of_run(run: RunDirectory) -> Subject:
    plan = run.read_plan()
    name = run.folder_name
    merged = run.merged_folder
    if not (merged / "config.json").is_file() and not (run.adapter_folder / "adapter_config.json").is_file():
        message = f"The run {clean_line(name, max_chars=120)} has left no model yet."
        fix = f"Wait until it is finished, or `ftwizard resume {clean_line(run.reference)}`."
        raise _problem("run_without_model", message, fix)
    whole = (merged / "config.json").is_file()
    model = plan.recipe.model
    folder = merged if whole else resolve_model(model.base, plan.model.revision or model.revision).folder
    adapter = None if whole else run.adapter_folder
    return Subject(
        name=name,
        reference=f"{PREFIX}{run.path}",
        folder=folder,
        adapter=adapter,
        kind=plan.model.kind,
        head=plan.task.head,
        labels=plan.task.labels,
        several=plan.task.multi_label,
        rewards=plan.task.signal == "rewards",
        context_length=_context(folder, adapter),
        sha256=files_hash(filter(None, (folder, adapter))),
        run=run,
        objective=plan.recipe.objective,
        data=plan.recipe.data,
        prefix=plan.task.prefix,
        trust=model.trust_remote_code,
    )


def _of_folder(folder: Path) -> Subject:
    if (folder / "config.json").is_file():
        return _whole(folder, name=folder.name, reference=str(folder))
    if not (folder / "adapter_config.json").is_file():
        message = f"{clean_line(folder, max_chars=200)} holds no model, no adapter and no run."
        raise _problem("no_such_model", message, "Name a folder with config.json or adapter_config.json.")
    run = RunDirectory(folder.parent.parent)
    if is_run(run) and run.adapter_folder == folder:
        return _of_run(run)
    return _adapter(folder)


def _whole(folder: Path, *, name: str, reference: str) -> Subject:
    config = read_config(folder)
    profile = read_model_profile(str(folder))
    head = _head_in(config, profile.kind)
    labels = _labels_in(config) if head in ("sequence-classification", "token-classification") else ()
    rewards = head == "sequence-classification" and len(labels) < 2
    return Subject(
        name=name,
        reference=reference,
        folder=folder,
        adapter=None,
        kind=profile.kind,
        head=head,
        labels=() if rewards else labels,
        several=config.get("problem_type") == "multi_label_classification",
        rewards=rewards,
        context_length=profile.context_length,
        sha256=files_hash([folder]),
    )


def _adapter(folder: Path) -> Subject:
    config = _json_in(folder / "adapter_config.json")
    base = str(config.get("base_model_name_or_path") or "")
    head = _ADAPTER_HEADS.get(str(config.get("task_type") or ""))
    shown = clean_line(folder.name, max_chars=80)
    if head in ("sequence-classification", "token-classification"):
        message = f"The adapter {shown} tells classes apart, and its folder does not say which."
        raise _problem("adapter_without_classes", message, "Name the run that made it, or a merged model.")
    try:
        found = resolve_model(base, config.get("revision") if is_hub_id(base) else None).folder
    except ProblemError as error:
        message = f"The adapter {shown} belongs to the base model {clean_line(base or '(unnamed)', max_chars=120)}."
        problem = _problem("base_missing", message, "Name the run that made it, or a merged model.").problems[0]
        raise ProblemError(problem, *error.problems) from error
    whole = _whole(found, name=base, reference=base)
    return Subject(
        name=folder.name,
        reference=str(folder),
        folder=found,
        adapter=folder,
        kind=whole.kind,
        head=head or whole.head,
        labels=(),
        several=False,
        rewards=False,
        context_length=_context(found, folder),
        sha256=files_hash([found, folder]),
    )


def _context(folder: Path, adapter: Path | None) -> int:
    """Return the room for text: virtual tokens of an adapter stand in front of it."""
    length = read_model_profile(str(folder)).context_length
    virtual = _json_in(adapter / "adapter_config.json").get("num_virtual_tokens") if adapter else 0
    return length - (virtual if isinstance(virtual, int) else 0)


def _head_in(config: dict[str, Any], kind: ModelKind) -> Head:
    named = config.get("architectures") or [""]
    head = head_of_class(str(named[0])) if isinstance(named, list) else None
    if kind == "encoder-decoder":
        return "seq2seq-lm"
    if head is None or head == "seq2seq-lm":
        return "masked-lm" if kind == "encoder" else "causal-lm"
    return head


def _labels_in(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict):
        # What transformers takes where a configuration names none.
        return ("LABEL_0", "LABEL_1")
    return tuple(str(names[number]) for number in sorted(names, key=int))


def _json_in(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def files_hash(folders: Iterable[Path]) -> str:
    """Return a hash over the files of model folders that decide what the model answers."""
    digest, known = hashlib.sha256(), VerifiedFiles()
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")):
            sha256 = known.of(file).sha256
            if not sha256:
                sha256 = hash_of(file)
                known.note(file, sha256=sha256)
            digest.update(f"{file.name} {sha256}\n".encode())
        for name in _SMALL_FILES:
            if (folder / name).is_file():
                digest.update(f"{name} {hash_of(folder / name)}\n".encode())
    return digest.hexdigest()


def vocabulary_hash(folders: Iterable[Path]) -> str:
    """Return a hash over what cuts text into tokens; empty where no folder tells. The first that does decides."""
    for folder in folders:
        model = _json_in(folder / "tokenizer.json").get("model")
        if isinstance(model, dict):
            cut = {name: model.get(name) for name in ("vocab", "merges")}
            return hashlib.sha256(json.dumps(cut, sort_keys=True).encode()).hexdigest()
    return ""


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"eval.{code}", message, fix))
