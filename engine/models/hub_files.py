"""Fetches files of a hub model or data set into the hub's cache: continued where cut, checked before they count.

The layout is the one that every tool of the hub shares (blobs named by hash, snapshots of links, refs). The client's
own download starts a file from its first byte again in every process and does not look at hashes; a worker that is
stopped in the middle of gigabytes must do better.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from engine.models.hub_errors import Subject, explained, hub_problem
from engine.models.hub_listing import BUSY, RemoteFile
from engine.planning.model_profile import hub_cache
from engine.recipe.problems import ProblemError
from engine.text import human_bytes

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""
CHUNK_BYTES = 2**20
RETRY_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between attempts that brought nothing; one that brought bytes starts the count anew."""
SPARE_BYTES = 64 * 2**20


class Remote(Protocol):
    """A model or a data set on the hub at one commit."""

    @property
    def base(self) -> str:
        """Hub id as it was typed."""

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit as it was typed; None for the main branch."""

    @property
    def commit(self) -> str:
        """40 hexadecimal digits."""

    @property
    def subject(self) -> Subject:
        """What it is, in the words of messages."""


def repo_folder(base: str, subject: Subject) -> Path:
    """Return the folder of a hub model or data set in the cache."""
    return hub_cache() / f"{subject.repo_type}s--{base.replace('/', '--')}"


def _folder(remote: Remote) -> Path:
    return repo_folder(remote.base, remote.subject)


def snapshot_folder(remote: Remote) -> Path:
    """Return the folder that the files of a commit appear in."""
    return _folder(remote) / "snapshots" / remote.commit


def missing_files(remote: Remote, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return those files that are not here with the size that the hub names."""
    snapshot = snapshot_folder(remote)
    return [file for file in files if _size(snapshot / file.name) != file.size]


def fetch(remote: Remote, files: Sequence[RemoteFile], progress: Progress | None = None) -> Path:
    """Fetch what is missing of `files` and return the snapshot folder.

    Whatever interrupts it, what has arrived stays and the next call goes on from there.

    Args:
        remote: Model or data set, and commit.
        files: Files of it.
        progress: Told about the bytes of the missing files.

    Raises:
        ProblemError: No access, no connection, no space, or a file that arrived damaged, by its name.
    """
    missing = missing_files(remote, files)
    try:
        _check_space(remote, missing)
        told = _Told(sum(file.size for file in missing), progress)
        for file in missing:
            _fetch_one(remote, file, told)
        _note_revision(remote)
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise explained(remote.base, remote.revision, error, remote.subject) from error
    return snapshot_folder(remote)


class _Told:
    """Bytes done over all files of one call."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._total_bytes = total_bytes
        self._progress = progress
        self._done_bytes = 0

    def add(self, num_bytes: int) -> None:
        self._done_bytes += num_bytes
        if self._progress is not None:
            self._progress(self._done_bytes, self._total_bytes)


def _check_space(remote: Remote, missing: Sequence[RemoteFile]) -> None:
    blobs = _folder(remote) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size - (_size(_part(blobs, file)) or 0) for file in missing)
    free = shutil.disk_usage(blobs).free
    if missing and needed + SPARE_BYTES > free:
        raise hub_problem(
            "disk_full",
            f"{remote.base} needs {human_bytes(needed)} in the {remote.subject.title} cache; "
            f"{human_bytes(free)} are free there.",
            "Free space, or set HF_HOME to a folder on a larger disk.",
            remote.subject,
        )


def _fetch_one(remote: Remote, file: RemoteFile, told: _Told) -> None:
    folder = _folder(remote)
    blob = folder / "blobs" / file.etag
    lock = hub_cache() / ".locks" / folder.name / f"{file.etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if _size(blob) == file.size:
            told.add(file.size)
        else:
            # A blob of another size was cut or filled up by somebody else; its name promises the whole content.
            blob.unlink(missing_ok=True)
            part = _part(blob.parent, file)
            _receive(remote, file, part, told)
            _verify(remote, file, part)
            part.replace(blob)
        _link(blob, snapshot_folder(remote) / file.name)


def _part(blobs: Path, file: RemoteFile) -> Path:
    return blobs / f"{file.etag}.incomplete"


def _receive(remote: Remote, file: RemoteFile, part: Path, told: _Told) -> None:
    """Receive the file, going on after each cut until attempts bring nothing any more."""
    if (_size(part) or 0) > file.size:
        part.unlink()
    told.add(_size(part) or 0)
    fruitless = 0
    while (before := _size(part)) != file.size:
        try:
            _stream(remote, file, part, told)
            error: Exception = OSError(f"{file.name} ended after {_size(part)} of {file.size} bytes")
        except HTTPError as raised:
            if isinstance(raised, HfHubHTTPError) and raised.response.status_code not in BUSY:
                raise
            error = raised
        fruitless = 0 if (_size(part) or 0) > (before or 0) else fruitless + 1
        if fruitless > len(RETRY_WAITS_S):
            raise error
        # Whoever follows may ask for a stop also while nothing arrives.
        told.add(0)
        if fruitless:
            time.sleep(RETRY_WAITS_S[fruitless - 1])


def _stream(remote: Remote, file: RemoteFile, part: Path, told: _Told) -> None:
    have = _size(part) or 0
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    kind = remote.subject.repo_type
    url = hf_hub_url(remote.base, file.name, repo_type=kind, revision=remote.commit, endpoint=constants.ENDPOINT)
    if not file.size:
        part.touch()
        return
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        whole_again = have and response.status_code != 206
        if whole_again:
            told.add(-have)
            have = 0
        with part.open("ab" if have else "wb") as out:
            # Chunks as they arrive: larger ones would be gathered in memory first, and a cut would lose them.
            for chunk in response.iter_bytes():
                have += len(chunk)
                if have > file.size:
                    break
                out.write(chunk)
                told.add(len(chunk))
    if have > file.size:
        part.unlink()
        raise _damaged(remote, file, f"it is larger than the {file.size} bytes that the hub lists")


def _verify(remote: Remote, file: RemoteFile, part: Path) -> None:
    """Raise and remove the file when its content is not what the hub's hash names."""
    found = _content_hash(file, part)
    if found == file.etag:
        return
    part.unlink()
    kind = "sha256" if file.sha256 else "git hash"
    raise _damaged(remote, file, f"its {kind} is {found[:12]}... and should be {file.etag[:12]}...")


def _content_hash(file: RemoteFile, part: Path) -> str:
    """Return the sha256 of a large file, or the hash that git gives a small one."""
    git_header = f"blob {file.size}\0".encode()
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(git_header, usedforsecurity=False)
    with part.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _damaged(remote: Remote, file: RemoteFile, why: str) -> ProblemError:
    return hub_problem(
        "download_damaged",
        f"{file.name} of {remote.base} arrived damaged: {why}.",
        "Start again, it is fetched anew; if it stays so, something between here and the hub changes files.",
        remote.subject,
    )


def _link(blob: Path, pointer: Path) -> None:
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if pointer.is_symlink() or pointer.exists():
        pointer.unlink()
    try:
        os.symlink(os.path.relpath(blob, pointer.parent), pointer)
    except OSError:
        # File systems without links: the snapshot holds the file itself, as with the hub's own client.
        blob.replace(pointer)


def _note_revision(remote: Remote) -> None:
    """Write which commit a branch or tag stood at, for the time without a connection."""
    if remote.revision == remote.commit:
        return
    ref = _folder(remote) / "refs" / (remote.revision or "main")
    ref.parent.mkdir(parents=True, exist_ok=True)
    fresh = ref.with_name(f".{ref.name}.{os.getpid()}")
    fresh.write_text(remote.commit, encoding="utf-8")
    fresh.replace(ref)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
