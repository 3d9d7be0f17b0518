"""What a model on the hub consists of at one commit: names, sizes and hashes of its files, before any is fetched."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import DatasetInfo, ModelInfo, RepoSibling

from engine.models.hub_errors import DATASET, MODEL, Subject, explained, hub_problem
from engine.planning.weights import INDEX_NAME, SINGLE_NAME, finding_without_weights
from engine.recipe.problems import Problem, ProblemError

FACT_SUFFIXES = (".json", ".jinja", ".model", ".tiktoken", ".txt")
"""Configuration, tokenizer, chat template and index. Never `.bin`, `.pt` (pickles run code) or, unasked, `.py`."""
MAX_FACT_BYTES = 64 * 2**20
_NO_FACTS = frozenset({"trainer_state.json", "pytorch_model.bin.index.json"})
"""Left behind by training, of any size, and read by nobody."""
ASK_TIMEOUT_S = 10.0
ASK_WAITS_S = (0.5, 1.5)
BUSY = frozenset({408, 429, 500, 502, 503, 504})
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file on the hub.

    Attributes:
        name: Path in the repository, with `/`.
        size: Bytes.
        etag: Name of its blob in the cache: sha256 of a large file, git's hash of a small one.
        sha256: Hash of the content of a large file; None for a small one, which has git's hash only.
    """

    name: str
    size: int
    etag: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on the hub at one commit.

    Attributes:
        base: Hub id as it was typed.
        revision: Branch, tag or commit as it was typed; None for the main branch.
        commit: 40 hexadecimal digits.
        files: Files that may be fetched: at the top, or chat templates.
        names: Names of all files at the top, also of those that are never fetched.
        num_params: Elements of all tensors as the hub counted them; None when it did not.
        dtype: Number format of most of them in the words of safetensors, such as `BF16`.
        subject: What it is, in the words of messages.
    """

    base: str
    revision: str | None
    commit: str
    files: tuple[RemoteFile, ...]
    names: tuple[str, ...]
    num_params: int | None = None
    dtype: str | None = None
    subject: Subject = MODEL

    def file(self, name: str) -> RemoteFile | None:
        """Return the file called `name`."""
        return next((file for file in self.files if file.name == name), None)

    def fact_files(self) -> list[RemoteFile]:
        """Return the small files: configuration, tokenizer, chat templates, weight index."""
        named = [file for file in self.files if file.name.endswith(FACT_SUFFIXES) and file.name not in _NO_FACTS]
        return [file for file in named if file.size <= MAX_FACT_BYTES]

    def papers(self) -> list[RemoteFile]:
        """Return licence and description."""
        return [file for file in self.files if file.name.startswith("LICENSE") or file.name == "README.md"]

    def code_files(self) -> list[RemoteFile]:
        """Return Python files, which are fetched with consent only."""
        return [file for file in self.files if file.name.endswith(".py")]

    def weight_files(self, shards: set[str] | None) -> list[RemoteFile]:
        """Return the weight files that loading needs, no second copy in another layout.

        Args:
            shards: File names of the weight index; None when there is no index.

        Raises:
            ProblemError: There are no safetensors weights, or the index names a file that is not there.
        """
        # A single file wins over an index where a loader has the choice, so it has to be there as well.
        wanted = {SINGLE_NAME} if self.file(SINGLE_NAME) else set()
        wanted |= shards or set()
        found = [file for file in self.files if file.name in wanted]
        if lacking := sorted(wanted - {file.name for file in found}):
            raise hub_problem(
                "shard_missing",
                f"The weight index of {self.base} names {lacking[0]}, which is not on the hub.",
                "Choose another revision of the model, or another model.",
            )
        if not found:
            raise ProblemError(self.without_weights())
        return found

    def without_weights(self) -> Problem:
        """Return why there is nothing to train: pickles, GGUF, an adapter, or nothing at all."""
        return Problem(**finding_without_weights(self.names, self.base).model_dump())

    @property
    def has_weights(self) -> bool:
        """Whether there are weights that can be trained."""
        return any(self.file(name) for name in (INDEX_NAME, SINGLE_NAME))


@dataclass(frozen=True, slots=True)
class RemoteDataset:
    """A data set on the hub at one commit.

    Attributes:
        base: Hub id as it was typed.
        revision: Branch, tag or commit as it was typed; None for the main branch.
        commit: 40 hexadecimal digits.
        files: All files that lie inside the repository.
        subject: What it is, in the words of messages.
    """

    base: str
    revision: str | None
    commit: str
    files: tuple[RemoteFile, ...]
    subject: Subject = DATASET


def ask_hub_for_dataset(base: str, revision: str | None = None) -> RemoteDataset:
    """Return what a data set consists of at the newest commit of a revision.

    Args:
        base: Hub id.
        revision: Branch, tag or commit; the main branch when None.

    Raises:
        ProblemError: No such data set or revision, no access, no connection, with the next action.
    """
    try:
        info = _asked(base, revision, HfApi().dataset_info)
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise explained(base, revision, error, DATASET) from error
    commit = _commit(base, info.sha, DATASET)
    inside = [sibling for sibling in info.siblings or [] if _inside(sibling.rfilename)]
    return RemoteDataset(base, revision, commit, tuple(_file(base, sibling, DATASET) for sibling in inside))


def ask_hub(base: str, revision: str | None = None) -> RemoteModel:
    """Return what a model consists of at the newest commit of a revision.

    Args:
        base: Hub id.
        revision: Branch, tag or commit; the main branch when None.

    Raises:
        ProblemError: No such model or revision, no access, no connection, with the next action.
    """
    try:
        info = _asked(base, revision, HfApi().model_info)
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise explained(base, revision, error) from error
    return _listed(base, revision, info)


Info = TypeVar("Info", ModelInfo, DatasetInfo)


def _asked(base: str, revision: str | None, ask: Callable[..., Info]) -> Info:
    for wait_s in ASK_WAITS_S:
        try:
            return ask(base, revision=revision, files_metadata=True, timeout=ASK_TIMEOUT_S)
        except HfHubHTTPError as error:
            if error.response.status_code not in BUSY:
                raise
        time.sleep(wait_s)
    return ask(base, revision=revision, files_metadata=True, timeout=ASK_TIMEOUT_S)


def _commit(base: str, sha: str | None, subject: Subject) -> str:
    if sha is None or not _COMMIT.fullmatch(sha):
        fix = "Check HF_ENDPOINT; it must be a model hub."
        raise hub_problem("hub_unclear", f"The hub names no commit of {base}.", fix, subject)
    return sha


def _listed(base: str, revision: str | None, info: ModelInfo) -> RemoteModel:
    siblings = info.siblings or []
    commit = _commit(base, info.sha, MODEL)
    files = [file for sibling in siblings if _wanted(sibling.rfilename) and (file := _file(base, sibling, MODEL))]
    parameters = dict(info.safetensors.parameters) if info.safetensors else {}
    return RemoteModel(
        base=base,
        revision=revision,
        commit=commit,
        files=tuple(files),
        names=tuple(sibling.rfilename for sibling in siblings if "/" not in sibling.rfilename),
        num_params=_count(parameters),
        dtype=max(parameters, key=lambda name: parameters[name], default=None),
    )


def _count(parameters: Mapping[str, Any]) -> int | None:
    total = sum(count for count in parameters.values() if type(count) is int and count > 0)
    return total or None


def _wanted(name: str) -> bool:
    """Return whether a file lies where a loader looks; such a name cannot lead out of the model's folder either."""
    parts = PurePosixPath(name).parts
    return _inside(name) and (len(parts) == 1 or (len(parts) == 2 and parts[0] == _TEMPLATES))


def _inside(name: str) -> bool:
    """Return whether a path stays inside the folder of its repository."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not any(part in ("..", ".", "/") or "\\" in part or "\0" in part for part in parts)


def _file(base: str, sibling: RepoSibling, subject: Subject) -> RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    size = sibling.lfs.size if sibling.lfs else sibling.size
    etag = sha256 or sibling.blob_id or ""
    if size is None or not _HASH.fullmatch(etag):
        raise hub_problem(
            "hub_unclear",
            f"The hub gives no size and hash of {sibling.rfilename} in {base}, so a download could not be checked.",
            f"Check HF_ENDPOINT; a mirror must list files with their hashes. Or name {subject.instead}.",
            subject,
        )
    return RemoteFile(sibling.rfilename, size, etag, sha256)
