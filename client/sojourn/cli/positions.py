"""The file in which a watch keeps how far it has come, so that the next run goes on there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import click

import sojourn
from sojourn.cli.encode import dumps, position


class PositionFile:
    """A file that holds one position: it is read once, and then replaced as a whole.

    Args:
        path: Where. It need not be there yet; its folder must.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: sojourn.WatchPosition | None = None

    def read(self) -> sojourn.WatchPosition | None:
        """Return the position; None: there is no file yet, or an empty one."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"Cannot read {self._path}: {_why(error)}.") from error
        if not text.strip():
            return None
        try:
            held = json.loads(text)
            return sojourn.WatchPosition(
                str(held["token"]), int(held["revision"]), int(held["index"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise click.UsageError(f"{self._path} holds no position of a watch.") from error

    def write(self, place: sojourn.WatchPosition) -> None:
        """Replace the file; whoever reads it, whenever, finds the old one or the new.

        Raises `OSError`.
        """
        if place == self._last or not place.token:
            return
        number, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(dumps(position(place)).encode() + b"\n")
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._last = place


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is no text"
