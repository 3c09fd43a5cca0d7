"""Agents that write through the client library, and remember what was acknowledged to them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import sojourn
from sojourn.errors import DeadlineExceededError, UnavailableError
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import USER, revisions_of, until

STEPS = 5
"""How many writes count as getting on."""


class _Answer(Protocol):
    @property
    def revision(self) -> int: ...


class Agent:
    """Appends one message after another to a session of its own.

    A call that the client's own repeats do not bring through has an unknown outcome: it is
    sent again, through the other clients in turn, with the same request_id, until it is
    answered.

    Args:
        clients: One for each server.
        number: Which agent it is.
    """

    def __init__(self, clients: Sequence[sojourn.AsyncClient], number: int) -> None:
        own = number % len(clients)
        self._clients = [*clients[own:], *clients[:own]]
        self.session_id = f"agent-{number}"
        self.texts: list[str] = []
        """What was acknowledged, in order."""
        self.revisions: list[int] = []
        """Of each acknowledged write, in the order of the answers."""
        self.unknown: Counter[str] = Counter()
        """Calls that were not brought through, by their errors."""

    async def run(self, stop: asyncio.Event) -> None:
        await self._settle(
            lambda client, name: client.sessions.create(
                self.session_id, user=USER, request_id=name
            ),
        )
        while not stop.is_set():
            text = f"{self.session_id}/{len(self.texts)}"
            message = sojourn.NewMessage("user", text)
            await self._settle(
                lambda client, name, message=message: client.messages.append(  # type: ignore[misc]
                    self.session_id, message, user=USER, request_id=name
                )
            )
            self.texts.append(text)

    async def _settle(self, send: Callable[[sojourn.AsyncClient, str], Awaitable[_Answer]]) -> None:
        request_id = f"{self.session_id}/{len(self.revisions)}"
        for client in itertools.cycle(self._clients):
            try:
                answer = await send(client, request_id)
            except (UnavailableError, DeadlineExceededError) as error:
                self.unknown[type(error).__name__] += 1
            else:
                self.revisions.append(answer.revision)
                return


class Agents:
    """Some agents, and what must be true of them all."""

    def __init__(self, clients: Sequence[sojourn.AsyncClient], many: int) -> None:
        self._app = clients[0].app
        self._all = [Agent(clients, number) for number in range(many)]
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return sum(len(agent.revisions) for agent in self._all)

    @property
    def unknown(self) -> int:
        """How often an outcome was unknown, and had to be settled."""
        return sum(agent.unknown.total() for agent in self._all)

    async def get_on(self) -> None:
        """Wait until each of them has got on."""
        before = [len(agent.revisions) for agent in self._all]

        async def further() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            pairs = zip(self._all, before, strict=True)
            return all(len(agent.revisions) >= old + STEPS for agent, old in pairs)

        await until(further, "every agent has got on", 60)

    async def check(self, client: sojourn.AsyncClient, store: PostgresStore) -> None:
        """Everything that was acknowledged is there, once, in order, and nothing else.

        Each acknowledged write is one revision and nobody else writes, so one that was lost
        leaves a gap or an end too low, and one done twice a revision that nobody was told.
        """
        stored = [session.session_id async for session in client.sessions.list()]
        assert sorted(stored) == sorted(agent.session_id for agent in self._all)
        for agent in self._all:
            messages = client.messages.list(agent.session_id, user=USER, page_size=1_000)
            assert [each.content async for each in messages] == agent.texts
            assert agent.revisions == sorted(agent.revisions)
        told = sorted(revision for agent in self._all for revision in agent.revisions)
        assert told == await revisions_of(store, self._app)
        assert told == list(range(1, len(told) + 1))


@asynccontextmanager
async def at_work(clients: Sequence[sojourn.AsyncClient], many: int = 6) -> AsyncIterator[Agents]:
    """Agents that work until the block is left, and have finished what they began then."""
    agents = Agents(clients, many)
    stop = asyncio.Event()
    for agent in agents._all:
        agents.tasks.append(asyncio.create_task(agent.run(stop)))
    try:
        await agents.get_on()
        yield agents
    finally:
        stop.set()
        await asyncio.gather(*agents.tasks)
