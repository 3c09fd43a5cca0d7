"""Content: bytes that can be erased from the file for good.

SQLite moves rows between pages when rows come, go or change their size, and leaves
stale copies behind in free page space, where no `secure_delete` finds them. So a row
of `content` is appended once and then never deleted and never resized. Each holds its
bytes behind their length and padded with zeros to a size class, and erasing writes
zeros of that length in place. A zeroed row waits in `content_free` for other content
of the same class.

Its size class is in the low bits of a content id, so that no query is needed to know
how many zeros to write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from sojourn_server.domain.model import NO_CONTENT, ContentId
from sojourn_server.store.rows import Row
from sojourn_server.store.sqlite.queries import QUERIES

Run = Callable[[str, Sequence[Any]], Any]
"""Executes one statement and answers a cursor."""

CLASS_BITS: Final = 6
_CLASS_MASK: Final = (1 << CLASS_BITS) - 1
_PREFIX: Final = 4
"""Bytes of the length before the content."""

_SMALLEST: Final = 64
_FEW: Final = 8
"""Up to so many pieces are fetched one by one; a JSON array costs more."""

SIZES: Final[tuple[int, ...]] = tuple(
    size for step in range(23) for size in (_SMALLEST << step, (_SMALLEST * 3 // 2) << step)
)
"""The size classes in bytes: 64, 96, 128, 192, … up to 384 MiB."""


def class_of(length: int) -> int:
    """The smallest size class that holds so many bytes of content.

    Raises:
        ValueError: No class is large enough.
    """
    needed = max(length + _PREFIX, _SMALLEST)
    step = (needed - 1).bit_length() - 7
    # 64 << step < needed <= 128 << step, except for needed == 64, where step is -1.
    if step < 0:
        return 0
    found = 2 * step + 1 if needed <= (96 << step) else 2 * step + 2
    if found >= len(SIZES):
        raise ValueError("content is too large for the store")
    return found


def pad(data: bytes, size_class: int) -> bytes:
    """Content as a row holds it."""
    return (len(data).to_bytes(_PREFIX, "little") + data).ljust(SIZES[size_class], b"\0")


def unpad(row: bytes) -> bytes:
    """Content as it was put."""
    return row[_PREFIX : _PREFIX + int.from_bytes(row[:_PREFIX], "little")]


def get(run: Run, content_id: ContentId) -> bytes:
    """The bytes of one piece; empty for none, and for one that is erased."""
    if content_id == NO_CONTENT:
        return b""
    row: Row | None = run(QUERIES.content_get, (content_id,)).fetchone()
    return b"" if row is None else unpad(row[0])


def get_many(run: Run, content_ids: Sequence[ContentId]) -> list[bytes]:
    """The bytes of several pieces, in the order asked."""
    wanted = [content_id for content_id in content_ids if content_id != NO_CONTENT]
    if len(wanted) <= _FEW:
        return [get(run, content_id) for content_id in content_ids]
    asked = msgspec.json.encode(wanted).decode()
    found = {row[0]: unpad(row[1]) for row in run(QUERIES.content_get_many, (asked,))}
    return [found.get(content_id, b"") for content_id in content_ids]


class Slab:
    """What the writer knows of the content table without asking.

    Numbers are never given twice, even when a unit that took some is rolled back.
    """

    def __init__(self) -> None:
        self._last = 0
        self._free: set[int] = set()
        self.bytes_put = 0
        """Bytes written since the owner last set it to zero."""
        self.unscrubbed = False
        """Whether bytes have been overwritten since the owner last said no."""

    def load(self, run: Run) -> None:
        """Learn the newest id and which size classes have rows to use again."""
        row: Row | None = run(QUERIES.content_last, ()).fetchone()
        self._last = max(self._last, 0 if row is None else row[0] >> CLASS_BITS)
        self.reload_free(run)

    def reload_free(self, run: Run) -> None:
        """Learn again which size classes have rows to use again: after a rollback."""
        self._free.clear()
        at = -1
        while (row := run(QUERIES.content_free_next_class, (at,)).fetchone()) is not None:
            at = row[0]
            self._free.add(at)

    def put(self, run: Run, data: bytes) -> ContentId:
        """Keep bytes; `NO_CONTENT` for none."""
        if not data:
            return NO_CONTENT
        size_class = class_of(len(data))
        padded = pad(data, size_class)
        self.bytes_put += len(padded)
        if size_class in self._free:
            row: Row | None = run(QUERIES.content_free_first, (size_class,)).fetchone()
            if row is not None:
                content_id: ContentId = row[0]
                run(QUERIES.content_free_delete, (size_class, content_id))
                run(QUERIES.content_overwrite, (padded, content_id))
                return content_id
            self._free.discard(size_class)
        self._last += 1
        content_id = self._last << CLASS_BITS | size_class
        run(QUERIES.content_insert, (content_id, padded))
        return content_id

    def erase(self, run: Run, content_id: ContentId) -> int:
        """Write zeros over one piece and let its row be used again; how many bytes."""
        size_class = content_id & _CLASS_MASK
        run(QUERIES.content_zero, (SIZES[size_class], content_id))
        run(QUERIES.content_free_insert, (size_class, content_id))
        self._free.add(size_class)
        self.bytes_put += SIZES[size_class]
        self.unscrubbed = True
        return SIZES[size_class]

    def replace(self, run: Run, content_id: ContentId, data: bytes) -> ContentId:
        """Keep bytes where others were, in the same row when the class is the same."""
        if content_id != NO_CONTENT:
            if data and class_of(len(data)) == content_id & _CLASS_MASK:
                padded = pad(data, content_id & _CLASS_MASK)
                run(QUERIES.content_overwrite, (padded, content_id))
                self.bytes_put += len(padded)
                self.unscrubbed = True
                return content_id
            self.erase(run, content_id)
        return self.put(run, data)
