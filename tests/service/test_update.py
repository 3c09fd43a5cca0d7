"""UpdateSession, TouchSession, and the state of users and apps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import (
    Changes,
    MetricsDelta,
    Precondition,
    StatePatch,
    StatePatches,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import App, AppStatus, Change, ChangeCause, Metrics, Status
from sojourn_server.service.answers import SessionContent
from sojourn_server.service.work import Defaults
from sojourn_server.store.base import Tx
from tests.service.kit import APP, START, USER, World, patches, refused, tag


async def content(world: World, session_id: str = "s-1") -> SessionContent:
    found = (await world.read(session_id)).snapshot.content
    assert found is not None
    return found


# --- labels and metadata -----------------------------------------------------------------------


async def test_labels_are_merged_removed_or_replaced(world: World) -> None:
    await world.create("s-1", labels={"a": "1", "b": "2"})
    for changes, expected, keys in (
        ({"labels": {"b": "3", "c": "4"}}, {"a": "1", "b": "3", "c": "4"}, ("b", "c")),
        ({"remove_labels": ("a", "x")}, {"b": "3", "c": "4"}, ("a",)),
        ({"labels": {"c": "5"}, "replace_labels": True}, {"c": "5"}, ("b", "c")),
        ({"replace_labels": True}, {}, ("c",)),
    ):
        answer = await world.update("s-1", **changes)
        assert answer.outcome.session.labels == expected
        [change] = await world.log(answer.revision - 1)
        assert (change.cause, change.detail.label_keys) == (ChangeCause.UPDATED, keys)


async def test_a_session_holds_64_labels_and_64_keys_of_metadata_at_most(world: World) -> None:
    first = {f"a{number}": "1" for number in range(64)}
    await world.create("s-1", labels=first, metadata=first)
    with refused(Reason.INVALID_FIELD, field="labels"):
        await world.update("s-1", labels={"b": "1"})
    with refused(Reason.INVALID_FIELD, field="metadata"):
        await world.update("s-1", metadata={"b": "1"})
    await world.update("s-1", labels={"b": "1"}, remove_labels=("a0",))
    await world.update("s-1", metadata={"b": "1"}, remove_metadata=("a0",))
    assert len((await content(world)).metadata) == 64


async def test_metadata_is_merged_and_kept_as_it_was_written(world: World) -> None:
    await world.create("s-1", metadata={"a": "1", "b": "[1.0]"})
    answer = await world.update("s-1", metadata={"a": "null", "c": "2"}, remove_metadata=("x",))
    assert (await content(world)).metadata == {"a": "null", "b": "[1.0]", "c": "2"}
    [change] = await world.log(answer.revision - 1)
    assert change.detail.metadata_keys == ("a", "c")
    await world.update("s-1", remove_metadata=("a", "b", "c"))
    assert (await content(world)).metadata == {}
    with refused(Reason.INVALID_FIELD, field="metadata['a']"):
        await world.update("s-1", metadata={"a": "{"})


async def test_many_sizes_of_content_take_each_others_place(world: World) -> None:
    await world.create("s-1")
    for size in (10, 5_000, 20, 200, 60_000, 1, 0, 300):
        text = '"' + "x" * size + '"'
        await world.update("s-1", metadata={"a": text}, state=patches(session={"s": text}))
        assert (await content(world)).metadata == {"a": text}
        assert (await content(world)).session_state.values == {"s": text}


# --- state -------------------------------------------------------------------------------------


async def test_patches_of_all_scopes_and_all_else_take_one_revision(world: World) -> None:
    await world.create("s-1")
    answer = await world.update(
        "s-1",
        labels={"a": "1"},
        metadata={"m": "1"},
        metrics=MetricsDelta(requests=1),
        idle_timeout=5 * SECOND,
        state=patches(session={"s": "1"}, user={"u": "1"}, app={"p": "1"}),
    )
    assert answer.revision == 2
    log = await world.log(1)
    assert [change.cause for change in log if change.uid] == [
        ChangeCause.UPDATED,
        ChangeCause.STATE_CHANGED,
    ]
    shared = [change.detail for change in log if not change.uid]
    assert [(each.user, each.state_keys, each.state_version) for each in shared] == [
        (USER, ("u",), 1),
        (None, ("p",), 1),
    ]
    versions = answer.outcome.versions
    assert (versions.session, versions.user, versions.app) == (1, 1, 1)
    found = await content(world)
    assert found.session_state.values == {"s": "1"}
    assert found.user_state.values == {"u": "1"}
    assert found.app_state.values == {"p": "1"}


async def test_versions_are_answered_of_patched_scopes_only(world: World) -> None:
    await world.create("s-1")
    answer = await world.update("s-1", state=patches(user={"u": "1"}))
    versions = answer.outcome.versions
    assert (versions.session, versions.user, versions.app) == (None, 1, None)
    unchanged = await world.update("s-1", state=patches(user={"u": "1"}, session={}))
    versions = unchanged.outcome.versions
    assert (versions.session, versions.user, versions.app) == (0, 1, None)
    assert not unchanged.outcome.changed


async def test_state_of_user_and_app_is_shared_and_that_of_sessions_is_not(world: World) -> None:
    await world.create("s-1")
    await world.create("s-2")
    await world.create("s-3", user="bob")
    await world.update("s-1", state=patches(session={"s": "1"}, user={"u": "1"}, app={"p": "1"}))
    other = await content(world, "s-2")
    assert (other.session_state.values, other.user_state.values) == ({}, {"u": "1"})
    assert other.app_state.values == {"p": "1"}
    bobs = (await world.read("s-3", user="bob")).snapshot.content
    assert bobs is not None
    assert (bobs.user_state.values, bobs.app_state.values) == ({}, {"p": "1"})


async def test_a_failing_patch_of_any_scope_undoes_all_others(world: World) -> None:
    await world.create("s-1")
    good = StatePatch(set={"a": "1"})
    bad = StatePatch(set={"a": "1"}, expected_version=7)
    for scope in ("session", "user", "app"):
        state = StatePatches(
            **{each: bad if each == scope else good for each in ("session", "user", "app")}
        )
        with refused(Reason.STATE_VERSION_MISMATCH, scope=scope, version="0"):
            await world.update("s-1", labels={"a": "1"}, state=state)
    assert await world.head() == 1
    assert (await world.get("s-1")).labels == {}


async def test_expected_versions_let_one_of_many_writers_through(world: World) -> None:
    await world.create("s-1")
    for version in range(3):
        state = StatePatches(session=StatePatch(set={"a": f"{version}"}, expected_version=version))
        answers = await asyncio.gather(
            *(world.update("s-1", state=state) for _ in range(10)), return_exceptions=True
        )
        assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert (await world.get("s-1")).state_version == 3


async def test_a_patch_of_a_session_moves_its_etag_and_shared_state_does_not(
    world: World,
) -> None:
    before = tag(await world.create("s-1"))
    await world.update("s-1", state=patches(user={"u": "1"}, app={"p": "1"}))
    assert tag(await world.get("s-1")) == before
    await world.update("s-1", state=patches(session={"s": "1"}))
    assert tag(await world.get("s-1")) != before


async def test_a_limit_of_state_holds_for_the_whole_scope(world: World) -> None:
    await world.create("s-1")
    half = '"' + "x" * 135_000 + '"'
    await world.update("s-1", state=patches(session={"a": half}))
    with refused(Reason.CONTENT_TOO_LARGE, field="state.session", limit_bytes="262144"):
        await world.update("s-1", state=patches(session={"b": half}))
    with refused(Reason.INVALID_FIELD, field="state.user"):
        await world.update("s-1", state=patches(user={f"{n}": "1" for n in range(1_001)}))


async def test_the_state_of_a_user_or_an_app_needs_no_session(world: World) -> None:
    world.apps.add(APP)
    empty = await world.states.get(world.call("GetState"), APP, USER)
    assert (empty.state.values, empty.state.version, empty.revision) == ({}, 0, 0)
    first = await world.patch(USER, set={"a": "1"})
    assert (first.outcome.version, first.outcome.changed, first.revision) == (1, True, 1)
    for user, version in ((USER, 2), ("", 1), (None, 1)):
        answer = await world.patch(user, set={"a": "2"})
        assert (answer.outcome.version, answer.outcome.changed) == (version, True)
        again = await world.patch(user, set={"a": "2"})
        assert (again.outcome.version, again.outcome.changed) == (version, False)
        assert again.revision == answer.revision
        found = await world.states.get(world.call("GetState"), APP, user)
        assert (found.state.values, found.state.version) == ({"a": "2"}, version)
        assert found.revision == answer.revision
    with refused(Reason.STATE_VERSION_MISMATCH, scope="app", version="1"):
        await world.patch(None, set={"a": "3"}, expected_version=2)
    with refused(Reason.INVALID_FIELD, field="state.app.remove"):
        await world.patch(None, set={"a": "3"}, remove=("a",))


async def test_a_patch_without_an_effect_brings_no_app_into_being(world: World) -> None:
    answer = await world.patch(None, remove=("a",))
    assert (answer.outcome.changed, answer.outcome.version, answer.revision) == (False, 0, 0)
    assert await world.head() == 0
    with refused(Reason.STATE_VERSION_MISMATCH):
        await world.patch(USER, set={"a": "1"}, expected_version=3)
    assert await world.head() == 0


async def put_app(world: World, status: AppStatus) -> None:
    async def unit(tx: Tx) -> None:
        await tx.put_app(App(app=APP, status=status, create_time=START, feed_id="f"))
        await tx.log(Change(cause=ChangeCause.APP_UPDATED))

    world.apps.add(APP)
    await world.store.apply(APP, "", unit)


async def test_a_deleted_app_takes_nothing_and_a_draining_one_no_new_sessions_and_turns(
    world: World,
) -> None:
    await world.create("s-1")
    await put_app(world, AppStatus.DRAINING)
    for new_work in (lambda: world.create("s-2"), lambda: world.begin("s-1")):
        with refused(Reason.APP_DRAINING, app=APP):
            await new_work()
    with refused(Reason.APP_DRAINING, app=APP):
        await world.append("s-3", create=True)
    await world.say("s-1", "m-1")
    await world.patch(None, set={"a": "1"})
    await put_app(world, AppStatus.DELETED)
    for work in (
        lambda: world.create("s-2"),
        lambda: world.patch(None, set={"a": "2"}),
        lambda: world.append("s-3", create=True),
    ):
        with refused(Reason.APP_DELETED, app=APP):
            await work()


async def test_unknown_apps_may_be_refused(world: World) -> None:
    await world.create("s-1")
    world.units.defaults = Defaults(idle_timeout=0, max_lifetime=0, unknown_apps=False)
    await world.create("s-2")
    with refused(Reason.APP_UNKNOWN, app="suport"):
        await world.create("s-1", app="suport")
    with refused(Reason.APP_UNKNOWN, app="suport"):
        await world.patch(None, app="suport", set={"a": "1"})
    assert await world.head("suport") == 0


# --- counters ----------------------------------------------------------------------------------


async def test_a_thousand_increments_at_once_are_counted_exactly(world: World) -> None:
    await world.create("s-1")
    delta = MetricsDelta(
        requests=2, errors=1, processing_time=3, counters={"tokens": 5, "cost": -1}
    )
    await asyncio.gather(*(world.update("s-1", metrics=delta) for _ in range(1_000)))
    assert (await world.get("s-1")).metrics == Metrics(
        requests=2_000,
        errors=1_000,
        processing_time=3_000,
        counters={"tokens": 5_000, "cost": -1_000},
    )
    assert await world.head() == 1_001


async def test_counters_move_update_and_activity_but_no_etag(world: World) -> None:
    before = await world.create("s-1")
    world.clock.step(7)
    answer = await world.update("s-1", metrics=MetricsDelta(requests=1))
    after = answer.outcome.session
    assert (answer.outcome.changed, tag(after)) == (True, tag(before))
    assert after.update_time == after.activity_time == world.clock.time
    [change] = await world.log(answer.revision - 1)
    assert change.cause is ChangeCause.UPDATED


async def test_counters_stay_within_64_bits_and_64_names(world: World) -> None:
    await world.create("s-1")
    most = 2**63 - 1
    await world.update("s-1", metrics=MetricsDelta(counters={"n": most}))
    for delta in ({"n": 1}, {"m": -most - 1}):
        with refused(Reason.INVALID_FIELD, field="metrics"):
            await world.update("s-1", metrics=MetricsDelta(counters=delta))
    await world.update("s-1", metrics=MetricsDelta(counters={"n": -most}))
    await world.update(
        "s-1", metrics=MetricsDelta(counters={f"c{number}": 1 for number in range(63)})
    )
    with refused(Reason.INVALID_FIELD, field="metrics.counters"):
        await world.update("s-1", metrics=MetricsDelta(counters={"more": 1}))
    assert (await world.get("s-1")).metrics.counters["n"] == 0


# --- settings, etags and no-ops ----------------------------------------------------------------


async def test_new_timeouts_count_from_now_and_from_the_creation(world: World) -> None:
    await world.create("s-1", idle_timeout=10 * SECOND)
    world.clock.step(5)
    answer = await world.update("s-1", idle_timeout=20 * SECOND, max_lifetime=60 * SECOND)
    after = answer.outcome.session
    assert (after.idle_timeout, after.max_lifetime) == (20 * SECOND, 60 * SECOND)
    assert (after.activity_time, after.version) == (world.clock.time, 2)
    world.clock.step(19)
    assert (await world.get("s-1")).status is Status.ACTIVE
    await world.update("s-1", idle_timeout=0, max_lifetime=0)
    world.clock.step(1_000_000)
    assert (await world.get("s-1")).status is Status.ACTIVE
    await world.update("s-1", max_lifetime=SECOND)
    assert (await world.get("s-1")).status is Status.EXPIRED


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": {"a": "1"}},
        {"remove_labels": ("x",)},
        {"labels": {"a": "1"}, "replace_labels": True},
        {"metadata": {"m": "1"}},
        {"remove_metadata": ("x",)},
        {"state": patches(session={"s": "1"}, user={"u": "1"}, app={"p": "1"})},
        {"state": StatePatches(session=StatePatch(remove=("x",)))},
        {"metrics": MetricsDelta(counters={"n": 0})},
        {"idle_timeout": HOUR, "max_lifetime": 0},
    ],
)
async def test_an_update_without_an_effect_takes_no_revision_but_renews(
    world: World, changes: dict[str, Any]
) -> None:
    await world.create("s-1", labels={"a": "1"}, metadata={"m": "1"})
    await world.update("s-1", state=patches(session={"s": "1"}, user={"u": "1"}, app={"p": "1"}))
    await world.update("s-1", metrics=MetricsDelta(counters={"n": 3}))
    before, head = await world.stored("s-1"), await world.head()
    world.clock.step(9)
    answer = await world.update("s-1", **changes)
    assert (answer.outcome.changed, answer.revision, await world.head()) == (False, head, head)
    after = await world.stored("s-1")
    assert after.activity_time == world.clock.time
    assert (after.update_time, after.version) == (before.update_time, before.version)


async def test_of_many_updates_with_one_etag_one_succeeds(world: World) -> None:
    session = await world.create("s-1")
    condition = Precondition(etag=tag(session))
    answers = await asyncio.gather(
        *(
            world.update("s-1", labels={"n": f"{number}"}, condition=condition)
            for number in range(30)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1


async def test_what_moves_an_etag_and_what_does_not(world: World) -> None:
    await world.create("s-1")
    seen = [tag(await world.get("s-1"))]

    async def moved(wanted: bool) -> None:
        now = tag(await world.get("s-1"))
        assert (now not in seen) is wanted
        if not wanted:
            assert now == seen[-1]
        seen.append(now)

    token = await world.turn("s-1")
    await moved(False)
    await world.renew(token)
    await moved(False)
    await world.end_turn(token)
    await moved(False)
    await world.touch("s-1")
    await moved(False)
    await world.update("s-1", metrics=MetricsDelta(errors=1))
    await moved(False)
    await world.append("s-1", metrics=MetricsDelta(errors=1))
    await moved(False)
    await world.update("s-1", labels={"a": "1"})
    await moved(True)
    await world.update("s-1", metadata={"a": "1"})
    await moved(True)
    await world.update("s-1", state=patches(session={"a": "1"}))
    await moved(True)
    await world.update("s-1", idle_timeout=5 * HOUR)
    await moved(True)
    await world.say("s-1", "m-1", "m-2")
    await moved(True)
    await world.pop("s-1")
    await moved(True)
    await world.truncate("s-1", 0)
    await moved(True)
    await world.reset("s-1")
    await moved(True)
    await world.end("s-1")
    await moved(True)


# --- touch -------------------------------------------------------------------------------------


async def test_a_touch_renews_the_idle_deadline_and_writes_no_change(world: World) -> None:
    await world.create("s-1", idle_timeout=10 * SECOND)
    for _ in range(5):
        world.clock.step(9)
        answer = await world.touch("s-1")
        assert answer.revision == 1
        assert answer.outcome.session.activity_time == world.clock.time
    assert await world.head() == 1
    world.clock.step(10)
    with refused(Reason.SESSION_ENDED, status="EXPIRED", cause="IDLE"):
        await world.touch("s-1")
    with refused(Reason.SESSION_NOT_FOUND):
        await world.touch("x")


async def test_reading_state_renews_nothing(world: World) -> None:
    before = await world.create("s-1")
    world.clock.step(9)
    await world.states.get(world.call("GetState"), APP, USER)
    assert await world.stored("s-1") == before
    assert Changes().metrics == MetricsDelta()


@pytest.mark.parametrize("field", ["labels", "metadata"])
async def test_a_key_cannot_be_written_and_removed_at_once(world: World, field: str) -> None:
    await world.create("s")
    with refused(Reason.INVALID_FIELD, field=f"remove_{field}"):
        changes: dict[str, Any] = {field: {"a": "1"}, f"remove_{field}": ("a",)}
        await world.update("s", **changes)


async def test_metadata_of_a_session_is_limited_in_all(world: World) -> None:
    value = '"' + "x" * 65_000 + '"'
    await world.create("s", metadata={f"k{number}": value for number in range(16)})
    with refused(Reason.CONTENT_TOO_LARGE, field="metadata"):
        await world.update("s", metadata={"k16": value})
    with refused(Reason.CONTENT_TOO_LARGE, field="metadata"):
        await world.create("t", metadata={f"k{number}": value for number in range(17)})
