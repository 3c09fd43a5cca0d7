"""The hub: one tail for each app that somebody watches, and all who watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sojourn_server.domain.errors import Refusal
from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest
from sojourn_server.feed.parts import Encoder
from sojourn_server.feed.stream import QUEUE_BYTES, Stream
from sojourn_server.feed.tail import Tail
from sojourn_server.store.base import Store

POLL: Final = 0.4
"""How often each log that is watched is looked at without any hint, in seconds."""
PATIENCE: Final = 30.0
"""How long a watcher may take no byte, in seconds."""
PARTING: Final = 0.5
"""The same for a watcher of a server that stops."""


class Hub:
    """Everybody who watches, on one server.

    Args:
        store: Where the logs are. Its hints come here.
        encoder: Gives changes their form.
        poll: How often to look without a hint, in seconds.
        patience: How long a watcher may take no byte, in seconds.
        queue_bytes: What may wait for one watcher.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        *,
        poll: float = POLL,
        patience: float = PATIENCE,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.store = store
        self._encoder = encoder
        self._poll = poll
        self._patience = patience
        self._queue_bytes = queue_bytes
        self._tails: dict[str, Tail] = {}
        self._streams: set[Stream] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._over: Refusal | None = None
        self._empty = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        store.on_commit(self.hint)

    @property
    def streams(self) -> int:
        """How many watch."""
        return len(self._streams)

    def hint(self, app: str) -> None:
        """A log may have grown; empty: any. Costs nearly nothing where nobody watches."""
        if app:
            tail = self._tails.get(app)
            if tail is not None:
                tail.wake()
            return
        for tail in self._tails.values():
            tail.wake()

    @contextmanager
    def watch(self, interest: Interest, begin: Point) -> Iterator[Stream]:
        """Follow a log from a place on; at the end the stream is let go.

        Raises:
            Refusal: The server stops.
        """
        if self._over is not None:
            raise self._over
        tail = self._tail(interest.app)
        stream = Stream(tail, interest, begin, self._queue_bytes)
        self._streams.add(stream)
        tail.users += 1
        try:
            yield stream
        finally:
            tail.leave(stream)
            self._streams.discard(stream)
            if not self._streams:
                self._empty.set()
            tail.users -= 1
            if not tail.users:
                self._drop(tail)

    def end(self, why: Refusal) -> None:
        """End all streams, each at its next whole revision, and let none begin."""
        self._over = why
        for stream in self._streams:
            stream.fail(why)

    async def left(self, patience: float) -> None:
        """Wait until nobody watches any more.

        Args:
            patience: How long, in seconds.
        """
        if self._streams:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._empty.wait()

    async def close(self) -> None:
        """Stop reading."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for tail in list(self._tails.values()):
            self._drop(tail)
        while self._closing:
            await asyncio.wait(self._closing)

    def _tail(self, app: str) -> Tail:
        tail = self._tails.get(app)
        if tail is None or tail.over is not None:
            # Whoever follows one that is over will hear of it there.
            tail = self._tails[app] = Tail(self.store, app, self._encoder)
            if self._ticking is None or self._ticking.done():
                self._ticking = asyncio.create_task(self._tick(), name="feed ticks")
        return tail

    def _drop(self, tail: Tail) -> None:
        if self._tails.get(tail.app) is tail:
            del self._tails[tail.app]
        closing = asyncio.create_task(tail.close(), name="feed tail ends")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _tick(self) -> None:
        """Poll every tail, whatever hints are lost, and look for watchers that are stuck."""
        loop = asyncio.get_running_loop()
        while self._tails:
            await asyncio.sleep(self._poll)
            for tail in self._tails.values():
                tail.wake()
            now = loop.time()
            for stream in self._streams:
                stream.look_stuck(now - self._patience, now - PARTING)
