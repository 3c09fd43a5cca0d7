"""Pieces of a log that streams behind its end read: once for all who are at the same place.

After a restart, hundreds resume at once, and most from the same few places. Blocks end at
fixed revisions, so that streams which began apart read the same ones from the second on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

import msgspec

from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest, Lens
from sojourn_server.feed.log import Look, look
from sojourn_server.feed.parts import Encoder, Part, Press, see
from sojourn_server.store.base import Store

SIZE: Final = 256
"""How many revisions a block has, and about how many changes are read for it."""
KEPT: Final = 32
"""How many blocks of one log are kept: some 16 MB of ordinary sessions."""
VIEWS: Final = 64
"""How many interests a block is kept ready for."""


class Block:
    """One look at the log, and what of it shows to whom.

    Args:
        found: The look.
        encoder: Gives changes their form.
    """

    def __init__(self, found: Look, encoder: Encoder) -> None:
        self.found = found
        self._press = Press(encoder)
        self._views: dict[tuple[Interest, int], list[Part]] = {}

    def view(self, interest: Interest, lens: Lens, until: int) -> Sequence[Part]:
        """What shows of the revisions up to one.

        Args:
            interest: To whom.
            lens: Sees what they see.
            until: The last revision to tell of.
        """
        until = min(until, self.found.end.revision)
        parts = self._views.get((interest, until))
        if parts is None:
            changes = takewhile(lambda each: each.revision <= until, self.found.changes)
            parts = self._press.bind(see(lens, changes), interest)
            if len(self._views) >= VIEWS:
                self._views.clear()
            self._views[interest, until] = parts
        return parts


class Blocks:
    """The blocks of one log.

    Args:
        store: Where it is.
        app: Whose it is.
        encoder: Gives changes their form.
    """

    def __init__(self, store: Store, app: str, encoder: Encoder) -> None:
        self._store = store
        self._app = app
        self._encoder = encoder
        self._kept: OrderedDict[Point, Block] = OrderedDict()
        self._coming: dict[Point, asyncio.Task[Block]] = {}
        self._erasures = 0

    async def after(self, point: Point) -> Block:
        """The block that begins after a place.

        Raises:
            Refusal: `REVISION_COMPACTED` or `FEED_CHANGED`: the log does not go on from there.
            StoreDown: It cannot be read.
        """
        block = self._kept.get(point)
        if block is not None:
            self._kept.move_to_end(point)
            return block
        task = self._coming.get(point)
        if task is None:
            task = self._coming[point] = asyncio.create_task(self._read(point), name="feed block")
            task.add_done_callback(lambda done: self._come(point, done))
        # Whoever asked first may leave; the others still wait.
        return await asyncio.shield(task)

    def _come(self, point: Point, task: asyncio.Task[Block]) -> None:
        del self._coming[point]
        if not task.cancelled():
            task.exception()  # all who wait for it have it, too

    def forget(self) -> None:
        """Keep nothing that was read up to now: what the log says of a user was erased."""
        self._kept.clear()
        self._erasures += 1

    async def _read(self, point: Point) -> Block:
        erasures = self._erasures
        found = await look(self._store, self._app, point, SIZE)
        end = (point.revision // SIZE + 1) * SIZE
        if found.end.revision > end:
            changes = [change for change in found.changes if change.revision <= end]
            last = Point(changes[-1].revision, changes[-1].nonce)
            found = msgspec.structs.replace(found, changes=changes, end=last)
        block = Block(found, self._encoder)
        whole = found.end.revision < found.head  # nothing will ever be added to it
        if whole and erasures == self._erasures:
            self._kept[point] = block
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return block
