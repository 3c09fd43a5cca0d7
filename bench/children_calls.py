"""Calls about short-lived children: a batch of them is made, and they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from bench.calls import APP, TIMEOUT, Caller, Job
from sojourn.v1 import session_pb2, session_service_pb2, turn_service_pb2

BATCH = 500
LEASE = 600
RESULT = '{"answer":"the second bag is free","sources":2}'


class Children(Job):
    """All children of one parent, which lives on and keeps those that have ended."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        self.parent = session_pb2.SessionRef()

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Make the parent, once."""
        if not self.parent.uid:
            request = session_service_pb2.CreateSessionRequest(app=APP)
            request.session.user = "root"
            made = (await self.caller.sessions.CreateSession(request, timeout=TIMEOUT)).session
            self.parent = session_pb2.SessionRef(app=APP, uid=made.uid)

    async def make(self, owner: session_service_pb2.Ephemeral) -> Sequence[session_pb2.Session]:
        """Make a batch of children."""
        request = session_service_pb2.BatchCreateSessionsRequest(
            app=APP, request_id=self.caller.fresh()
        )
        for _ in range(BATCH):
            request.sessions.add(user="root", parent_uid=self.parent.uid, ephemeral=owner)
        answer = await self.caller.sessions.BatchCreateSessions(request, timeout=TIMEOUT)
        return answer.sessions


class ChildrenOfTurns(Children):
    """A turn, a batch of children that it owns, and its end, which ends them."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Begin, make, end."""
        begin = turn_service_pb2.BeginTurnRequest(
            session=self.parent, request_id=self.caller.fresh()
        )
        begin.lease.seconds = LEASE
        token = (await self.caller.turns.BeginTurn(begin, timeout=TIMEOUT)).turn_token
        await self.make(session_service_pb2.Ephemeral(turn_token=token))
        end = turn_service_pb2.EndTurnRequest(
            app=APP, turn_token=token, request_id=self.caller.fresh()
        )
        await self.caller.turns.EndTurn(end, timeout=TIMEOUT)


class ChildrenWithResults(Children):
    """A batch of children with a lease, each of which ends by a call of its own with a result."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Make, end all at once."""
        owner = session_service_pb2.Ephemeral()
        owner.lease.seconds = LEASE
        await asyncio.gather(*map(self._end, await self.make(owner)))

    async def _end(self, child: session_pb2.Session) -> None:
        request = session_service_pb2.EndSessionRequest(
            session=session_pb2.SessionRef(app=APP, uid=child.uid),
            result=RESULT,
            request_id=self.caller.fresh(),
        )
        await self.caller.sessions.EndSession(request, timeout=TIMEOUT)


JOBS: dict[str, type[Job]] = {
    "children of turns": ChildrenOfTurns,
    "children with results": ChildrenWithResults,
}
