"""Files that are read again when they change; a broken one leaves the last good."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sojourn_server import logs

T = TypeVar("T")

_Stamp = tuple[int, int, int, int]

_log = logs.Log("access")


class BadFile(ValueError):
    """A file that cannot be used; the text is a sentence for the operator."""


class WatchedFile(Generic[T]):
    """What a file says, read again when the file changes.

    Args:
        path: The file.
        name: The setting that names it, for messages.
        parse: Makes the value of the bytes; raises `BadFile`.

    Raises:
        BadFile: It cannot be read, or says nothing that can be used.
    """

    def __init__(self, path: Path, name: str, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._name = name
        self._parse = parse
        self._stamp: _Stamp | None = None
        self._failed = ""
        self.value = self._load()
        """What it said when it was last good."""
        if _others_may_write(path):
            raise BadFile(f"{name}: {path} can be changed by everybody; take that right away.")

    def refresh(self) -> bool:
        """Read it again if it has changed. Blocks: not for the event loop.

        Returns:
            Whether the value is another one now.
        """
        try:
            if _stamp(self.path) == self._stamp:
                return False
            value = self._load()
        except (OSError, BadFile) as error:
            self._complain(error)
            return False
        if self._failed:
            self._failed = ""
            _log.info("file is good again", setting=self._name)
        changed = value != self.value
        self.value = value
        return changed

    def _load(self) -> T:
        try:
            before = _stamp(self.path)
            value = self._parse(self.path.read_bytes())
        except OSError as error:
            raise BadFile(f"{self._name}: {self.path} cannot be read ({error.strerror}).") from None
        # A file that was exchanged meanwhile is read again the next time.
        self._stamp = before
        return value

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong with it."""
        why = str(error) if isinstance(error, BadFile) else f"{self.path} cannot be read."
        if why != self._failed:
            self._failed = why
            _log.error("file cannot be used; what it said before stays", why=why)


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def _others_may_write(path: Path) -> bool:
    """Whether anybody on the machine may change a file."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IWOTH)
