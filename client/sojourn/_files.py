"""Files to read from and to write to, given by a path or open already."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def reading(file: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a file to read from; one that was open stays open."""
    if isinstance(file, str | Path):
        with Path(file).open("rb") as opened:
            yield opened
    else:
        yield file


@contextmanager
def writing(file: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a file to write to; one that was open stays open.

    At a path the file appears, or is replaced, when the block is left without an exception.
    """
    if not isinstance(file, str | Path):
        yield file
        return
    path = Path(file)
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as opened:
            yield opened
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
