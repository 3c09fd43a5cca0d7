"""Looking for text in the raw files of a store."""

from __future__ import annotations

import re
from pathlib import Path

_MARK = re.compile(rb"<secret-(\d{6})")


def secret(number: int, length: int) -> bytes:
    """Content of a length in which a mark comes again and again, whatever page it is cut at."""
    mark = mark_of(number)
    return (mark * (length // len(mark) + 1))[:length]


def mark_of(number: int) -> bytes:
    return b"<secret-%06d>" % number


def raw_bytes(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def marks_in(folder: Path) -> dict[int, set[str]]:
    """Which secrets are in which files."""
    found: dict[int, set[str]] = {}
    for name, data in raw_bytes(folder).items():
        for digits in set(_MARK.findall(data)):
            found.setdefault(int(digits), set()).add(name)
    return found
