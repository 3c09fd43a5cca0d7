# Generated from tests/api/_async/test_losses.py by `make gen`. Edit the source, never this file.
"""An answer that got lost: the call is repeated by itself, and nothing happens twice."""

from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

import sojourn
from sojourn import Client, MetricsDelta, NewMessage, NewSession, RetryOptions
from sojourn.testing import LocalServer
from tests.api.scripted import Failure, Script

LOST = Failure(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))


@pytest.fixture
def unlucky(server: LocalServer, script: Script, app: str) -> Iterator[Client]:
    """A client between which and the server answers get lost, as the script says."""
    script.behind = server.target
    with sojourn.connect_sync(script.target, app=app, retry=QUICK, deadline=10) as client:
        yield client


def test_every_write_happens_once_though_its_answer_was_lost_twice(
    unlucky: Client, client: Client, script: Script
) -> None:
    def lose_two() -> None:
        script.answers = [LOST, LOST]

    lose_two()
    session = unlucky.sessions.create("s", state={"n": 1})
    lose_two()
    many = unlucky.sessions.create_many([NewSession(), NewSession()])
    assert len(many.sessions) == 2
    assert client.sessions.list().count() == 3
    lose_two()
    unlucky.sessions.update("s", metrics=MetricsDelta(counters={"n": 1}))
    lose_two()
    appended = unlucky.messages.append("s", [NewMessage("user", str(n)) for n in range(4)])
    assert appended.sequences == (1, 2, 3, 4)
    lose_two()
    popped = unlucky.messages.pop("s")
    assert [message.content for message in popped.messages] == ["3"]
    lose_two()
    assert (unlucky.messages.truncate("s", 1)).messages_removed == 2
    lose_two()
    begun = unlucky.turns.begin("s")
    lose_two()
    unlucky.turns.renew(begun.turn_token)
    lose_two()
    unlucky.turns.end(begun.turn_token)
    lose_two()
    unlucky.users.update_state("ann", {"n": 1})
    lose_two()
    unlucky.sessions.touch("s")

    stored = client.sessions.get("s", last_messages=10)
    assert stored.uid == session.uid
    assert stored.metrics.counters == {"n": 1}
    assert stored.metrics.request_count == 1
    assert [message.content for message in stored.messages] == ["0"]
    assert (client.users.get_state("ann")).version == 1

    lose_two()
    assert (unlucky.sessions.reset("s")).session.generation == 2
    lose_two()
    assert (unlucky.sessions.end("s")).changed
    lose_two()
    assert (unlucky.sessions.delete("s")).sessions_deleted == 1
    assert len(script.seen) == 3 * 14
