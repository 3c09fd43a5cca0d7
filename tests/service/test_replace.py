"""ReplaceMessages: a suffix for another one, all of it or nothing, also in several parts."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import Precondition
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause
from sojourn_server.service import copying, replacing, staging
from tests.service.kit import World, message, refused
from tests.service.test_fork import history, nothing_left, purged, stagings

ONE: dict[str, Any] = {}
STAGED: dict[str, Any] = {"staging_id": "x"}
"""Both ways must come to the same."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH_ROWS", 3)
    monkeypatch.setattr(replacing, "PAUSE", 0.0)


async def texts(world: World) -> list[tuple[int, str]]:
    return [(each[0].sequence, each[0].message_id) for each in await history(world, "s-1")]


async def ten(world: World, count: int = 10) -> None:
    await world.create("s-1")
    await world.say("s-1", *(f"m-{n}" for n in range(1, count + 1)))


@pytest.mark.parametrize("how", [ONE, STAGED])
@pytest.mark.parametrize("keep", [0, 1, 7, 10, 99])
@pytest.mark.parametrize("new", [0, 1, 5])
async def test_a_suffix_is_replaced_by_messages_above_the_highest_sequence(
    world: World, how: dict[str, Any], keep: int, new: int
) -> None:
    await ten(world)
    before = await world.get("s-1")
    head = await world.head()
    world.clock.step(5)
    given = [message(f"n-{n}", f"new {n}", event_time=100 + n) for n in range(1, new + 1)]
    answer = await world.replace("s-1", keep, given, **how)
    kept = min(keep, 10)
    outcome = answer.outcome
    assert outcome.removed == 10 - kept
    assert outcome.sequences == tuple(range(11, 11 + new))
    assert outcome.message_ids == tuple(f"n-{n}" for n in range(1, new + 1))
    assert outcome.changed is bool(new or kept < 10)
    assert answer.revision == head + outcome.changed, "one revision, or none"
    assert await texts(world) == [
        *((n, f"m-{n}") for n in range(1, kept + 1)),
        *((10 + n, f"n-{n}") for n in range(1, new + 1)),
    ]
    after = await world.get("s-1")
    assert (after.message_count, after.last_sequence) == (kept + new, 10 + new)
    sizes = [shot[0].size for shot in await history(world, "s-1")]
    assert after.message_bytes == sum(sizes)
    assert after.last_event_time == (100 + new if new else None)
    causes = [change.cause for change in await world.log() if change.revision > head]
    assert causes == [ChangeCause.MESSAGES_REMOVED] * (kept < 10) + [
        ChangeCause.MESSAGES_APPENDED
    ] * bool(new)
    assert after.generation == before.generation
    assert await world.say("s-1", "next") == (11 + new,)
    await purged(world)
    await nothing_left(world)


@pytest.mark.parametrize("how", [ONE, STAGED])
async def test_ids_of_replaced_messages_are_free_and_those_of_others_are_not(
    world: World, how: dict[str, Any]
) -> None:
    await ten(world)
    with refused(Reason.MESSAGE_EXISTS, message_id="m-2"):
        await world.replace("s-1", 3, [message("new"), message("m-2", "text of m-2")], **how)
    with refused(Reason.MESSAGE_EXISTS, message_id="twice"):
        await world.replace("s-1", 3, [message("twice"), message("twice")], **how)
    assert len(await texts(world)) == 10
    await world.replace("s-1", 3, [message("m-9", "other"), message("m-4")], **how)
    assert (await texts(world))[3:] == [(11, "m-9"), (12, "m-4")]
    await purged(world)
    await nothing_left(world)


@pytest.mark.parametrize("how", [ONE, STAGED])
async def test_a_replacement_holds_to_its_precondition(world: World, how: dict[str, Any]) -> None:
    await ten(world)
    with refused(Reason.SEQUENCE_MISMATCH, last_sequence="10"):
        await world.replace("s-1", 3, [message()], condition=Precondition(last_sequence=9), **how)
    with refused(Reason.GENERATION_CHANGED):
        await world.replace("s-1", 3, [message()], condition=Precondition(generation=3), **how)
    await world.end("s-1")
    with refused(Reason.SESSION_ENDED):
        await world.replace("s-1", 3, [message()], **how)
    assert len(await texts(world)) == 10


async def parts(world: World, keep: int, count: int, **more: Any) -> list[tuple[int, ...]]:
    """Send parts of two messages each, the last one with `more_follow` off."""
    found = []
    for part in range(count):
        given = [message(f"p-{part}-{n}", f"text {part} {n}") for n in (1, 2)]
        answer = await world.replace(
            "s-1",
            keep,
            given,
            staging_id="x",
            part=part,
            more_follow=part < count - 1,
            request_id=f"r-{part}",
            payload=f"p-{part}".encode(),
            **more,
        )
        found.append(answer.outcome.sequences)
    return found


@pytest.mark.parametrize("keep", [0, 7])
async def test_parts_are_put_together_by_the_last_one(world: World, keep: int) -> None:
    await ten(world)
    head = await world.head()
    for part in range(2):
        given = [message(f"p-{part}-{n}") for n in (1, 2)]
        answer = await world.replace(
            "s-1", keep, given, staging_id="x", part=part, more_follow=True
        )
        assert answer.outcome.changed is False
        assert answer.revision == head, "nothing of it is seen"
        assert len(await texts(world)) == 10
    answer = await world.replace("s-1", keep, [message("end")], staging_id="x", part=2)
    assert answer.outcome.changed
    assert answer.outcome.removed == 10 - keep
    assert answer.outcome.sequences == (15,)
    names = [name for _, name in await texts(world)]
    assert names[keep:] == ["p-0-1", "p-0-2", "p-1-1", "p-1-2", "end"]
    assert await world.head() == head + 1
    await purged(world)
    await nothing_left(world)


async def test_every_part_can_be_repeated_with_its_request_id(world: World) -> None:
    await ten(world)
    first = await parts(world, 4, 3)
    assert first == [(11, 12), (13, 14), (15, 16)]
    assert await parts(world, 4, 3) == first
    assert len(await texts(world)) == 10
    await purged(world)
    await nothing_left(world)


async def test_a_last_part_that_was_cut_off_in_the_middle_goes_on_when_it_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ten(world)
    switch = replacing._Parts.switch

    async def die(*_: object) -> object:
        raise RuntimeError("the server is gone")

    monkeypatch.setattr(replacing._Parts, "switch", die)
    with pytest.raises(RuntimeError):
        await parts(world, 7, 3)
    assert len(await texts(world)) == 10
    monkeypatch.setattr(replacing._Parts, "switch", switch)
    assert (await parts(world, 7, 3))[-1] == (15, 16)
    assert len(await texts(world)) == 13
    await purged(world)
    await nothing_left(world)


async def test_parts_that_do_not_fit_are_refused(world: World) -> None:
    await ten(world)
    with refused(Reason.STAGING_LOST, part="0"):
        await world.replace("s-1", 3, [message()], staging_id="x", part=1)
    await world.replace("s-1", 3, [message()], staging_id="x", more_follow=True)
    with refused(Reason.STAGING_LOST, part="1"):
        await world.replace("s-1", 3, [message()], staging_id="x", part=2)
    with refused(Reason.INVALID_FIELD, field="keep_through_sequence"):
        await world.replace("s-1", 4, [message()], staging_id="x", part=1)
    with refused(Reason.INVALID_FIELD, field="staging_id"):
        await world.replace("s-1", 3, [message()], more_follow=True)
    with refused(Reason.INVALID_FIELD, field="part"):
        await world.replace("s-1", 3, [message()], part=1)
    with refused(Reason.STAGING_LOST):
        await world.replace("s-1", 3, [message()], staging_id="y", part=1)
    answer = await world.replace("s-1", 3, [message("begun anew")], staging_id="x")
    assert answer.outcome.sequences == (11,)
    assert len(await texts(world)) == 4
    await purged(world)
    await nothing_left(world)


@pytest.mark.parametrize("meanwhile", ["append", "pop", "reset", "delete"])
async def test_what_changes_the_history_meanwhile_is_not_lost(world: World, meanwhile: str) -> None:
    await ten(world)
    await world.replace("s-1", 3, [message("new")], staging_id="x", more_follow=True)
    reason = Reason.SEQUENCE_MISMATCH
    match meanwhile:
        case "append":
            await world.say("s-1", "late")
        case "pop":
            await world.pop("s-1", 1)
        case "reset":
            await world.reset("s-1")
            reason = Reason.STAGING_LOST
        case "delete":
            await world.delete("s-1")
            reason = Reason.SESSION_NOT_FOUND
    with refused(reason):
        await world.replace("s-1", 3, [message()], staging_id="x", part=1)
    if meanwhile in ("append", "pop"):
        assert (await texts(world))[-1] == {"append": (11, "late"), "pop": (9, "m-9")}[meanwhile]
        world.clock.step(2 * 3600)
        await staging.remove_expired(world.units)
    await purged(world)
    await nothing_left(world)


async def test_what_is_staged_and_not_used_is_erased_after_an_hour(world: World) -> None:
    await world.create("s-1", idle_timeout=9 * HOUR)
    await world.replace("s-1", 0, [message("secret")], staging_id="x", more_follow=True)
    world.clock.step(3_500)
    await world.replace("s-1", 0, [message()], staging_id="x", part=1, more_follow=True)
    world.clock.step(3_500)
    assert await staging.remove_expired(world.units) == 0, "each part waits an hour"
    world.clock.step(101)
    assert await staging.remove_expired(world.units) == 1
    assert await stagings(world) == 0
    await purged(world)
    with refused(Reason.STAGING_LOST, part="0"):
        await world.replace("s-1", 0, [message()], staging_id="x", part=2)


async def test_a_session_goes_on_under_its_new_history(world: World) -> None:
    """Append, pop, truncate, fork, reset and delete: all after a switch, and after another."""
    await ten(world)
    for round_ in range(2):
        await world.replace("s-1", 2, [message(f"a-{round_}-{n}") for n in range(9)], **STAGED)
        await world.say("s-1", f"b-{round_}")
        assert len((await world.pop("s-1", 2)).outcome.messages) == 2
        await world.truncate("s-1", 14 + 10 * round_)
    copy = (await world.fork("s-1")).outcome.session
    assert await history(world, copy) == await history(world, "s-1")
    assert (await world.reset("s-1")).outcome.messages == (await world.get(copy)).message_count
    await world.say("s-1", "anew")
    assert len(await texts(world)) == 1
    await world.delete("s-1")
    await purged(world)
    await nothing_left(world)


async def test_thousands_of_messages_are_replaced_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH_ROWS", 200)
    await world.create("s-1")
    await world.fill("s-1", 1_200)
    for part in range(3):
        await world.replace(
            "s-1",
            700,
            [message(f"n-{part}-{n}", None) for n in range(1_000)],
            staging_id="big",
            part=part,
            more_follow=part < 2,
        )
    session = await world.get("s-1")
    assert (session.message_count, session.last_sequence) == (3_700, 4_200)
    await purged(world)
    await nothing_left(world)
