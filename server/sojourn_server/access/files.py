"""Files that are read again when they change; a broken one leaves the last good."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
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
            exposed = _others_may_write(self.path)
        except OSError as error:
            raise BadFile(f"{self._name}: {self.path} cannot be read ({error.strerror}).") from None
        if exposed:
            raise BadFile(
                f"{self._name}: {self.path} can be changed by everybody; take that right away."
            )
        # A file that was exchanged meanwhile is read again the next time.
        self._stamp = before
        return value

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong with it."""
        why = str(error) if isinstance(error, BadFile) else f"{self.path} cannot be read."
        if why != self._failed:
            self._failed = why
            _log.error("file cannot be used; what it said before stays", why=why)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another, whole or not at all.

    A new one is for its owner's eyes alone. One that takes another's place belongs to the same
    account and group, as far as that is allowed, and its group may read it as before: who
    revokes a key as root must not keep the server from reading that it is revoked.

    Raises:
        OSError: It cannot be written.
    """
    # What mkstemp makes, nobody else may read.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
            _inherit(out.fileno(), path)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _inherit(descriptor: int, path: Path) -> None:
    """Give a file the account, the group and the group's right to read of another."""
    if os.name != "posix":
        return
    try:
        was = path.stat()
    except FileNotFoundError:
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, was.st_uid, was.st_gid)
        os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR | (was.st_mode & stat.S_IRGRP))


def warn_of_readers(path: Path, name: str) -> bool:
    """Say in the log if everybody on the machine may read a file that holds secrets.

    It is no reason not to start: an operator may have no other way to share it.

    Args:
        path: The file.
        name: The setting that names it.

    Returns:
        Whether everybody may.
    """
    try:
        exposed = os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # Whoever reads it says what is wrong with it.
    if exposed:
        _log.warning("file can be read by everybody", setting=name, file=str(path))
    return exposed


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def _others_may_write(path: Path) -> bool:
    """Whether anybody on the machine may change a file."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IWOTH)
