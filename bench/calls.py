"""The calls that the load is made of: one class per kind, with what it needs beforehand."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import grpc.aio
from google.protobuf import json_format
from typing_extensions import override

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
)

if TYPE_CHECKING:
    # Types that only the stubs' .pyi files know.
    from sojourn.v1.history_service_pb2_grpc import HistoryServiceAsyncStub
    from sojourn.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from sojourn.v1.turn_service_pb2_grpc import TurnServiceAsyncStub

APP = "bench"
TIMEOUT = 120.0
READ_SESSIONS = 256
"""How many sessions of each worker the reads go round."""
READ_MESSAGES = 30
LAST = 20
BATCH = 200
SENTENCE = "The traveller asks whether the second bag is free on the late flight to Lisbon. "
TEXT = (SENTENCE * 2)[:150]
"""A message's content: 150 bytes."""
LABELS = {"channel": "web", "tier": "gold"}


class Caller:
    """One worker's channel, and what its calls share.

    Args:
        channel: To the server.
        name: Of the worker; part of the ids it makes.
    """

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self.channel = channel
        self.name = name
        self.sessions: SessionServiceAsyncStub = session_service_pb2_grpc.SessionServiceStub(
            channel
        )
        self.history: HistoryServiceAsyncStub = history_service_pb2_grpc.HistoryServiceStub(channel)
        self.turns: TurnServiceAsyncStub = turn_service_pb2_grpc.TurnServiceStub(channel)
        authorization = os.environ.get("BENCH_AUTHORIZATION")
        self.metadata = (("authorization", authorization),) if authorization else ()
        """Goes with the calls of the jobs that are measured with credentials."""
        self._numbers = itertools.count()
        self._born = f"{time.time_ns():x}"

    def fresh(self) -> str:
        """An id that no worker made before."""
        return f"{self._born}-{self.name}-{next(self._numbers)}"

    async def create(self, count: int) -> list[session_pb2.SessionRef]:
        """Create sessions that a job is to work on."""
        made: list[session_pb2.SessionRef] = []
        while len(made) < count:
            request = session_service_pb2.BatchCreateSessionsRequest(app=APP)
            for _ in range(min(BATCH, count - len(made))):
                request.sessions.add(
                    user=f"user-{len(made) % 50}", session_id=self.fresh(), labels=LABELS
                )
            await self.sessions.BatchCreateSessions(
                request, timeout=TIMEOUT, metadata=self.metadata
            )
            made += [
                session_pb2.SessionRef(app=APP, user=each.user, session_id=each.session_id)
                for each in request.sessions
            ]
        return made


class Job(ABC):
    """A kind of call. `prepare` is not measured, `call` is."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        self.caller = caller
        self.args = args

    async def prepare(self, callers: int, calls: int) -> None:  # noqa: B027 - some need nothing
        """Make ready for so many callers of so many calls each."""

    @abstractmethod
    async def call(self, who: int, index: int) -> None:
        """Make one call."""


class Echo(Job):
    """The floor: 150 bytes there and back."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        self._body = TEXT.encode()
        self._call: Any = caller.channel.unary_unary("/bench.Echo/Echo")

    @override
    async def call(self, who: int, index: int) -> None:
        """Echo."""
        await self._call(self._body, timeout=TIMEOUT)


class Reading(Job):
    """A read of sessions that hold messages."""

    _made: ClassVar[dict[str, list[session_pb2.SessionRef]]] = {}

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Make the sessions, once per worker."""
        if self.caller.name not in self._made:
            made = await self.caller.create(READ_SESSIONS)
            await asyncio.gather(*(self._append(ref) for ref in made))
            self._made[self.caller.name] = made

    async def _append(self, ref: session_pb2.SessionRef) -> None:
        request = history_service_pb2.AppendMessagesRequest(session=ref)
        for number in range(READ_MESSAGES):
            request.messages.add(role="user" if number % 2 else "model", content=TEXT)
        await self.caller.history.AppendMessages(
            request, timeout=TIMEOUT, metadata=self.caller.metadata
        )

    def ref(self, who: int, index: int) -> session_pb2.SessionRef:
        """The session whose turn it is."""
        made = self._made[self.caller.name]
        return made[(who * 7 + index) % len(made)]


class Get(Reading):
    """GetSession, BASIC."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Get."""
        request = session_service_pb2.GetSessionRequest(session=self.ref(who, index))
        await self.caller.sessions.GetSession(
            request, timeout=TIMEOUT, metadata=self.caller.metadata
        )


class GetFull(Reading):
    """GetSession, FULL, with the newest 20 messages: an agent loads its context."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Get."""
        request = session_service_pb2.GetSessionRequest(
            session=self.ref(who, index), view=session_pb2.SESSION_VIEW_FULL, last_messages=LAST
        )
        answer = await self.caller.sessions.GetSession(request, timeout=TIMEOUT)
        if len(answer.messages) != LAST:
            raise RuntimeError(f"{len(answer.messages)} messages instead of {LAST}")


class ListMessages(Reading):
    """ListMessages, the newest 20."""

    @override
    async def call(self, who: int, index: int) -> None:
        """List."""
        request = history_service_pb2.ListMessagesRequest(
            session=self.ref(who, index),
            order=history_service_pb2.MESSAGE_ORDER_NEWEST_FIRST,
            page_size=LAST,
        )
        answer = await self.caller.history.ListMessages(request, timeout=TIMEOUT)
        if len(answer.messages) != LAST:
            raise RuntimeError(f"{len(answer.messages)} messages instead of {LAST}")


class Create(Job):
    """CreateSession with two labels."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Create."""
        number = self.caller.fresh()
        request = session_service_pb2.CreateSessionRequest(
            app=APP,
            session=session_service_pb2.NewSession(
                user=f"user-{who}", session_id=number, labels=LABELS
            ),
            request_id=f"create-{number}",
        )
        await self.caller.sessions.CreateSession(request, timeout=TIMEOUT)


class Writing(Job):
    """A write to a session that each caller has for itself."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        self.own: list[session_pb2.SessionRef] = []

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Make the sessions, once."""
        self.own += await self.caller.create(callers - len(self.own))


class Update(Writing):
    """UpdateSession: a label and a key of the session's state."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Update."""
        number = self.caller.fresh()
        request = session_service_pb2.UpdateSessionRequest(
            session=self.own[who],
            labels={"step": str(index)},
            state=session_pb2.StatePatches(
                session=session_pb2.StatePatch(set={"plan": f'{{"at": "{number}", "n": {index}}}'})
            ),
            request_id=f"update-{number}",
        )
        await self.caller.sessions.UpdateSession(request, timeout=TIMEOUT)


class UpdateMetrics(Writing):
    """UpdateSession: counters only."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Update."""
        request = session_service_pb2.UpdateSessionRequest(
            session=self.own[who],
            metrics=session_pb2.MetricsDelta(requests=1, counters={"tokens": 150}),
            request_id=f"metrics-{self.caller.fresh()}",
        )
        await self.caller.sessions.UpdateSession(request, timeout=TIMEOUT)


class Append(Writing):
    """AppendMessages, one message of 150 bytes."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Append."""
        request = history_service_pb2.AppendMessagesRequest(
            session=self.own[who],
            messages=[message_pb2.NewMessage(role="user", content=TEXT)],
            request_id=f"append-{self.caller.fresh()}",
        )
        await self.caller.history.AppendMessages(
            request, timeout=TIMEOUT, metadata=self.caller.metadata
        )


class OnceEach(Job):
    """A call that each session sees once: every caller has as many sessions as calls."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        self.own: list[list[session_pb2.SessionRef]] = []

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Make the sessions, new ones every time."""
        made = await self.caller.create(callers * calls)
        self.own = [made[who * calls : (who + 1) * calls] for who in range(callers)]


class BeginTurn(OnceEach):
    """BeginTurn."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Begin."""
        await self.begin(self.own[who][index])

    async def begin(self, ref: session_pb2.SessionRef) -> str:
        """Begin; return the token."""
        request = turn_service_pb2.BeginTurnRequest(
            session=ref, holder="pod-7", request_id=f"begin-{self.caller.fresh()}"
        )
        request.lease.seconds = 600
        return (await self.caller.turns.BeginTurn(request, timeout=TIMEOUT)).turn_token


class EndTurn(BeginTurn):
    """EndTurn."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        self._tokens: list[list[str]] = []

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Make the sessions and begin a turn on each."""
        await super().prepare(callers, calls)
        self._tokens = await asyncio.gather(*(self._begin_all(mine) for mine in self.own))

    async def _begin_all(self, mine: list[session_pb2.SessionRef]) -> list[str]:
        return [await self.begin(ref) for ref in mine]

    @override
    async def call(self, who: int, index: int) -> None:
        """End."""
        request = turn_service_pb2.EndTurnRequest(
            app=APP,
            turn_token=self._tokens[who][index],
            request_id=f"end-turn-{self.caller.fresh()}",
        )
        await self.caller.turns.EndTurn(request, timeout=TIMEOUT)


class EndSession(OnceEach):
    """EndSession."""

    @override
    async def call(self, who: int, index: int) -> None:
        """End."""
        request = session_service_pb2.EndSessionRequest(
            session=self.own[who][index],
            status=session_pb2.SESSION_STATUS_COMPLETED,
            reason="the traveller has what they came for",
            request_id=f"end-{self.caller.fresh()}",
        )
        await self.caller.sessions.EndSession(request, timeout=TIMEOUT)


class Mixed(Writing):
    """GetSession and AppendMessages in turns: what other callers do while sessions expire."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Get, or append."""
        if index % 2:
            get = session_service_pb2.GetSessionRequest(session=self.own[who])
            await self.caller.sessions.GetSession(get, timeout=TIMEOUT)
        else:
            append = history_service_pb2.AppendMessagesRequest(
                session=self.own[who],
                messages=[message_pb2.NewMessage(role="user", content=TEXT)],
                request_id=f"append-{self.caller.fresh()}",
            )
            await self.caller.history.AppendMessages(append, timeout=TIMEOUT)


class Asked(Job):
    """A read whose request comes with the order, as JSON.

    With `users` it asks for each of so many users in turn.
    """

    _requests: ClassVar[dict[str, Any]] = {
        "ListSessions": session_service_pb2.ListSessionsRequest,
        "ListMessages": history_service_pb2.ListMessagesRequest,
        "GetSession": session_service_pb2.GetSessionRequest,
    }

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        method = args["method"]
        self._request = json_format.ParseDict(args["request"], self._requests[method]())
        stub = caller.history if method == "ListMessages" else caller.sessions
        self._call: Callable[..., Awaitable[Any]] = getattr(stub, method)

    @override
    async def call(self, who: int, index: int) -> None:
        """Ask."""
        users = self.args.get("users")
        if users:
            self._request.user = f"user-{(who * 31 + index) % users}"
        answer = await self._call(self._request, timeout=TIMEOUT)
        wanted = self.args.get("items")
        items = answer.sessions if self.args["method"] == "ListSessions" else answer.messages
        if wanted is not None and len(items) != wanted:
            raise RuntimeError(f"{len(items)} items instead of {wanted}: {self.args}")


JOBS: dict[str, type[Job]] = {
    "echo": Echo,
    "get": Get,
    "get_full": GetFull,
    "list_messages": ListMessages,
    "create": Create,
    "update": Update,
    "update_metrics": UpdateMetrics,
    "append": Append,
    "begin_turn": BeginTurn,
    "end_turn": EndTurn,
    "end_session": EndSession,
    "mixed": Mixed,
    "asked": Asked,
}
