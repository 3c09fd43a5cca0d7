"""RPCs about apps, copies and many sessions, once over the wire; and that none is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sojourn.v1 import app_pb2, session_pb2
from sojourn_server.rpc.methods import methods
from tests.unit.rpc.wire import failed
from tests.unit.server.stubs import (
    ADMIN,
    APPS,
    HISTORY,
    SESSIONS,
    Stubs,
    append,
    creation,
    message,
    ref,
    stubs,
)

__all__ = ["stubs"]


async def create(stubs: Stubs, *session_ids: str, **fields: Any) -> None:
    for session_id in session_ids:
        await stubs.sessions.CreateSession(creation(session_id, **fields))


async def export(stubs: Stubs, app: str) -> list[Any]:
    return [part async for part in stubs.admin.ExportSessions(ADMIN.ExportSessionsRequest(app=app))]


def names(keys: Iterable[session_pb2.SessionKey]) -> list[tuple[str, str, str]]:
    return [(key.app, key.user, key.session_id) for key in keys]


async def test_many_end_and_go(stubs: Stubs):
    await create(stubs, "s-1", "s-2", "s-3")
    end = SESSIONS.EndSessionsRequest(
        app="a",
        filter={"statuses": ["SESSION_STATUS_ACTIVE"]},
        keep_newest=1,
        status="SESSION_STATUS_FAILED",
        reason="over",
        dry_run=True,
    )
    foreseen = await stubs.sessions.EndSessions(end)
    assert (foreseen.count, names(foreseen.first_keys)) == (
        2,
        [("a", "u", "s-2"), ("a", "u", "s-1")],
    )
    end.dry_run = False
    ended = await stubs.sessions.EndSessions(end)
    assert (ended.count, ended.first_keys) == (2, foreseen.first_keys)
    read = await stubs.sessions.GetSession(
        SESSIONS.GetSessionRequest(session=ref("s-1"), view="SESSION_VIEW_FULL")
    )
    assert read.session.status == session_pb2.SESSION_STATUS_FAILED
    assert read.session.end_reason == "over"
    gone = await stubs.sessions.DeleteSessions(SESSIONS.DeleteSessionsRequest(app="a", all=True))
    assert (gone.count, gone.scrubbed) == (3, True)
    assert gone.revision > ended.revision
    failure = await failed(stubs.sessions.DeleteSessions(SESSIONS.DeleteSessionsRequest(app="a")))
    assert failure.reason == "INVALID_FIELD"


async def test_sums_by_group_and_of_a_tree(stubs: Stubs):
    await create(stubs, "s-1", "s-2", labels={"team": "x"})
    request = SESSIONS.UpdateSessionRequest(
        session=ref("s-1"),
        metrics={
            "requests": 4,
            "errors": 1,
            "processing_time": {"seconds": 6},
            "counters": {"t": 7},
        },
    )
    await stubs.sessions.UpdateSession(request)
    asked = SESSIONS.AggregateSessionsRequest(app="a", group_by="GROUP_BY_LABEL", label_key="team")
    (group,) = (await stubs.sessions.AggregateSessions(asked)).groups
    assert (group.group, group.session_count, group.error_rate) == ("x", 2, 0.25)
    assert group.mean_processing_time.ToSeconds() == 1
    assert group.metrics.counters == {"t": 7}
    rolled = await stubs.sessions.GetSession(
        SESSIONS.GetSessionRequest(session=ref("s-1"), roll_up=True)
    )
    assert rolled.rolled_up.metrics.request_count == 4


async def test_a_fork_and_a_history_that_is_replaced(stubs: Stubs):
    await create(stubs, "s")
    await append(stubs, "a", "b", "c")
    forked = await stubs.sessions.ForkSession(
        SESSIONS.ForkSessionRequest(session=ref("s"), session_id="f", through_sequence=2)
    )
    assert (forked.session.message_count, forked.session.forked_from.through_sequence) == (2, 2)
    replaced = await stubs.history.ReplaceMessages(
        HISTORY.ReplaceMessagesRequest(
            session=ref("s"), keep_through_sequence=1, messages=[message("short")]
        )
    )
    assert (replaced.messages_removed, replaced.sequences, replaced.changed) == (2, [4], True)


async def test_an_app_from_its_policy_to_its_end(stubs: Stubs):
    await create(stubs, "s")
    updated = await stubs.apps.UpdateApp(
        APPS.UpdateAppRequest(app="a", labels={"team": "x"}, policy={"max_active_sessions": 1})
    )
    assert (updated.changed, updated.app.active_sessions) == (True, 1)
    assert (await failed(stubs.sessions.CreateSession(creation("more")))).reason == "QUOTA_EXCEEDED"
    (listed,) = (await stubs.apps.ListApps(APPS.ListAppsRequest())).apps
    got = (await stubs.apps.GetApp(APPS.GetAppRequest(app="a"))).app
    assert (listed, got.policy.max_active_sessions) == (got, 1)
    failure = await failed(stubs.apps.DeleteApp(APPS.DeleteAppRequest(app="a")))
    assert (failure.reason, failure.metadata["count"]) == ("APP_HAS_SESSIONS", "1")
    several = APPS.DeleteAppsRequest(
        labels=[{"key": "team", "operator": "OPERATOR_IN", "values": ["x"]}],
        mode="DELETE_MODE_FORCE",
    )
    assert list((await stubs.apps.DeleteApps(several)).apps) == ["a"]
    for _ in range(200):
        if (await stubs.apps.GetApp(APPS.GetAppRequest(app="a"))).app.status == (
            app_pb2.APP_STATUS_DELETED
        ):
            break
        await asyncio.sleep(0.02)
    again = await stubs.apps.DeleteApp(APPS.DeleteAppRequest(app="a", mode="DELETE_MODE_FORCE"))
    assert again.status == app_pb2.APP_STATUS_DELETED


async def test_an_app_is_taken_elsewhere_and_the_store_is_copied(stubs: Stubs, tmp_path: Path):
    await create(stubs, "s")
    await append(stubs, "a", "b")
    parts = await export(stubs, "a")
    assert [part.WhichOneof("part") for part in parts] == ["app", "session", "messages"]
    wanted = [ADMIN.ImportSessionsRequest(target={"app": "b"})]
    wanted += [ADMIN.ImportSessionsRequest.FromString(part.SerializeToString()) for part in parts]
    taken = await stubs.admin.ImportSessions(iter(wanted))
    assert (taken.sessions, taken.messages) == (1, 2)
    assert len(await export(stubs, "b")) == 3
    copied = await stubs.admin.BackupStore(ADMIN.BackupStoreRequest(name="one.db"))
    assert copied.bytes == (tmp_path / "backups" / "one.db").stat().st_size


def test_every_method_is_called_here_or_beside():
    here = Path(__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in here.glob("test_rpcs*.py"))
    missing = [method.name for method in methods() if f".{method.name}(" not in source]
    assert missing == ["GetServerInfo"]  # test_app.py calls it
