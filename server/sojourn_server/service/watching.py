"""WatchSessions: where a watch begins, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from sojourn_server.domain import resume
from sojourn_server.domain.errors import Reason, Refusal, draining, invalid_field
from sojourn_server.domain.resume import Point
from sojourn_server.domain.tokens import Sealer
from sojourn_server.domain.watching import Interest, require_watchable
from sojourn_server.feed.hub import Hub
from sojourn_server.feed.log import app_gone, look_at_end
from sojourn_server.feed.stream import Stream
from sojourn_server.service.answers import Call
from sojourn_server.service.watch_forms import Forms
from sojourn_server.service.watch_pump import Pump, Send, Tokens, WatchQuery
from sojourn_server.store.base import ReadTx, Store

FUTURE: Final = 2.0
"""How long a revision that is not there yet is waited for, in seconds."""
PARTING: Final = 0.5
"""How long the end of a stream waits for a message that is being written, in seconds."""
FUTURE_POLL: Final = 0.02


class _Held(msgspec.Struct, frozen=True):
    """A token's place, and what the log says of it."""

    point: Point
    nonce: int | None
    head: int
    oldest: int
    feed_id: str


class Watching:
    """The use case of WatchSessions.

    Args:
        store: Where the logs are.
        sealer: Makes and opens tokens.
        hub: Everybody who watches.
        forms: Gives messages their form on the wire.
        unknown_apps: Whether an app that is not there may yet come.
    """

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        hub: Hub,
        forms: Forms,
        *,
        unknown_apps: bool = True,
    ) -> None:
        self.hub = hub
        self._store = store
        self._sealer = sealer
        self._forms = forms
        self._unknown_apps = unknown_apps
        self._tokens = Tokens(sealer, forms)
        self._left: set[asyncio.Task[None]] = set()

    async def watch(self, call: Call, query: WatchQuery, send: Send) -> None:
        """Send changes until the caller leaves or the stream must end.

        Args:
            call: Who calls.
            query: What is asked for.
            send: Writes one message. It is never broken off while the caller is there.

        Raises:
            Refusal: Why it ended.
            StoreDown: The log cannot be read.
        """
        interest = query.interest
        require_watchable(interest.filter)
        if interest.user is not None:
            aliases = self._sealer.aliases(interest.app, interest.user)
            interest = msgspec.structs.replace(interest, aliases=aliases)
            query = msgspec.structs.replace(query, interest=interest)
        if query.initial and query.token:
            raise invalid_field("send_initial_state", "must not come with a token")
        begin = await self._begin(interest, query.token)
        with self.hub.watch(interest, begin) as stream:
            await stream.tail.ready()
            pump = Pump(self._store, stream, query, self._forms, self._tokens, send)
            await self._guard(stream, asyncio.create_task(pump.run(), name="watch"))

    async def _begin(self, interest: Interest, token: str) -> Point:
        """The place that everything comes after.

        Raises:
            Refusal: The token is refused, or there is no such app.
        """
        if not token:
            found = await look_at_end(self._store, interest.app)
            if found.deleted or (not found.feed_id and not self._unknown_apps):
                raise app_gone(interest.app)
            return found.end
        loop = asyncio.get_running_loop()
        patience = loop.time() + FUTURE
        while True:
            held = await self._hold(interest, token)
            if held.point.revision <= held.head:
                return _kept(held)
            if loop.time() >= patience:
                raise Refusal(
                    Reason.REVISION_FUTURE,
                    f"the log ends at revision {held.head}",
                    {"head_revision": str(held.head)},
                )
            await asyncio.sleep(FUTURE_POLL)

    async def _hold(self, interest: Interest, token: str) -> _Held:
        """Hold a token to the log."""
        app = interest.app
        scope = resume.scope_of(interest)

        async def read(tx: ReadTx) -> _Held:
            found = await tx.app(app)
            feed_id = found.feed_id if found else ""
            point = resume.accept(self._sealer, token, feed_id, scope)
            nonce = await tx.nonce(app, point.revision) if point.revision else 0
            return _Held(point, nonce, await tx.head(app), await tx.oldest(app), feed_id)

        return await self._store.read(read)

    async def _guard(self, stream: Stream, pump: asyncio.Task[None]) -> None:
        """Wait for the stream's end, or until its messages are not taken.

        A write is never broken off: it ends with the call, which is answered here or gone.
        """
        try:
            ends: list[asyncio.Future[Any]] = [pump, stream.stalled]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._leave(stream, pump)
            if not stream.writing_since:
                pump.cancel()
            # What is being written is sent before the call is answered.
            await asyncio.wait({pump}, timeout=PARTING)
            raise
        if pump.done():
            await pump
            return
        self._leave(stream, pump)
        raise stream.stalled.result()

    def _leave(self, stream: Stream, pump: asyncio.Task[None]) -> None:
        """Let a pump end by itself, after the write that it is in."""
        if not stream.stalled.done():
            stream.stalled.set_result(draining())
        self._left.add(pump)
        pump.add_done_callback(self._let_go)

    def _let_go(self, pump: asyncio.Task[None]) -> None:
        self._left.discard(pump)
        if not pump.cancelled():
            pump.exception()  # its call was answered; nobody is left to hear of it


def _kept(held: _Held) -> Point:
    """The place, if the log still reaches back to it and is the same there.

    Raises:
        Refusal: `FEED_CHANGED` or `REVISION_COMPACTED`.
    """
    if held.nonce is None or (held.point.revision == 0 and held.oldest > 1):
        raise resume.compacted(held.oldest)
    if held.nonce != held.point.nonce:
        raise resume.feed_changed(held.feed_id)
    return held.point
