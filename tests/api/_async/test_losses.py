"""An answer that got lost: the call is repeated by itself, and nothing happens twice."""

from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

import sojourn
from sojourn import AsyncClient, MetricsDelta, NewMessage, NewSession, RetryOptions
from sojourn.testing import AsyncLocalServer
from tests.api.scripted import Failure, Script

LOST = Failure(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))


@pytest.fixture
async def unlucky(server: AsyncLocalServer, script: Script, app: str) -> AsyncIterator[AsyncClient]:
    """A client between which and the server answers get lost, as the script says."""
    script.behind = server.target
    async with sojourn.connect(script.target, app=app, retry=QUICK, deadline=10) as client:
        yield client


async def test_every_write_happens_once_though_its_answer_was_lost_twice(
    unlucky: AsyncClient, client: AsyncClient, script: Script
) -> None:
    def lose_two() -> None:
        script.answers = [LOST, LOST]

    lose_two()
    session = await unlucky.sessions.create("s", state={"n": 1})
    lose_two()
    many = await unlucky.sessions.create_many([NewSession(), NewSession()])
    assert len(many.sessions) == 2
    assert await client.sessions.list().count() == 3
    lose_two()
    await unlucky.sessions.update("s", metrics=MetricsDelta(counters={"n": 1}))
    lose_two()
    appended = await unlucky.messages.append("s", [NewMessage("user", str(n)) for n in range(4)])
    assert appended.sequences == (1, 2, 3, 4)
    lose_two()
    popped = await unlucky.messages.pop("s")
    assert [message.content for message in popped.messages] == ["3"]
    lose_two()
    assert (await unlucky.messages.truncate("s", 1)).messages_removed == 2
    lose_two()
    begun = await unlucky.turns.begin("s")
    lose_two()
    await unlucky.turns.renew(begun.turn_token)
    lose_two()
    await unlucky.turns.end(begun.turn_token)
    lose_two()
    await unlucky.users.update_state("ann", {"n": 1})
    lose_two()
    await unlucky.sessions.touch("s")

    stored = await client.sessions.get("s", last_messages=10)
    assert stored.uid == session.uid
    assert stored.metrics.counters == {"n": 1}
    assert stored.metrics.request_count == 1
    assert [message.content for message in stored.messages] == ["0"]
    assert (await client.users.get_state("ann")).version == 1

    lose_two()
    assert (await unlucky.sessions.reset("s")).session.generation == 2
    lose_two()
    assert (await unlucky.sessions.end("s")).changed
    lose_two()
    assert (await unlucky.sessions.delete("s")).sessions_deleted == 1
    assert len(script.seen) == 3 * 14
