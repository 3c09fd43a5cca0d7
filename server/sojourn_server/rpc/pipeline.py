"""What every call goes through, from bytes to bytes.

Admission, decoding, the protos' rules, the caller's name, the payload's fingerprint,
the use case, the answer; and on any failure one status with its details. It is one
function around each handler and no chain of interceptors: each link of grpc.aio's
chain costs a coroutine per call, and the chain never sees a request that cannot be
decoded. So grpc hands over plain bytes, and what a bad request is, is said here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from sojourn_server import logs
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal, draining, invalid_field
from sojourn_server.domain.tokens import Sealer
from sojourn_server.rpc.errors import (
    TABLE,
    not_implemented,
    refusal_of,
    status_of,
)
from sojourn_server.rpc.methods import Method
from sojourn_server.rpc.validation import Rules
from sojourn_server.service.answers import Call

CORRELATION: Final = "x-sojourn-correlation-id"
"""Trailer of every refusal, and of every answer while calls are logged: finds the call's
lines in the server's log. An answer without a line needs none, and is cheaper without."""
ACTOR: Final = "x-sojourn-actor-bin"
"""Metadata, UTF-8: in whose name the caller acts, while authentication is off."""
ACTOR_CHARACTERS: Final = 256
NEW_WORK: Final = frozenset({"CreateSession", "BatchCreateSessions", "BeginTurn"})
"""What a drain refuses first, while turns that are live may finish."""

Context = grpc.aio.ServicerContext[Any, Any]
Use = Callable[[Any, Call], Awaitable[Message]]
"""A servicer's method: it decodes, calls a use case and encodes."""

SILENCE: Final = 0.05
"""How long no call must have come for callers to count as silent, in seconds."""
HOLD_MOST: Final = 0.5
"""How long refusals are kept back for callers that do not fall silent, in seconds."""

_START: Final = os.urandom(6).hex()
_COUNT: Final = itertools.count()

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
        log_calls: Whether every call gets a line at level debug.
        observe: Makes the observer of a method; None: nobody observes.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        sealer: Sealer,
        request_bytes: int,
        log_calls: bool = False,
        observe: Callable[[Method], Observer] | None = None,
    ) -> None:
        self._rules = rules
        self._sealer = sealer
        self._request_bytes = request_bytes
        self._log_calls = log_calls
        self._observe = observe
        self._running: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self.finishing = False
        """Whether new work is refused while live turns may finish. Set once, by the drain."""
        self.draining = False
        """Whether all new calls are refused. Set once, by the drain."""
        self._held: asyncio.Event | None = None
        self._arrival = 0.0

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

    def handler(self, method: Method, use: Use | None) -> grpc.RpcMethodHandler[Any, Any]:
        """What grpc calls for a method.

        Args:
            method: The method; one with streams must be not built.
            use: Answers it; None: this release has none.
        """
        if use is None:
            return self._missing(method)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, use))

    def _unary(self, method: Method, use: Use) -> Callable[[bytes, Context], Awaitable[bytes]]:
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
                    request: Any = self._admit(raw, parse, new_work)
                    request_id = request.request_id if has_request_id else ""
                    call = Call(
                        actor=_actor(context),
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
                await _abort(context, refusal, correlation_id)
            finally:
                self._leave(task)
                if observer is not None:
                    observer.ended(outcome, time.monotonic() - begin)
                if self._log_calls:
                    _log_call(name, outcome, begin)

        return serve

    def _admit(self, raw: bytes, parse: Callable[[bytes], Message], new_work: bool) -> Any:
        """The request of its bytes, held to the rules."""
        if self.draining or (self.finishing and new_work):
            raise draining()
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
            refusal = draining() if self.draining else not_implemented(method.name)
            if observer is not None:
                observer.begun()
                observer.ended(refusal.reason.value, 0.0)
            await _abort(context, refusal, _correlation_id())

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
    """An id of one call: random per process, then counted, which costs no system call."""
    return f"{_START}{next(_COUNT):08x}"


def _actor(context: Context) -> str:
    """In whose name the caller says it acts.

    Raises:
        Refusal: `INVALID_FIELD`: not UTF-8, not printable, or too long.
    """
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR:
            return _checked_actor(value)
    return ""


def _checked_actor(value: str | bytes) -> str:
    try:
        actor = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise invalid_field(ACTOR, "must be UTF-8") from None
    if len(actor) > ACTOR_CHARACTERS:
        raise invalid_field(ACTOR, f"must be at most {ACTOR_CHARACTERS} characters")
    if not actor.isprintable():
        raise invalid_field(ACTOR, "must be printable")
    return actor


def _deadline(context: Any, begin: float) -> float | None:
    """When the caller gives up, by the monotonic clock; None: never.

    grpc's own figure follows the wall clock, so it is asked once, at the beginning.
    """
    remaining: float | None = context.time_remaining()
    return None if remaining is None else begin + remaining


async def _abort(context: Context, refusal: Refusal, correlation_id: str) -> NoReturn:
    """End a call with a refusal; grpc raises its own exception."""
    status = rpc_status.to_status(status_of(refusal))
    await context.abort(
        status.code,
        status.details,
        (*status.trailing_metadata, (CORRELATION, correlation_id)),
    )


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
