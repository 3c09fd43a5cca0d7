"""The only place of the client, with `_astreams`, that names asyncio, threading and grpc.

Everything here comes in two: `async_sleep` and `sync_sleep`, `AsyncChannel` and `SyncChannel`, and
so on. The async source uses the first; in the generated sync client the second stands in its place.
Where the async side takes an awaitable, the sync side takes the value that it came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import grpc
import grpc.aio

from sojourn._config import is_this_machine
from sojourn._status import Status
from sojourn._tls_files import FollowedTLS
from sojourn.errors import (
    ClientClosedError,
    ConfigurationError,
    InternalError,
    UnavailableError,
)
from sojourn.options import TLS, KeepaliveOptions
from sojourn.v1.admin_service_pb2_grpc import AdminServiceStub
from sojourn.v1.app_service_pb2_grpc import AppServiceStub
from sojourn.v1.history_service_pb2_grpc import HistoryServiceStub
from sojourn.v1.session_service_pb2_grpc import SessionServiceStub
from sojourn.v1.turn_service_pb2_grpc import TurnServiceStub

P = ParamSpec("P")
T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, T]]
SyncFunction: TypeAlias = Callable[P, T]

AsyncMethod: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Request, Response]"
SyncMethod: TypeAlias = "grpc.UnaryUnaryMultiCallable[Request, Response]"
"""One RPC of a stub."""

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

# What the server accepts in one request, and more than it sends in one answer.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Connections that were made with older certificates end with their calls. Whatever still runs when
# so many have come after it is broken off; each lasts ten seconds at least.
REPLACED_CONNECTIONS = 8
REPLACED = "the connection was replaced during the call"

sync_sleep = time.sleep
async_sleep = asyncio.sleep

AsyncLock = asyncio.Lock
SyncLock = threading.Lock

RpcError = grpc.RpcError
"""What a call raises; `read_status` tells what it says."""


def read_status(error: grpc.RpcError) -> Status:
    """Return what a call that failed left behind, whichever of grpc's two faces raised it."""
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return Status("UNKNOWN", "the call failed without a status")
    trailers = tuple((key, value) for key, value in error.trailing_metadata() or ())
    return Status(error.code().name, error.details() or "", trailers)


# --- channels ------------------------------------------------------------------------------------


def _options(target: str, keepalive: KeepaliveOptions, tls: TLS | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.keepalive_time_ms", int(keepalive.interval.total_seconds() * 1000)),
        ("grpc.keepalive_timeout_ms", int(keepalive.timeout.total_seconds() * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", 4 * MAX_MESSAGE_BYTES),
        # The calls' own loop repeats and pauses; the channel only has to be ready again in time.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if is_this_machine(target):
        # Whatever https_proxy says: what stays on this machine is nobody else's.
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.root_certificates,
        private_key=tls.private_key,
        certificate_chain=tls.certificate_chain,
    )


class AsyncStubs:
    """The raw generated stubs on this client's channel: their errors are grpc's own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.sessions = SessionServiceStub(channel)
        self.turns = TurnServiceStub(channel)
        self.history = HistoryServiceStub(channel)
        self.apps = AppServiceStub(channel)
        self.admin = AdminServiceStub(channel)


class SyncStubs:
    """The raw generated stubs on this client's channel: their errors are grpc's own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.sessions = SessionServiceStub(channel)
        self.turns = TurnServiceStub(channel)
        self.history = HistoryServiceStub(channel)
        self.apps = AppServiceStub(channel)
        self.admin = AdminServiceStub(channel)


class AsyncChannel:
    """One connection, opened at first use; it belongs to the event loop of that use.

    Another takes its place when the files of its TLS are exchanged.
    """

    def __init__(self, target: str, tls: TLS | None, keepalive: KeepaliveOptions) -> None:
        self._target = target
        self._plain_tls = tls
        self._tls = None if tls is None else FollowedTLS(tls)
        self._keepalive = keepalive
        self._channels: list[grpc.aio.Channel] = []
        self._twins: set[SyncChannel] = set()
        self._closing: asyncio.Task[None] | None = None
        self._stubs: AsyncStubs | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def stubs(self) -> AsyncStubs:
        """The stubs; the first access opens the channel.

        Raises `ClientClosedError`, and `ConfigurationError` in any other event loop than the first
        or in none.
        """
        if self._closed:
            raise ClientClosedError("the client is closed")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise ConfigurationError("an async client needs a running event loop") from error
        if self._loop not in {None, loop}:
            raise ConfigurationError("the client belongs to another event loop: make one in each")
        self._loop = loop
        renewed = self._tls is not None and self._tls.is_renewed(time.monotonic())
        if self._stubs is None or renewed:
            if len(self._channels) > REPLACED_CONNECTIONS:
                self._closing = loop.create_task(self._channels.pop(0).close())
            tls = None if self._tls is None else self._tls.tls
            options = _options(self._target, self._keepalive, tls)
            channel = (
                grpc.aio.insecure_channel(self._target, options)
                if tls is None
                else grpc.aio.secure_channel(self._target, _credentials(tls), options)
            )
            self._channels.append(channel)
            self._stubs = AsyncStubs(channel)
        return self._stubs

    @contextlib.contextmanager
    def twin(self) -> Iterator[SyncChannel]:
        """Give another connection, for a thread, that ends with the block and with this one."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        twin = SyncChannel(self._target, self._plain_tls, self._keepalive)
        self._twins.add(twin)
        try:
            yield twin
        finally:
            self._twins.discard(twin)
            twin.close()

    async def invoke(
        self,
        method: AsyncMethod[Request, Response],
        request: Request,
        *,
        timeout: float,
        metadata: Metadata,
    ) -> Response:
        """Send one request and return the answer; raise `RpcError` or `ClientClosedError`."""
        try:
            answer: Response | None = await method(
                request, timeout=timeout, metadata=tuple(metadata)
            )
        except grpc.aio.UsageError as error:
            if self._closed:
                raise ClientClosedError("the client is closed") from error
            raise UnavailableError(REPLACED) from error
        except asyncio.CancelledError as error:
            # Closing the channel cancels its calls. Only then is it not the caller's own.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            if self._closed:
                raise ClientClosedError("the client was closed during the call") from error
            raise UnavailableError(REPLACED) from error
        if answer is None:
            # grpc.aio gives this, with a line in the log, for bytes that are no such message.
            name = type(request).__name__.removesuffix("Request")
            raise InternalError("the answer could not be read", method=name)
        return answer

    @property
    def closed(self) -> bool:
        """Whether the connection was closed for good."""
        return self._closed

    async def close(self) -> None:
        """Close the connection; calls that are under way end with `ClientClosedError`."""
        self._closed = True
        for twin in self._twins:
            twin.close()
        for channel in self._channels:
            await channel.close()
        if self._closing is not None:
            await self._closing


class SyncChannel:
    """One connection, opened at first use. Safe to use from several threads.

    Another takes its place when the files of its TLS are exchanged.
    """

    def __init__(self, target: str, tls: TLS | None, keepalive: KeepaliveOptions) -> None:
        self._target = target
        self._tls = None if tls is None else FollowedTLS(tls)
        self._keepalive = keepalive
        self._channels: list[grpc.Channel] = []
        self._stubs: SyncStubs | None = None
        self._closed = False
        self._opening = threading.Lock()

    @property
    def stubs(self) -> SyncStubs:
        """The stubs; the first access opens the channel. Raises `ClientClosedError`."""
        with self._opening:
            if self._closed:
                raise ClientClosedError("the client is closed")
            renewed = self._tls is not None and self._tls.is_renewed(time.monotonic())
            if self._stubs is None or renewed:
                if len(self._channels) > REPLACED_CONNECTIONS:
                    self._channels.pop(0).close()
                tls = None if self._tls is None else self._tls.tls
                options = _options(self._target, self._keepalive, tls)
                channel = (
                    grpc.insecure_channel(self._target, options)
                    if tls is None
                    else grpc.secure_channel(self._target, _credentials(tls), options)
                )
                self._channels.append(channel)
                self._stubs = SyncStubs(channel)
            return self._stubs

    def invoke(
        self,
        method: SyncMethod[Request, Response],
        request: Request,
        *,
        timeout: float,
        metadata: Metadata,
    ) -> Response:
        """Send one request and return the answer; raise `RpcError` or `ClientClosedError`."""
        try:
            return method(request, timeout=timeout, metadata=tuple(metadata))
        except (ValueError, grpc.RpcError) as error:
            # grpc says "Cannot invoke RPC on closed channel" with a ValueError, and cancels calls
            # that are under way when the channel is closed.
            if self._closed:
                raise ClientClosedError("the client was closed") from error
            if isinstance(error, ValueError):
                raise UnavailableError(REPLACED) from error
            raise

    @property
    def closed(self) -> bool:
        """Whether the connection was closed for good."""
        return self._closed

    def close(self) -> None:
        """Close the connection; calls that are under way end with `ClientClosedError`."""
        with self._opening:
            self._closed = True
            for channel in self._channels:
                channel.close()


# --- work on the side ----------------------------------------------------------------------------


class AsyncTicker:
    """Calls an action again and again in the background, until the action says stop.

    The action must not raise; it returns whether to go on.
    """

    def __init__(self, interval: float, action: AsyncFunction[[], bool]) -> None:
        self._interval = interval
        self._action = action
        self._task = asyncio.create_task(self._run(), name="sojourn-ticker")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if not await self._action():
                return

    async def stop(self) -> None:
        """End it, also in the middle of the action."""
        self._task.cancel()
        await asyncio.wait({self._task})


class SyncTicker:
    """Calls an action again and again in a daemon thread, until the action says stop.

    The action must not raise; it returns whether to go on.
    """

    def __init__(self, interval: float, action: SyncFunction[[], bool]) -> None:
        self._interval = interval
        self._action = action
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sojourn-ticker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            if not self._action():
                return

    def stop(self) -> None:
        """End it; an action that is under way is waited for."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


async def async_finish(work: Coroutine[Any, Any, T]) -> T:
    """Do this work to its end, even when the caller is cancelled meanwhile.

    The work must have a deadline of its own. A cancellation is raised after it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # Unlike an await of the task itself, this leaves it alone when the caller is cancelled.
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        # Looked at, so that asyncio does not complain that nobody did.
        task.exception()
    raise cancelled


async def async_acquire(
    work: Coroutine[Any, Any, T],
    release: Callable[[T, BaseException], Coroutine[Any, Any, object]],
) -> T:
    """Do work that acquires something; if the caller is cancelled meanwhile, release it again.

    Both must have deadlines of their own. `release` is told the cancellation, which is raised
    after it.
    """
    task = asyncio.ensure_future(work)

    async def undo(why: BaseException) -> None:
        await asyncio.wait({task})
        if task.exception() is None:
            await release(task.result(), why)

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as why:
        if not task.cancelled():
            await async_finish(undo(why))
        raise


def async_within(seconds: float) -> asyncio.Timeout:
    """Give a block this long; then raise `TimeoutError`."""
    return asyncio.timeout(max(0.0, seconds))


def sync_within(seconds: float) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    """Give a block the time that it takes: a thread cannot be stopped."""
    return contextlib.nullcontext()


async def async_ask(function: Callable[[], object]) -> object:
    """Call a function of the user's; one that is not async runs in a thread, for it may block."""
    if inspect.iscoroutinefunction(function):
        answer: object = function()
    else:
        answer = await asyncio.to_thread(function)
    return await answer if inspect.isawaitable(answer) else answer


def sync_ask(function: Callable[[], object]) -> object:
    """Call a function of the user's; raise `ConfigurationError` for one that is async."""
    answer = function()
    if inspect.iscoroutine(answer):
        answer.close()
    if inspect.isawaitable(answer):
        raise ConfigurationError("an async function gives tokens to async clients only")
    return answer


def sync_acquire(work: T, release: object) -> T:  # noqa: ARG001 - nothing can come between
    """Return what was acquired: a thread is not cancelled."""
    return work


def sync_finish(work: T) -> T:
    """Return the result: the work was done by the call that made it."""
    return work


# --- loops in threads: for sojourn.testing --------------------------------------------------------


class LoopThread:
    """An event loop in a thread of its own, for sync code that needs an async object."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sojourn-loop", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stop the loop and its thread."""
        with contextlib.suppress(asyncio.CancelledError):
            self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
