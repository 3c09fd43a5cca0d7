"""The lock that lets one server alone own a database file.

Two processes that write or checkpoint one WAL at the same time can corrupt it (SQLite
3.7.0 to 3.51.2), so a second server must not even open the file. The lock is on a file
beside it: a lock on the database file itself would be lost as soon as anything in this
process closed that file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sojourn_server.store.base import StoreUnusable

if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class OwnerLock:
    """Held from `acquire` to `release`; the system frees it when the process dies.

    Args:
        path: The database file; the lock is the file of that name with `.lock` behind.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = path.with_name(path.name + ".lock")
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StoreUnusable: Another server has it, or its file cannot be made.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(
                f"{self._path} cannot be opened or created ({error.strerror})."
            ) from None
        try:
            _try_lock(handle)
        except OSError:
            os.close(handle)
            raise StoreUnusable(f"{self._database} is in use by another server.") from None
        self._handle = handle

    def release(self) -> None:
        """Give the lock back. The file stays: removing it could let two servers in."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
