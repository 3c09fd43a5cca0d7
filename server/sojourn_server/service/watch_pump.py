"""What one watch is sent: initial state, changes, bookmarks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from sojourn_server.domain import resume
from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import Sealer
from sojourn_server.domain.watching import Interest
from sojourn_server.feed.parts import Part, Seen
from sojourn_server.feed.stream import Stream
from sojourn_server.service.watch_content import AT_ONCE, Contents, Told
from sojourn_server.service.watch_forms import Forms
from sojourn_server.service.watch_initial import Initial
from sojourn_server.store.base import Store

BOOKMARK: Final[Nanos] = 5 * SECOND
"""How long nothing may match before a bookmark comes, where the caller does not say."""
JITTER: Final = 0.2
"""By what part of it a bookmark may come earlier: not all at once."""
KEPT: Final = 4_096
"""How many tokens are kept for streams that want the same."""
_CLOSED_WITH_TOKEN: Final = frozenset({Reason.DRAINING, Reason.APP_NOT_FOUND})

Send = Callable[[bytes], Awaitable[None]]
"""Writes one message, and returns when the next may come."""


class WatchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What WatchSessions asks for."""

    interest: Interest
    token: str = ""
    users: Users = EVERY_USER
    """Whose sessions the caller may read: decides what content shows of the app."""
    initial: bool = False
    bookmark: Nanos = BOOKMARK


class _TooLate(Exception):
    """Nothing more may be written."""


class Tokens:
    """Makes resume tokens: one for all streams that want the same and are as far.

    Args:
        sealer: Makes them.
        forms: Gives them their form.
    """

    def __init__(self, sealer: Sealer, forms: Forms) -> None:
        self._sealer = sealer
        self._forms = forms
        self._kept: dict[bytes, tuple[str, Point, bytes]] = {}

    def token(self, feed_id: str, point: Point, scope: bytes) -> str:
        """The token of a place."""
        return resume.seal(self._sealer, feed_id, point, scope)

    def end(self, feed_id: str, point: Point, scope: bytes) -> bytes:
        """The end of a message that says where to resume."""
        kept = self._kept.get(scope)
        if kept is not None and kept[1] == point and kept[0] == feed_id:
            return kept[2]
        end = self._forms.end(self.token(feed_id, point, scope), point.revision)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[scope] = (feed_id, point, end)
        return end


class Pump:
    """Sends one watch what it asks for.

    Args:
        store: Where content is.
        stream: Its way through the log.
        query: What is asked for.
        forms: Gives messages their form.
        tokens: Makes tokens.
        send: Writes one message.
    """

    def __init__(
        self,
        store: Store,
        stream: Stream,
        query: WatchQuery,
        forms: Forms,
        tokens: Tokens,
        send: Send,
    ) -> None:
        self._store = store
        self._stream = stream
        self._query = query
        self._forms = forms
        self._tokens = tokens
        self._send = send
        self._scope = resume.scope_of(query.interest)
        self._contents = (
            Contents(store, query.interest, query.users, forms) if query.interest.content else None
        )
        self._complete = not query.initial
        """Whether a token may be sent: never one that skips the initial state."""

    async def run(self) -> None:
        """Send until the stream must end.

        Raises:
            Refusal: Why it ended.
            StoreDown: The log cannot be read.
        """
        try:
            if self._query.initial:
                await self._initial()
            else:
                await self._write(self._end(self._stream.point))
            await self._changes()
        except Refusal as refusal:
            if refusal.reason in _CLOSED_WITH_TOKEN and self._complete:
                await self._write(self._end(self._stream.point))
            raise

    async def _initial(self) -> None:
        stream = self._stream
        initial = Initial(self._store, stream.interest, stream.lens, self._forms, self._contents)
        while True:
            stream.require_open()
            step = await initial.step()
            for message in step.messages:
                await self._write(message)
            if step.done:
                break
        token = self._tokens.token(step.feed_id, step.point, self._scope)
        stream.restart(step.point)
        await self._write(self._forms.initial_end(step.point.revision, token))
        self._complete = True

    async def _changes(self) -> None:
        loop = asyncio.get_running_loop()
        stream = self._stream
        interval = self._query.bookmark / SECOND
        while True:
            early = interval * JITTER * random.random()  # noqa: S311 - no secret
            parts = await stream.next(loop.time() + interval - early)
            if parts is None:
                await self._write(self._end(stream.point))
            elif self._contents is None:
                await self._write(self._message(parts))
            else:
                await self._with_content(self._contents, parts)

    def _message(self, parts: Sequence[Part]) -> bytes:
        last = parts[-1]
        end = self._end(last.point) if last.whole else self._forms.continued
        return b"".join([*(part.body for part in parts), end])

    async def _with_content(self, contents: Contents, parts: Sequence[Part]) -> None:
        """Read content now, at delivery, a little at a time."""
        seen: list[Seen] = [each for part in parts for each in part.seen]
        whole = parts[-1].whole
        for begin in range(0, len(seen), AT_ONCE):
            some = seen[begin : begin + AT_ONCE]
            after = seen[begin + AT_ONCE] if begin + AT_ONCE < len(seen) else None
            ends = whole if after is None else after.change.revision != some[-1].change.revision
            for message in contents.bind(await contents.read(some), ends=ends):
                await self._write(message.body + self._end_of(message))

    def _end_of(self, message: Told) -> bytes:
        return self._end(message.point) if message.whole else self._forms.continued

    def _end(self, point: Point) -> bytes:
        """The end of a message that says where to resume; by itself a bookmark."""
        return self._tokens.end(self._stream.tail.feed_id, point, self._scope)

    async def _write(self, message: bytes) -> None:
        """Write one message, and be seen to.

        Raises:
            _TooLate: It took too long, and the call has been answered meanwhile.
        """
        stream = self._stream
        stream.writing_since = asyncio.get_running_loop().time()
        await self._send(message)
        stream.writing_since = 0.0
        if stream.stalled.done():
            raise _TooLate
