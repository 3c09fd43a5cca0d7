"""Callers of both servers at once, and the histories of what they were answered."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Iterator, Sequence
from typing import TypeVar

import sojourn
from sojourn.errors import EtagMismatchError, SessionEndedError
from tests.cluster.kit import USER
from tests.cluster.linear import Did, Operation, Seen

T = TypeVar("T")

SESSIONS = 3
CALLERS = 6
CALLS = 15
KEY = "value"


class History:
    """What was done to one session, and how it was before."""

    def __init__(self, created: sojourn.Session) -> None:
        self.session_id = created.session_id
        self.first = Seen(created.etag, None, created.generation, active=True)
        self.operations: list[Operation] = []


async def timed(call: Awaitable[T]) -> tuple[int, int, T]:
    begin = time.monotonic_ns()
    answer = await call
    return begin, time.monotonic_ns(), answer


class Caller:
    """Reads sessions and writes them, always through a server that chance takes."""

    def __init__(
        self,
        clients: Sequence[sojourn.AsyncClient],
        histories: Sequence[History],
        values: Iterator[int],
        chance: random.Random,
    ) -> None:
        self._clients = clients
        self._histories = histories
        self._values = values
        self._chance = chance
        self._etags = {each.session_id: each.first.etag for each in histories}

    async def run(self) -> None:
        for _ in range(CALLS):
            history = self._chance.choice(self._histories)
            client = self._chance.choice(self._clients)
            kind = self._chance.random()
            if kind < 0.40:
                operation = await self._get(client, history)
            elif kind < 0.88:
                operation = await self._update(client, history)
            elif kind < 0.98:
                operation = await self._end_or_reset(client, history, Did.RESET)
            else:
                operation = await self._end_or_reset(client, history, Did.END)
            history.operations.append(operation)
            if operation.seen is not None:
                self._etags[history.session_id] = operation.seen.etag

    async def _get(self, client: sojourn.AsyncClient, history: History) -> Operation:
        begin, end, found = await timed(client.sessions.get(history.session_id, user=USER))
        assert found.content is not None
        value = found.content.state.values.get(KEY)
        return Operation(begin, end, Did.GET, seen(found, value))

    async def _update(self, client: sojourn.AsyncClient, history: History) -> Operation:
        """Write where the etag is the one that this caller saw last."""
        expected, value = self._etags[history.session_id], next(self._values)
        begin = time.monotonic_ns()
        try:
            answer = await client.sessions.update(
                history.session_id,
                user=USER,
                state={KEY: value},
                precondition=sojourn.Precondition(etag=expected),
            )
        except EtagMismatchError:
            # It reads before it tries again, as anybody would.
            refused = Operation(begin, time.monotonic_ns(), Did.MISMATCH, None, expected)
            history.operations.append(refused)
            return await self._get(client, history)
        except SessionEndedError:
            return Operation(begin, time.monotonic_ns(), Did.ENDED)
        return Operation(
            begin, time.monotonic_ns(), Did.UPDATE, seen(answer.session, value), expected
        )

    async def _end_or_reset(
        self, client: sojourn.AsyncClient, history: History, did: Did
    ) -> Operation:
        call = client.sessions.end if did is Did.END else client.sessions.reset
        begin = time.monotonic_ns()
        try:
            answer = await call(history.session_id, user=USER)
        except SessionEndedError:
            return Operation(begin, time.monotonic_ns(), Did.ENDED)
        return Operation(begin, time.monotonic_ns(), did, seen(answer.session, None))


def seen(session: sojourn.Session, value: int | None) -> Seen:
    return Seen(session.etag, value, session.generation, session.is_active)


async def record(
    clients: Sequence[sojourn.AsyncClient], name: str, chance: random.Random
) -> list[History]:
    """Let callers loose on a few new sessions, and write down all that they were answered.

    Args:
        clients: Of the servers.
        name: Of the sessions: another one each time.
        chance: What callers do, and through which server.
    """
    histories = [
        History(await chance.choice(clients).sessions.create(f"{name}-{number}", user=USER))
        for number in range(SESSIONS)
    ]
    values = itertools.count(1)
    callers = [Caller(clients, histories, values, chance) for _ in range(CALLERS)]
    await asyncio.gather(*(caller.run() for caller in callers))
    return histories
