"""SIGTERM under load, again and again: through the client library no call fails."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

import sojourn
from tests.faults import counts
from tests.faults.checker import until
from tests.faults.harness import ServerProcess

RESTARTS = counts.count("restarts")
AGENTS = 8
MESSAGES = 4
PATIENT = sojourn.RetryOptions(max_attempts=200)
"""A server on a busy machine may take longer to come back than the default bridges."""


class Agent:
    """Plays sessions through the client library and remembers what was acknowledged."""

    def __init__(self, client: sojourn.AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self.texts: dict[str, list[str]] = {}
        """Of each session, what it must hold."""
        self.calls = 0
        self.failures: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._play(f"{self._name}-{len(self.texts)}")
            except sojourn.SojournError as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1

    async def _play(self, session_id: str) -> None:
        client = self._client
        texts = self.texts[session_id] = []
        await self._done(client.sessions.create(session_id, user="u"))
        for number in range(MESSAGES):
            await self._append(session_id, number)
            texts.append(_text(session_id, number))
        await self._done(
            client.sessions.update(session_id, user="u", metrics=sojourn.MetricsDelta(1))
        )
        await self._done(self._read(session_id))
        await self._done(client.sessions.end(session_id, user="u"))

    async def _append(self, session_id: str, number: int) -> None:
        message = sojourn.NewMessage("user", _text(session_id, number))
        await self._done(self._client.messages.append(session_id, message, user="u"))

    async def _read(self, session_id: str) -> None:
        stored = self._client.messages.list(session_id, user="u")
        assert [each.content async for each in stored] == self.texts[session_id]

    async def _done(self, call: Awaitable[object]) -> None:
        await call
        self.calls += 1


def _text(session_id: str, number: int) -> str:
    return f"{session_id}/{number}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(counts.patience("restarts", 15))
async def test_no_call_fails_while_the_server_restarts(tmp_path: Path) -> None:
    chance = random.Random()
    stop = asyncio.Event()
    with ServerProcess(tmp_path, port=free_port()) as server:
        async with sojourn.connect(
            server.target, app="restarts", retry=PATIENT, deadline=60
        ) as client:
            agents = [Agent(client, f"a{number}") for number in range(AGENTS)]
            tasks = [asyncio.create_task(agent.run(stop)) for agent in agents]
            for _ in range(RESTARTS):
                await asyncio.sleep(chance.uniform(0.05, 0.3))
                await progress(agents)
                # In a thread: the agents go on meanwhile, and must.
                assert await asyncio.to_thread(server.terminate) == 0, server.log()
                await asyncio.to_thread(server.start)
            await progress(agents)
            stop.set()
            await asyncio.gather(*tasks)
            assert sum((agent.failures for agent in agents), start=Counter()) == Counter()
            await compare(client, agents)
        assert server.terminate() == 0, server.log()
        assert server.integrity() == "ok"
    counts.report(
        "SIGTERM under load",
        RESTARTS,
        f"{sum(agent.calls for agent in agents):,} calls, 0 failed; exit code 0 each time",
    )


async def progress(agents: Sequence[Agent]) -> None:
    """Wait until the server is under load: a client pauses before it connects again."""
    before = [agent.calls for agent in agents]

    async def going() -> bool:
        return sum(agent.calls for agent in agents) >= sum(before) + 10 * AGENTS

    await until(going, "calls are answered", 60)


async def compare(client: sojourn.AsyncClient, agents: Sequence[Agent]) -> None:
    expected = {name: texts for agent in agents for name, texts in agent.texts.items()}
    stored = Counter(
        [session.key.session_id async for session in client.sessions.list(status=None)]
    )
    assert set(stored) == set(expected)
    assert set(stored.values()) == {1}
    for name, texts in expected.items():
        session = await client.sessions.get(name, user="u")
        assert session.metrics.request_count == 1
        assert [each.content async for each in client.messages.list(name, user="u")] == texts
