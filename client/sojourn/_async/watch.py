"""A watch in one's hands: it goes on by itself over cuts, restarts and moves of the server."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

from sojourn._acompat import RpcError, read_status
from sojourn._astreams import AsyncMonitor, AsyncStream
from sojourn._async.caller import AsyncCaller
from sojourn._resume import Progress, Verdict
from sojourn._status import forbids_retry, to_error
from sojourn.changes import Change, WatchEvent, WatchPosition
from sojourn.errors import ClientClosedError, InternalError, SojournError, UnavailableError
from sojourn.v1 import session_service_pb2

logger = logging.getLogger("sojourn")

METHOD = "WatchSessions"
ENDED = "the server closed the stream"


class AsyncWatch:
    """Every change of an app, each exactly once, in the order in which they were committed.

        async with client.sessions.watch() as watch:
            async for change in watch.changes():
                print(change.cause, change.revision)

    An iterator of events: changes, bookmarks, and the parts of the initial state where it was asked
    for. It ends only when it is closed, or with an error that says why it cannot go on; cuts,
    restarts and moves of the server it gets over by itself. Entering the block opens it: from then
    on nothing is missed. One at a time may read it; any other may close it.
    """

    def __init__(
        self,
        caller: AsyncCaller,
        progress: Progress,
        resync: Callable[[SojournError], object] | None = None,
    ) -> None:
        self._caller = caller
        self._progress = progress
        self._resync = resync
        self._stream: AsyncStream[session_service_pb2.WatchSessionsResponse] | None = None
        self._events: Iterator[WatchEvent] = iter(())
        self._monitor = AsyncMonitor()
        self._closed = False
        self._begun = 0.0
        self._patience = caller.config.deadline.total_seconds()
        self._secret = ""
        self._exchanged = False
        self._opened = 0.0
        self._heard = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"{type(self).__name__}(revision={self.position.revision}, {state})"

    @property
    def token(self) -> str:
        """Watch `after` it, and nothing that was not handed out is missed; empty: none yet.

        It follows the events: store it after you have dealt with one. Of what was handed out
        since, some may come again; `position` is exact.
        """
        return self.position.token

    @property
    def position(self) -> WatchPosition:
        """Watch `after` it, and every change comes exactly once."""
        return self._progress.position

    @property
    def heard(self) -> float:
        """When the server was last heard, by `time.monotonic()`; 0.0: never."""
        return self._heard

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._closed:
            event = next(self._events, None)
            if event is not None:
                return event
            await self._fill()
        raise StopAsyncIteration

    async def changes(self) -> AsyncIterator[Change]:
        """Hand out the changes only."""
        async for event in self:
            if isinstance(event, Change):
                yield event

    async def close(self) -> None:
        """End it at once: the call is cancelled, and whoever reads comes to the end."""
        with self._monitor:
            self._closed = True
            stream, self._stream = self._stream, None
            self._monitor.notify()
        if stream is not None:
            await stream.cancel()

    # --- for the client's own use ----------------------------------------------------------------

    async def batch(self) -> Iterator[WatchEvent] | None:
        """Return the events of the next message, to be read to their end; None: it is closed."""
        await self._fill()
        return None if self._closed else self._events

    @property
    def complete(self) -> int | None:
        """Up to which revision everything was handed out; None inside a unit."""
        return self._progress.complete

    # --- streams ---------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Make sure that what is committed from now on comes."""
        if not (self._progress.has_start or self._heard):
            # The server answers at once with where now is. Before, nothing was promised.
            await self._fill()

    async def _fill(self) -> None:
        """Wait for the next message; where the stream ends, for that of the next one."""
        while not self._closed:
            try:
                message = await self._read()
            except RpcError as failure:
                status = read_status(failure)
                error = to_error(status, method=METHOD)
                await self._after_end(error, failure, forbidden=forbids_retry(status))
            except (ClientClosedError, InternalError):
                await self.close()
                raise
            except SojournError as error:
                await self._after_end(error, error)
            else:
                if message is not None:
                    self._heard = time.monotonic()
                    self._exchanged = False
                    self._events = self._progress.take(message)
                    return
                await self._after_end(UnavailableError(ENDED, method=METHOD), None)

    async def _read(self) -> session_service_pb2.WatchSessionsResponse | None:
        stream = self._stream
        if stream is None:
            self._opened = time.monotonic()
            self._begun = self._begun or self._opened
            self._secret = await self._caller.secret(self._opened + self._patience)
            stream = AsyncStream(
                self._caller.channel,
                self._caller.stubs.sessions.WatchSessions,
                self._progress.opening(),
                self._caller.metadata(self._secret),
            )
            with self._monitor:
                self._stream = stream
                too_late = self._closed
            if too_late:
                await stream.cancel()
                return None
        return await stream.read()

    async def _after_end(
        self, error: SojournError, failure: Exception | None, *, forbidden: bool = False
    ) -> None:
        """Wait before the next stream; or close, and raise why there is none."""
        with self._monitor:
            if self._closed:
                return
            self._stream = None
        now = time.monotonic()
        if not self._exchanged and await self._caller.is_worth_another(
            error, self._secret, now + self._patience
        ):
            # The credential had run out, and there is another one.
            self._exchanged = True
            return
        try:
            verdict = self._progress.after_end(
                error, lasted=now - self._opened, elapsed=now - self._begun, forbidden=forbidden
            )
            self._tell(verdict, error)
        except SojournError as final:
            await self.close()
            if final is failure:
                raise
            raise final from (failure if final is error else error)
        except BaseException:
            # What the callback raised.
            await self.close()
            raise
        await self._monitor.wait_for(lambda: self._closed, verdict.pause)

    def _tell(self, verdict: Verdict, error: SojournError) -> None:
        if verdict.anew is None:
            logger.debug("the watch goes on in %.1f s: %s", verdict.pause, error)
            return
        logger.warning("the watch begins anew in %.1f s: %s", verdict.pause, error)
        if self._resync is not None:
            self._resync(verdict.anew)
