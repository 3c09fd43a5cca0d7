"""An app's end, as those see it who watch it, over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc.aio
import pytest

from sojourn import testing
from sojourn.v1 import (
    app_pb2,
    app_service_pb2,
    app_service_pb2_grpc,
    change_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.api.stores import settings_of
from tests.store.backends import BACKENDS

APP = "support"
MOST = 1_000


class Stubs(NamedTuple):
    """Stubs of one server."""

    sessions: Any
    apps: Any


@pytest.fixture(params=BACKENDS)
async def to(request: pytest.FixtureRequest) -> AsyncIterator[Stubs]:
    with settings_of(request.param) as settings:
        async with (
            testing.serve(**settings) as server,
            grpc.aio.insecure_channel(server.target) as channel,
        ):
            yield Stubs(
                session_service_pb2_grpc.SessionServiceStub(channel),
                app_service_pb2_grpc.AppServiceStub(channel),
            )


def watch(to: Stubs, **fields: Any) -> Any:
    request = session_service_pb2.WatchSessionsRequest(app=APP, include_app_changes=True, **fields)
    return to.sessions.WatchSessions(request, timeout=60)


async def all_of(call: Any) -> tuple[list[Any], list[str], str]:
    """All changes of a stream, its tokens, and what it ended with."""
    changes: list[Any] = []
    tokens: list[str] = []
    try:
        for _ in range(MOST):
            message = await call.read()
            if message is grpc.aio.EOF:
                break
            changes += message.changes
            tokens += [message.resume_token] if message.resume_token else []
    except grpc.aio.AioRpcError as error:
        return changes, tokens, error.code().name
    raise AssertionError("the stream has no end")


async def test_the_last_change_is_that_the_app_was_deleted(to: Stubs) -> None:
    for number in range(5):
        await to.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=APP, session=session_service_pb2.NewSession(session_id=f"s-{number}")
            )
        )
    call = watch(to)
    begun = await call.read()
    force = app_service_pb2.DeleteAppRequest(app=APP, mode=app_service_pb2.DELETE_MODE_FORCE)
    answer = await to.apps.DeleteApp(force, timeout=60)
    assert answer.status == app_pb2.APP_STATUS_DELETED
    assert answer.sessions_deleted == 5
    changes, tokens, code = await all_of(call)
    assert code == "NOT_FOUND"
    assert changes[0].cause == change_pb2.CHANGE_CAUSE_APP_DRAINING
    assert changes[0].app.active_sessions == 5
    assert changes[-1].cause == change_pb2.CHANGE_CAUSE_APP_DELETED
    assert changes[-1].revision == answer.revision
    causes = [change.cause for change in changes]
    assert causes.count(change_pb2.CHANGE_CAUSE_ENDED) == 5
    assert causes.count(change_pb2.CHANGE_CAUSE_DELETED) == 5
    whys = {change.session.deleted_why for change in changes if change.HasField("session")}
    assert whys >= {change_pb2.DELETED_WHY_APP}
    # Whoever comes later sees the same end; whoever has seen it, or has no place, nothing.
    again, _, code = await all_of(watch(to, resume_after_token=begun.resume_token))
    assert (code, [each.revision for each in again]) == (
        "NOT_FOUND",
        [each.revision for each in changes],
    )
    for late in (watch(to, resume_after_token=tokens[-1]), watch(to)):
        left, _, code = await all_of(late)
        assert (left, code) == ([], "NOT_FOUND")


async def test_bulk_calls_over_the_wire(to: Stubs) -> None:
    for number in range(5):
        await to.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=APP,
                session=session_service_pb2.NewSession(
                    user="ann", session_id=f"s-{number}", labels={"n": str(number % 2)}
                ),
            )
        )
    odd = session_pb2.SessionFilter(labels=[session_pb2.LabelSelector(key="n", values=["1"])])
    ended = await to.sessions.EndSessions(
        session_service_pb2.EndSessionsRequest(
            app=APP, filter=odd, status=session_pb2.SESSION_STATUS_FAILED, reason="why"
        )
    )
    assert ended.count == 2
    assert [key.session_id for key in ended.first_keys] == ["s-3", "s-1"]
    assert {(key.app, key.user) for key in ended.first_keys} == {(APP, "ann")}
    deleted = await to.sessions.DeleteSessions(
        session_service_pb2.DeleteSessionsRequest(app=APP, all=True, keep_newest=1)
    )
    assert deleted.count == 4
    assert deleted.revision > ended.revision
    listed = await to.sessions.ListSessions(session_service_pb2.ListSessionsRequest(app=APP))
    assert [session.key.session_id for session in listed.sessions] == ["s-4"]
    apps = await to.apps.DeleteApps(
        app_service_pb2.DeleteAppsRequest(labels=[session_pb2.LabelSelector(key="n", values=["1"])])
    )
    assert not apps.apps
