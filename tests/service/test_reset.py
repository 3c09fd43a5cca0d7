"""ResetSession: what it clears, what it keeps, and whom it fences off."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import MetricsDelta, NewOwner, Precondition, ResetScope
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import (
    ChangeCause,
    EndCause,
    Metrics,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.service import units, work
from sojourn_server.service.answers import SessionContent
from sojourn_server.store.base import StoreDown, StoreFull
from tests.service.kit import World, message, patches, refused, tag


async def content(world: World, session_id: str = "s-1") -> SessionContent:
    found = (await world.read(session_id)).snapshot.content
    assert found is not None
    return found


async def full(world: World) -> Session:
    """A session with something of everything."""
    await world.create(
        "s-1",
        labels={"a": "1"},
        metadata={"m": "1"},
        state=patches(session={"s": "1", "t": "2"}, user={"u": "1"}, app={"p": "1"}),
    )
    await world.say("s-1", "m-1", "m-2", "m-3")
    await world.update("s-1", metrics=MetricsDelta(requests=3, counters={"tokens": 5}))
    await world.end_turn(await world.turn("s-1"), TurnOutcome.ERROR, "bad luck")
    return await world.get("s-1")


@pytest.mark.parametrize("scope", list(ResetScope))
async def test_a_reset_clears_its_scope_and_nothing_else(world: World, scope: ResetScope) -> None:
    before = await full(world)
    world.clock.step(9)
    answer = await world.reset("s-1", scope, reason="once more")
    after = answer.outcome.session
    gone = {
        "history": scope in (ResetScope.HISTORY, ResetScope.ALL),
        "state": scope in (ResetScope.STATE, ResetScope.ALL),
        "metrics": scope in (ResetScope.METRICS, ResetScope.ALL),
    }
    outcome = answer.outcome
    assert (outcome.messages, outcome.state_keys, outcome.metrics) == (
        3 if gone["history"] else 0,
        2 if gone["state"] else 0,
        gone["metrics"],
    )
    assert answer.scrubbed == world.store.scrubs
    assert (after.generation, after.version) == (2, before.version + 1)
    assert (after.uid, after.labels, after.last_sequence) == (before.uid, {"a": "1"}, 3)
    assert (after.reset_time, after.update_time) == (world.clock.time, world.clock.time)
    assert after.message_count == (0 if gone["history"] else 3)
    assert after.metrics == (Metrics() if gone["metrics"] else before.metrics)
    found = await content(world)
    assert found.metadata == {"m": "1"}
    assert found.session_state.values == ({} if gone["state"] else {"s": "1", "t": "2"})
    assert found.session_state.version == (2 if gone["state"] else 1)
    assert (found.user_state.values, found.app_state.values) == ({"u": "1"}, {"p": "1"})
    assert (found.turn_error, found.reset_reason) == ("", "once more")
    assert await world.sequences("s-1") == ([] if gone["history"] else [1, 2, 3])


async def test_an_empty_session_can_be_reset_and_takes_a_revision(world: World) -> None:
    await world.create("s-1")
    for generation in (2, 3):
        answer = await world.reset("s-1")
        assert answer.outcome.session.generation == generation
        assert answer.revision == generation
        assert (answer.outcome.messages, answer.outcome.state_keys) == (0, 0)


async def test_sequences_go_on_after_a_reset_and_ids_are_free_again(world: World) -> None:
    await world.create("s-1")
    assert await world.say("s-1", "m-1", "m-2") == (1, 2)
    await world.reset("s-1")
    assert await world.say("s-1", "m-1", "m-9") == (3, 4)


async def test_a_reset_fences_off_writes_of_the_generation_before(world: World) -> None:
    await world.create("s-1")
    old = Precondition(generation=1)
    await world.append("s-1", [message("m-1")], condition=old)
    await world.reset("s-1")
    for write in (
        lambda: world.append("s-1", [message("m-2")], condition=old),
        lambda: world.update("s-1", labels={"a": "1"}, condition=old),
        lambda: world.pop("s-1", condition=old),
        lambda: world.truncate("s-1", 0, condition=old),
        lambda: world.begin("s-1", condition=old),
        lambda: world.end("s-1", condition=old),
        lambda: world.reset("s-1", condition=old),
        lambda: world.delete("s-1", condition=old),
    ):
        with refused(Reason.GENERATION_CHANGED, generation="2"):
            await write()
    for wrong in (0, 3):
        with refused(Reason.GENERATION_CHANGED, generation="2"):
            await world.append("s-1", condition=Precondition(generation=wrong))


async def test_a_reset_revokes_the_live_turn_and_fences_its_token(world: World) -> None:
    parent = await world.create("s-1")
    token = await world.turn("s-1")
    child = await world.create(
        "c", parent_uid=parent.uid, owner=NewOwner(turn_token=token), idle_timeout=HOUR
    )
    answer = await world.reset("s-1", ResetScope.HISTORY)
    causes = [change.cause for change in await world.log(answer.revision - 1)]
    assert causes == [ChangeCause.ENDED, ChangeCause.TURN_ENDED, ChangeCause.RESET]
    assert (await world.get(child)).status is Status.FAILED
    assert (await world.get(child)).end_cause is EndCause.OWNER_ENDED
    with refused(Reason.TURN_SUPERSEDED, turn="1"):
        await world.append("s-1", [message()], condition=Precondition(turn_token=token))
    with refused(Reason.TURN_SUPERSEDED):
        await world.end_turn(token)
    newer = await world.turn("s-1")
    with refused(Reason.TURN_SUPERSEDED, turn="1", live_turn="2"):
        await world.renew(token)
    await world.end_turn(newer)


async def test_if_idle_refuses_a_live_turn_but_not_an_abandoned_one(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1", holder="pod-7")
    with refused(Reason.NOT_IDLE, holder="pod-7"):
        await world.reset("s-1", if_idle=True)
    assert (await world.get("s-1")).generation == 1
    world.clock.step(31)
    assert (await world.reset("s-1", if_idle=True)).outcome.session.generation == 2


async def test_a_reset_is_held_to_its_etag(world: World) -> None:
    await world.create("s-1")
    old = tag(await world.get("s-1"))
    await world.say("s-1", "m-1")
    with refused(Reason.ETAG_MISMATCH):
        await world.reset("s-1", condition=Precondition(etag=old))
    now = tag(await world.get("s-1"))
    await world.reset("s-1", condition=Precondition(etag=now))
    with refused(Reason.ETAG_MISMATCH):
        await world.reset("s-1", condition=Precondition(etag=now))


async def test_the_reason_of_a_reset_is_the_last_ones(world: World) -> None:
    await world.create("s-1")
    for reason in ("first, and rather a long one", "second", ""):
        await world.reset("s-1", reason=reason)
        assert (await content(world)).reset_reason == reason


async def test_what_a_pop_answered_is_not_read_again_after_a_reset_of_history(
    world: World,
) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2")
    first = await world.pop("s-1", 2, request_id="r-1")
    assert [each.body.content for each in first.outcome.messages] == [
        "text of m-1",
        "text of m-2",
    ]
    await world.reset("s-1", ResetScope.STATE)
    repeat = await world.pop("s-1", 2, request_id="r-1")
    assert repeat.outcome == first.outcome
    await world.reset("s-1", ResetScope.HISTORY)
    # Content of the same size takes the place of what was overwritten.
    await world.create("s-2")
    await world.say("s-2", "n-1", "n-2", "n-3", "n-4")
    repeat = await world.pop("s-1", 2, request_id="r-1")
    assert [each.message for each in repeat.outcome.messages] == [
        each.message for each in first.outcome.messages
    ]
    assert [each.body.content for each in repeat.outcome.messages] == [None, None]


async def test_a_large_history_is_out_of_sight_at_once_and_then_purged(world: World) -> None:
    await world.create("s-1")
    await world.fill("s-1", 1_200)
    answer = await world.reset("s-1", ResetScope.HISTORY)
    assert (answer.outcome.messages, answer.scrubbed) == (1_200, world.store.scrubs)
    assert answer.outcome.session.message_count == 0
    assert (await world.stored("s-1")).removed_ranges == ()
    assert await world.say("s-1", "m-1", "m-1200") == (1_201, 1_202)
    assert await world.store.purge(1)


async def test_a_purge_that_is_not_done_in_time_is_told_and_hides_what_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    await world.create("s-1")
    await world.fill("s-1", 1_200)
    answer = await world.reset("s-1", ResetScope.HISTORY, request_id="r-1")
    assert not answer.scrubbed
    assert await world.sequences("s-1") == []
    assert not (await world.reset("s-1", ResetScope.HISTORY, request_id="r-1")).scrubbed
    with refused(Reason.MESSAGE_NOT_FOUND, message_id="m-1200"):
        await world.history.get(world.call("GetMessage"), world.ref("s-1"), "m-1200", None)
    with refused(Reason.MESSAGE_NOT_FOUND, sequence="1200"):
        await world.history.get(world.call("GetMessage"), world.ref("s-1"), None, 1_200)
    assert await world.say("s-1", "m-1200", "m-1") == (1_201, 1_202)
    assert (await world.pop("s-1", 5)).outcome.session.message_count == 0
    assert await world.say("s-1", "m-1200") == (1_203,)
    await world.reset("s-1", ResetScope.HISTORY)
    await world.say("s-1", "m-1200")
    monkeypatch.undo()
    while not await world.store.purge(500):
        pass
    assert await world.sequences("s-1") == [1_204]
    again = await world.reset("s-1", ResetScope.HISTORY, request_id="r-1")
    assert again.scrubbed == world.store.scrubs
    assert (await world.get("s-1")).generation == 3


@pytest.mark.parametrize("failure", [StoreFull, StoreDown])
async def test_a_store_that_fails_while_it_purges_does_not_undo_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    await world.create("s-1")
    await world.fill("s-1", 600)

    async def fails(limit: int) -> bool:
        raise failure("no")

    monkeypatch.setattr(world.store, "purge", fails)
    answer = await world.reset("s-1")
    assert (answer.outcome.messages, answer.scrubbed) == (600, False)
    monkeypatch.undo()
    while not await world.store.purge(100):
        pass


async def test_truncations_and_resets_may_overlap_before_anything_is_purged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    monkeypatch.setattr(work, "UNIT_ROWS", 3)
    await world.create("s-1")
    await world.fill("s-1", 20)
    assert (await world.truncate("s-1", 15)).outcome.removed == 5
    assert (await world.truncate("s-1", 10)).outcome.removed == 5
    await world.fill("s-1", 10, 16)
    assert await world.sequences("s-1") == [*range(1, 11), *range(21, 31)]
    assert (await world.truncate("s-1", 25)).outcome.removed == 5
    assert await world.sequences("s-1") == [*range(1, 11), *range(21, 26)]
    assert (await world.truncate("s-1", 5)).outcome.removed == 10
    popped = (await world.pop("s-1", 2)).outcome.messages
    assert [each.message.sequence for each in popped] == [4, 5]
    page = await world.sequences("s-1", descending=True, page_size=1)
    assert page == [3, 2, 1]
    await world.fill("s-1", 8, 4)
    assert (await world.get("s-1")).message_count == 11
    assert (await world.reset("s-1")).outcome.messages == 11
    assert await world.sequences("s-1") == []
    await world.fill("s-1", 20)
    assert await world.sequences("s-1") == [*range(39, 59)]
    monkeypatch.undo()
    while not await world.store.purge(2):
        pass
    assert await world.sequences("s-1") == [*range(39, 59)]
    assert (await world.stored("s-1")).removed_ranges == ()


async def test_of_many_resets_with_one_etag_one_succeeds(world: World) -> None:
    await world.create("s-1")
    condition = Precondition(etag=tag(await world.get("s-1")))
    answers = await asyncio.gather(
        *(world.reset("s-1", condition=condition) for _ in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert (await world.get("s-1")).generation == 2


async def test_an_ended_session_is_not_reset(world: World) -> None:
    await world.create("s-1")
    await world.end("s-1")
    with refused(Reason.SESSION_ENDED):
        await world.reset("s-1")
