"""Long work through two servers at once: it is done once, and everything is told in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

import sojourn
from sojourn.v1 import (
    app_pb2,
    app_service_pb2,
    app_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from sojourn_server.domain.model import ChangeCause
from sojourn_server.store.base import LoggedChange
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import USER, Clients, Cluster, log_of, until

SESSIONS = 200
CALLERS = 32
LATE = (sojourn.errors.AppDrainingError, sojourn.errors.AppDeletedError)


@asynccontextmanager
async def apps_of(cluster: Cluster) -> AsyncIterator[list[Any]]:
    """Stubs of AppService on both servers."""
    one, other = (server.target for server in cluster.servers[:2])
    async with grpc.aio.insecure_channel(one) as a, grpc.aio.insecure_channel(other) as b:
        yield [app_service_pb2_grpc.AppServiceStub(each) for each in (a, b)]


@asynccontextmanager
async def sessions_of(cluster: Cluster) -> AsyncIterator[list[Any]]:
    """Stubs of SessionService on both servers."""
    one, other = (server.target for server in cluster.servers[:2])
    async with grpc.aio.insecure_channel(one) as a, grpc.aio.insecure_channel(other) as b:
        yield [session_service_pb2_grpc.SessionServiceStub(each) for each in (a, b)]


async def fill(clients: Clients, count: int = SESSIONS) -> None:
    new = [sojourn.NewSession(f"s-{number}", user=USER) for number in range(count)]
    await clients.a.sessions.create_many(new)


def by_cause(log: list[LoggedChange], cause: ChangeCause) -> list[LoggedChange]:
    return [change for change in log if change.cause is cause]


async def until_deleted(stub: Any, app: str) -> None:
    async def gone() -> bool:
        request = app_service_pb2.DeleteAppRequest(app=app, mode=app_service_pb2.DELETE_MODE_DRAIN)
        answer = await stub.DeleteApp(request)
        return bool(answer.status == app_pb2.APP_STATUS_DELETED)

    await until(gone, "the app is deleted", pause=0.1)


async def test_32_callers_end_sessions_once(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    await fill(clients)
    request = session_service_pb2.EndSessionsRequest(app=clients.app, all=True, request_id="r")
    async with sessions_of(cluster) as stubs:
        answers = await asyncio.gather(
            *(stubs[number % 2].EndSessions(request) for number in range(CALLERS))
        )
    assert {answer.count for answer in answers} == {SESSIONS}
    assert len({answer.revision for answer in answers}) == 1
    ended = Counter(
        each.uid for each in by_cause(await log_of(store, clients.app), ChangeCause.ENDED)
    )
    assert set(ended.values()) == {1}
    assert len(ended) == SESSIONS


async def test_sessions_made_while_others_end_are_left_alone(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    await fill(clients)
    request = session_service_pb2.EndSessionsRequest(app=clients.app, all=True)
    async with sessions_of(cluster) as stubs:
        ending = asyncio.gather(*(stubs[number % 2].EndSessions(request) for number in range(2)))
        made = [
            (await clients[number % 2].sessions.create(f"late-{number}", user=USER)).uid
            for number in range(CALLERS)
        ]
        answers = await ending
    log = await log_of(store, clients.app)
    ended = Counter(each.uid for each in by_cause(log, ChangeCause.ENDED))
    assert set(ended.values()) == {1}
    assert sum(answer.count for answer in answers) == len(ended)
    assert SESSIONS <= len(ended) < SESSIONS + len(made)


async def test_who_comes_while_an_app_is_forced_away_is_refused(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    """Creations, messages and turns through both servers, and three who delete the app."""
    await fill(clients)
    outcomes: Counter[str] = Counter()

    async def call(number: int) -> None:
        client = clients[number % 2]
        doings: list[Callable[[], Awaitable[object]]] = [
            lambda: client.sessions.create(f"late-{number}", user=USER),
            lambda: client.messages.append(
                f"s-{number}", sojourn.NewMessage("user", "x"), user=USER, create_if_missing=True
            ),
            lambda: client.turns.begin(f"s-{number}", user=USER, create_if_missing=True),
        ]
        for _ in range(300):
            for does in doings:
                try:
                    await does()
                except (
                    *LATE,
                    sojourn.errors.SessionNotFoundError,
                    sojourn.errors.SessionExistsError,
                    sojourn.errors.SessionEndedError,
                    sojourn.errors.TurnConflictError,
                ) as refused:
                    outcomes[type(refused).__name__] += 1
                    if isinstance(refused, sojourn.errors.AppDeletedError):
                        return

    force = app_service_pb2.DeleteAppRequest(
        app=clients.app, mode=app_service_pb2.DELETE_MODE_FORCE
    )
    async with apps_of(cluster) as stubs:
        callers = [asyncio.create_task(call(number)) for number in range(CALLERS)]
        await asyncio.sleep(0.02)
        answers = await asyncio.gather(*(stubs[number % 2].DeleteApp(force) for number in range(3)))
        await asyncio.gather(*callers)
    assert {answer.status for answer in answers} == {app_pb2.APP_STATUS_DELETED}
    log = await log_of(store, clients.app)
    assert log[-1].cause is ChangeCause.APP_DELETED
    assert len(by_cause(log, ChangeCause.APP_DELETED)) == 1
    drained = by_cause(log, ChangeCause.APP_DRAINING)[0].revision
    for cause in (ChangeCause.CREATED, ChangeCause.TURN_BEGAN):
        assert max((each.revision for each in by_cause(log, cause)), default=0) < drained
    gone = Counter(each.uid for each in by_cause(log, ChangeCause.DELETED))
    assert set(gone.values()) == {1}
    assert len(gone) == len(by_cause(log, ChangeCause.CREATED))
    assert outcomes["AppDeletedError"] == CALLERS
    assert outcomes["AppDrainingError"] > 0


async def test_a_drain_through_one_server_waits_for_turns_of_the_other(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    await clients.b.sessions.create("s", user=USER, idle_timeout=None)
    turn = (await clients.b.turns.begin("s", user=USER)).turn_token
    drain = app_service_pb2.DeleteAppRequest(
        app=clients.app, mode=app_service_pb2.DELETE_MODE_DRAIN
    )
    async with apps_of(cluster) as stubs:
        answer = await stubs[0].DeleteApp(drain)
        assert answer.status == app_pb2.APP_STATUS_DRAINING
        for client in clients:
            with pytest.raises(sojourn.errors.AppDrainingError):
                await client.sessions.create("late", user=USER)
        await clients.a.turns.renew(turn)
        await clients.b.turns.end(turn)
        await clients.a.sessions.end("s", user=USER)
        await until_deleted(stubs[1], clients.app)
    for client in clients:
        with pytest.raises(sojourn.errors.AppDeletedError):
            await client.sessions.create("late", user=USER)
    assert (await log_of(store, clients.app))[-1].cause is ChangeCause.APP_DELETED


async def test_work_of_a_server_that_dies_is_taken_up_by_the_other(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    await fill(clients, 500)
    third = cluster.another()
    request = session_service_pb2.EndSessionsRequest(app=clients.app, all=True, request_id="r")
    with third:
        async with grpc.aio.insecure_channel(third.target) as channel:
            stub = session_service_pb2_grpc.SessionServiceStub(channel)
            asked = asyncio.ensure_future(stub.EndSessions(request))

            async def begun() -> bool:
                return bool(by_cause(await log_of(store, clients.app), ChangeCause.ENDED))

            await until(begun, "the first step was taken", pause=0.001)
            third.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await asked

    async def done() -> bool:
        return len(by_cause(await log_of(store, clients.app), ChangeCause.ENDED)) == 500

    await until(done, "the other server has finished it", pause=0.1)
