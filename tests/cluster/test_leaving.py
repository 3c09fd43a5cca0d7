"""One of several servers leaves: the others go on, and so do clients that know of them."""

from __future__ import annotations

import asyncio

import pytest

import sojourn
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.agents import at_work
from tests.cluster.kit import PATIENT, USER, Clients, Cluster, both
from tests.faults import counts
from tests.faults.test_restarts import free_port

KILLS = counts.count("server_kills")


async def test_no_call_fails_while_one_of_two_servers_drains(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with cluster.another() as leaving:
        target = both(leaving, cluster.servers[0])
        async with sojourn.connect(target, app=clients.app, retry=PATIENT) as client:
            async with at_work([client]) as agents:
                assert await asyncio.to_thread(leaving.terminate) == 0, leaving.log()
                await agents.get_on()
            assert agents.unknown == 0
            await agents.check(client, store)


@pytest.mark.timeout(counts.patience("server_kills", 30))
async def test_one_of_two_servers_is_killed_under_load_and_the_other_goes_on(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with cluster.another(port=free_port()) as killed:
        target = both(killed, cluster.servers[0])
        async with (
            # These know both servers, and the one that is killed comes first.
            sojourn.connect(target, app=clients.app, retry=PATIENT) as moving,
            sojourn.connect(cluster.servers[1].target, app=clients.app) as staying,
        ):
            async with at_work([moving, staying]) as agents:
                for _ in range(KILLS):
                    killed.kill()
                    await agents.get_on()
                    await asyncio.to_thread(killed.start)
                    await agents.get_on()
            await agents.check(clients.b, store)
    assert agents.unknown == 0, "the client bridges it by itself"
    counts.report(
        "kill -9 of one of two servers",
        KILLS,
        f"{agents.acknowledged:,} acknowledged, 0 lost, 0 doubled, 0 calls failed",
    )


async def test_a_drain_ends_when_the_other_server_ends_its_last_turn(
    cluster: Cluster, clients: Clients
) -> None:
    with cluster.another("--drain-timeout", "60s") as leaving:
        async with sojourn.connect(leaving.target, app=clients.app, retry=PATIENT) as client:
            await client.sessions.create("s", user=USER)
            begun = await client.turns.begin("s", user=USER, lease=60)
        stopped = asyncio.create_task(asyncio.to_thread(leaving.terminate))
        await asyncio.sleep(0.5)
        assert not stopped.done(), "it waits for the turn"
        await clients.b.turns.end(begun.turn_token)
        async with asyncio.timeout(20):
            assert await stopped == 0
