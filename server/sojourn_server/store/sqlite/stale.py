"""Stale copies of names, cleared from the pages of the file.

Where SQLite moves rows between the pages of a b-tree it leaves their old bytes behind, in
the page's room between the cells' index and the cells, which no `secure_delete` reaches
(freed cells and freed pages it does zero). Content is kept in a way that avoids this; user
names, ids and labels stand in ordinary rows. So once a user is erased, every page's unused
room is filled with zeros, in the file itself, a few milliseconds at a time.

That is safe because of what holds while a slice is worked on, on the writer's own thread:

- The WAL was just emptied into the file, all of it, so the file is the whole truth.
- Nothing that means anything is written: a page's cells, their index and its header stay,
  so a reader, or a power cut, that meets half a page finds it sound.
- The writer forgets its pages afterwards, so that it never writes old bytes back; readers
  write nothing.
- No other process writes the file (`OwnerLock`), and the descriptor stays open as long as
  SQLite's own: closing any of them would drop the locks of all.

VACUUM does the same, but holds up all writers for as long as the file is large.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

BUDGET_NS: Final = 8_000_000
"""How long one slice may take the writer's thread, beside emptying the WAL."""
CHUNK: Final = 64
"""How many pages are read at once."""

_MAGIC: Final = b"SQLite format 3\0"
_INTERIOR: Final = frozenset({2, 5})
_LEAVES: Final = frozenset({10, 13})
_MOST_PAGES: Final = 2 << 24
"""From here on the first byte of an overflow page, which begins with the number of the next,
could be taken for that of a b-tree page."""
_LOCK_BYTE: Final = 1 << 30
"""Where SQLite keeps its locks: the page there is never used."""
_ZEROS: Final = bytes(65_536)


class NotClearable(ValueError):
    """The file is not laid out as this module knows it."""


def _u16(page: memoryview, at: int) -> int:
    return page[at] << 8 | page[at + 1]


def unused(page: memoryview, usable: int) -> Iterator[tuple[int, int]]:
    """The room of a page that holds nothing, as pairs of offsets.

    Args:
        page: Any page of a database but its first.
        usable: How many of its bytes SQLite uses.

    Raises:
        NotClearable: It looks like a page of a b-tree, and is none.
    """
    kind = page[0]
    if kind not in _INTERIOR and kind not in _LEAVES:
        return  # a page of overflow or of the free list
    low = (12 if kind in _INTERIOR else 8) + 2 * _u16(page, 3)
    high = _u16(page, 5) or 65_536
    if not low <= high <= usable:
        raise NotClearable("a page's cells are out of its bounds")
    yield low, high
    block, end = _u16(page, 1), high
    while block:
        size = _u16(page, block + 2) if end <= block <= usable - 4 else 0
        if size < 4 or block + size > usable:
            raise NotClearable("a page's free blocks are out of order")
        yield block + 4, block + size
        block, end = _u16(page, block), block + size


class Pages:
    """The file, beside SQLite.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def close(self) -> None:
        """Let the file go; only when SQLite has."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def sync(self) -> None:
        """Bring what was cleared to the disk."""
        os.fsync(self._descriptor)

    def clear(self, connection: sqlite3.Connection, first: int) -> int:
        """Clear pages of a file whose WAL is empty, for as long as `BUDGET_NS` allows.

        Args:
            connection: The writer's, in no transaction, on its thread.
            first: The page to begin with; 2 is the first that can hold anything of ours.

        Returns:
            The page to go on with; 0: all are done.

        Raises:
            NotClearable: That cannot be done safely; nothing was harmed.
            OSError: The file cannot be read or written.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        size, usable = self._layout(connection)
        pages = os.fstat(self._descriptor).st_size // size
        if pages >= _MOST_PAGES:
            raise NotClearable("the file has too many pages")
        ends = time.monotonic_ns() + BUDGET_NS
        try:
            while first <= pages:
                count = min(CHUNK, pages - first + 1)
                self._clear_some(first, count, size, usable)
                first += count
                if time.monotonic_ns() >= ends:
                    break
        finally:
            # What the writer remembers of these pages still has the old bytes.
            connection.execute("PRAGMA shrink_memory")
        return first if first <= pages else 0

    def _layout(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """The size of a page, and how much of it is used."""
        head = os.pread(self._descriptor, 100, 0)
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        if len(head) < 100 or not head.startswith(_MAGIC):
            raise NotClearable("it does not begin as a database does")
        if (int.from_bytes(head[16:18], "big") or 1) not in {size, 1} or head[20]:
            raise NotClearable("something else has its share of every page")
        return size, size - head[20]

    def _clear_some(self, first: int, count: int, size: int, usable: int) -> None:
        begin = (first - 1) * size
        data = os.pread(self._descriptor, count * size, begin)
        view = memoryview(data)
        for at in range(0, len(data), size):
            if begin + at == _LOCK_BYTE:
                continue
            for low, high in unused(view[at : at + size], usable):
                empty = _ZEROS[: high - low]
                if data[at + low : at + high] != empty:
                    os.pwrite(self._descriptor, empty, begin + at + low)


class Stale:
    """Clears stale copies when that was asked for, a slice at a time.

    Args:
        pages: The file.
        slice_: Runs `Pages.clear` from a page on, where nobody writes meanwhile; None: a
            reader is in the way.
        done: Takes back the wishes up to one.
    """

    def __init__(
        self,
        pages: Pages,
        slice_: Callable[[int], Awaitable[int | None]],
        done: Callable[[int], Awaitable[None]],
    ) -> None:
        self._pages = pages
        self._slice = slice_
        self._done = done
        self._goal = 0
        self._next = 2
        self._lock = asyncio.Lock()

    async def go_on(self, wished: int) -> bool:
        """Clear the next slice.

        Args:
            wished: The newest wish; 0: there is none.

        Returns:
            Whether nothing is left to be done.
        """
        async with self._lock:
            if not wished:
                return True
            if not self._goal:
                self._goal, self._next = wished, 2
            following = await self._slice(self._next)
            if following is None:
                return False
            self._next = following
            if following:
                return False
            await asyncio.to_thread(self._pages.sync)
            goal, self._goal = self._goal, 0
            await self._done(goal)
            return goal >= wished
