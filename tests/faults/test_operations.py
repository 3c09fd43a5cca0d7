"""Killed in the middle of work of many units: it is finished, once, by whoever comes next."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc.aio
import pytest

from sojourn.v1 import (
    app_pb2,
    app_service_pb2,
    app_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from sojourn_server.domain.model import App, AppStatus, ChangeCause
from sojourn_server.store.base import Candidates, LoggedChange, ReadTx
from sojourn_server.store.sqlite import SqliteStore
from tests.faults import counts
from tests.faults.harness import ServerProcess

KILLS: Final = counts.count("operation_kills")
SESSIONS: Final = 300
BATCH: Final = 150
PATIENCE: Final = 60.0
LONGEST: Final = 0.1
"""How long such work runs at most before its server is killed, in seconds."""
KINDS: Final = ("end", "delete", "drain", "force")


class Stubs(NamedTuple):
    """Stubs of a server."""

    sessions: Any
    apps: Any


@asynccontextmanager
async def stubs(server: ServerProcess) -> AsyncIterator[Stubs]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield Stubs(
            session_service_pb2_grpc.SessionServiceStub(channel),
            app_service_pb2_grpc.AppServiceStub(channel),
        )


async def fill(server: ServerProcess, app: str) -> None:
    """Make an app with sessions, one in ten of them a child."""
    async with stubs(server) as to:
        parent = await to.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=app, session=session_service_pb2.NewSession(session_id="parent")
            )
        )
        for begin in range(1, SESSIONS, BATCH):
            request = session_service_pb2.BatchCreateSessionsRequest(app=app)
            for number in range(begin, min(begin + BATCH, SESSIONS)):
                new = request.sessions.add(user=f"u-{number % 7}", session_id=f"s-{number}")
                if number % 10 == 0:
                    new.parent_uid = parent.session.uid
            await to.sessions.BatchCreateSessions(request)


async def work(server: ServerProcess, app: str, kind: str) -> Any:
    """Ask for the work; a repeat joins it."""
    async with stubs(server) as to:
        if kind == "end":
            end = session_service_pb2.EndSessionsRequest(
                app=app, all=True, reason="the reason", request_id="r"
            )
            return await to.sessions.EndSessions(end, timeout=PATIENCE)
        if kind == "delete":
            delete = session_service_pb2.DeleteSessionsRequest(app=app, all=True, request_id="r")
            return await to.sessions.DeleteSessions(delete, timeout=PATIENCE)
        mode = (
            app_service_pb2.DELETE_MODE_DRAIN
            if kind == "drain"
            else app_service_pb2.DELETE_MODE_FORCE
        )
        gone = app_service_pb2.DeleteAppRequest(app=app, mode=mode, request_id="r")
        gone.drain_timeout.FromMilliseconds(150)
        return await to.apps.DeleteApp(gone, timeout=PATIENCE)


async def finished(server: ServerProcess, app: str, kind: str) -> bool:
    """Whether the work is done, as anybody sees it."""
    async with stubs(server) as to:
        if kind in ("drain", "force"):
            create = session_service_pb2.CreateSessionRequest(
                app=app, session=session_service_pb2.NewSession()
            )
            try:
                await to.sessions.CreateSession(create)
            except grpc.aio.AioRpcError as error:
                return "deleted" in str(error.details())
            raise AssertionError("a deleted app has let somebody in")
        listed = session_service_pb2.ListSessionsRequest(app=app, page_size=1)
        if kind == "end":
            listed.filter.statuses.append(session_pb2.SESSION_STATUS_ACTIVE)
        return not (await to.sessions.ListSessions(listed)).sessions


async def under_way(server: ServerProcess, app: str, kind: str) -> bool:
    """Whether the request got so far before its server died that anything can be seen of it."""
    async with stubs(server) as to:
        listed = session_service_pb2.ListSessionsRequest(app=app, page_size=1, total_size=True)
        if kind == "end":
            listed.filter.statuses.append(session_pb2.SESSION_STATUS_ACTIVE)
        if (await to.sessions.ListSessions(listed)).total_size < SESSIONS:
            return True
        try:
            await to.sessions.CreateSession(
                session_service_pb2.CreateSessionRequest(
                    app=app, session=session_service_pb2.NewSession(session_id="parent")
                )
            )
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.FAILED_PRECONDITION
    raise AssertionError("the id of a session was free")


async def broken_off(
    server: ServerProcess, app: str, kind: str, after: float, stop: Callable[[], object]
) -> bool:
    """Stop the server a while after the work began; whether the work was still under way."""
    asked = asyncio.create_task(work(server, app, kind))
    await asyncio.sleep(after)
    await asyncio.to_thread(stop)
    try:
        answer = await asked
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return True
    return kind == "drain" and answer.status != app_pb2.APP_STATUS_DELETED


async def finish_by_itself(server: ServerProcess, app: str, kind: str) -> None:
    for _ in range(600):
        if await finished(server, app, kind):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{kind} of {app} was never finished: {server.log()}")


async def check(store: SqliteStore, app: str, kind: str) -> None:
    """Everything was done once."""

    async def query(tx: ReadTx) -> tuple[list[LoggedChange], int, App | None]:
        left = await tx.candidates(Candidates(app=app, limit=SESSIONS + 1))
        return list(await tx.changes(app, 0, 1_000_000)), len(left), await tx.app(app)

    log, left, found = await store.read(query)
    causes = Counter(change.cause for change in log)
    assert causes[ChangeCause.CREATED] == SESSIONS
    ended = Counter(change.uid for change in log if change.cause is ChangeCause.ENDED)
    assert set(ended.values()) == {1}
    assert len(ended) == SESSIONS
    assert left == (SESSIONS if kind == "end" else 0)
    assert causes[ChangeCause.DELETED] == (0 if kind == "end" else SESSIONS)
    gone = kind in ("drain", "force")
    assert causes[ChangeCause.APP_DELETED] == gone
    assert found is not None
    assert found.status is (AppStatus.DELETED if gone else AppStatus.ACTIVE)
    assert not gone or log[-1].cause is ChangeCause.APP_DELETED


@pytest.mark.timeout(counts.patience("operation_kills", 30))
@pytest.mark.parametrize("signal", ["kill -9", "SIGTERM"])
async def test_work_is_finished_without_anybody_s_retry_after(tmp_path: Path, signal: str) -> None:
    """Whoever asks again then gets the whole outcome."""
    chance = random.Random()
    broken = 0
    rounds = [(f"app-{number}", KINDS[number % len(KINDS)]) for number in range(KILLS)]
    answers: dict[str, Any] = {}
    # Else the server would wait until the work is done.
    with ServerProcess(tmp_path, "--drain-timeout", "1ms") as server:
        stop = server.kill if signal == "kill -9" else server.terminate
        for app, kind in rounds:
            await fill(server, app)
            broken += await broken_off(server, app, kind, chance.uniform(0.02, LONGEST), stop)
            server.start()
            if await under_way(server, app, kind):
                await finish_by_itself(server, app, kind)
            answers[app] = await work(server, app, kind)
            await finish_by_itself(server, app, kind)
        server.terminate()
        store = SqliteStore(server.store)
        await store.open()
        for app, kind in rounds:
            await check(store, app, kind)
            if kind in ("end", "delete"):
                assert answers[app].count == SESSIONS
            if kind == "force":
                assert answers[app].status == app_pb2.APP_STATUS_DELETED
        assert not await store.read(lambda tx: tx.operations(1 << 62, 10))
        await store.close()
    counts.report(
        f"{signal} in the middle of long work", KILLS, f"{broken} broken off, all finished"
    )
