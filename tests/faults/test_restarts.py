"""SIGTERM under load, again and again: through the client library no call fails."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import sojourn
from tests.faults import counts
from tests.faults.harness import ServerProcess

RESTARTS = counts.count("restarts")
AGENTS = 8
MESSAGES = 4


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
        texts = self.texts[session_id] = []
        await self._client.sessions.create(session_id, user="u")
        for number in range(MESSAGES):
            text = f"{session_id}/{number}"
            await self._client.messages.append(
                session_id, sojourn.NewMessage("user", text), user="u"
            )
            texts.append(text)
        await self._client.sessions.update(session_id, user="u", metrics=sojourn.MetricsDelta(1))
        stored = self._client.messages.list(session_id, user="u")
        assert [message.content async for message in stored] == texts
        await self._client.sessions.end(session_id, user="u")
        self.calls += MESSAGES + 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(counts.patience("restarts", 15))
async def test_no_call_fails_while_the_server_restarts(tmp_path: Path) -> None:
    chance = random.Random()
    stop = asyncio.Event()
    with ServerProcess(tmp_path, port=free_port()) as server:
        async with sojourn.connect(server.target, app="restarts") as client:
            agents = [Agent(client, f"a{number}") for number in range(AGENTS)]
            tasks = [asyncio.create_task(agent.run(stop)) for agent in agents]
            for _ in range(RESTARTS):
                await asyncio.sleep(chance.uniform(0.2, 0.6))
                # In a thread: the agents go on meanwhile, and must.
                assert await asyncio.to_thread(server.terminate) == 0, server.log()
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.2)
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


async def compare(client: sojourn.AsyncClient, agents: Sequence[Agent]) -> None:
    expected = {name: texts for agent in agents for name, texts in agent.texts.items()}
    stored = Counter([session.key.session_id async for session in client.sessions.list(status=None)])
    assert set(stored) == set(expected)
    assert set(stored.values()) == {1}
    for name, texts in expected.items():
        session = await client.sessions.get(name, user="u")
        assert session.metrics.request_count == 1
        assert [each.content async for each in client.messages.list(name, user="u")] == texts
