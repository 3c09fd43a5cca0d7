"""A power cut: takes back what a killed server had written and not synced.

While the server runs, `preload/faultfs.c` notes what it writes. After the kill this
module turns each file into one that the disk could have held: the last synced state,
and of what was written since nothing, or a random part, torn at the edges of sectors.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

SOURCE: Final = Path(__file__).parent / "preload" / "faultfs.c"
SECTOR: Final = 512
FILES: Final = {"db": "", "wal": "-wal", "journal": "-journal"}
BITS: Final = {"db": 1, "wal": 2, "journal": 4}

_WRITE, _TRUNCATE, _SYNCED, _SYNC_FAILED = 1, 2, 3, 4
_MAGIC: Final = 0x736A6653
_HEAD: Final = struct.Struct("<IIQQQQ")


def build(folder: Path) -> Path:
    """Compile the shim; skip the test, visibly, where that cannot be."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the shim that forgets unsynced writes cannot be built")
    library = folder / "faultfs.so"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-lpthread"], check=True)
    return library


class _Control(ctypes.Structure):
    """`struct control` of faultfs.c."""

    _fields_ = [
        ("sync_error", ctypes.c_int32),
        ("sync_files", ctypes.c_uint32),
        ("faults", ctypes.c_int64),
        ("syncs", ctypes.c_int64),
        ("writes", ctypes.c_int64),
    ]


class _Record(NamedTuple):
    kind: int
    offset: int
    old_size: int
    old: bytes
    new: bytes


@dataclass
class Lost:
    """What a cut took back."""

    writes: int = 0
    files: int = 0


class ForgetfulDisk:
    """The disk under one store: its shim, its notes, its faults.

    Args:
        library: The shim, built.
        store: The database file.
        side: A directory for the notes; made empty.
    """

    def __init__(self, library: Path, store: Path, side: Path) -> None:
        side.mkdir()
        self._store = store.resolve()
        self._side = side
        (side / "control").write_bytes(bytes(ctypes.sizeof(_Control)))
        with (side / "control").open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTFS_STORE": str(self._store),
            "FAULTFS_SIDE": str(side),
        }

    @property
    def faults(self) -> int:
        """How many syncs have been answered with an error."""
        return int(self._control.faults)

    @property
    def syncs(self) -> int:
        """How many syncs of the store have succeeded."""
        return int(self._control.syncs)

    @property
    def writes(self) -> int:
        """How many writes to the store were seen."""
        return int(self._control.writes)

    def fail_syncs(self, *files: str) -> None:
        """Answer EIO to every sync of these files (`db`, `wal`, `journal`); none: heal."""
        self._control.sync_files = sum(BITS[file] for file in files)
        self._control.sync_error = errno.EIO if files else 0

    def cut(self, chance: random.Random | None) -> Lost:
        """Turn the files into what the disk holds after the power went.

        The process must be dead.

        Args:
            chance: Decides which of the unsynced writes got to the disk; None: not one.
        """
        lost = Lost()
        for name, suffix in FILES.items():
            path = self._store.with_name(self._store.name + suffix)
            made = self._side / f"{name}.created"
            log = self._side / f"{name}.undo"
            records = list(_records(log.read_bytes())) if log.exists() else []
            if made.exists() and (chance is None or chance.random() < 0.5):
                lost.files += path.exists()
                path.unlink(missing_ok=True)
            elif path.exists() and records:
                data, dropped = _cut_file(path.read_bytes(), records, chance)
                path.write_bytes(data)
                lost.writes += dropped
            made.unlink(missing_ok=True)
            log.write_bytes(b"")
        self._store.with_name(self._store.name + "-shm").unlink(missing_ok=True)
        return lost


def _records(data: bytes) -> Iterator[_Record]:
    """The entries of an undo log, up to one that the kill cut short."""
    at = 0
    while at + _HEAD.size <= len(data):
        magic, kind, offset, old_size, old_length, new_length = _HEAD.unpack_from(data, at)
        assert magic == _MAGIC, "the undo log is damaged"
        old = at + _HEAD.size
        new = old + old_length
        at = new + new_length
        if at > len(data):
            return
        yield _Record(kind, offset, old_size, data[old:new], data[new:at])


def _cut_file(
    present: bytes, records: list[_Record], chance: random.Random | None
) -> tuple[bytes, int]:
    """A file as the disk holds it, and how many writes are not on it."""
    data = bytearray(present)
    for record in reversed(records):
        _undo(data, record)
    dropped = 0
    for record, fate in zip(records, _fates(records), strict=True):
        if record.kind not in (_WRITE, _TRUNCATE):
            continue
        if fate == _SYNCED:
            _redo(data, record, None)
        elif fate == _SYNC_FAILED or chance is None:
            dropped += 1
        else:
            dropped += _redo(data, record, chance)
    return bytes(data), dropped


def _fates(records: list[_Record]) -> list[int]:
    """Of each record: the next sync that its file saw, if it saw one."""
    fates: list[int] = []
    fate = 0
    for record in reversed(records):
        if record.kind in (_SYNCED, _SYNC_FAILED):
            fate = record.kind
        fates.append(fate)
    return fates[::-1]


def _undo(data: bytearray, record: _Record) -> None:
    if record.kind == _WRITE:
        data[record.offset : record.offset + len(record.old)] = record.old
        del data[record.old_size :]
    elif record.kind == _TRUNCATE:
        del data[min(record.offset, record.old_size) :]
        data += record.old


def _redo(data: bytearray, record: _Record, chance: random.Random | None) -> int:
    """Bring a write to the disk, or the sectors that chance allows; 1 if any stays away."""
    if record.kind == _TRUNCATE:
        if chance is not None and chance.random() < 0.5:
            return 1
        del data[record.offset :]
        data += bytes(record.offset - len(data))
        return 0
    # Most writes get there whole or not at all; the rest is torn.
    whole = None if chance is None else chance.random()
    if whole is not None and whole < 0.4:
        return 1
    torn = 0
    for start in range(0, len(record.new), SECTOR):
        if whole is not None and whole > 0.8 and chance is not None and chance.random() < 0.5:
            torn = 1
            continue
        piece = record.new[start : start + SECTOR]
        offset = record.offset + start
        data += bytes(max(0, offset - len(data)))
        data[offset : offset + len(piece)] = piece
    return torn
