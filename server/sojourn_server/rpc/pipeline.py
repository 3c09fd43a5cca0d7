"""What every call goes through, from bytes to bytes.

Who calls, decoding, the protos' rules, what the caller may do, the payload's fingerprint,
the use case, the answer; and on any failure one status with its details. It is one
function around each handler and no chain of interceptors: each link of grpc.aio's
chain costs a coroutine per call, and the chain never sees a request that cannot be
decoded. So grpc hands over plain bytes, and what a bad request is, is said here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError, Message

from sojourn_server import logs
from sojourn_server.domain.access import Permission, Users
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal, draining
from sojourn_server.domain.tokens import Sealer
from sojourn_server.rpc.callers import Callers, Context
from sojourn_server.rpc.errors import (
    CORRELATION,
    TABLE,
    abort,
    not_implemented,
    refusal_of,
)
from sojourn_server.rpc.methods import Method
from sojourn_server.rpc.permissions import TABLE as PERMISSIONS
from sojourn_server.rpc.permissions import Rule, authorise, denied
from sojourn_server.rpc.streams import Streams
from sojourn_server.rpc.validation import Rules
from sojourn_server.service.answers import Call

NEW_WORK: Final = frozenset({"CreateSession", "BatchCreateSessions", "BeginTurn"})
"""What a drain refuses first, while turns that are live may finish."""

Use = Callable[[Any, Call], Awaitable[Message]]
"""A servicer's method: it decodes, calls a use case and encodes."""
Send = Callable[[bytes], Awaitable[None]]
"""Hands one encoded message of a stream to grpc, and waits while its reader is slow."""
StreamUse = Callable[[Any, Call, Send], Awaitable[None]]
"""A servicer's method whose answer is a stream; it returns when the stream is over.

It is cancelled when the stream is to end, and must not let that break off a `Send`: of a
call whose message is broken off, grpc tells its caller no status at all."""

SILENCE: Final = 0.05
"""How long no call must have come for callers to count as silent, in seconds."""
HOLD_MOST: Final = 0.5
"""How long refusals are kept back for callers that do not fall silent, in seconds."""

_log = logs.Log("rpc")


class Observer(Protocol):
    """Is told of the calls of one method."""

    def begun(self) -> None:
        """A call has come."""
        ...

    def ended(self, outcome: str, seconds: float) -> None:
        """It is over.

        Args:
            outcome: `OK`, `CANCELLED` or the reason of its refusal.
            seconds: How long it took.
        """
        ...


class Pipeline:
    """Serves calls, and knows which are being served.

    Args:
        rules: The protos' rules.
        sealer: Its keyed hash tells payloads apart.
        request_bytes: The most that one request may be.
        callers: Finds out who calls; None: authentication is off.
        log_calls: Whether every call gets a line at level debug.
        observe: Makes the observer of a method; None: nobody observes.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        sealer: Sealer,
        request_bytes: int,
        callers: Callers | None = None,
        log_calls: bool = False,
        observe: Callable[[Method], Observer] | None = None,
    ) -> None:
        self._rules = rules
        self._sealer = sealer
        self._request_bytes = request_bytes
        self._callers = callers or Callers(None)
        self._log_calls = log_calls
        self._observe = observe
        self._running: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self.streams = Streams()
        """Calls whose answer is a stream; `running` and `idle` leave them out."""
        self.finishing = False
        """Whether new work is refused while live turns may finish. Set once, by the drain."""
        self.draining = False
        """Whether all new calls are refused. Set once, by the drain."""
        self._held: asyncio.Event | None = None
        self._arrival = 0.0

    @property
    def callers(self) -> Callers:
        """Who finds out who calls."""
        return self._callers

    @property
    def running(self) -> int:
        """How many calls are being served."""
        return len(self._running)

    async def idle(self) -> None:
        """Wait until no call is being served."""
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    async def hold(self) -> None:
        """Keep refusals back from now on, and wait until callers have fallen silent.

        grpc answers CANCELLED, which nobody may retry, to every call that has arrived but
        found no handler when a server stops. Whoever waits for a refusal sends no such
        call; who gets it once the server has stopped listening goes elsewhere.
        """
        self._held = asyncio.Event()
        until = time.monotonic() + HOLD_MOST
        while True:
            now = time.monotonic()
            rest = min(self._arrival + SILENCE, until) - now
            if rest <= 0:
                return
            await asyncio.sleep(rest)

    def release(self) -> None:
        """Send the refusals that were kept back."""
        if self._held is not None:
            self._held.set()

    def evict(self) -> None:
        """Break off every call that is being served; whether it took effect is unknown."""
        for task in self._running:
            self._evicted.add(task)
            task.cancel()

    def handler(
        self, method: Method, use: Use | StreamUse | None
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """What grpc calls for a method.

        Args:
            method: The method.
            use: Answers it; None: this release has none.
        """
        rule = PERMISSIONS[f"{method.service}/{method.name}"]
        if use is None:
            return self._missing(method)
        if method.responses_stream:
            stream: Any = use
            return grpc.unary_stream_rpc_method_handler(self._stream(method, rule, stream))
        unary: Any = use
        return grpc.unary_unary_rpc_method_handler(self._unary(method, rule, unary))

    def _unary(
        self, method: Method, rule: Rule, use: Use
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        parse: Callable[[bytes], Any] = method.request.FromString
        name, has_request_id = method.name, method.has_request_id
        new_work = name in NEW_WORK
        observer = None if self._observe is None else self._observe(method)

        async def serve(raw: bytes, context: Context) -> bytes:
            correlation_id = _correlation_id()
            logs.correlation.set(correlation_id)
            begin = self._arrival = time.monotonic()
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            outcome = "CANCELLED"
            if observer is not None:
                observer.begun()
            try:
                try:
                    if self._held is not None:
                        await self._held.wait()
                    self._refuse_late(new_work)
                    caller = self._callers.known(context) or await self._callers.ask(context)
                    request: Any = self._decode(raw, parse)
                    users = authorise(caller.principal, rule, request)
                    request_id = request.request_id if has_request_id else ""
                    call = Call(
                        principal=caller.principal.name,
                        actor=caller.actor,
                        users=users,
                        method=name,
                        request_id=request_id,
                        payload_hash=self._fingerprint(name, request) if request_id else b"",
                        deadline=_deadline(context, begin),
                    )
                    response = await use(request, call)
                    answer: bytes = response.SerializeToString()
                except asyncio.CancelledError as error:
                    refusal = self._refusal_of_cancel(name, task, error)
                except Exception as error:  # noqa: BLE001 - nothing else may reach grpc
                    refusal = self._refusal(name, error)
                else:
                    if self._log_calls:
                        context.set_trailing_metadata(((CORRELATION, correlation_id),))
                    outcome = "OK"
                    return answer
                outcome = refusal.reason.value
                await abort(context, refusal, correlation_id)
            finally:
                self._leave(task)
                if observer is not None:
                    observer.ended(outcome, time.monotonic() - begin)
                if self._log_calls:
                    _log_call(name, outcome, begin)

        return serve

    def _stream(
        self, method: Method, rule: Rule, use: StreamUse
    ) -> Callable[[bytes, Context], Awaitable[None]]:
        """Serves a method whose answer is a stream.

        It is a coroutine that writes, and no generator: grpc closes none when its call is
        cancelled. While it is open, the caller's credential is asked for again.
        """
        parse: Callable[[bytes], Any] = method.request.FromString
        name = method.name
        observer = None if self._observe is None else self._observe(method)

        async def serve(raw: bytes, context: Context) -> None:
            correlation_id = _correlation_id()
            logs.correlation.set(correlation_id)
            begin = time.monotonic()
            task = asyncio.current_task()
            assert task is not None
            outcome = "CANCELLED"
            if observer is not None:
                observer.begun()
            try:
                try:
                    self._refuse_late(new_work=True)
                    caller = await self._callers.ask(context)
                    request: Any = self._decode(raw, parse)
                    users = authorise(caller.principal, rule, request)
                    self.streams.enter(task, self._recheck(context, rule, request, users))
                    call = Call(
                        principal=caller.principal.name,
                        actor=caller.actor,
                        users=users,
                        method=name,
                        deadline=_deadline(context, begin),
                    )
                    await use(request, call, context.write)
                except asyncio.CancelledError as error:
                    refusal = self._refusal_of_cancel(name, task, error)
                except Exception as error:  # noqa: BLE001 - nothing else may reach grpc
                    refusal = self._refusal(name, error)
                else:
                    outcome = "OK"
                    return
                outcome = refusal.reason.value
                await abort(context, refusal, correlation_id)
            finally:
                self.streams.leave(task)
                if observer is not None:
                    observer.ended(outcome, time.monotonic() - begin)
                if self._log_calls:
                    _log_call(name, outcome, begin)

        return serve

    def _recheck(
        self, context: Context, rule: Rule, request: Any, users: Users
    ) -> Callable[[], Awaitable[None]]:
        """Asks, for a stream that is open, all that was asked when it was opened."""

        async def ask() -> None:
            caller = await self._callers.ask(context)
            now = authorise(caller.principal, rule, request)
            if users.everyone and not now.everyone:
                raise denied(Permission.READ)

        return ask

    def _refuse_late(self, new_work: bool) -> None:
        """Refuse what comes while the server stops.

        Raises:
            Refusal: `DRAINING`.
        """
        if self.draining or (self.finishing and new_work):
            raise draining()

    def _decode(self, raw: bytes, parse: Callable[[bytes], Message]) -> Any:
        """The request of its bytes, held to the rules."""
        if len(raw) > self._request_bytes:
            raise Refusal(
                Reason.REQUEST_TOO_LARGE,
                f"the request is larger than {self._request_bytes} bytes",
                {"limit_bytes": str(self._request_bytes)},
            )
        try:
            request = parse(raw)
        except DecodeError:
            raise Refusal(
                Reason.MALFORMED_REQUEST, "the bytes are no message of the request's type"
            ) from None
        self._rules.check(request)
        return request

    def _fingerprint(self, method: str, request: Any) -> bytes:
        """The keyed hash of a payload; clears the request's id."""
        request.ClearField("request_id")
        data: bytes = request.SerializeToString(deterministic=True)
        return self._sealer.fingerprint(method.encode() + b"\0" + data)

    def _refusal(self, method: str, error: Exception) -> Refusal:
        refusal = refusal_of(error)
        if refusal.reason is Reason.INTERNAL:
            _log.error("call failed", method=method, **logs.fault(error))
        return refusal

    def _refusal_of_cancel(
        self, method: str, task: asyncio.Task[Any], error: asyncio.CancelledError
    ) -> Refusal:
        """What to answer when the handler was cancelled.

        Raises:
            CancelledError: grpc cancelled it: the caller is gone, and nobody listens.
        """
        cut = self.streams.why_cut(task)
        if cut is not None:
            return cut
        if task in self._evicted:
            # Not DRAINING, which promises that nothing has happened.
            return Refusal(
                Reason.STORE_UNAVAILABLE,
                "the server stopped before the call was done; it may or may not have happened",
                retry_after=SECOND,
            )
        if task.cancelling():
            raise error
        # Something that we awaited was cancelled. grpc would send no status at all, and
        # leave the caller to its deadline.
        _log.error("call lost", method=method, **logs.fault(error))
        return Refusal(Reason.STORE_UNAVAILABLE, "the call was broken off inside the server")

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._evicted.discard(task)
        if not self._running:
            self._idle.set()

    def _missing(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """Answers a method of the contract that this release does not have."""
        observer = None if self._observe is None else self._observe(method)

        async def refuse(_: bytes | AsyncIterator[bytes], context: Context) -> None:
            try:
                self._refuse_late(new_work=False)
                # What this release lacks is said to callers who are somebody.
                await self._callers.ask(context)
                refusal = not_implemented(method.name)
            except Exception as error:  # noqa: BLE001 - nothing else may reach grpc
                refusal = self._refusal(method.name, error)
            if observer is not None:
                observer.begun()
                observer.ended(refusal.reason.value, 0.0)
            await abort(context, refusal, _correlation_id())

        if method.requests_stream:
            return grpc.stream_unary_rpc_method_handler(refuse)
        if method.responses_stream:
            return grpc.unary_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


class Router(grpc.GenericRpcHandler):
    """Finds a method's handler with one look-up for all services.

    Args:
        handlers: By path: `/sojourn.v1.SessionService/CreateSession`.
    """

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = dict(handlers)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler, or None: grpc answers an unknown method itself."""
        return self._handlers.get(handler_call_details.method)


def _correlation_id() -> str:
    """An id of one call. Random: a count would tell every caller how busy the others are."""
    return os.urandom(10).hex()


def _deadline(context: Any, begin: float) -> float | None:
    """When the caller gives up, by the monotonic clock; None: never.

    grpc's own figure follows the wall clock, so it is asked once, at the beginning.
    """
    remaining: float | None = context.time_remaining()
    return None if remaining is None else begin + remaining


def _log_call(method: str, outcome: str, begin: float) -> None:
    """Say what became of a call: `OK`, `CANCELLED` or the reason of its refusal."""
    code = TABLE[Reason(outcome)].code.name if outcome in Reason.__members__ else outcome
    _log.debug(
        "call",
        method=method,
        code=code,
        outcome=outcome,
        milliseconds=round((time.monotonic() - begin) * 1_000, 3),
    )
