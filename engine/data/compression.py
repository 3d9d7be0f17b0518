"""Compressed files as streams: gzip, Zstandard, bzip2, xz, and a zip archive that holds one data file."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Protocol, cast

from engine.data.paths import data_problem
from engine.text import human_bytes

Packing = Literal["plain", "gzip", "zstd", "bzip2", "xz", "zip"]

PACKING_SUFFIXES: dict[str, Packing] = {
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zip": "zip",
}
_MAGIC: tuple[tuple[bytes, Packing], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
"""What the decompressors raise on bytes that are not theirs, are cut off or fail their checksum."""
BOMB_RATIO = 200
"""Text compresses 3 to 20 times; a file that grows more than this is not data."""
BOMB_FLOOR_BYTES = 24 * 2**20
"""Less than this is unpacked whatever the ratio: small files of equal rows compress a thousand times."""
MAX_EXPANDED_BYTES = 256 * 2**30
_ENCRYPTED = 0x1
_LISTED_MEMBERS = 5


class Readable(Protocol):
    """What gives bytes."""

    def read(self, num_bytes: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""


def packing_by_magic(head: bytes) -> Packing:
    """Return how bytes are compressed, by the signature at their start."""
    return next((packing for magic, packing in _MAGIC if head.startswith(magic)), "plain")


def packing_of(raw: BinaryIO, path: Path, name: str) -> Packing:
    """Return how a file is compressed: its first bytes decide, its ending only tells what was promised.

    Args:
        raw: The file, at its start; it is left there.
        path: For its ending.
        name: Name in messages.

    Raises:
        ProblemError: The ending promises a compression that the content does not have.
    """
    head = raw.read(8)
    raw.seek(0)
    found = packing_by_magic(head)
    promised = PACKING_SUFFIXES.get(path.suffix.lower(), "plain")
    if promised not in ("plain", found) and head:
        raise data_problem(
            f"{promised}_damaged",
            f"{name} is not a whole {promised} file: its first bytes are not those of {promised}.",
            "Copy or download it again, or give it the ending of what it is.",
        )
    return found


def opened(raw: BinaryIO, packing: Packing, name: str) -> Readable:
    """Return the unpacked content of a file as a stream that never holds more than it is asked for.

    Raises:
        ProblemError: A zip archive that does not hold one data file.
    """
    openers: dict[Packing, Callable[[Any], Any]] = {
        "plain": lambda file: file,
        "gzip": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
        "zstd": _zstd,
        "bzip2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zip": lambda file: _member(file, name),
    }
    return cast(Readable, openers[packing](raw))


def _zstd(raw: BinaryIO) -> Readable:
    # Python gained a Zstandard module in 3.14; pyarrow brings the codec along.
    import pyarrow as pa  # type: ignore[import-untyped]

    return cast(Readable, pa.CompressedInputStream(raw, "zstd"))


def refuse_bomb(expanded_bytes: int, packed_bytes: int, packing: Packing, name: str) -> None:
    """Refuse what grows as no data file does.

    Args:
        expanded_bytes: Size when unpacked, so far or as the archive declares it.
        packed_bytes: Compressed bytes that it came out of.
        packing: How it is compressed.
        name: Name in messages.

    Raises:
        ProblemError: A decompression bomb.
    """
    if expanded_bytes > min(MAX_EXPANDED_BYTES, max(BOMB_FLOOR_BYTES, BOMB_RATIO * packed_bytes)):
        raise data_problem(
            f"{packing}_bomb",
            f"{name} grows to {human_bytes(expanded_bytes)} out of {human_bytes(packed_bytes)}, "
            "which no data file does.",
            "Unpack it by hand, look at it, and name the unpacked file.",
        )


def _member(raw: BinaryIO, name: str) -> Readable:
    try:
        archive = zipfile.ZipFile(raw)
    except DAMAGED as error:
        message = f"{name} is not a whole zip file: {str(error).rstrip('.')}."
        raise data_problem("zip_damaged", message, "Copy or download it again.") from error
    member = only_member(archive, name)
    if member.flag_bits & _ENCRYPTED:
        raise data_problem(
            "zip_password", f"{name} is locked with a password.", "Unpack it by hand and name the unpacked file."
        )
    # The unpacker takes compressed bytes in large pieces, so what the archive declares is looked at first.
    refuse_bomb(member.file_size, member.compress_size, "zip", name)
    try:
        return cast(Readable, archive.open(member))
    except DAMAGED as error:
        message = f"{member.filename} in {name} cannot be unpacked: {str(error).rstrip('.')}."
        raise data_problem("zip_damaged", message, "Unpack it by hand and name the unpacked file.") from error


def only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the one file of an archive, what desktops add left aside.

    Raises:
        ProblemError: It holds none, several, or the parts of an Excel or Word file.
    """
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/") and not _hidden(member.filename)
    ]
    names = {member.filename for member in members}
    if "[Content_Types].xml" in names:
        raise _office(name, names)
    if len(members) == 1:
        return members[0]
    if not members:
        raise data_problem("zip_empty", f"{name} is a zip archive without a file.", "Name a file that holds rows.")
    listed = ", ".join(member.filename for member in members[:_LISTED_MEMBERS])
    more = " ..." if len(members) > _LISTED_MEMBERS else ""
    raise data_problem(
        "zip_several",
        f"{name} is a zip archive of {len(members)} files: {listed}{more}.",
        "Unpack it and name the files that hold the rows, one or several.",
    )


def _hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")


def _office(name: str, members: set[str]) -> Exception:
    if any(member.startswith("xl/") for member in members):
        macros = " with macros" if any(member.endswith("vbaProject.bin") for member in members) else ""
        return data_problem(
            "excel",
            f"{name} is an Excel workbook{macros}. Excel is not read: formulas, merged cells and dates have no one "
            "reading.",
            "In the spreadsheet program, save the sheet with the rows as CSV UTF-8 and name that file.",
        )
    return data_problem("unsupported", f"{name} is an office document, not rows.", "Save the rows as JSONL or CSV.")
