"""The rest of `_acompat`: streams, and what goes on in the background or is waited for.

As there, everything comes in two, and the generated sync client uses the second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from sojourn._acompat import (
    REPLACED,
    AsyncChannel,
    AsyncFunction,
    Metadata,
    SyncChannel,
    SyncFunction,
    SyncStubs,
)
from sojourn.errors import ClientClosedError, InternalError, UnavailableError

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

AsyncStreamMethod: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[Request, Response]"
SyncStreamMethod: TypeAlias = "grpc.UnaryStreamMultiCallable[Request, Response]"
"""One RPC of a stub whose answer is a stream."""

Upload: TypeAlias = "Callable[[SyncStubs], grpc.StreamUnaryMultiCallable[Request, Response]]"
"""Picks one RPC of the stubs whose request is a stream."""


def _unreadable(name: str) -> InternalError:
    return InternalError("the answer could not be read", method=name)


# --- streams -------------------------------------------------------------------------------------


class AsyncStream(Generic[Response]):
    """An answer that comes message by message. No deadline; the channel's pings find a dead one.

    Whoever waits for a message may be cancelled, as by a timeout: the message is not lost.
    """

    def __init__(
        self,
        channel: AsyncChannel,
        method: AsyncStreamMethod[Request, Response],
        request: Request,
        metadata: Metadata,
    ) -> None:
        self._channel = channel
        self._name = request.DESCRIPTOR.name.removesuffix("Request")
        self._cancelled = False
        self._reading: asyncio.Task[Any] | None = None
        try:
            self._call = method(request, metadata=tuple(metadata))
        except grpc.aio.UsageError as error:
            if channel.closed:
                raise ClientClosedError("the client is closed") from error
            raise UnavailableError(REPLACED) from error

    async def read(self) -> Response | None:
        """Return the next message; None: the stream has ended, or was cancelled.

        Raises `RpcError`, and `ClientClosedError` when the channel was closed.
        """
        if self._cancelled:
            return None
        if self._reading is None:
            # A task of its own: grpc gives up the call when the one who reads is cancelled.
            self._reading = asyncio.create_task(self._read_one(), name="sojourn-watch")
        await asyncio.wait({self._reading})
        reading, self._reading = self._reading, None
        try:
            message = reading.result()
        except (asyncio.CancelledError, grpc.RpcError) as error:
            self._raise_unless_cancelled(error)
            return None
        if message is grpc.aio.EOF:
            return None
        if message is None:
            # grpc.aio gives this, with a line in the log, for bytes that are no such message.
            raise _unreadable(self._name)
        found: Response = message
        return found

    async def _read_one(self) -> Any:
        return await self._call.read()

    def _raise_unless_cancelled(self, error: BaseException) -> None:
        if self._cancelled:
            return
        if self._channel.closed:
            raise ClientClosedError("the client was closed while watching") from error
        if isinstance(error, grpc.RpcError):
            raise error

    async def cancel(self) -> None:
        """End the call, and whoever reads it; nothing of it is left behind."""
        self._cancelled = True
        self._call.cancel()
        if self._reading is not None:
            reading = self._reading
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                # Looked at, so that asyncio does not complain that nobody did.
                reading.exception()


class SyncStream(Generic[Response]):
    """An answer that comes message by message. No deadline; the channel's pings find a dead one.

    One thread reads; any other may cancel.
    """

    def __init__(
        self,
        channel: SyncChannel,
        method: SyncStreamMethod[Request, Response],
        request: Request,
        metadata: Metadata,
    ) -> None:
        self._channel = channel
        self._name = request.DESCRIPTOR.name.removesuffix("Request")
        self._cancelled = False
        try:
            self._call = method(request, metadata=tuple(metadata))
        except ValueError as error:
            # grpc says "Cannot invoke RPC on closed channel" with it.
            if channel.closed:
                raise ClientClosedError("the client is closed") from error
            raise UnavailableError(REPLACED) from error

    def read(self) -> Response | None:
        """Return the next message; None: the stream has ended, or was cancelled.

        Raises `RpcError`, and `ClientClosedError` when the channel was closed.
        """
        try:
            message: Response = next(self._call)
        except StopIteration:
            return None
        except grpc.RpcError as error:
            if self._cancelled:
                return None
            if self._channel.closed:
                raise ClientClosedError("the client was closed while watching") from error
            if error.details() == "Exception deserializing response!":
                raise _unreadable(self._name) from error
            raise
        return message

    def cancel(self) -> None:
        """End the call, and whoever reads it; nothing of it is left behind."""
        self._cancelled = True
        self._call.cancel()


async def async_upload(
    channel: AsyncChannel,
    pick: Upload[Request, Response],
    parts: Iterator[Request],
    *,
    timeout: float,
    metadata: Metadata,
) -> Response:
    """Send a request part by part and return the answer.

    In a thread and on a connection of its own: when a server answers before it has read all, the
    asyncio side of grpc may lose the answer, and the parts are read from a file in any case.
    """
    with channel.twin() as twin:
        work = asyncio.ensure_future(
            asyncio.to_thread(sync_upload, twin, pick, parts, timeout=timeout, metadata=metadata)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            twin.close()
            await asyncio.wait({work})
            if not work.cancelled():
                # Looked at, so that asyncio does not complain that nobody did.
                work.exception()
            raise


def sync_upload(
    channel: SyncChannel,
    pick: Upload[Request, Response],
    parts: Iterator[Request],
    *,
    timeout: float,
    metadata: Metadata,
) -> Response:
    """Send a request part by part and return the answer.

    What `parts` raises ends the call, and is raised. Otherwise as `SyncChannel.invoke`.
    """
    made = threading.Event()
    failures: list[Exception] = []

    def guarded() -> Iterator[Request]:
        # In a thread of grpc's, which would log what is raised here and hide it.
        try:
            yield from parts
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)
            made.wait()
            call.cancel()

    try:
        call = pick(channel.stubs).future(guarded(), timeout=timeout, metadata=tuple(metadata))
        made.set()
        answer: Response = call.result()
    except (ValueError, grpc.RpcError, grpc.FutureCancelledError) as error:
        if failures:
            raise failures[0] from None
        if channel.closed:
            raise ClientClosedError("the client was closed") from error
        if isinstance(error, grpc.RpcError):
            raise
        raise UnavailableError(REPLACED) from error
    return answer


# --- waiting -------------------------------------------------------------------------------------


class AsyncMonitor:
    """Guards what several look at, and wakes those who wait for it to change.

    `with monitor:` keeps others out; in one event loop nobody else is there.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def notify(self) -> None:
        """Let all who wait look again. Called with the monitor held."""
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    async def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something is so, at most so many seconds; return whether it is."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while not ready():
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return False
            one: asyncio.Future[None] = loop.create_future()
            self._waiting.add(one)
            try:
                await asyncio.wait({one}, timeout=left)
            finally:
                self._waiting.discard(one)
        return True


class SyncMonitor:
    """Guards what several look at, and wakes those who wait for it to change.

    `with monitor:` keeps other threads out.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def __enter__(self) -> None:
        self._condition.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._condition.__exit__(kind, error, trace)

    def notify(self) -> None:
        """Let all who wait look again. Called with the monitor held."""
        self._condition.notify_all()

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something is so, at most so many seconds; return whether it is."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not ready():
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._condition.wait(left)
        return True


# --- work in the background ----------------------------------------------------------------------


class AsyncWorker:
    """Does something in a task of its own, until it is done. The work must not raise."""

    def __init__(self, work: AsyncFunction[[], None], name: str) -> None:
        self._task = asyncio.create_task(work(), name=name)

    async def join(self) -> None:
        """Wait until it is done. Whoever calls this has told it to end."""
        await asyncio.wait({self._task})


class SyncWorker:
    """Does something in a daemon thread of its own, until it is done. The work must not raise."""

    def __init__(self, work: SyncFunction[[], None], name: str) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it is done. Whoever calls this has told it to end."""
        if self._thread is not threading.current_thread():
            self._thread.join()
