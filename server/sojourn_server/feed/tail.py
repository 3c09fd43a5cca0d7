"""The end of one app's log: read once, told to everybody who follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from sojourn_server import logs
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import ChangeCause
from sojourn_server.domain.resume import Point, feed_changed
from sojourn_server.domain.watching import Interest, Lens
from sojourn_server.feed.blocks import Blocks
from sojourn_server.feed.index import Index
from sojourn_server.feed.log import Look, app_gone, look, look_at_end
from sojourn_server.feed.parts import Encoder, Press, Seen, sight_of
from sojourn_server.feed.stream import Stream
from sojourn_server.store.base import LoggedChange, Store, StoreDown

READ: Final = 256
"""How many changes are read at once, about: telling of them holds up all others."""
REST: Final = 0.2
"""How long to rest when the log cannot be read, in seconds."""

_log = logs.Log("feed")


class Group:
    """All streams at the end of the log with the same interest: they get the same bytes.

    Args:
        interest: What they ask for.
    """

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.lens = Lens(interest)
        self.streams: dict[Stream, None] = {}


class Tail:
    """The end of one app's log.

    Args:
        store: Where the log is.
        app: Whose it is.
        encoder: Gives changes their form.
    """

    def __init__(self, store: Store, app: str, encoder: Encoder) -> None:
        self.store = store
        self.blocks = Blocks(store, app, encoder)
        """What lies behind the end."""
        self.point = Point(0, 0)
        """Up to here everything has been offered to everybody."""
        self.feed_id = ""
        self.over: Refusal | None = None
        """Why it goes no further."""
        self.users = 0
        self.app = app
        self._encoder = encoder
        self._groups: dict[Interest, Group] = {}
        self._index: Index[Group] = Index()
        self._hint = asyncio.Event()
        self._hurried: set[Stream] = set()
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None

    # --- life ---

    async def ready(self) -> None:
        """Wait until it knows where the log ends.

        Raises:
            StoreDown: The log cannot be read.
        """
        if self._ready is None or (self._ready.done() and self._task is None):
            self._ready = asyncio.ensure_future(self._begin())
        await asyncio.shield(self._ready)

    async def _begin(self) -> None:
        seen = await look_at_end(self.store, self.app)
        self.point, self.feed_id = seen.end, seen.feed_id
        if seen.deleted:
            self.over = app_gone(self.app)
        self._task = asyncio.create_task(self._follow(), name="feed tail")

    async def close(self) -> None:
        """Read no more."""
        tasks = [task for task in (self._ready, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._task is not None and not self._task.done():  # made while it was cancelled
            self._task.cancel()

    def wake(self) -> None:
        """Look at the log soon."""
        self._hint.set()

    def hurry(self, stream: Stream) -> None:
        """Look at the log now, and wake a stream that waits for that."""
        self._hurried.add(stream)
        self.wake()

    def require_feed(self, feed_id: str) -> None:
        """Hold what was read elsewhere to the feed that is followed here.

        Raises:
            Refusal: `FEED_CHANGED`.
        """
        if self.feed_id not in ("", feed_id):
            raise feed_changed(feed_id)

    # --- who follows ---

    def join(self, stream: Stream) -> None:
        """Offer a stream everything from `point` on."""
        group = self._groups.get(stream.interest)
        if group is None:
            group = self._groups[stream.interest] = Group(stream.interest)
            self._index.add(group)
        group.streams[stream] = None
        stream.behind = False

    def leave(self, stream: Stream) -> None:
        """Offer it nothing more."""
        group = self._groups.get(stream.interest)
        if group is None or stream not in group.streams:
            return
        del group.streams[stream]
        if not group.streams:
            del self._groups[stream.interest]
            self._index.remove(group)

    # --- the one reader ---

    async def _follow(self) -> None:
        try:
            while self.over is None:
                await self._hint.wait()
                self._hint.clear()
                try:
                    if await self._read():
                        self._hint.set()
                except StoreDown:
                    await asyncio.sleep(REST)
                    self._hint.set()
        except Refusal as refusal:
            self._end(refusal)
        except Exception as error:  # noqa: BLE001 - those who follow it must hear of its end
            _log.error("feed lost", **logs.fault(error))
            self._end(Refusal(Reason.INTERNAL, "the feed was lost; resume"))
        finally:
            self._let_go()

    async def _read(self) -> bool:
        """Look once, and tell of what is new; whether there is more."""
        found = await look(self.store, self.app, self.point, READ)
        self.require_feed(found.feed_id)
        self.feed_id = found.feed_id
        self._tell(found)
        self._let_go()
        return found.end.revision < found.head

    def _tell(self, found: Look) -> None:
        """Offer changes to all who want them. Nothing may come in between: no await."""
        if any(each.cause is ChangeCause.USER_ERASED for each in found.changes):
            self.blocks.forget()
        press = Press(self._encoder)
        for group, seen in self._wanted(found.changes).items():
            parts = press.bind(seen, group.interest)
            slow = [stream for stream in group.streams if not stream.offer(parts)]
            for stream in slow:
                self.leave(stream)
        self.point = found.end
        last = found.changes[-1] if found.changes else None
        if found.deleted and last is not None and last.cause is ChangeCause.APP_DELETED:
            self._end(app_gone(self.app))

    def _wanted(self, changes: Iterable[LoggedChange]) -> dict[Group, list[Seen]]:
        wanted: dict[Group, list[Seen]] = {}
        for change in changes:
            for group in self._index.wanting(change):
                sight = sight_of(group.lens, change)
                if sight is not None:
                    wanted.setdefault(group, []).append(Seen(change, sight))
        return wanted

    def _end(self, why: Refusal) -> None:
        """Go no further, and let everybody know."""
        self.over = why
        for group in self._groups.values():
            for stream in group.streams:
                stream.wake()

    def _let_go(self) -> None:
        waiting, self._hurried = self._hurried, set()
        for stream in waiting:
            stream.wake()
