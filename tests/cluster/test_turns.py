"""Turns on two servers: the token of one is good at the other, and whoever waits is woken."""

from __future__ import annotations

import asyncio
import time

import pytest

import sojourn
from sojourn_server.domain.model import ChangeCause, TurnOutcome
from sojourn_server.service.turn_line import POLL
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import PATIENT, USER, Clients, Cluster, log_of

SLOW = 2.0
"""What a busy machine may add to a wait, in seconds."""


async def waiting(client: sojourn.AsyncClient, holder: str = "") -> sojourn.BeginTurnResult:
    return await client.turns.begin(
        "s", user=USER, holder=holder, on_conflict=sojourn.OnConflict.WAIT, wait_timeout=30
    )


async def test_a_turn_is_renewed_used_and_ended_through_the_other_server(clients: Clients) -> None:
    await clients.a.sessions.create("s", user=USER)
    for number in range(1, 7):
        one, other = clients[number % 2], clients[1 - number % 2]
        begun = await one.turns.begin("s", user=USER)
        assert begun.turn.number == number
        with pytest.raises(sojourn.errors.TurnConflictError):
            await other.turns.begin("s", user=USER)
        assert (await other.turns.renew(begun.turn_token)).lease_time >= begun.turn.lease_time
        mine = sojourn.Precondition(turn_token=begun.turn_token)
        message = sojourn.NewMessage("user", "hello")
        await other.messages.append("s", message, user=USER, precondition=mine)
        ended = await other.turns.end(begun.turn_token)
        assert ended.session.metrics.request_count == number
        with pytest.raises(sojourn.errors.TurnSupersededError):
            await one.messages.append("s", message, user=USER, precondition=mine)


async def test_a_turn_that_is_stolen_through_the_other_server_is_superseded(
    clients: Clients,
) -> None:
    await clients.a.sessions.create("s", user=USER)
    begun = await clients.a.turns.begin("s", user=USER)
    await clients.b.turns.begin("s", user=USER, on_conflict=sojourn.OnConflict.STEAL)
    with pytest.raises(sojourn.errors.TurnSupersededError):
        await clients.a.turns.end(begun.turn_token)


async def test_who_waits_at_one_server_is_woken_by_an_end_at_the_other(clients: Clients) -> None:
    await clients.a.sessions.create("s", user=USER)
    begun = await clients.a.turns.begin("s", user=USER)
    for number in range(3):
        one, other = clients[number % 2], clients[1 - number % 2]
        wait = asyncio.create_task(waiting(other))
        await asyncio.sleep(0.1)
        assert not wait.done()
        await one.turns.end(begun.turn_token)
        begin = time.monotonic()
        begun = await wait
        assert time.monotonic() - begin < POLL + SLOW


async def test_all_who_wait_at_both_servers_get_their_turn(clients: Clients) -> None:
    await clients.a.sessions.create("s", user=USER)
    begun = await clients.a.turns.begin("s", user=USER)
    held: set[str] = set()

    async def work(number: int) -> int:
        turn = await waiting(clients[number % 2], f"w-{number}")
        held.add(turn.turn.holder)
        assert len(held) == 1, "two hold it at once"
        await asyncio.sleep(0.005)
        held.clear()
        await clients[number // 2 % 2].turns.end(turn.turn_token)
        return turn.turn.number

    works = [asyncio.create_task(work(number)) for number in range(12)]
    await asyncio.sleep(0.3)
    await clients.b.turns.end(begun.turn_token)
    assert sorted(await asyncio.gather(*works)) == list(range(2, 14))


async def test_a_turn_whose_server_is_killed_lapses_and_is_abandoned_once(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with cluster.another() as third:
        async with sojourn.connect(third.target, app=clients.app, retry=PATIENT) as client:
            session = await client.sessions.create("s", user=USER)
            begun = await client.turns.begin("s", user=USER, lease=1)
            third.kill()
    waits = [asyncio.create_task(waiting(client)) for client in clients]
    done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    (first,) = [task.result() for task in done]
    assert first.turn.number == 2
    late = (first.turn.begin_time - begun.turn.lease_time).total_seconds()
    assert 0 <= late < POLL + SLOW
    with pytest.raises(sojourn.errors.TurnSupersededError):
        await clients.b.turns.renew(begun.turn_token)
    abandoned = [
        change
        for change in await log_of(store, clients.app)
        if change.cause is ChangeCause.TURN_ENDED
        and change.detail.turn_outcome is TurnOutcome.ABANDONED
    ]
    assert [change.uid for change in abandoned] == [session.uid]
    await clients.a.turns.end(first.turn_token)
    (other,) = others
    assert (await other).turn.number == 3
