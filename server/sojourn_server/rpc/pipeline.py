"""What every call goes through, from bytes to bytes.

Who calls, whether there is room for it, decoding, the protos' rules, what the caller may
do, the payload's fingerprint, the use case, the answer; and on any failure one status with
its details. It is one function around each handler and no chain of interceptors: each link
of grpc.aio's chain costs a coroutine per call, and the chain never sees a request that
cannot be decoded. So grpc hands over plain bytes, and what a bad request is, is said here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from sojourn_server import logs
from sojourn_server.domain.access import THE_APP, Permission, Users
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal, draining
from sojourn_server.domain.tokens import Sealer
from sojourn_server.rpc.admission import UNSENT_BYTES, Admission, Budgets, Ticket
from sojourn_server.rpc.callers import Callers, Context, unnamed
from sojourn_server.rpc.errors import (
    CORRELATION,
    TABLE,
    abort,
    refusal_of,
)
from sojourn_server.rpc.methods import Method
from sojourn_server.rpc.observer import Observer
from sojourn_server.rpc.permissions import TABLE as PERMISSIONS
from sojourn_server.rpc.permissions import Rule, authorise, denied
from sojourn_server.rpc.reading import Reading
from sojourn_server.rpc.streams import Streams
from sojourn_server.rpc.validation import Rules
from sojourn_server.service.answers import Call

NEW_WORK: Final = frozenset({"CreateSession", "BatchCreateSessions", "BeginTurn"})
"""What a drain refuses first, while turns that are live may finish."""

Use = Callable[[Any, Call], Awaitable[Message]]
"""A servicer's method: it decodes, calls a use case and encodes."""
Send = Callable[[bytes], Awaitable[None]]
"""Hands one encoded message of a stream to grpc, and waits while its reader is slow."""
StreamUse = Callable[..., Awaitable[None]]
"""A servicer's method with a stream: request, call, send, and of several requests the next.

It is cancelled when the stream is to end, and must not let that break off a `Send`: grpc
tells the caller of such a call no status at all."""

SILENCE: Final = 0.05
"""How long no call must have come for callers to count as silent, in seconds."""
HOLD_MOST: Final = 0.5
"""How long refusals are kept back for callers that do not fall silent, in seconds."""

_log = logs.Log("rpc")


class Pipeline:
    """Serves calls, and knows which are being served.

    Args:
        rules: The protos' rules.
        sealer: Its keyed hash tells payloads apart.
        request_bytes: The most that one request may be.
        callers: Finds out who calls; None: authentication is off.
        admission: Lets calls in; None: with the budgets of a server that nobody has set up.
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
        admission: Admission | None = None,
        log_calls: bool = False,
        observe: Callable[[Method], Observer] | None = None,
    ) -> None:
        self._rules = rules
        self._sealer = sealer
        self._request_bytes = request_bytes
        self._callers = callers or Callers(None)
        self.admission = admission or Admission(Budgets())
        """Who is let in, and who waits."""
        self._log_calls = log_calls
        self._observe = observe
        self._running: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self.streams = Streams()
        """Calls whose answer is a stream; `running` and `idle` leave them out."""
        self.finishing = False
        """Whether new work is refused while live turns may finish. Set once, by the drain."""
        self._draining = False
        self.reading = Reading()
        """Requests that are on their way in."""
        self._held: asyncio.Event | None = None
        self._arrival = 0.0

    @property
    def callers(self) -> Callers:
        """Who finds out who calls."""
        return self._callers

    @property
    def draining(self) -> bool:
        """Whether all new calls are refused, and those that wait. Set once, by the drain."""
        return self._draining

    @draining.setter
    def draining(self, yes: bool) -> None:
        self._draining = yes
        if yes:
            self.reading.close()
            self.streams.cut_bulk(draining())
            self.admission.close()

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

    def handler(self, method: Method, use: Use | StreamUse) -> grpc.RpcMethodHandler[Any, Any]:
        """What grpc calls for a method.

        Args:
            method: The method.
            use: Answers it.
        """
        rule = PERMISSIONS[f"{method.service}/{method.name}"]
        if method.responses_stream or method.requests_stream:
            stream: Any = use
            return grpc.stream_stream_rpc_method_handler(self._stream(method, rule, stream))
        unary: Any = use
        return grpc.stream_unary_rpc_method_handler(self._unary(method, rule, unary))

    def _unary(
        self, method: Method, rule: Rule, use: Use
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        parse: Callable[[bytes], Any] = method.request.FromString
        name, has_request_id = method.name, method.has_request_id
        new_work, app_of, admission = name in NEW_WORK, rule.app or _no_app, self.admission
        observer = None if self._observe is None else self._observe(method)

        async def serve(_: AsyncIterator[bytes], context: Context) -> bytes:
            correlation_id = _correlation_id()
            logs.correlation.set(correlation_id)
            begin = self._arrival = time.monotonic()
            task = asyncio.current_task()
            assert task is not None
            self._running.add(task)
            outcome, ticket, raw = "CANCELLED", None, b""
            if observer is not None:
                observer.begun()
            try:
                try:
                    if self._held is not None:
                        await self._held.wait()
                    self._refuse_late(new_work)
                    caller = self._callers.known(context) or await self._callers.ask(context)
                    raw = await self.reading.read(context, caller.principal.name)
                    ticket = admission.arrive(caller.principal.name, len(raw), begin)
                    if ticket.waits:
                        await self._wait(ticket, new_work)
                    request: Any = self._decode(raw, parse)
                    users = authorise(caller.principal, rule, request)
                    if not admission.enter(ticket, app_of(request), begin):
                        await self._wait(ticket, new_work)
                    request_id = unnamed(request.request_id) if has_request_id else ""
                    call = Call(
                        principal=unnamed(caller.principal.name) if has_request_id else "",
                        actor=caller.actor,
                        users=users,
                        reads=caller.principal.reads,
                        method=name,
                        request_id=request_id,
                        payload_hash=self._fingerprint(name, request) if request_id else b"",
                        deadline=_deadline(context, begin),
                        rest=partial(admission.rest, ticket),
                    )
                    response = await use(request, call)
                    answer: bytes = response.SerializeToString()
                    ticket = self._keep(ticket, task, len(answer))
                except asyncio.CancelledError as error:
                    refusal = self._refusal_of_cancel(name, task, error)
                except Exception as error:  # noqa: BLE001 - nothing else may reach grpc
                    refusal = self._refusal(name, error)
                else:
                    if self._log_calls:
                        context.set_trailing_metadata(((CORRELATION, correlation_id),))
                    outcome = "OK"
                    return answer
                await self._hold_back(refusal, ticket, raw, context)
                outcome = refusal.reason.value
                await abort(context, refusal, correlation_id)
            finally:
                self._leave(task, ticket)
                if observer is not None:
                    observer.ended(outcome, time.monotonic() - begin)
                if self._log_calls:
                    _log_call(name, outcome, begin)

        return serve

    def _stream(
        self, method: Method, rule: Rule, use: StreamUse
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
        """Serves a method whose answer is a stream.

        It is a coroutine that writes, and no generator: grpc closes none when its call is
        cancelled. While it is open, the caller's credential is asked for again.
        """
        parse: Callable[[bytes], Any] = method.request.FromString
        name, app_of, admission = method.name, rule.app or _no_app, self.admission
        observer = None if self._observe is None else self._observe(method)

        async def serve(_: AsyncIterator[bytes], context: Context) -> None:
            correlation_id = _correlation_id()
            logs.correlation.set(correlation_id)
            begin = time.monotonic()
            task = asyncio.current_task()
            assert task is not None
            outcome, ticket, raw = "CANCELLED", None, b""
            if observer is not None:
                observer.begun()
            try:
                try:
                    self._refuse_late(new_work=True)
                    caller = await self._callers.ask(context)
                    raw = await self.reading.read(context, caller.principal.name)
                    ticket = admission.arrive(caller.principal.name, len(raw), begin)
                    # Not when we have answered, but when grpc has sent the answer.
                    task.add_done_callback(partial(_give_back, admission, ticket))
                    if ticket.waits:
                        await self._wait(ticket, new_work=True)
                    request: Any = self._decode(raw, parse)
                    users = authorise(caller.principal, rule, request)
                    if not admission.enter(ticket, app_of(request), begin):
                        await self._wait(ticket, new_work=True)
                    admission.rest(ticket, Reason.STREAM_LIMIT)
                    recheck = self._recheck(context, rule, request, users)
                    self.streams.enter(task, recheck, bulk=name != "WatchSessions")
                    call = Call(
                        principal=caller.principal.name,
                        actor=caller.actor,
                        users=users,
                        method=name,
                        deadline=_deadline(context, begin),
                    )
                    # By itself: grpc sends it with the first message else, and whoever is to
                    # be refused while that is on its way hears of no status.
                    await context.send_initial_metadata(())
                    more = partial(self._more, context, caller.principal.name, parse)
                    await use(request, call, context.write, *([more] * method.requests_stream))
                except asyncio.CancelledError as error:
                    refusal = self._refusal_of_cancel(name, task, error)
                except Exception as error:  # noqa: BLE001 - nothing else may reach grpc
                    refusal = self._refusal(name, error)
                else:
                    outcome = "OK"
                    return
                await self._hold_back(refusal, ticket, raw, context)
                outcome = refusal.reason.value
                await abort(context, refusal, correlation_id)
            finally:
                self.streams.leave(task)
                if observer is not None:
                    observer.ended(outcome, time.monotonic() - begin)
                if self._log_calls:
                    _log_call(name, outcome, begin)

        return serve

    async def _more(self, context: Context, who: str, parse: Callable[[bytes], Message]) -> Any:
        """The next request of a call that has several, or None."""
        raw = await self.reading.more(context, who)
        return None if raw is None else self._decode(raw, parse)

    async def _wait(self, ticket: Ticket, new_work: bool) -> None:
        """Wait until a call may run.

        Raises:
            Refusal: `DRAINING`: the server has begun to stop meanwhile.
        """
        await self.admission.wait(ticket)
        self._refuse_late(new_work)

    async def _hold_back(
        self, refusal: Refusal, ticket: Ticket | None, raw: bytes, context: Context
    ) -> None:
        """Give back what a refused call took, and let a caller wait that is refused too often."""
        if ticket is not None:
            self.admission.leave(ticket)
        now = time.monotonic()
        await self.admission.hold(refusal, len(raw), now, _deadline(context, now))

    def _recheck(
        self, context: Context, rule: Rule, request: Any, users: Users
    ) -> Callable[[], Awaitable[None]]:
        """Asks, for a stream that is open, all that was asked when it was opened."""

        async def ask() -> None:
            caller = await self._callers.ask(context)
            now = authorise(caller.principal, rule, request)
            # What the stream shows beside what its request names: other users, the app itself.
            fewer = users.everyone and not now.everyone
            if fewer or (users.covers(THE_APP) and not now.covers(THE_APP)):
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

    def _keep(self, ticket: Ticket, task: asyncio.Task[Any], size: int) -> Ticket | None:
        """What a call that has its answer is to give back now: nothing, if that is large.

        Then it gives back when grpc has sent the answer, which is when its task is done.
        """
        if size < UNSENT_BYTES:
            return ticket
        self.admission.ran(ticket, size)
        task.add_done_callback(partial(_give_back, self.admission, ticket))
        return None

    def _leave(self, task: asyncio.Task[Any], ticket: Ticket | None) -> None:
        if ticket is not None:
            self.admission.leave(ticket)
        self._running.discard(task)
        self._evicted.discard(task)
        if not self._running:
            self._idle.set()


def _give_back(admission: Admission, ticket: Ticket, _: asyncio.Task[Any]) -> None:
    """Give back what a call took, once its task is done."""
    admission.leave(ticket)


def _no_app(_: Any) -> str:
    """The app of a request that is about the whole server."""
    return ""


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
