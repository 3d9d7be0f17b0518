"""TensorBoard's event files: TFRecords of `tensorflow.Event` messages, of which scalars need five fields.

Formats: TFRecord is length, its masked CRC-32C, the bytes, their masked CRC-32C (little endian; tensorflow/core/lib/io/
record_writer.cc). `Event` has wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7
(tensorflow/core/util/event.proto); a `Summary.Value` has tag = 1, simple_value = 2.
"""

import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from engine.tracking.scalars import Scalar

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_VERSION = b"brain.Event:2"
_SESSION_START = 1


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of bytes, turned and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


class EventFile:
    """A new event file.

    Args:
        path: Where; its name must hold `tfevents`.
        start_step: TensorBoard forgets what older files have from this step on.
    """

    def __init__(self, path: Path, start_step: int = 0) -> None:
        self._file = path.open("xb")
        now = time.time()
        self._put(_double(1, now) + _bytes(3, _VERSION))
        self._put(_double(1, now) + _integer(2, start_step) + _bytes(7, _integer(1, _SESSION_START)))

    def write(self, scalars: Iterable[Scalar]) -> None:
        """Append points; they are in the file when this returns."""
        for scalar in scalars:
            value = _bytes(1, scalar.tag.encode()) + _key(2, 5) + struct.pack("<f", _single(scalar.value))
            self._put(_double(1, scalar.time) + _integer(2, scalar.step) + _bytes(5, _bytes(1, value)))
        self._file.flush()

    def close(self) -> None:
        """Make the file durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _put(self, message: bytes) -> None:
        length = struct.pack("<Q", len(message))
        parts = (length, struct.pack("<I", masked_crc(length)), message, struct.pack("<I", masked_crc(message)))
        self._file.write(b"".join(parts))


def _single(value: float) -> float:
    """Return a number that four bytes can hold: larger ones are infinite there."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _integer(field: int, number: int) -> bytes:
    return _key(field, 0) + _varint(number)


def _double(field: int, number: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", number)


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, 2) + _varint(len(content)) + content
