"""GetSession and BatchGetSessions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import SessionRef, View
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause, Status
from sojourn_server.service.answers import SessionsRead
from sojourn_server.store.base import StoreFull
from tests.service.kit import APP, USER, World, message, patches, refused


async def many(world: World, refs: Sequence[SessionRef], view: View = View.BASIC) -> SessionsRead:
    world.apps.add(APP)
    return await world.sessions.get_many(world.call("BatchGetSessions"), APP, refs, view)


def ref(session_id: str = "", uid: str = "", user: str = USER) -> SessionRef:
    return SessionRef(app=APP, user=user, session_id=session_id, uid=uid)


async def test_a_session_is_found_by_key_by_uid_and_by_both(world: World) -> None:
    session = await world.create("s-1")
    for which in (ref("s-1"), ref(uid=session.uid), ref("s-1", session.uid)):
        found = await world.sessions.get(world.call("GetSession"), which, View.BASIC, 0)
        assert found.snapshot.session == session
    for which, named in (
        (ref("s-2"), {"session_id": "s-2"}),
        (ref("s-1", user="bob"), {"session_id": "s-1"}),
        (SessionRef(app="other", user=USER, session_id="s-1"), {"session_id": "s-1"}),
        (SessionRef(app="other", uid=session.uid), {"uid": session.uid}),
    ):
        with refused(Reason.SESSION_NOT_FOUND, **named):
            await world.sessions.get(world.call("GetSession"), which, View.BASIC, 0)


async def test_a_uid_of_before_does_not_find_its_successor(world: World) -> None:
    old = await world.create("s-1")
    await world.delete("s-1")
    new = await world.create("s-1")
    with refused(Reason.UID_MISMATCH, uid=new.uid):
        which = ref("s-1", old.uid)
        await world.sessions.get(world.call("GetSession"), which, View.BASIC, 0)
    with refused(Reason.SESSION_NOT_FOUND, uid=old.uid):
        await world.get(old)


async def test_an_agent_loads_its_context_in_one_call(world: World) -> None:
    await world.create(
        "s-1",
        metadata={"m": "1"},
        state=patches(session={"s": "1"}, user={"u": "1"}, app={"a": "1"}),
    )
    await world.say("s-1", "m-1", "m-2", "m-3")
    found = await world.read("s-1", View.FULL, last=2)
    assert [shot.body.content for shot in found.messages] == ["text of m-2", "text of m-3"]
    assert found.revision == 2
    content = found.snapshot.content
    assert content is not None
    assert content.session_state.values == {"s": "1"}
    basic = await world.read("s-1", View.BASIC, last=99)
    assert basic.snapshot.content is None
    assert len(basic.messages) == 3
    assert (await world.read("s-1", View.BASIC)).messages == ()


async def test_messages_that_come_along_leave_room_for_the_session(world: World) -> None:
    await world.create("s-1", state=patches(session={"s": '"' + "x" * 250_000 + '"'}))
    for number in range(4):
        await world.append("s-1", [message(f"m-{number}", "x" * 250_000)])
    assert len((await world.read("s-1", View.BASIC, last=9)).messages) == 4
    assert len((await world.read("s-1", View.FULL, last=9)).messages) == 3


async def test_reading_an_overdue_session_commits_the_expiry_first(world: World) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(1)
    found = await world.read("s-1")
    assert (found.snapshot.session.status, found.revision) == (Status.EXPIRED, 2)
    assert [change.cause for change in await world.log(1)] == [ChangeCause.EXPIRED]
    [change] = await world.log(1)
    assert change.actor == ""


async def test_reading_a_session_with_an_abandoned_turn_ends_that_first(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1")
    world.clock.step(30)
    found = await world.read("s-1")
    assert (found.snapshot.session.turn, found.snapshot.session.metrics.errors) == (None, 1)


async def test_many_are_read_in_the_order_asked_and_the_absent_ones_named(world: World) -> None:
    one, two = await world.create("s-1"), await world.create("s-2")
    absent = ref("x")
    stale = ref("s-1", two.uid)
    answer = await many(world, [ref("s-2"), absent, ref(uid=one.uid), stale, ref("s-2")])
    assert [shot.session for shot in answer.found] == [two, one, two]
    assert answer.missing == (absent, stale)
    assert (answer.covered, answer.revision) == (5, 2)


async def test_overdue_ones_among_many_are_expired_first(world: World) -> None:
    for number in range(5):
        await world.create(f"s-{number}", idle_timeout=number * SECOND)
    world.clock.step(3)
    answer = await many(world, [ref(f"s-{number}") for number in range(5)])
    statuses = [shot.session.status for shot in answer.found]
    active, expired = Status.ACTIVE, Status.EXPIRED
    assert statuses == [active, expired, expired, expired, active]
    assert answer.revision == await world.head() == 8


async def test_an_answer_of_many_is_cut_and_says_how_far_it_goes(world: World) -> None:
    big = patches(session={"s": '"' + "x" * 250_000 + '"'})
    for number in range(10):
        await world.create(f"s-{number}", user="", state=big)
    refs = [ref(f"s-{number}", user="") for number in range(10)]
    seen: list[str] = []
    for _ in range(10):
        answer = await many(world, refs, View.FULL)
        assert answer.covered >= 1
        seen += [shot.session.session_id for shot in answer.found]
        refs = refs[answer.covered :]
        if not refs:
            break
    assert seen == [f"s-{number}" for number in range(10)]
    basic = await many(world, [ref("x")] * 1_000)
    assert (basic.covered, len(basic.missing)) == (1_000, 1_000)


@pytest.mark.parametrize("view", list(View))
async def test_views_differ_in_content_only(world: World, view: View) -> None:
    session = await world.create("s-1", metadata={"a": "1"})
    found = await world.read("s-1", view)
    assert found.snapshot.session == session
    assert (found.snapshot.content is not None) is (view is View.FULL)


async def test_on_a_full_disk_an_overdue_session_can_still_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("s", idle_timeout=SECOND)
    await world.say("s", "m")

    async def full(*_: object, **__: object) -> None:
        raise StoreFull("no room")

    world.clock.step(10)
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "apply", full)
        read = await world.read("s", last=1)
        assert read.snapshot.session.status is Status.ACTIVE
        assert [shot.message.message_id for shot in read.messages] == ["m"]
        assert await world.sequences("s") == [1]
    assert (await world.get("s")).status is Status.EXPIRED
