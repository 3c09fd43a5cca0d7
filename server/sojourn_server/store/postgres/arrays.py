"""Arrays on their way to the database.

Everything that a batch writes goes in arrays, so what the driver does for each element of
a list, choosing how to send it, is most of what a batch costs. A column has one type; so
these are sent as PostgreSQL's binary form of it, put together at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

_BIGINT: Final = 20
_TEXT: Final = 25
_BYTEA: Final = 17
_ARRAY_OF: Final = {_BIGINT: 1016, _TEXT: 1009, _BYTEA: 1001}

_HEAD: Final = struct.Struct("!iiIii")
"""Dimensions, whether there are NULLs, the element's type, length, lower bound."""
_LENGTH: Final = struct.Struct("!i").pack
_BIG: Final = struct.Struct("!iq").pack
_NULL: Final = _LENGTH(-1)


class Bigints:
    """A column of numbers, NULLs among them."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values


class Texts(Bigints):
    """A column of texts, NULLs among them."""

    __slots__ = ()


class Blobs(Bigints):
    """A column of bytes, NULLs among them."""

    __slots__ = ()


def column(values: Sequence[Any]) -> Bigints:
    """A column of whatever its values are; of NULLs alone, one of texts.

    The statement casts each array to what its column is, and texts become anything.
    """
    first = next((value for value in values if value is not None), None)
    if isinstance(first, int):
        return Bigints(values)
    return Blobs(values) if isinstance(first, bytes) else Texts(values)


def columns(rows: Iterable[Sequence[Any]]) -> list[Bigints]:
    """Rows turned into one array for each column."""
    return [column(values) for values in zip(*rows, strict=True)]


@lru_cache(64)
def _numbers(count: int) -> struct.Struct:
    return struct.Struct("!" + "iq" * count)


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: int

    def dump(self, obj: Any) -> Buffer:
        """The binary form of a column."""
        values = obj.values
        if not values:
            return _HEAD.pack(0, 0, self.element, 0, 1)[:12]
        head = _HEAD.pack(1, None in values, self.element, len(values), 1)
        return head + b"".join(self.parts(values))

    def parts(self, values: Sequence[Any]) -> list[bytes]:
        """The elements, each behind its length."""
        raise NotImplementedError


class BigintsDumper(_ArrayDumper):
    """Sends `Bigints`."""

    element = _BIGINT
    oid = _ARRAY_OF[_BIGINT]

    def parts(self, values: Sequence[Any]) -> list[bytes]:
        """The elements, each behind its length."""
        if None in values:
            return [_NULL if value is None else _BIG(8, value) for value in values]
        lengths_too: list[int] = [8] * (2 * len(values))
        lengths_too[1::2] = values
        return [_numbers(len(values)).pack(*lengths_too)]


class TextsDumper(_ArrayDumper):
    """Sends `Texts`."""

    element = _TEXT
    oid = _ARRAY_OF[_TEXT]

    def parts(self, values: Sequence[Any]) -> list[bytes]:
        """The elements, each behind its length."""
        return _behind_lengths([None if value is None else value.encode() for value in values])


class BlobsDumper(_ArrayDumper):
    """Sends `Blobs`."""

    element = _BYTEA
    oid = _ARRAY_OF[_BYTEA]

    def parts(self, values: Sequence[Any]) -> list[bytes]:
        """The elements, each behind its length."""
        return _behind_lengths(values)


def _behind_lengths(values: Sequence[bytes | None]) -> list[bytes]:
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH(len(value)), value)
    return parts
