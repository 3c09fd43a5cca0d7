"""Copies of the file while it is written: whole, checked, private, and never half there.

`VACUUM INTO` reads one instant and writes only what rows hold: no free pages, and so none
of the stale ids that rows may leave behind. It waits for no writer, and none for it.
Python's `Connection.backup`, in steps, begins anew whenever another connection writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from sojourn_server.store.base import StoreDown, StoreFull
from sojourn_server.store.sqlite.errors import as_failure
from sojourn_server.store.staged import BackupTaken, NoBackupPlace

PARTIAL: Final = ".partial"
"""What the name of a copy ends with that is not whole."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Copier:
    """Copies one file, one copy at a time.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading: sqlite3.Connection | None = None
        self._closed = False

    def stop(self) -> None:
        """Break off a copy that is being made, and refuse others."""
        self._closed = True
        reading = self._reading
        if reading is not None:
            reading.interrupt()

    def copy(self, folder: Path, name: str) -> int:
        """Make a copy; to be called on a thread of its own.

        Returns:
            Its bytes.

        Raises:
            BackupTaken: There is one of this name.
            NoBackupPlace: The folder cannot be written.
            StoreFull: There is no room for it; nothing is left of it.
            StoreDown: The store failed, or is closed.
        """
        with self._lock:
            if self._closed:
                raise StoreDown("the store is closed")
            try:
                return self._copy(folder.absolute(), name)
            except sqlite3.Error as error:
                raise as_failure(error) or StoreDown("the copy failed") from error
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise StoreFull("there is no room for the copy") from error
                raise NoBackupPlace(error.strerror or "it cannot be written") from error

    def _copy(self, folder: Path, name: str) -> int:
        folder.mkdir(mode=0o700, exist_ok=True)
        target, partial = folder / name, folder / f".{name}{PARTIAL}"
        # A server that was killed in the middle leaves one; nobody else makes any.
        for left in folder.glob(f".*{PARTIAL}"):
            left.unlink()
        if target.exists():
            raise BackupTaken(name)
        try:
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._vacuum(partial)
            _check(partial)
            _sync(partial)
            # A link, for unlike a rename it never takes the place of another file.
            try:
                os.link(partial, target)
            except FileExistsError:
                raise BackupTaken(name) from None
            size = target.stat().st_size
        finally:
            for left in (partial, Path(f"{partial}-journal")):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
        _sync(folder)
        return size

    def _vacuum(self, partial: Path) -> None:
        source = sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # `stop` interrupts it
        )
        with contextlib.closing(source):
            source.execute("PRAGMA temp_store = MEMORY")
            self._reading = source
            try:
                if self._closed:
                    raise StoreDown("the store is closed")
                source.execute("VACUUM INTO ?", (str(partial),))
            finally:
                self._reading = None


def _check(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as copy:
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDown("the copy is damaged")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
