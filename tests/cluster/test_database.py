"""PostgreSQL is stopped, cut and paused under two servers that write."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator

import psycopg
import pytest

import sojourn
from sojourn.errors import SessionNotFoundError, StoreUnavailableError
from sojourn_server.store.postgres import PostgresStore
from tests import postgres
from tests.cluster.agents import at_work
from tests.cluster.kit import (
    PATIENT,
    USER,
    Clients,
    Cluster,
    clients_of,
    revisions_of,
    until,
)
from tests.faults import counts
from tests.faults.harness import channel_to, health
from tests.postgres import Restartable
from tests.store.postgres.proxy import Proxy

STOPS = counts.count("database_stops")
KILLS = counts.count("backend_kills")
PAUSES = counts.count("pauses")
CUTS = 10
ONCE = sojourn.RetryOptions(max_attempts=1)
AT_ONCE = 3.0
"""How long a refusal may take that needs nobody's answer, on a busy machine, in seconds."""
STATEMENT = 1
"""The statement timeout of these servers, in seconds: the shortest there is."""
BOUND = STATEMENT + 5 + 3 + 3
"""The longest that an answer may take while the database hangs: the slack of an answer and
of a new connection, and what a busy machine adds."""


@pytest.fixture(scope="module")
def own() -> Iterator[Restartable]:
    """A PostgreSQL that others do not need."""
    made = postgres.restartable()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pair(own: Restartable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two servers on it, with short timeouts."""
    flags = ("--postgres-statement-timeout", f"{STATEMENT}s", "--postgres-connect-timeout", "2s")
    folder = tmp_path_factory.mktemp("database")
    with Cluster(folder, own.options().dsn, *flags) as made:
        yield made
        pids = [server.process.pid for server in made.servers if server.process]
        assert len(pids) == 2
        for server in made.servers:
            assert server.process is not None
            assert server.process.poll() is None, "a server ended by itself"


@pytest.fixture
async def two(pair: Cluster) -> AsyncIterator[Clients]:
    async with clients_of(pair.servers, f"app-{uuid.uuid4()}") as made:
        yield made


def hasty_and_patient(two: Clients) -> Clients:
    """One that repeats calls as clients do, and one that leaves every doubt to its caller."""
    return Clients(two.a, two.b.with_options(retry=ONCE))


@pytest.mark.timeout(counts.patience("database_stops", 60))
async def test_a_database_that_is_stopped_hard_loses_nothing_acknowledged(
    own: Restartable, pair: Cluster, two: Clients
) -> None:
    chance = random.Random()
    async with at_work(hasty_and_patient(two)) as agents:
        for _ in range(STOPS):
            await asyncio.sleep(chance.uniform(0, 0.3))
            await asyncio.to_thread(own.stop_hard)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(own.start)
            await agents.get_on()
    async with pair.store() as store:
        await agents.check(two.a, store)
    counts.report(
        "pg_ctl stop -m immediate",
        STOPS,
        f"{agents.acknowledged:,} acknowledged, 0 lost, 0 doubled; "
        f"{agents.unknown:,} calls failed and settled by their request_id",
    )


async def test_the_checker_finds_what_a_server_loses_that_answers_too_early(
    own: Restartable, pair: Cluster
) -> None:
    """Else the test above proves nothing."""
    with pair.another(module="tests.cluster.hasty_server") as hasty:
        for number in range(10):
            async with sojourn.connect(hasty.target, app=f"hasty-{number}") as client:
                try:
                    async with at_work([client]) as agents:
                        await asyncio.to_thread(own.stop_hard)
                        await asyncio.to_thread(own.start)
                    async with pair.store() as store:
                        await agents.check(client, store)
                except (AssertionError, SessionNotFoundError):
                    return
    raise AssertionError("nothing was lost, or nobody has noticed")


@pytest.mark.timeout(counts.patience("backend_kills", 5))
async def test_backends_that_are_killed_at_random_lose_nothing_acknowledged(
    own: Restartable, pair: Cluster, two: Clients
) -> None:
    chance = random.Random()
    async with (
        at_work(hasty_and_patient(two)) as agents,
        await psycopg.AsyncConnection.connect(pair.dsn, autocommit=True) as admin,
    ):
        kills = 0
        while kills < KILLS:
            cursor = await admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'sojourn'"
            )
            if pids := [pid for (pid,) in await cursor.fetchall()]:
                killed = await admin.execute(
                    "SELECT pg_terminate_backend(%s)", (chance.choice(pids),)
                )
                kills += (await killed.fetchone()) == (True,)
            if not kills % 10:
                await agents.get_on()
            await asyncio.sleep(chance.uniform(0, 0.03))
        await agents.get_on()
    async with pair.store() as store:
        await agents.check(two.b, store)
    counts.report(
        "backends killed",
        KILLS,
        f"{agents.acknowledged:,} acknowledged, 0 lost, 0 doubled; "
        f"{agents.unknown:,} calls failed and settled by their request_id",
    )


async def test_a_write_whose_commit_was_not_answered_is_settled_by_its_request_id(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    """The way to the database is cut right behind each commit: it holds, and nobody knows."""
    proxy = Proxy(cluster.dsn)
    # So that each commit can be told from its bytes.
    server = cluster.another("--no-postgres-prepare", dsn=await proxy.start())
    await asyncio.to_thread(server.start)
    await clients.a.sessions.create("s", user=USER)
    lost = 0
    with contextlib.ExitStack() as undo:
        undo.callback(server.kill)
        async with sojourn.connect(server.target, app=clients.app, retry=ONCE) as client:
            for number in range(CUTS):
                message = sojourn.NewMessage("user", f"m-{number}")
                name = f"request-{number}"
                proxy.cut_after_commit = True
                try:
                    await client.messages.append("s", message, user=USER, request_id=name)
                except StoreUnavailableError:
                    lost += 1
                # Through either server it is the same request.
                for other in (client.with_options(retry=PATIENT), *clients):
                    again = await other.messages.append("s", message, user=USER, request_id=name)
                    assert again.sequences == (number + 1,)
    await proxy.stop()
    assert lost > CUTS / 4, "hardly an answer was lost"
    stored = [each.content async for each in clients.b.messages.list("s", user=USER)]
    assert stored == [f"m-{number}" for number in range(CUTS)]
    assert await revisions_of(store, clients.app) == list(range(1, CUTS + 2))


async def refused(two: Clients, most: float) -> None:
    """Everything is answered in time with UNAVAILABLE, STORE_UNAVAILABLE and a RetryInfo."""

    async def one(call: Awaitable[object]) -> None:
        begin = time.monotonic()
        with pytest.raises(StoreUnavailableError) as failure:
            await call
        assert time.monotonic() - begin < most
        assert failure.value.code == "UNAVAILABLE"
        assert failure.value.retry_after is not None

    calls: list[Awaitable[object]] = []
    for sessions in [client.with_options(retry=ONCE).sessions for client in two]:
        calls.append(sessions.get("s", user=USER))
        calls.append(sessions.update("s", user=USER, metrics=sojourn.MetricsDelta(1)))
    await asyncio.gather(*(one(call) for call in calls))


async def until_health(pair: Cluster, *, serving: bool) -> float:
    """Wait until both servers say so for reads and writes; how long it took."""
    took = 0.0
    for server in pair.servers:
        async with channel_to(server.target) as channel:
            for name in ("", "sojourn.write"):

                async def said(name: str = name, channel: object = channel) -> bool:
                    return await health(channel, name) is serving  # type: ignore[arg-type]

                took += await until(said, f"{name!r} serving is {serving}", 30)
    return took


async def test_while_the_database_is_away_calls_are_refused_and_it_heals_by_itself(
    own: Restartable, pair: Cluster, two: Clients
) -> None:
    await two.a.sessions.create("s", user=USER)
    await until_health(pair, serving=True)
    await asyncio.to_thread(own.stop_hard)
    try:
        for _ in range(5):
            await refused(two, AT_ONCE)
        await until_health(pair, serving=False)
        await refused(two, AT_ONCE)
    finally:
        await asyncio.to_thread(own.start)
    for client in two:
        # Its own repeats bridge the time until the servers try to connect again.
        await client.sessions.update("s", user=USER, metrics=sojourn.MetricsDelta(1))
    await until_health(pair, serving=True)
    assert (await two.b.sessions.get("s", user=USER)).metrics.request_count == 2


@pytest.mark.timeout(counts.patience("pauses", 60))
async def test_a_database_that_hangs_is_waited_for_no_longer_than_its_timeouts(
    own: Restartable, pair: Cluster, two: Clients
) -> None:
    async with two.a.with_options(app=f"{two.app}-s") as other:
        calm = Clients(other, two.b.with_options(app=other.app))
        await calm.a.sessions.create("s", user=USER)
        slowest = 0.0
        async with at_work(two) as agents:
            for _ in range(PAUSES):
                with own.paused():
                    begin = time.monotonic()
                    await refused(calm, BOUND)
                    slowest = max(slowest, time.monotonic() - begin)
                    await until_health(pair, serving=False)
                await agents.get_on()
                await until_health(pair, serving=True)
        async with pair.store() as store:
            await agents.check(two.a, store)
    counts.report(
        "PostgreSQL paused",
        PAUSES,
        f"{agents.acknowledged:,} acknowledged, 0 lost, 0 doubled; "
        f"answers within {slowest:.1f} s, statement timeout {STATEMENT} s",
    )
