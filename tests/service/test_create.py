"""CreateSession and BatchCreateSessions."""

from __future__ import annotations

import asyncio

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import (
    IfExists,
    NewOwner,
    NewSession,
    OnConflict,
    Precondition,
    StatePatch,
    StatePatches,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import (
    ChangeCause,
    DeletedWhy,
    EndCause,
    Owner,
    Session,
    Status,
    TurnOutcome,
)
from tests.service.kit import APP, LEASE, START, USER, World, patches, refused

RETURN, REPLACE = IfExists.RETURN_EXISTING, IfExists.REPLACE_ENDED


async def test_a_session_begins_active_with_the_defaults(world: World) -> None:
    session = await world.create("s-1", labels={"a": "1"})
    assert session == Session(
        uid=session.uid,
        app=APP,
        user=USER,
        session_id="s-1",
        status=Status.ACTIVE,
        labels={"a": "1"},
        create_time=START,
        update_time=START,
        activity_time=START,
        idle_timeout=HOUR,
    )
    assert await world.get("s-1") == session


async def test_the_first_session_brings_its_app_into_being_under_the_same_revision(
    world: World,
) -> None:
    made = await world.make("s-1")
    assert made.revision == 1
    assert [change.cause for change in await world.log()] == [
        ChangeCause.APP_CREATED,
        ChangeCause.CREATED,
    ]
    assert (await world.make("s-2")).revision == 2
    assert (await world.make("s-1", app="other")).revision == 1


async def test_without_an_id_the_server_makes_one(world: World) -> None:
    one, other = await world.create(), await world.create()
    assert one.session_id == one.uid
    assert one.uid != other.uid


async def test_a_key_is_app_user_and_id_together(world: World) -> None:
    made = [
        await world.create("s-1", user=user, app=app)
        for app in ("a", "b")
        for user in ("", "ann", "bob")
    ]
    assert len({session.uid for session in made}) == 6
    with refused(Reason.SESSION_EXISTS, session_id="s-1", status="ACTIVE"):
        await world.create("s-1", user="", app="b")


async def test_timeouts_are_the_defaults_unless_named_and_zero_is_never(world: World) -> None:
    named = await world.create("named", idle_timeout=5 * SECOND, max_lifetime=9 * SECOND)
    never = await world.create("never", idle_timeout=0, max_lifetime=0)
    assert (named.idle_timeout, named.max_lifetime) == (5 * SECOND, 9 * SECOND)
    assert (never.idle_timeout, never.max_lifetime) == (0, 0)


async def test_content_of_a_new_session_is_read_back(world: World) -> None:
    made = await world.make(
        "s-1",
        metadata={"m": "1.0"},
        state=patches(session={"s": "null"}, user={"u": "2"}, app={"a": "3"}),
    )
    content = (await world.read("s-1")).snapshot.content
    assert content is not None
    assert content.metadata == {"m": "1.0"}
    assert (content.session_state.values, content.session_state.version) == ({"s": "null"}, 1)
    assert (content.user_state.values, content.user_state.version) == ({"u": "2"}, 1)
    assert (content.app_state.values, content.app_state.version) == ({"a": "3"}, 1)
    assert {change.revision for change in await world.log()} == {made.revision}


async def test_a_state_patch_that_does_not_fit_creates_nothing(world: World) -> None:
    state = StatePatches(app=StatePatch(set={"a": "1"}, expected_version=3))
    with refused(Reason.STATE_VERSION_MISMATCH, scope="app", version="0"):
        await world.create("s-1", metadata={"m": "1"}, state=state)
    assert await world.head() == 0
    assert await world.every_session() == []


async def test_a_taken_id_is_refused_and_nothing_is_written(world: World) -> None:
    first = await world.create("s-1")
    with refused(Reason.SESSION_EXISTS, session_id="s-1", status="ACTIVE"):
        await world.create("s-1", state=patches(app={"a": "1"}))
    await world.end("s-1", Status.FAILED)
    with refused(Reason.SESSION_EXISTS, session_id="s-1", status="FAILED"):
        await world.create("s-1")
    assert await world.head() == 2
    assert (await world.get("s-1")).uid == first.uid


async def test_return_existing_answers_what_is_there_and_changes_nothing(world: World) -> None:
    first = await world.create("s-1", labels={"a": "1"})
    world.clock.step(5)
    again = await world.make("s-1", if_exists=RETURN, labels={"b": "2"}, metadata={"m": "1"})
    assert (again.outcome.created, again.outcome.session, again.revision) == (False, first, 1)
    new = await world.make("s-2", if_exists=RETURN)
    assert (new.outcome.created, new.revision) == (True, 2)


async def test_return_existing_of_an_ended_session_is_refused(world: World) -> None:
    await world.create("s-1")
    await world.end("s-1")
    with refused(Reason.SESSION_ENDED, status="COMPLETED", cause="REQUEST"):
        await world.make("s-1", if_exists=RETURN)


async def test_return_existing_of_an_overdue_session_commits_the_expiry_first(
    world: World,
) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(2)
    with refused(Reason.SESSION_ENDED, status="EXPIRED", cause="IDLE"):
        await world.make("s-1", if_exists=RETURN)
    assert (await world.stored("s-1")).status is Status.EXPIRED
    assert await world.head() == 2


async def test_replace_ended_makes_a_new_uid_under_the_old_id_in_one_unit(world: World) -> None:
    old = await world.create("s-1", metadata={"m": "1"}, labels={"a": "1"})
    await world.say("s-1", "m-1", "m-2")
    await world.end("s-1", reason="over", result="1")
    made = await world.make("s-1", if_exists=REPLACE)
    assert made.outcome.created
    assert made.outcome.session.uid != old.uid
    assert made.outcome.session.last_sequence == 0
    deleted, created = await world.log(made.revision - 1)
    assert (deleted.cause, deleted.uid) == (ChangeCause.DELETED, old.uid)
    assert deleted.detail.deleted_why is DeletedWhy.REPLACED
    assert (created.cause, created.uid) == (ChangeCause.CREATED, made.outcome.session.uid)
    assert await world.sequences("s-1") == []


async def test_replace_ended_refuses_a_session_that_has_not_ended(world: World) -> None:
    await world.create("s-1")
    with refused(Reason.SESSION_EXISTS, status="ACTIVE"):
        await world.make("s-1", if_exists=REPLACE)


async def test_replace_ended_takes_an_overdue_session_that_it_expires_first(world: World) -> None:
    old = await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(2)
    made = await world.make("s-1", if_exists=REPLACE)
    assert made.revision == 3
    assert [change.cause for change in await world.log(1)] == [
        ChangeCause.EXPIRED,
        ChangeCause.DELETED,
        ChangeCause.CREATED,
    ]
    assert made.outcome.session.uid != old.uid


async def test_replace_ended_deletes_ephemeral_children_and_theirs_and_leaves_the_others(
    world: World,
) -> None:
    parent = await world.create("p")
    lease = NewOwner(lease=LEASE)
    child = await world.create("e", parent_uid=parent.uid, owner=lease)
    await world.create("e-e", parent_uid=child.uid, owner=lease)
    await world.create("plain", parent_uid=parent.uid)
    await world.end("p")
    made = await world.make("p", if_exists=REPLACE)
    assert {session.session_id for session in await world.every_session()} == {"p", "plain"}
    gone = [change for change in await world.log(made.revision - 1) if change.after is None]
    ids = [change.before.session_id for change in gone if change.before]
    assert ids == ["e-e", "e", "p"]


# --- parents and owners ------------------------------------------------------------------------


async def test_a_child_names_its_parent(world: World) -> None:
    parent = await world.create("p")
    child = await world.create("c", parent_uid=parent.uid, user="bob")
    assert child.parent_uid == parent.uid
    assert child.owner is None


async def test_a_parent_must_be_there_active_and_of_the_same_app(world: World) -> None:
    parent = await world.create("p")
    elsewhere = await world.create("p", app="other")
    for uid in (elsewhere.uid, "018bcfe5-6800-7000-8000-000000000001"):
        with refused(Reason.PARENT_ENDED, parent_uid=uid):
            await world.create("c", parent_uid=uid)
    await world.end("p")
    with refused(Reason.PARENT_ENDED, parent_uid=parent.uid):
        await world.create("c", parent_uid=parent.uid)


async def test_an_overdue_parent_expires_before_the_child_is_refused(world: World) -> None:
    parent = await world.create("p", idle_timeout=SECOND)
    world.clock.step(2)
    with refused(Reason.PARENT_ENDED):
        await world.create("c", parent_uid=parent.uid)
    assert (await world.stored("p")).status is Status.EXPIRED


async def test_a_child_of_a_turn_ends_with_that_turn(world: World) -> None:
    parent = await world.create("p")
    for number, outcome in enumerate((TurnOutcome.OK, TurnOutcome.ERROR), start=1):
        token = await world.turn("p")
        owner = NewOwner(turn_token=token)
        child = await world.create(f"c-{number}", parent_uid=parent.uid, owner=owner)
        assert child.owner == Owner(turn_number=number)
        ended = await world.end_turn(token, outcome, "bad" if number == 2 else "")
        after = await world.get(child)
        assert after.status is (Status.COMPLETED if outcome is TurnOutcome.OK else Status.FAILED)
        assert after.end_cause is EndCause.OWNER_ENDED
        changes = await world.log(ended.revision - 1)
        assert [change.cause for change in changes] == [ChangeCause.ENDED, ChangeCause.TURN_ENDED]


async def test_a_child_of_a_turn_ends_when_the_turn_is_stolen_or_abandoned(world: World) -> None:
    parent = await world.create("p")
    owner = NewOwner(turn_token=await world.turn("p"))
    stolen = await world.create("stolen", parent_uid=parent.uid, owner=owner)
    owner = NewOwner(turn_token=await world.turn("p", on_conflict=OnConflict.STEAL))
    abandoned = await world.create("abandoned", parent_uid=parent.uid, owner=owner)
    assert (await world.get(stolen)).status is Status.FAILED
    assert (await world.get(abandoned)).status is Status.ACTIVE
    world.clock.step(31)
    assert (await world.get("p")).turn is None
    assert (await world.get(abandoned)).end_cause is EndCause.OWNER_ENDED
    assert (await world.get(abandoned)).status is Status.FAILED


async def test_only_children_of_the_very_turn_end_with_it(world: World) -> None:
    parent = await world.create("p")
    first = await world.turn("p")
    leased = await world.create("leased", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    plain = await world.create("plain", parent_uid=parent.uid)
    owned = await world.create("owned", parent_uid=parent.uid, owner=NewOwner(turn_token=first))
    below = await world.create("below", parent_uid=owned.uid, owner=NewOwner(lease=HOUR))
    await world.end_turn(first)
    assert (await world.get(owned)).end_cause is EndCause.OWNER_ENDED
    assert (await world.get(below)).end_cause is EndCause.PARENT_ENDED
    assert (await world.get(leased)).status is Status.ACTIVE
    assert (await world.get(plain)).status is Status.ACTIVE


async def test_an_owning_turn_must_be_the_parents_live_turn(world: World) -> None:
    parent, other = await world.create("p"), await world.create("o")
    token, foreign = await world.turn("p"), await world.turn("o")
    assert other.uid != parent.uid
    with refused(Reason.TURN_SUPERSEDED):
        await world.create("c", parent_uid=parent.uid, owner=NewOwner(turn_token=foreign))
    with refused(Reason.TURN_TOKEN_INVALID):
        await world.create("c", parent_uid=parent.uid, owner=NewOwner(turn_token=token + "A"))
    with refused(Reason.INVALID_FIELD, field="session.parent_uid"):
        await world.create("c", owner=NewOwner(turn_token=token))
    await world.end_turn(token)
    with refused(Reason.TURN_SUPERSEDED):
        await world.create("c", parent_uid=parent.uid, owner=NewOwner(turn_token=token))


async def test_a_leased_session_fails_when_its_owner_does_not_come_back(world: World) -> None:
    session = await world.create("e", owner=NewOwner(lease=10 * SECOND))
    assert session.owner == Owner(lease=10 * SECOND, lease_time=START + 10 * SECOND)
    world.clock.step(9)
    await world.touch("e")
    world.clock.step(9)
    assert (await world.get("e")).status is Status.ACTIVE
    await world.touch("e", 2 * SECOND)
    world.clock.step(2)
    lost = await world.get("e")
    assert (lost.status, lost.end_cause) == (Status.FAILED, EndCause.OWNER_LOST)


# --- many at once ------------------------------------------------------------------------------


async def test_a_batch_takes_one_revision_with_a_change_for_each(world: World) -> None:
    world.apps.add(APP)
    wanted = [NewSession(user=USER, session_id=f"s-{number}") for number in range(1_000)]
    answer = await world.sessions.create_many(world.call("BatchCreateSessions"), APP, wanted)
    assert [session.session_id for session in answer.outcome.sessions] == [
        new.session_id for new in wanted
    ]
    log = await world.log()
    assert {change.revision for change in log} == {answer.revision} == {1}
    assert [change.cause for change in log[1:]] == [ChangeCause.CREATED] * 1_000


async def test_one_bad_session_fails_the_whole_batch(world: World) -> None:
    await world.create("taken")
    for last in ("taken", "s-1"):
        wanted = [NewSession(user=USER, session_id=each) for each in ("s-1", "s-2", last)]
        with refused(Reason.SESSION_EXISTS, session_id=last):
            await world.sessions.create_many(world.call("BatchCreateSessions"), APP, wanted)
    assert [session.session_id for session in await world.every_session()] == ["taken"]


async def test_a_batch_below_many_overdue_parents_is_settled_first(world: World) -> None:
    parents = [await world.create(f"p-{n}", idle_timeout=HOUR) for n in range(40)]
    turns = [await world.turn(parent) for parent in parents]
    assert len(set(turns)) == 40
    world.clock.step(31)
    wanted = [NewSession(user=USER, parent_uid=parent.uid) for parent in parents]
    answer = await world.sessions.create_many(world.call("BatchCreateSessions"), APP, wanted)
    assert len(answer.outcome.sessions) == 40
    assert [(await world.stored(parent)).turn for parent in parents] == [None] * 40


async def test_of_many_creations_of_one_id_at_once_one_succeeds(world: World) -> None:
    answers = await asyncio.gather(
        *(world.make("s-1", if_exists=RETURN) for _ in range(50)),
        *(world.make("s-1") for _ in range(50)),
        return_exceptions=True,
    )
    created = [
        answer
        for answer in answers
        if not isinstance(answer, BaseException) and answer.outcome.created
    ]
    assert len(created) == 1
    assert await world.head() == 1


async def test_a_precondition_on_a_session_made_on_the_way_is_held_to_the_new_one(
    world: World,
) -> None:
    with refused(Reason.SEQUENCE_MISMATCH, last_sequence="0"):
        await world.append("s-1", create=True, condition=Precondition(last_sequence=3))
    assert await world.head() == 0
    begun = await world.begin("s-1", create=True, condition=Precondition(generation=1))
    assert begun.outcome.created
    assert [change.cause for change in await world.log()] == [
        ChangeCause.APP_CREATED,
        ChangeCause.CREATED,
        ChangeCause.TURN_BEGAN,
    ]
