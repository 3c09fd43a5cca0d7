"""DeleteApp and DeleteApps: what goes, what is refused, what is told, and that it ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.clock import HOUR, SECOND, Nanos
from sojourn_server.domain.commands import NewOwner, NewSession, OnConflict
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import LabelOperator, LabelSelector
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import App, AppStatus, ChangeCause, DeletedWhy, EndCause
from sojourn_server.jobs import expiry
from sojourn_server.service import deleting, operations
from sojourn_server.service.answers import Answer
from sojourn_server.service.blockers import blockers
from sojourn_server.service.deleting import DeleteAppOutcome, DeleteMode
from sojourn_server.service.deleting_many import DeleteAppsOutcome, WhichApps
from sojourn_server.store.base import RequestKey, Tx
from sojourn_server.store.work import PRECEDING
from tests.service.kit import APP, USER, World, message, refused
from tests.service.test_jobs import until

REFUSE, DRAIN, FORCE = DeleteMode


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small steps, and a drain that is looked at often."""
    for module in ("operations", "taking", "bulk", "deleting"):
        monkeypatch.setattr(f"sojourn_server.service.{module}.STEP_ROWS", 3)
    monkeypatch.setattr(operations, "LOOK", 0.02)
    monkeypatch.setattr(deleting, "REQUESTS", 2)


@pytest.fixture
async def apps(world: World) -> Any:
    yield world
    await world.services.operations.close()


async def delete(
    world: World,
    mode: DeleteMode = REFUSE,
    timeout: Nanos = HOUR,
    *,
    app: str = APP,
    request_id: str = "",
    within: float | None = None,
) -> Answer[DeleteAppOutcome]:
    call = world.call("DeleteApp", request_id)
    if within is not None:
        deadline = time.monotonic() + within
        call = msgspec.structs.replace(call, deadline=deadline)
    return await world.services.deletion.delete(call, app, mode, timeout)


async def delete_many(world: World, **fields: Any) -> DeleteAppsOutcome:
    fields.setdefault("labels", ())
    call = world.call("DeleteApps", fields.pop("request_id", ""))
    return (await world.services.deletions.delete(call, WhichApps(**fields))).outcome


async def the_app(world: World, app: str = APP) -> App:
    found = await world.store.read(lambda tx: tx.app(app))
    assert found is not None
    return found


async def status(world: World, app: str = APP) -> AppStatus:
    return (await the_app(world, app)).status


async def deleted(world: World, app: str = APP) -> bool:
    return await status(world, app) is AppStatus.DELETED


async def expired(world: World) -> bool:
    """Let the job look once more; whether it found nothing."""
    return not await expiry.settle_batch(world.units, world.clock)


async def causes(world: World, app: str = APP) -> list[ChangeCause]:
    return [change.cause for change in await world.log(app=app)]


async def test_an_app_that_is_not_there(apps: World) -> None:
    with refused(Reason.APP_NOT_FOUND, app=APP):
        await delete(apps, FORCE)


async def test_an_app_without_live_sessions_goes_with_all_it_holds(apps: World) -> None:
    for number in range(8):
        await apps.end(await apps.create(f"s-{number}", user=f"u-{number % 2}"), reason="done")
    await apps.create("chat", request_id="made")
    await apps.append("chat", [message("m-1"), message("m-2")])
    await apps.pop("chat", request_id="popped")
    await apps.end("chat")
    await apps.patch(None, set={"k": '"shared"'})
    await apps.patch("ann", set={"k": '"hers"'})
    await apps.patch("", set={"k": '"its"'})
    answer = await delete(apps, request_id="gone")
    assert answer.outcome == DeleteAppOutcome(status=AppStatus.DELETED, sessions=9)
    assert answer.revision == await apps.head()
    log = await apps.log()
    assert [each.cause for each in log if not each.uid][-2:] == [
        ChangeCause.APP_DRAINING,
        ChangeCause.APP_DELETED,
    ]
    assert log[-1].cause is ChangeCause.APP_DELETED
    gone = [each for each in log if each.cause is ChangeCause.DELETED]
    assert {each.detail.deleted_why for each in gone} == {DeletedWhy.APP}
    assert {each.actor for each in gone} == {"tester"}
    for user in (None, "ann", ""):
        assert (await apps.states.get(apps.call("GetState"), APP, user)).state.version == 0
    again = await delete(apps, request_id="gone")
    assert (again.outcome, again.revision) == (answer.outcome, answer.revision)
    # Without a request_id: there is nothing to do.
    assert (await delete(apps, FORCE)).outcome.status is AppStatus.DELETED
    assert await apps.head() == answer.revision


async def test_a_straggler_brings_nothing_back(apps: World) -> None:
    await apps.create("chat", request_id="made")
    await apps.say("chat", "m-1")
    token = await apps.turn("chat")
    await apps.append("chat", [message("m-2")], request_id="said")
    await delete(apps, FORCE)
    head = await apps.head()
    for late in (
        lambda: apps.create("chat"),
        lambda: apps.make("chat", request_id="made"),
        lambda: apps.append("chat", [message("m-2")], create=True),
        lambda: apps.append("chat", [message("m-2")], request_id="said"),
        lambda: apps.begin("chat", create=True),
        lambda: apps.patch("ann", set={"k": "1"}),
        lambda: apps.patch(None, set={"k": "1"}),
    ):
        with refused(Reason.APP_DELETED, app=APP):
            await late()
    for gone in (
        lambda: apps.append("chat", [message("m-2")]),
        lambda: apps.renew(token),
        lambda: apps.end_turn(token),
        lambda: apps.end("chat"),
    ):
        with refused(Reason.SESSION_NOT_FOUND):
            await gone()
    assert await apps.head() == head
    assert await apps.every_session() == []


async def test_a_request_record_tells_nothing_any_more(apps: World) -> None:
    for number in range(5):
        await apps.make(f"s-{number}", request_id=f"r-{number}", user="a user's name")
    await delete(apps, FORCE, request_id="gone")

    async def outcome(method: str, request_id: str) -> bytes | None:
        key = RequestKey(APP, "p", method, request_id)
        found = await apps.store.read(lambda tx: tx.request(key))
        return None if found is None else found.outcome

    for number in range(5):
        assert await outcome("CreateSession", f"r-{number}") == b""
    assert await outcome("DeleteApp", "gone")


async def test_live_sessions_are_named_with_who_holds_them(apps: World) -> None:
    await apps.create("s-1", idle_timeout=60 * SECOND)
    apps.clock.step(10.25)
    await apps.create("s-2", user="bob", idle_timeout=30 * SECOND)
    await apps.turn("s-1", holder="pod-7", lease=5 * SECOND)
    await apps.create("ended")
    await apps.end("ended")
    head = await apps.head()
    with pytest.raises(Refusal) as caught:
        await delete(apps)
    refusal = caught.value
    assert refusal.reason is Reason.APP_HAS_SESSIONS
    assert refusal.metadata == {
        "app": APP,
        "count": "2",
        "first_keys": '[["ann","s-1"],["bob","s-2"]]',
        "holders": '["pod-7"]',
        "last_actor": "tester",
        "latest_activity_time": "2023-11-14T22:13:30.25Z",
        "earliest_success_time": "2023-11-14T22:14:35.25Z",
    }
    assert refusal.retry_after == 65 * SECOND
    assert await apps.head() == head
    assert await status(apps) is AppStatus.ACTIVE
    apps.clock.step(65)
    # The turn was abandoned, and the sessions have expired: nobody needed to look before.
    assert (await delete(apps)).outcome.status is AppStatus.DELETED


async def test_what_ends_with_a_session_past_its_deadline_is_not_live_however_much_it_is(
    apps: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("operations", "taking", "deleting"):
        monkeypatch.setattr(f"sojourn_server.service.{module}.STEP_ROWS", 100)
    parent = await apps.create("p", idle_timeout=HOUR)
    owner = NewOwner(lease=20 * HOUR)
    new = NewSession(user=USER, parent_uid=parent.uid, owner=owner, idle_timeout=0)
    for count in (UNIT_ROWS, 1):
        call = apps.call("BatchCreateSessions")
        await apps.sessions.create_many(call, APP, [new] * count)
    apps.clock.step(2 * 3600)
    answer = await delete(apps)
    assert answer.outcome == DeleteAppOutcome(status=AppStatus.DELETED, sessions=UNIT_ROWS + 2)
    ended = [each.after.end_cause for each in await apps.log() if each.uid and each.after]
    assert Counter(ended) == {
        None: UNIT_ROWS + 2,
        EndCause.PARENT_ENDED: UNIT_ROWS + 1,
        EndCause.IDLE: 1,
    }


@pytest.mark.parametrize("mode", list(DeleteMode))
async def test_very_many_sessions_past_their_deadline_are_not_live(
    apps: World, monkeypatch: pytest.MonkeyPatch, mode: DeleteMode
) -> None:
    monkeypatch.setattr("sojourn_server.service.work.SETTLE_MOST", 3)
    count = 3 * PRECEDING + 1
    for number in range(count):
        await apps.create(f"s-{number}", idle_timeout=HOUR)
    apps.clock.step(2 * 3600)
    answer = await delete(apps, mode)
    if mode is DRAIN:
        # The job of expiry is at it, and the drain does not wait for that to begin.
        assert answer.outcome == DeleteAppOutcome(status=AppStatus.DRAINING)
        await until(partial(expired, apps))
        await until(partial(deleted, apps))
    else:
        assert answer.outcome == DeleteAppOutcome(status=AppStatus.DELETED, sessions=count)
    causes = {each.cause for each in await apps.log() if each.after and not each.after.is_active}
    assert causes == ({ChangeCause.ENDED} if mode is FORCE else {ChangeCause.EXPIRED})


async def test_a_live_session_beside_very_many_past_their_deadline_is_in_the_way(
    apps: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.service.work.SETTLE_MOST", 3)
    for number in range(3 * PRECEDING + 1):
        await apps.create(f"s-{number}", idle_timeout=HOUR)
    await apps.create("live", idle_timeout=0)
    apps.clock.step(2 * 3600)
    with refused(Reason.APP_HAS_SESSIONS, count="1", first_keys='[["ann","live"]]'):
        await delete(apps)


async def test_a_session_that_lasts_for_ever_never_lets_go(apps: World) -> None:
    await apps.create("s-1", idle_timeout=0)
    await apps.create("s-2")
    with pytest.raises(Refusal) as caught:
        await delete(apps)
    assert "earliest_success_time" not in caught.value.metadata
    assert caught.value.retry_after is None


async def test_a_drain_lets_nothing_new_in_and_waits(apps: World) -> None:
    await apps.create("s-1", idle_timeout=0)
    await apps.create("s-2", idle_timeout=0)
    token = await apps.turn("s-1")
    answer = await delete(apps, DRAIN, HOUR)
    assert answer.outcome == DeleteAppOutcome(status=AppStatus.DRAINING)
    assert answer.revision == await apps.head()
    assert (await the_app(apps)).drain_deadline == apps.clock.now() + HOUR
    last = (await apps.log())[-1]
    assert last.cause is ChangeCause.APP_DRAINING
    assert last.detail.active_sessions == 2
    assert last.detail.drain_deadline == apps.clock.now() + HOUR
    for late in (
        lambda: apps.create("s-3"),
        lambda: apps.append("s-3", [message()], create=True),
        lambda: apps.begin("s-2"),
        lambda: apps.begin("s-2", OnConflict.STEAL),
    ):
        with refused(Reason.APP_DRAINING, app=APP):
            await late()
    await apps.renew(token)
    await apps.append("s-1", [message("m-1")])
    await apps.end_turn(token)
    await apps.patch("ann", set={"k": "1"})
    with refused(Reason.APP_HAS_SESSIONS, count="2"):
        await delete(apps)
    await apps.end("s-1")
    await asyncio.sleep(0.1)
    assert await status(apps) is AppStatus.DRAINING
    await apps.end("s-2")
    await until(lambda: deleted(apps))
    assert await apps.every_session() == []


async def test_a_drain_tells_how_it_goes_on(apps: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "TOLD", 2 * SECOND)
    for number in range(6):
        await apps.create(f"s-{number}", idle_timeout=0)
    await delete(apps, DRAIN, HOUR)

    async def told() -> list[int]:
        log = await apps.log()
        return [
            each.detail.active_sessions for each in log if each.cause is ChangeCause.APP_DRAINING
        ]

    for number in range(4):
        await apps.end(f"s-{number}")
    await asyncio.sleep(0.1)
    assert await told() == [6], "not for every session"
    apps.clock.step(3)

    async def once_more() -> bool:
        return await told() == [6, 2]

    await until(once_more)
    apps.clock.step(3)
    await asyncio.sleep(0.1)
    assert await told() == [6, 2], "not while nothing has changed"
    await apps.end("s-4")
    await apps.end("s-5")
    await until(lambda: deleted(apps))


async def test_a_drain_forces_at_its_deadline(apps: World) -> None:
    await apps.create("s-1", idle_timeout=0)
    await apps.turn("s-1", lease=HOUR)
    await delete(apps, DRAIN, 60 * SECOND)
    apps.clock.step(61)
    await until(lambda: deleted(apps))
    ended = [each for each in await apps.log() if each.cause is ChangeCause.ENDED]
    assert [each.after.end_cause for each in ended if each.after] == [EndCause.APP]


async def test_a_drain_that_waits_for_nothing_is_done(apps: World) -> None:
    await apps.create("s-1")
    await apps.end("s-1")
    assert (await delete(apps, DRAIN)).outcome.status is AppStatus.DELETED


async def test_a_second_drain_may_come_sooner_and_never_later(apps: World) -> None:
    await apps.create("s-1", idle_timeout=0)
    await delete(apps, DRAIN, HOUR)
    begun = apps.clock.now()
    head = await apps.head()
    await delete(apps, DRAIN, 2 * HOUR)
    assert (await the_app(apps)).drain_deadline == begun + HOUR
    assert await apps.head() == head
    await delete(apps, DRAIN, 60 * SECOND)
    assert (await the_app(apps)).drain_deadline == begun + 60 * SECOND
    assert await apps.head() == head + 1
    answer = await delete(apps, FORCE)
    assert answer.outcome == DeleteAppOutcome(status=AppStatus.DELETED, sessions=1)
    assert (await the_app(apps)).drain_deadline == 0


async def test_a_forced_deletion_answers_in_time_and_goes_on(
    apps: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PAUSE", 0.05)
    for number in range(60):
        await apps.create(f"s-{number}")
    answer = await delete(apps, FORCE, request_id="r", within=deleting.MARGIN + 0.3)
    assert answer.outcome.status is AppStatus.DRAINING
    assert 0 <= answer.outcome.sessions < 60
    with refused(Reason.APP_DRAINING):
        await apps.create("late")
    monkeypatch.setattr(operations, "PAUSE", 0.0)
    # A repeat waits for the rest.
    again = await delete(apps, FORCE, request_id="r")
    assert again.outcome == DeleteAppOutcome(status=AppStatus.DELETED, sessions=60)
    assert await apps.every_session() == []


async def test_blockers_of_an_app_that_drains(apps: World) -> None:
    await apps.create("s-1", idle_timeout=0)
    await delete(apps, DRAIN, 60 * SECOND)
    found = await apps.store.read(lambda tx: blockers(tx, APP))
    assert found.count == 1
    assert found.first_keys == ((USER, "s-1"),)
    assert found.earliest_success == apps.clock.now() + 60 * SECOND
    assert (await apps.services.apps.get(apps.call("GetApp"), APP)).blockers == found
    await apps.end("s-1")
    await until(lambda: deleted(apps))
    assert (await apps.store.read(lambda tx: blockers(tx, APP))).count == 0
    assert (await apps.services.apps.get(apps.call("GetApp"), APP)).blockers is None


# --- several apps ------------------------------------------------------------------------------


async def put(app: App, tx: Tx) -> None:
    await tx.put_app(app)


async def labelled(world: World, *names: str, **labels: str) -> None:
    for name in names:
        await world.create(app=name)
        world.clock.step(1)
        found = msgspec.structs.replace(await the_app(world, name), labels=labels)
        await world.store.apply(name, "", partial(put, found))


AGENT = (LabelSelector("agent", LabelOperator.IN, ("x",)),)


async def test_all_but_the_newest_apps_go(apps: World) -> None:
    await labelled(apps, "d", "c", "b", "a", agent="x")
    await labelled(apps, "other", agent="y")
    await apps.end((await apps.every_session("c"))[0])
    would = await delete_many(apps, labels=AGENT, keep_newest=2, dry_run=True)
    assert would == DeleteAppsOutcome(apps=("c",), refused=("d",))
    assert await status(apps, "c") is AppStatus.ACTIVE
    done = await delete_many(apps, labels=AGENT, keep_newest=2, request_id="r")
    assert done == would
    assert await deleted(apps, "c")
    assert await delete_many(apps, labels=AGENT, keep_newest=2, request_id="r") == would
    # The one that is deleted counts no more.
    forced = await delete_many(apps, labels=AGENT, keep_newest=2, mode=FORCE)
    assert forced == DeleteAppsOutcome(apps=("d",))
    assert [name for name in "abcd" if await deleted(apps, name)] == ["c", "d"]
    assert await status(apps, "other") is AppStatus.ACTIVE


async def test_no_app_that_is_meant(apps: World) -> None:
    assert await delete_many(apps, labels=AGENT) == DeleteAppsOutcome()
    assert await delete_many(apps, labels=AGENT, request_id="r") == DeleteAppsOutcome()
    await labelled(apps, "a", agent="x")
    assert await delete_many(apps, labels=AGENT, request_id="r", mode=FORCE) == DeleteAppsOutcome()


async def test_several_apps_drain(apps: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn_server.service.deleting_many.AT_ONCE", 2)
    names = [f"app-{number}" for number in range(5)]
    await labelled(apps, *names, agent="x")
    done = await delete_many(apps, labels=AGENT, mode=DRAIN, drain_timeout=HOUR)
    assert done.apps == tuple(names)
    assert {await status(apps, name) for name in names} == {AppStatus.DRAINING}
    for name in names:
        session = (await apps.every_session(name))[0]
        await apps.end(session)
    for name in names:
        await until(lambda name=name: deleted(apps, name))


# --- races -------------------------------------------------------------------------------------


async def test_creations_and_a_drain_at_once(apps: World) -> None:
    """Whoever was let in is waited for; whoever comes after is refused; nobody is lost."""
    await apps.create("first")

    async def create(number: int) -> str:
        try:
            await apps.create(f"s-{number}")
        except Refusal as refusal:
            return refusal.reason
        return f"s-{number}"

    creations = [asyncio.create_task(create(number)) for number in range(32)]
    await asyncio.sleep(0)
    await delete(apps, DRAIN, HOUR)
    answers = set(await asyncio.gather(*creations))
    let_in = answers - {Reason.APP_DRAINING}
    assert {each.session_id for each in await apps.every_session()} == {"first", *let_in}
    log = await apps.log()
    began = next(each.revision for each in log if each.cause is ChangeCause.APP_DRAINING)
    created = [each.revision for each in log if each.cause is ChangeCause.CREATED]
    assert max(created) < began
    for each in ("first", *let_in):
        await apps.end(each)
    await until(lambda: deleted(apps))
    assert (await apps.log())[-1].cause is ChangeCause.APP_DELETED
