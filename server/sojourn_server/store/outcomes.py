"""What becomes of a unit or a read, well or badly."""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class StoreUnusable(Exception):
    """The store cannot be opened; the text is a sentence for the operator (S51)."""


class StoreFull(Exception):
    """There is no room: writes are refused, reads go on (S50)."""


class StoreDown(Exception):
    """The store failed or is away; the outcome of a write is unknown (S52)."""


class KeyTaken(Exception):
    """A session with this key exists (S10)."""


class Applied(msgspec.Struct, Generic[T], frozen=True):
    """What became of a unit."""

    value: T
    """What the unit returned."""
    revision: int
    """The revision taken, or the head where nothing was logged."""
    changed: bool
    """Whether anything was logged."""
    scrubbed: bool
    """Whether everything the unit erased is gone from the files."""


class Priority(enum.IntEnum):
    """Who goes first into a commit."""

    CALLER = 0
    JOB = 1
