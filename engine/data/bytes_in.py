"""From a path to text: existence, compression, encoding and the impostors that pass for data files."""

import gzip
import zlib
from difflib import get_close_matches
from pathlib import Path

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_bytes

BOMB_RATIO = 200
"""Text compresses 3 to 20 times; a file that grows more than this is not data."""
BOMB_FLOOR_BYTES = 64 * 2**20
MAX_EXPANDED_BYTES = 8 * 2**30
_CHUNK_BYTES = 1 << 20
BINARY_SHARE = 0.02
"""Bytes drawn at random hold 10 % of control characters, damaged text next to none."""
_TEXT_CONTROLS = b"\t\n\v\f\r\x1b"

_UNSUPPORTED = {
    ".xlsx": "an Excel workbook",
    ".xls": "an Excel workbook",
    ".xlsm": "an Excel workbook with macros",
    ".zip": "a zip archive",
    ".zst": "Zstandard-compressed",
    ".bz2": "bzip2-compressed",
    ".xz": "xz-compressed",
    ".7z": "a 7z archive",
    ".tar": "a tar archive",
    ".arrow": "an Arrow file",
    ".feather": "a Feather file",
    ".pkl": "a pickle, which can run code when it is read",
    ".pt": "a pickle, which can run code when it is read",
    ".py": "a program",
    ".pdf": "a PDF document",
    ".docx": "a Word document",
}
_REWRITE = "Save it as JSONL, CSV or Parquet and name that file."


def data_problem(code: str, message: str, fix: str) -> ProblemError:
    """Return a blocking finding about `data.source`, its text safe for a terminal."""
    return ProblemError(Problem(f"data.{code}", clean_line(message), clean_line(fix), path="data.source"))


def check_path(path: Path) -> None:
    """Refuse what cannot be read as one file: missing, folders, devices, unsupported kinds.

    Raises:
        ProblemError: With the cause and the next action.
    """
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise data_problem("is_folder", f"{path} is a folder, not a file.", _files_in(path))
        if not path.exists():
            raise data_problem("file_missing", f"{path} does not exist.", _nearest(path))
        if not path.is_file():
            raise data_problem("not_a_file", f"{path} is not a regular file.", "Name a file that holds the rows.")
    except OSError as error:
        raise _unreadable(path, error) from error
    if suffix in _UNSUPPORTED:
        raise data_problem("unsupported", f"{path} is {_UNSUPPORTED[suffix]}, which is not read here.", _REWRITE)


def _unreadable(path: Path, error: OSError) -> ProblemError:
    reason = (error.strerror or type(error).__name__).lower()
    return data_problem("unreadable", f"{path} cannot be read: {reason}.", "Check the path and its permissions.")


def _files_in(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    listed = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return f"Name the files, one or several; it holds {listed}." if names else "Name a file; this folder has none."


def _nearest(path: Path) -> str:
    if str(path).startswith("~"):
        return "Write the whole path: ~ stands for nothing in a recipe."
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either; check the path."
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    near = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else "Check the path; relative ones start where you are."


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked when its name ends in `.gz`.

    Raises:
        ProblemError: Unreadable, damaged, or a decompression bomb.
    """
    try:
        return _unpacked(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise data_problem(
            "gzip_damaged", f"{path} is not a whole gzip file: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unpacked(path: Path) -> bytes:
    limit = min(MAX_EXPANDED_BYTES, max(BOMB_FLOOR_BYTES, BOMB_RATIO * path.stat().st_size))
    content = bytearray()
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                raise data_problem(
                    "gzip_bomb",
                    f"{path} grows beyond {human_bytes(limit)} when unpacked, which no data file of its size does.",
                    "Unpack it by hand, look at it, and name the unpacked file.",
                )
    return bytes(content)


def decode(content: bytes, name: str) -> str:
    """Return the text of a UTF-8 file, a byte order mark removed.

    Raises:
        ProblemError: Empty, an HTML page, a Git-LFS pointer, another encoding, or a NUL, with the place.
    """
    _refuse_impostors(content, name)
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong_encoding(content, error.start, name) from error
    if not text.strip():
        raise data_problem("blank", f"{name} holds only blank lines.", "Name a file that holds rows.")
    if (at := text.find("\0")) >= 0:
        line, column = place(text, at)
        raise data_problem(
            "nul",
            f"{name}:{line}:{column} is a NUL character: the file is binary, or was damaged.",
            "Write the file again from its source.",
        )
    return text


def place(text: str, at: int) -> tuple[int, int]:
    """Return the line and column, both from 1, of a character position."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _refuse_impostors(content: bytes, name: str) -> None:
    if not content:
        raise data_problem("empty", f"{name} is empty.", "Name a file that holds rows.")
    wide = _wide_encoding(content)
    if wide:
        raise data_problem(
            "encoding", f"{name}:1:1 is {wide} text, not UTF-8.", f"Convert it: iconv -f {wide} -t UTF-8 {name}."
        )
    head = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise data_problem(
            "lfs_pointer",
            f"{name} is a Git-LFS pointer, not the data itself.",
            "Fetch the data with: git lfs pull.",
        )
    if head.startswith((b"<!doctype html", b"<html")):
        raise data_problem(
            "html", f"{name} is an HTML page, not data.", "Download the file itself, not the page that shows it."
        )


def _wide_encoding(content: bytes) -> str:
    for mark, encoding in (
        (b"\xff\xfe\0\0", "UTF-32"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ):
        if content.startswith(mark):
            return encoding
    head = content[:512]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 8 and max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) < 0.05 * len(head):
        return "UTF-16LE" if odd > even else "UTF-16BE"
    return ""


def _wrong_encoding(content: bytes, at: int, name: str) -> ProblemError:
    line = content.count(b"\n", 0, at) + 1
    column = at - content.rfind(b"\n", 0, at)
    if _is_binary(content):
        return data_problem(
            "binary",
            f"{name}:{line}:{column} is byte 0x{content[at]:02x}, and the file is full of control characters: "
            "it is binary, not text.",
            "Name a file of rows: JSONL, JSON, CSV, TSV, Parquet or plain text.",
        )
    likely = likely_encoding(content)
    return data_problem(
        "encoding",
        f"{name}:{line}:{column} is byte 0x{content[at]:02x}, which is not UTF-8; the file is probably {likely}.",
        f"Convert it: iconv -f {likely} -t UTF-8 {name}.",
    )


def _is_binary(content: bytes) -> bool:
    """Return whether bytes that are not UTF-8 are no text in any 8-bit encoding either."""
    head = content[: 1 << 16]
    controls = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head)
    return controls > BINARY_SHARE * len(head)


def likely_encoding(content: bytes) -> str:
    """Return the legacy encoding that fits bytes which are not UTF-8 best; a guess, for a message."""
    high = [byte for byte in content[: 1 << 20] if byte >= 0x80]
    for encoding, label in (("gb18030", "GB18030"), ("shift_jis", "SHIFT_JIS"), ("euc_kr", "EUC-KR")):
        # Western text has single high bytes between ASCII letters; these encodings come in runs of two.
        if len(high) > 8 and _decodes(content[: 1 << 20], encoding) and _mostly_paired(content[: 1 << 16]):
            return label
    return "WINDOWS-1252" if any(0x80 <= byte < 0xA0 for byte in high) else "ISO-8859-1"


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start > len(content) - 4
    return True


def _mostly_paired(content: bytes) -> bool:
    runs = single = 0
    length = 0
    for byte in content + b" ":
        if byte >= 0x80:
            length += 1
        elif length:
            runs += 1
            single += length == 1
            length = 0
    return runs > 0 and single < 0.2 * runs
