"""AppendMessages, PopMessages, TruncateMessages: how a history grows and shrinks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR
from sojourn_server.domain.commands import (
    MetricsDelta,
    Precondition,
    StatePatch,
    StatePatches,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.limits import MIB
from sojourn_server.domain.model import ChangeCause
from tests.service.kit import KEPT, START, World, message, patches, refused, twenty

# --- append ------------------------------------------------------------------------------------


async def test_messages_get_sequences_in_their_order_and_are_read_back_exactly(
    world: World,
) -> None:
    await world.create("s-1")
    world.clock.step(5)
    written = [
        message("m-1", None),
        message("m-2", ""),
        message("m-3", "text é", role="tool", event_time=START - 7),
        message("", None, payload=b"\x00\xff", content_type="image/png"),
        message("m-5", "x", metadata={"k": "1.0", "é": "null"}, payload=b"{}"),
    ]
    answer = await world.append("s-1", written)
    assert answer.outcome.sequences == (1, 2, 3, 4, 5)
    assert answer.outcome.message_ids[:3] == ("m-1", "m-2", "m-3")
    assert len(answer.outcome.message_ids[3]) == 36
    page = await world.messages("s-1")
    for new, shot in zip(written, page.messages, strict=True):
        assert (shot.body.content, shot.body.payload, shot.body.metadata) == (
            new.content,
            new.payload,
            new.metadata,
        )
        assert (shot.message.role, shot.message.content_type, shot.message.event_time) == (
            new.role,
            new.content_type,
            new.event_time,
        )
        assert shot.message.create_time == world.clock.time
    session = await world.get("s-1")
    sizes = [0, 0, 6 + 1, 2, 1 + 2 + (1 + 3) + (2 + 4)]
    assert [shot.message.size for shot in page.messages] == sizes
    assert (session.message_count, session.message_bytes) == (5, sum(sizes))
    assert (session.last_sequence, session.last_event_time) == (5, None)
    assert (session.version, session.activity_time) == (2, world.clock.time)


async def test_an_append_is_one_unit_with_state_counters_and_creation(world: World) -> None:
    answer = await world.append(
        "s-1",
        [message("m-1"), message("m-2")],
        state=patches(session={"s": "1"}, user={"u": "1"}, app={"a": "1"}),
        metrics=MetricsDelta(requests=2, counters={"tokens": 9}),
        create=True,
    )
    assert (answer.outcome.created, answer.outcome.changed, answer.revision) == (True, True, 1)
    assert answer.outcome.session.metrics.counters == {"tokens": 9}
    versions = answer.outcome.versions
    assert (versions.session, versions.user, versions.app) == (1, 1, 1)
    log = await world.log()
    assert {change.revision for change in log} == {1}
    assert [change.cause for change in log if change.uid] == [
        ChangeCause.CREATED,
        ChangeCause.MESSAGES_APPENDED,
        ChangeCause.STATE_CHANGED,
    ]
    appended = log[[change.cause for change in log].index(ChangeCause.MESSAGES_APPENDED)]
    assert (appended.detail.first_sequence, appended.detail.last_sequence) == (1, 2)


async def test_an_append_that_fails_in_any_part_does_nothing_at_all(world: World) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1")
    before, head = await world.stored("s-1"), await world.head()
    late = StatePatches(app=StatePatch(set={"a": "1"}, expected_version=5))
    for reason, how in (
        (Reason.STATE_VERSION_MISMATCH, {"state": late}),
        (Reason.INVALID_FIELD, {"metrics": MetricsDelta(counters={"n": 2**63 - 1, "m": 2**63})}),
        (
            Reason.CONTENT_TOO_LARGE,
            {"state": patches(session={"a": '"' + "x" * 256 * 1024 + '"'})},
        ),
    ):
        with refused(reason):
            await world.append("s-1", [message("m-2")], **how)
    with refused(Reason.MESSAGE_EXISTS, message_id="m-1"):
        await world.append(
            "s-1", [message("m-2"), message("m-1", "other")], state=patches(session={"s": "1"})
        )
    assert await world.stored("s-1") == before
    assert (await world.head(), await world.sequences("s-1")) == (head, [1])


async def test_a_known_message_with_equal_content_is_passed_over(world: World) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2")
    world.clock.step(9)
    answer = await world.append(
        "s-1", [message("m-2", "text of m-2"), message("m-3"), message("m-1", "text of m-1")]
    )
    assert answer.outcome.sequences == (2, 3, 1)
    assert answer.outcome.changed
    again = await world.append("s-1", [message("m-3"), message("m-2", "text of m-2")])
    assert (again.outcome.sequences, again.outcome.changed) == ((3, 2), False)
    assert again.revision == answer.revision == await world.head()
    assert (await world.get("s-1")).message_count == 3
    assert (await world.stored("s-1")).activity_time == world.clock.time


@pytest.mark.parametrize(
    "other",
    [
        message("m-1", "other"),
        message("m-1", None),
        message("m-1", "text", role="tool"),
        message("m-1", "text", payload=b"x"),
        message("m-1", "text", content_type="text/plain"),
        message("m-1", "text", metadata={"a": "1"}),
        message("m-1", "text", event_time=1),
    ],
)
async def test_a_known_message_with_any_other_content_is_refused(world: World, other: Any) -> None:
    await world.create("s-1")
    await world.append("s-1", [message("m-1")])
    with refused(Reason.MESSAGE_EXISTS, message_id="m-1"):
        await world.append("s-1", [message("m-2"), other])
    with refused(Reason.MESSAGE_EXISTS, message_id="m-1"):
        await world.append("s-1", [other, message("m-3")])
    await world.create("s-2")
    with refused(Reason.MESSAGE_EXISTS, message_id="m-1"):
        await world.append("s-2", [message("m-1"), other])


async def test_one_message_twice_in_a_request_is_one_message(world: World) -> None:
    await world.create("s-1")
    answer = await world.append("s-1", [message("m-1"), message("m-2"), message("m-1")])
    assert answer.outcome.sequences == (1, 2, 1)
    assert (await world.get("s-1")).message_count == 2


async def test_counters_that_move_nothing_and_known_messages_take_no_revision(
    world: World,
) -> None:
    await world.create("s-1")
    await world.append("s-1", [message("m-1")], metrics=MetricsDelta(counters={"n": 5}))
    head = await world.head()
    answer = await world.append("s-1", [message("m-1")], metrics=MetricsDelta(counters={"n": 0}))
    assert (answer.outcome.changed, answer.revision, await world.head()) == (False, head, head)


async def test_of_many_appends_of_one_message_at_once_one_is_kept(world: World) -> None:
    await world.create("s-1")
    answers = await asyncio.gather(*(world.append("s-1", [message("m-1")]) for _ in range(40)))
    assert {answer.outcome.sequences for answer in answers} == {(1,)}
    assert sum(answer.outcome.changed for answer in answers) == 1


async def test_concurrent_appends_take_each_sequence_once(world: World) -> None:
    await world.create("s-1")
    answers = await asyncio.gather(
        *(world.append("s-1", [message(), message()]) for _ in range(100))
    )
    given = [sequence for answer in answers for sequence in answer.outcome.sequences]
    assert sorted(given) == list(range(1, 201))
    assert all(second == first + 1 for first, second in zip(given[::2], given[1::2], strict=True))


async def test_sequences_are_never_used_again_whatever_removed_them(world: World) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2", "m-3")
    await world.pop("s-1", 1)
    assert await world.say("s-1", "m-3") == (4,)
    await world.truncate("s-1", 1)
    assert await world.say("s-1", "m-2", "m-3") == (5, 6)
    await world.reset("s-1")
    assert await world.say("s-1", "m-1") == (7,)
    await world.truncate("s-1", 0)
    assert await world.say("s-1", "m-1") == (8,)
    assert await world.sequences("s-1") == [8]


async def test_an_append_may_expect_the_last_sequence(world: World) -> None:
    await world.create("s-1")
    await world.append("s-1", [message()], condition=Precondition(last_sequence=0))
    with refused(Reason.SEQUENCE_MISMATCH, last_sequence="1"):
        await world.append("s-1", [message()], condition=Precondition(last_sequence=0))
    await world.pop("s-1")
    await world.append("s-1", [message()], condition=Precondition(last_sequence=1))


async def test_bodies_have_their_limits(world: World) -> None:
    await world.create("s-1")
    await world.append("s-1", [message("m-1", "x" * MIB)])
    for too_large in (
        message("m-2", "x" * (MIB + 1)),
        message("m-2", "x" * MIB, payload=b"x"),
        message("m-2", "é" * (MIB // 2), metadata={"a": "1"}),
    ):
        with refused(Reason.CONTENT_TOO_LARGE, field="messages[1]", limit_bytes=str(MIB)):
            await world.append("s-1", [message("m-3"), too_large])
    with refused(Reason.INVALID_FIELD, field="messages[0].content"):
        await world.append("s-1", [message("m-2", "a\0b")])
    with refused(Reason.INVALID_FIELD, field="messages[0].metadata['a']"):
        await world.append("s-1", [message("m-2", metadata={"a": "NaN"})])
    assert await world.sequences("s-1") == [1]


# --- pop and truncate --------------------------------------------------------------------------


async def test_a_pop_takes_the_newest_and_answers_them_oldest_first(world: World) -> None:
    await twenty(world)
    world.clock.step(3)
    answer = await world.pop("s-1", 3)
    assert [shot.message.sequence for shot in answer.outcome.messages] == [18, 19, 20]
    assert [shot.body.content for shot in answer.outcome.messages] == [
        "text 18",
        "text 19",
        "text 20",
    ]
    after = answer.outcome.session
    assert (after.message_count, after.last_sequence, after.last_event_time) == (13, 20, 17)
    assert after.activity_time == world.clock.time
    [change] = await world.log(answer.revision - 1)
    assert change.cause is ChangeCause.MESSAGES_REMOVED
    assert (change.detail.first_sequence, change.detail.last_sequence) == (18, 20)
    everything = await world.pop("s-1", 1_000)
    assert [shot.message.sequence for shot in everything.outcome.messages] == KEPT[:13]
    assert (await world.get("s-1")).message_bytes == 0
    assert (await world.get("s-1")).last_event_time is None


async def test_a_pop_of_an_empty_history_changes_nothing(world: World) -> None:
    await world.create("s-1")
    answer = await world.pop("s-1", 3)
    assert (answer.outcome.messages, answer.outcome.changed, answer.revision) == ((), False, 1)


async def test_each_message_is_popped_by_one_caller_only(world: World) -> None:
    await world.create("s-1")
    await world.fill("s-1", 100)
    answers = await asyncio.gather(*(world.pop("s-1", 3) for _ in range(40)))
    popped = [shot.message.sequence for each in answers for shot in each.outcome.messages]
    assert sorted(popped) == list(range(1, 101))
    assert (await world.get("s-1")).message_count == 0


async def test_a_repeated_pop_reads_the_same_messages_again_and_pops_no_other(
    world: World,
) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2", "m-3")
    first = await world.pop("s-1", 2, request_id="r-1")
    await world.say("s-1", "m-4", "m-5")
    for _ in range(2):
        again = await world.pop("s-1", 2, request_id="r-1")
        assert (again.outcome, again.revision) == (first.outcome, first.revision)
    assert await world.sequences("s-1") == [1, 4, 5]


async def test_repeats_of_one_pop_at_once_all_read_the_same(world: World) -> None:
    await world.create("s-1")
    await world.fill("s-1", 50)
    await world.say("s-1", "n-1", "n-2")
    answers = await asyncio.gather(
        *(world.pop("s-1", 2, request_id=f"r-{number % 5}") for number in range(50))
    )
    popped: dict[int, set[Any]] = {}
    for number, answer in enumerate(answers):
        shots = answer.outcome.messages
        popped.setdefault(number % 5, set()).add(
            tuple((shot.message.sequence, shot.body.content) for shot in shots)
        )
    assert all(len(found) == 1 for found in popped.values())
    assert (await world.get("s-1")).message_count == 42


async def test_a_pop_that_was_taken_back_answers_nothing_of_what_it_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit may run more than once, and find at the end that it repeats another."""
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2")
    apply = world.store.apply
    first = await world.pop("s-1", request_id="other")
    call_once = world.pop("s-1", request_id="r-1")

    async def twice(app: str, actor: str, unit: Any, *more: Any) -> Any:
        class TakenBack(Exception):
            pass

        async def fails(tx: Any) -> None:
            await unit(tx)
            raise TakenBack

        monkeypatch.undo()
        with pytest.raises(TakenBack):
            await apply(app, actor, fails)
        await world.say("s-1", "m-3")
        await world.pop("s-1", request_id="r-1")  # the same request, by way of another server
        return await apply(app, actor, unit, *more)

    monkeypatch.setattr(world.store, "apply", twice)
    answer = await call_once
    assert [shot.body.content for shot in first.outcome.messages] == ["text of m-2"]
    assert [shot.body.content for shot in answer.outcome.messages] == ["text of m-3"]


async def test_what_a_pop_answered_is_gone_when_the_session_is_deleted(world: World) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1")
    await world.pop("s-1", request_id="r-1")
    await world.delete("s-1")
    await world.create("s-1")
    await world.say("s-1", "m-1")
    again = await world.pop("s-1", request_id="r-1")
    assert [shot.body.content for shot in again.outcome.messages] == [None]


async def test_a_truncation_keeps_up_to_its_sequence(world: World) -> None:
    await twenty(world)
    answer = await world.truncate("s-1", 10)
    assert (answer.outcome.removed, answer.outcome.changed) == (10, True)
    assert await world.sequences("s-1") == [1, 2, 3, 4, 9, 10]
    after = await world.get("s-1")
    assert (after.message_count, after.last_sequence, after.last_event_time) == (6, 20, None)
    for keep in (10, 20, 99):
        again = await world.truncate("s-1", keep)
        assert (again.outcome.removed, again.outcome.changed) == (0, False)
        assert again.revision == answer.revision
    assert (await world.truncate("s-1", 0)).outcome.removed == 6
    assert (await world.get("s-1")).message_bytes == 0


async def test_a_large_truncation_is_one_change_and_then_purged(world: World) -> None:
    await world.create("s-1")
    await world.append("s-1", [message(f"m-{n}", "body") for n in range(1, 1_000)])
    answer = await world.truncate("s-1", 10)
    assert (answer.outcome.removed, answer.scrubbed) == (989, world.store.scrubs)
    assert len(await world.log(answer.revision - 1)) == 1
    assert await world.sequences("s-1") == list(range(1, 11))
    assert (await world.stored("s-1")).removed_ranges == ()
    session = await world.get("s-1")
    assert (session.message_count, session.message_bytes) == (10, 40)


async def test_any_mix_of_writes_leaves_what_a_plain_list_would_hold(world: World) -> None:
    """A model of one history: appends, pops, truncations, resets, in any order."""
    chance = random.Random(7)
    for round_ in range(8):
        name = f"s-{round_}"
        await world.create(name, idle_timeout=HOUR)
        kept: list[tuple[int, str]] = []
        last = 0
        for step in range(25):
            match chance.choice(["append", "append", "append", "pop", "truncate", "reset"]):
                case "append":
                    ids = [f"m-{step}-{n}" for n in range(chance.randint(1, 5))]
                    kept += [(last + n, each) for n, each in enumerate(ids, start=1)]
                    last += len(ids)
                    await world.say(name, *ids)
                case "pop":
                    count = chance.randint(1, 4)
                    answer = await world.pop(name, count, request_id=chance.choice(["", f"{step}"]))
                    popped = [
                        (shot.message.sequence, shot.message.message_id)
                        for shot in answer.outcome.messages
                    ]
                    assert popped == kept[-count:]
                    del kept[-count:]
                case "truncate":
                    keep = chance.randint(0, last + 1)
                    await world.truncate(name, keep)
                    kept = [each for each in kept if each[0] <= keep]
                case "reset":
                    await world.reset(name)
                    kept = []
            session = await world.get(name)
            assert (session.message_count, session.last_sequence) == (len(kept), last)
            assert session.message_bytes == sum(len(f"text of {each}") for _, each in kept)
        assert await world.sequences(name) == [sequence for sequence, _ in kept]


async def test_a_nul_in_content_is_refused_also_without_the_protos_rules(world: World) -> None:
    await world.create("s")
    with refused(Reason.INVALID_FIELD, field="messages[1].content"):
        await world.append("s", [message("a"), message("b", "a\0b")])
    assert await world.sequences("s") == []
