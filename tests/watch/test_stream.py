"""One stream: order, completeness, units, tokens, bookmarks, membership."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import IfExists, NewSession, ResetScope
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter, TimeRange
from sojourn_server.domain.model import ChangeCause, DeletedWhy, Status, TurnOutcome
from sojourn_server.domain.policy import Threshold
from tests.service.kit import APP, message, patches
from tests.watch.kit import Scene
from tests.watch.validators import CHANGED, ENTERED, LEFT, Record, cause_of, causes, observed

ACTIVE = SessionFilter(statuses=(Status.ACTIVE,))
TREE = 500
"""As many sessions as one unit ends."""
GOLD = SessionFilter(labels=(LabelSelector("tier", LabelOperator.IN, ("gold",)),))


def told(record: Record) -> list[tuple[int, str]]:
    """Membership and session of each change."""
    return [
        (change.session.membership, change.session.session.key.session_id)
        for change in record.changes
        if change.HasField("session")
    ]


async def everything(world: Scene) -> None:
    """Every cause but those of an app's own life."""
    await world.create("s-1", labels={"tier": "gold"}, metadata={"m": "1"})
    await world.update("s-1", labels={"tier": "iron"})
    await world.append("s-1", [message("m-1"), message("m-2")], state=patches(session={"k": "1"}))
    token = await world.turn("s-1")
    await world.end_turn(token, TurnOutcome.ERROR, "it failed")
    await world.truncate("s-1", 1)
    await world.patch("ann", set={"u": "1"})
    await world.patch(None, set={"a": "1"})
    await world.reset("s-1", ResetScope.ALL)
    await world.end("s-1")
    await world.make("s-1", if_exists=IfExists.REPLACE_ENDED)
    await world.create("parent")
    parent = await world.get("parent")
    await world.create("child", parent_uid=parent.uid)
    await world.delete("parent", force=True)
    await world.create("idle", idle_timeout=HOUR)
    world.clock.step(2 * 3_600)
    await world.units.settle(APP, (await world.stored("idle")).uid)


@pytest.mark.guarantee("W1", "W2", "W3", "W13")
async def test_a_stream_tells_of_every_change_once_in_order(world: Scene) -> None:
    first = await world.watch_now()
    await everything(world)
    await world.settled(first)
    head, token = await world.point()
    again = world.watch(token=token, start=head)
    await again.opened()
    await world.create("s-2")
    await world.settled(first, again)
    assert len(again.record.changes) == 1


@pytest.mark.guarantee("W11")
async def test_each_change_names_its_cause(world: Scene) -> None:
    watcher = await world.watch_now(app_changes=True)
    await everything(world)
    await world.rule(thresholds=(Threshold(error_count_above=0),))
    await world.create("bad")
    await world.end_turn(await world.turn("bad"), TurnOutcome.ERROR, "it failed")
    await world.settled(watcher)
    assert set(causes(watcher.record)) == set(ChangeCause) - {
        # They end what is watched: see test_erased.py and tests/api/test_app_ends.py.
        ChangeCause.USER_ERASED,
        ChangeCause.APP_DRAINING,
        ChangeCause.APP_DELETED,
    }
    by_cause = {ChangeCause(change.cause): change for change in watcher.record.changes}
    deleted = [c.session for c in watcher.record.changes if cause_of(c) is ChangeCause.DELETED]
    assert [DeletedWhy(each.deleted_why) for each in deleted] == [
        DeletedWhy.REPLACED,
        DeletedWhy.REQUEST,
        DeletedWhy.REQUEST,
    ]
    assert by_cause[ChangeCause.TURN_ENDED].session.turn_outcome == TurnOutcome.ERROR.value
    appended = by_cause[ChangeCause.MESSAGES_APPENDED].session
    assert (appended.first_sequence, appended.last_sequence) == (1, 2)
    assert by_cause[ChangeCause.EXPIRED].session.session.status == Status.EXPIRED.value
    created = next(c for c in watcher.record.changes if cause_of(c) is ChangeCause.CREATED)
    assert list(created.session.label_keys) == ["tier"]
    assert created.actor == "tester"


@pytest.mark.guarantee("W11")
async def test_changes_without_a_session_reach_those_who_ask(world: Scene) -> None:
    asks = await world.watch_now(app_changes=True)
    of_ann = await world.watch_now(user="ann", app_changes=True)
    of_bob = await world.watch_now(user="bob", app_changes=True)
    silent = await world.watch_now()
    await world.create("s-1")
    await world.patch("ann", set={"u": "1"})
    await world.patch(None, set={"a": "1"})
    await world.settled(asks, of_ann, of_bob, silent)

    def states(record: Record) -> list[str | None]:
        return [
            change.app.user if change.app.HasField("user") else None
            for change in record.changes
            if change.HasField("app") and cause_of(change) is ChangeCause.STATE_CHANGED
        ]

    assert states(asks.record) == ["ann", None]
    assert states(of_ann.record) == ["ann", None]
    assert states(of_bob.record) == [None]
    assert states(silent.record) == []
    change = next(c for c in asks.record.changes if c.app.HasField("user"))
    assert (change.app.app, list(change.app.state_keys), change.app.state_version) == (
        APP,
        ["u"],
        1,
    )


@pytest.mark.guarantee("W11")
async def test_a_session_enters_leaves_enters_again_and_is_deleted_outside(world: Scene) -> None:
    gold = await world.watch_now(filter=GOLD)
    active = await world.watch_now(filter=ACTIVE)
    await world.create("s-1")
    await world.update("s-1", labels={"tier": "gold"})
    await world.update("s-1", labels={"other": "x"})
    await world.update("s-1", labels={"tier": "iron"})
    await world.update("s-1", labels={"tier": "gold"})
    await world.update("s-1", labels={"tier": "iron"})
    await world.end("s-1")
    await world.delete("s-1")
    await world.settled(gold, active)
    assert told(gold.record) == [
        (ENTERED, "s-1"),
        (CHANGED, "s-1"),
        (LEFT, "s-1"),
        (ENTERED, "s-1"),
        (LEFT, "s-1"),
    ]
    # Who leaves is told as it last matched.
    left = [c.session for c in gold.record.changes if c.session.membership == LEFT]
    assert [dict(each.session.labels)["tier"] for each in left] == ["gold", "gold"]
    assert [kind for kind, _ in told(active.record)] == [ENTERED, *[CHANGED] * 5, LEFT]


@pytest.mark.guarantee("W11")
async def test_an_id_that_is_deleted_and_made_again_is_another_session(world: Scene) -> None:
    watcher = await world.watch_now()
    for _ in range(3):
        await world.create("s-1")
        await world.delete("s-1")
    await world.settled(watcher)
    uids = [change.session.session.uid for change in watcher.record.changes]
    assert uids[0::2] == uids[1::2]
    assert len(set(uids)) == 3


@pytest.mark.guarantee("W2", "W16")
async def test_scopes_of_a_user_and_of_a_parent(world: Scene) -> None:
    parent = await world.create("parent")
    streams = [
        await world.watch_now(user="ann"),
        await world.watch_now(user=""),
        await world.watch_now(parent_uid=parent.uid),
        await world.watch_now(user="bob", parent_uid=parent.uid),
        await world.watch_now(filter=SessionFilter(parent_uid=parent.uid)),
    ]
    await world.create("s-1")
    await world.create("s-2", user="")
    await world.create("child", parent_uid=parent.uid)
    await world.create("child", user="bob", parent_uid=parent.uid)
    await world.settled(*streams)
    assert [[name for _, name in told(each.record)] for each in streams] == [
        ["s-1", "child"],
        ["s-2"],
        ["child", "child"],
        ["child"],
        ["child", "child"],
    ]


@pytest.mark.guarantee("W12")
async def test_the_session_before_each_change(world: Scene) -> None:
    watcher = await world.watch_now(previous=True)
    gold = await world.watch_now(previous=True, filter=GOLD)
    await everything(world)
    await world.settled(watcher, gold)
    assert any(change.session.HasField("previous") for change in watcher.record.changes)


@pytest.mark.guarantee("W5", "W10")
async def test_units_that_a_filter_hides_are_covered_by_a_bookmark(world: Scene) -> None:
    watcher = await world.watch_now(filter=GOLD)
    revision = (await world.make("s-1")).revision
    await watcher.reach(revision)
    observed(watcher.record, revision)
    assert watcher.record.changes == []
    await world.settled(watcher)


@pytest.mark.guarantee("W10")
async def test_bookmarks_keep_coming_while_nothing_happens(world: Scene) -> None:
    watcher = await world.watch_now()
    await watcher.until(lambda record: len(record.messages) >= 4)
    assert {m.revision for m in watcher.record.messages} == {0}
    await world.settled(watcher)


@pytest.mark.guarantee("W7")
async def test_a_watch_from_a_list_misses_nothing(world: Scene) -> None:
    nothing = await world.page()
    await world.create("s-1", labels={"tier": "gold"})
    listed = await world.page(filter=GOLD)
    await world.update("s-1", labels={"tier": "iron"})
    from_nothing = world.watch(token=nothing.resume_token, start=0)
    gold = world.watch(token=listed.resume_token, start=listed.revision, filter=GOLD)
    await world.settled(from_nothing, gold)
    assert told(from_nothing.record) == [(ENTERED, "s-1"), (CHANGED, "s-1")]
    assert told(gold.record) == [(LEFT, "s-1")]


@pytest.mark.guarantee("W2")
async def test_an_app_may_be_watched_before_it_is_there(world: Scene) -> None:
    watcher = await world.watch_now()
    assert watcher.record.revision == 0
    await world.create("s-1")
    await world.settled(watcher)
    resumed = world.watch(token=watcher.record.token, start=watcher.record.revision)
    await world.create("s-2")
    await world.settled(resumed)


@pytest.mark.guarantee("W3")
async def test_a_large_unit_comes_in_parts_that_belong_together(world: Scene) -> None:
    slow = await world.watch_now(previous=True)
    root = await world.create("root")
    labels = {f"k{n}": "v" * 100 for n in range(20)}
    children = [
        NewSession(user="ann", session_id=f"s-{n}", parent_uid=root.uid, labels=labels)
        for n in range(TREE - 1)
    ]
    await world.sessions.create_many(world.call("BatchCreateSessions"), APP, children)
    live = await world.watch_now(previous=True)
    behind = live.record.token, live.record.revision
    await world.end("root", cascade=True)
    late = world.watch(token=behind[0], start=behind[1], previous=True)
    await world.settled(slow, live, late)
    for watcher in (live, late):
        parts = [m for m in watcher.record.messages if m.changes]
        assert len(parts) > 2
        assert [m.continued for m in parts] == [True] * (len(parts) - 1) + [False]
        assert len(watcher.record.changes) == TREE


@pytest.mark.guarantee("W11")
@pytest.mark.parametrize(
    ("field", "which"),
    [
        ("older_than", SessionFilter(older_than=1)),
        ("idle_longer_than", SessionFilter(idle_longer_than=1)),
        ("activity_time", SessionFilter(activity_time=TimeRange(1, 2))),
    ],
)
async def test_what_time_or_touches_make_true_cannot_be_watched(
    world: Scene, field: str, which: SessionFilter
) -> None:
    refusal = await world.watch(filter=which).refusal()
    assert (refusal.reason, refusal.metadata) == (Reason.FILTER_NOT_WATCHABLE, {"field": field})


@pytest.mark.guarantee("W20")
async def test_content_comes_as_it_is_at_delivery_and_only_when_asked_for(world: Scene) -> None:
    bare = await world.watch_now()
    await world.create("s-1", metadata={"m": "1"})
    await world.append("s-1", [message("m-1", "hello")], state=patches(session={"k": "1"}))
    start = bare.record.revision
    token = bare.record.token
    await world.append("s-1", [message("m-2", "there")])
    await world.truncate("s-1", 1)
    head = await world.head()
    await bare.reach(head)
    full = world.watch(token=token, start=start, content=True)
    await full.reach(head)
    await world.settled(bare, full)
    created, first, *_ = [c.session for c in full.record.changes if c.HasField("session")]
    assert dict(created.session.metadata) == {"m": "1"}
    assert dict(created.session.state.session.values) == {"k": "1"}  # of now, not of then
    assert created.content_revision == head
    appended = [
        c.session for c in full.record.changes if cause_of(c) is ChangeCause.MESSAGES_APPENDED
    ]
    texts = [[m.content for m in each.messages] for each in appended]
    assert texts == [["hello"], []]  # the second is gone
    assert first is not None


@pytest.mark.guarantee("W20")
async def test_what_is_erased_is_told_to_nobody_any_more(world: Scene) -> None:
    revision, token = await world.point()
    await world.create("s-1", metadata={"m": '"secret"'})
    await world.append("s-1", [message("m-1", "secret")])
    await world.create("s-2")
    await world.reset("s-1")
    await world.update("s-1", remove_metadata=("m",))
    await world.delete("s-2")
    full = world.watch(token=token, start=revision, content=True, previous=True)
    await world.settled(full)
    assert not any(b"secret" in m.SerializeToString() for m in full.record.messages)


@pytest.mark.guarantee("W2")
async def test_many_cancelled_watches_leave_nothing_behind(world: Scene) -> None:
    await world.create("s-1")
    before = len(asyncio.all_tasks())
    for number in range(60):
        watcher = world.watch(initial=number % 2 == 0)
        await asyncio.sleep(number * 0.0003)
        await watcher.leave()
    world.watchers.clear()
    names = {"watch", "feed tail ends", "feed ticks"}
    ours = {task for task in asyncio.all_tasks() if task.get_name() in names}
    if ours:
        await asyncio.wait(ours, timeout=5)
    assert world.hub.streams == 0
    assert len(asyncio.all_tasks()) <= before
