"""ForkSession, and the backup that ResetSession keeps: copies that are all there, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import MetricsDelta, NewOwner, Precondition, ResetScope
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause, Lineage, Message, Metrics, Session, Status
from sojourn_server.domain.tokens import etag
from sojourn_server.service import copying, staging
from sojourn_server.service.copying import stage
from sojourn_server.store.base import ReadTx, StoreFull
from tests.service.kit import USER, World, message, patches, refused

FEW = 5


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of more than five messages are staged, in batches of three."""
    monkeypatch.setattr(copying, "UNIT_ROWS", FEW)
    monkeypatch.setattr(copying, "BATCH_ROWS", 3)
    monkeypatch.setattr(copying, "_PAUSE", 0.0)


async def furnished(world: World, count: int = 3) -> Session:
    """A session with something of everything, and so many messages."""
    await world.create(
        "s-1",
        labels={"a": "1"},
        metadata={"m": '"ü"'},
        state=patches(session={"s": "1"}, user={"u": "1"}, app={"p": "1"}),
        idle_timeout=7 * HOUR,
        max_lifetime=70 * HOUR,
    )
    texts = [
        message(f"m-{n}", f"text {n}", event_time=n, payload=b"\0\xff", metadata={"k": "[1]"})
        for n in range(1, count + 1)
    ]
    await world.append("s-1", texts)
    await world.update("s-1", metrics=MetricsDelta(requests=3, counters={"tokens": 5}))
    return await world.get("s-1")


async def history(world: World, session: str | Session) -> list[tuple[Message, object]]:
    """All messages, without the store's own numbers, and their bodies."""
    page = await world.messages(session)
    return [(msgspec.structs.replace(shot.message, body=0), shot.body) for shot in page.messages]


async def stagings(world: World) -> int:
    async def look(tx: ReadTx) -> int:
        return len(await tx.stagings_due(tx.now + 1_000 * HOUR, 99))

    return await world.store.read(look)


async def nothing_left(world: World) -> None:
    """Nothing staged is left, and what was staged is erased: `world` checks the content."""
    assert await stagings(world) == 0
    while not await world.store.purge(500):
        if not world.store.scrubs:
            break


async def purged(world: World) -> None:
    for _ in range(50):
        if await world.store.purge(500):
            return


@pytest.mark.parametrize("count", [0, 3, 17])
@pytest.mark.usefixtures("small_units")
async def test_a_fork_is_the_session_as_it_is_now_with_its_own_clocks_and_counters(
    world: World, count: int
) -> None:
    source = await furnished(world, count)
    world.clock.step(60)
    answer = await world.fork("s-1", "copy")
    copy = answer.outcome.session
    assert (copy.app, copy.user, copy.session_id) == (source.app, source.user, "copy")
    assert copy.uid != source.uid
    assert (copy.status, copy.generation, copy.version) == (Status.ACTIVE, 1, 1)
    assert copy.labels == source.labels
    assert (copy.idle_timeout, copy.max_lifetime) == (7 * HOUR, 70 * HOUR)
    now = world.clock.now()
    assert {copy.create_time, copy.update_time, copy.activity_time} == {now}
    assert copy.metrics == Metrics()
    assert copy.forked_from == Lineage(uid=source.uid, through_sequence=count)
    assert (copy.message_count, copy.message_bytes) == (count, source.message_bytes)
    assert (copy.last_sequence, copy.last_event_time) == (count, count or None)
    assert await history(world, "copy") == await history(world, "s-1")
    ours = (await world.read("copy")).snapshot.content
    theirs = (await world.read("s-1")).snapshot.content
    assert ours == theirs
    assert copy.state_version == source.state_version
    change = (await world.log())[-1]
    assert (change.cause, change.revision, change.uid) == (
        ChangeCause.CREATED,
        answer.revision,
        copy.uid,
    )
    assert await world.get("s-1") == source
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("through", [0, 2, 9, 12, 99])
async def test_a_fork_goes_through_a_sequence_and_on_from_there(world: World, through: int) -> None:
    source = await furnished(world, 12)
    copy = (await world.fork("s-1", "copy", through)).outcome.session
    kept = min(through, 12)
    assert copy.forked_from == Lineage(uid=source.uid, through_sequence=kept)
    assert await history(world, "copy") == (await history(world, "s-1"))[:kept]
    assert copy.message_count == copy.last_sequence == kept
    assert copy.last_event_time == (kept or None)
    assert await world.say("copy", "next") == (kept + 1,)
    assert (await world.get("s-1")).last_sequence == 12


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("count", [3, 17])
async def test_erasing_the_source_does_not_touch_the_copy_and_the_other_way_round(
    world: World, count: int
) -> None:
    await furnished(world, count)
    await world.fork("s-1", "copy")
    before = await history(world, "copy")
    await world.reset("s-1")
    await world.delete("s-1")
    assert await history(world, "copy") == before
    content = (await world.read("copy")).snapshot.content
    assert content is not None
    assert content.metadata == {"m": '"ü"'}
    again = (await world.fork("copy", "copy-2")).outcome.session
    assert again.forked_from is not None
    assert again.forked_from.uid == (await world.get("copy")).uid
    await world.truncate("copy", 2)
    await world.delete("copy")
    assert await history(world, "copy-2") == before
    await purged(world)


async def test_an_ended_session_can_be_forked_and_a_live_turn_is_not_copied(world: World) -> None:
    await furnished(world)
    parent = await world.create("parent")
    await world.begin("s-1")
    with_turn = (await world.fork("s-1", "a")).outcome.session
    assert with_turn.turn is None
    assert with_turn.turns_begun == 0
    assert (await world.get("s-1")).turn is not None
    await world.end("s-1", Status.FAILED, reason="why", result="1")
    rewound = (await world.fork("s-1", "b", 1)).outcome.session
    assert (rewound.status, rewound.end_time, rewound.end_cause) == (Status.ACTIVE, 0, None)
    content = (await world.read("b")).snapshot.content
    assert content is not None
    assert content.end_note.reason == ""
    child = await world.create("child", parent_uid=parent.uid, owner=NewOwner(lease=60 * SECOND))
    root = (await world.fork(child)).outcome.session
    assert (root.parent_uid, root.owner) == ("", None)
    assert root.session_id == root.uid


async def test_a_fork_holds_to_its_precondition_and_to_its_id(world: World) -> None:
    source = await furnished(world)
    with refused(Reason.ETAG_MISMATCH):
        await world.fork("s-1", condition=Precondition(etag=etag(source.uid, 99)))
    with refused(Reason.GENERATION_CHANGED):
        await world.fork("s-1", condition=Precondition(generation=2))
    with refused(Reason.SEQUENCE_MISMATCH):
        await world.fork("s-1", condition=Precondition(last_sequence=1))
    with refused(Reason.SESSION_EXISTS, session_id="s-1"):
        await world.fork("s-1", "s-1")
    with refused(Reason.SESSION_NOT_FOUND):
        await world.fork("nobody")
    assert len(await world.every_session()) == 1


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("count", [3, 17])
async def test_a_repeated_fork_answers_the_first_one(world: World, count: int) -> None:
    await furnished(world, count)
    first = await world.fork("s-1", request_id="r-1")
    again = await world.fork("s-1", request_id="r-1")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
    assert len(await world.every_session()) == 2
    with refused(Reason.REQUEST_ID_REUSED):
        await world.fork("s-1", request_id="r-1", payload=b"other")
    twice = await asyncio.gather(*(world.fork("s-1", request_id="r-2") for _ in range(3)))
    assert len({each.outcome.session.uid for each in twice}) == 1
    await nothing_left(world)
    await purged(world)


def between_batches(
    monkeypatch: pytest.MonkeyPatch, world: World, act: Callable[[int], Awaitable[object]]
) -> None:
    """Do something whenever a batch has been staged; `act` is told how many were."""
    count = 0
    apply = world.store.apply

    async def applied(app: str, actor: str, unit: object, *rest: object) -> object:
        nonlocal count
        done: object = await apply(app, actor, unit, *rest)  # type: ignore[arg-type]
        if getattr(unit, "__qualname__", "").startswith(stage.__qualname__):
            count += 1
            await act(count)
        return done

    monkeypatch.setattr(world.store, "apply", applied)


@pytest.mark.usefixtures("small_units")
async def test_a_large_fork_is_unseen_until_it_is_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(world, 17)
    head = await world.head()
    seen: list[int] = []

    async def look(_: int) -> None:
        assert len(await world.every_session()) == 1
        assert await world.head() == head
        assert await stagings(world) == 1
        seen.append(1)

    between_batches(monkeypatch, world, look)
    answer = await world.fork("s-1", "copy")
    assert len(seen) > 3
    assert answer.revision == head + 1


@pytest.mark.usefixtures("small_units")
async def test_messages_appended_while_a_fork_is_copied_are_left_out_beyond_its_sequence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(world, 12)

    async def append(count: int) -> None:
        if count < 3:
            await world.append("s-1", [message()])

    between_batches(monkeypatch, world, append)
    copy = (await world.fork("s-1", "copy", 11)).outcome.session
    assert (copy.message_count, copy.last_sequence) == (11, 11)
    assert await history(world, "copy") == (await history(world, "s-1"))[:11]


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("what", ["reset", "delete"])
async def test_a_fork_whose_source_is_reset_or_deleted_meanwhile_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await furnished(world, 17)

    async def interfere(count: int) -> None:
        if count == 2:
            await (world.reset("s-1") if what == "reset" else world.delete("s-1"))
            assert await stagings(world) == 0, "what is erased is erased in its copy, too"

    between_batches(monkeypatch, world, interfere)
    reason = Reason.GENERATION_CHANGED if what == "reset" else Reason.SESSION_NOT_FOUND
    with refused(reason):
        await world.fork("s-1", "copy")
    assert len(await world.every_session()) == (what == "reset")
    await purged(world)
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("when", [2, 6])
async def test_a_fork_begins_anew_when_messages_are_removed_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """Also behind the last batch."""
    await furnished(world, 17)

    async def pop(count: int) -> None:
        if count == when:
            await world.pop("s-1", 2)
            await world.say("s-1", "new-1", "new-2")

    between_batches(monkeypatch, world, pop)
    await world.fork("s-1", "copy")
    assert await history(world, "copy") == await history(world, "s-1")
    await purged(world)
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
async def test_a_fork_gives_up_when_messages_are_removed_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(world, 60)

    async def pop(_: int) -> None:
        await world.pop("s-1", 1)

    between_batches(monkeypatch, world, pop)
    with refused(Reason.GENERATION_CHANGED):
        await world.fork("s-1", "copy")
    assert len(await world.every_session()) == 1
    await purged(world)
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
async def test_what_a_dead_server_left_staged_is_removed_after_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(world, 17)

    async def die(count: int) -> None:
        if count == 2:
            raise StoreFull("and so nothing can be cleaned up")

    async def no_drop(*_: object) -> None:
        return None

    between_batches(monkeypatch, world, die)
    monkeypatch.setattr(copying, "drop", no_drop)
    with pytest.raises(StoreFull):
        await world.fork("s-1", "copy")
    assert await stagings(world) == 1
    assert await staging.remove_expired(world.units) == 0, "it may still be at work"
    world.clock.step(61)
    assert await staging.remove_expired(world.units) == 1
    assert await stagings(world) == 0
    await purged(world)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("scope", list(ResetScope))
@pytest.mark.parametrize("count", [3, 17])
async def test_a_reset_keeps_a_backup_in_the_same_unit(
    world: World, scope: ResetScope, count: int
) -> None:
    before = await furnished(world, count)
    texts = await history(world, "s-1")
    content = (await world.read("s-1")).snapshot.content
    head = await world.head()
    answer = await world.reset("s-1", scope, backup="kept")
    assert answer.revision == head + 1, "one unit"
    backup = answer.outcome.backup
    assert backup is not None
    assert backup.forked_from == Lineage(uid=before.uid, through_sequence=count)
    assert (backup.status, backup.idle_timeout, backup.max_lifetime) == (Status.ACTIVE, 0, 0)
    assert await history(world, "kept") == texts
    assert (await world.read("kept")).snapshot.content == content
    after = answer.outcome.session
    assert after.generation == 2
    gone = scope in (ResetScope.HISTORY, ResetScope.ALL)
    assert answer.outcome.messages == (count if gone else 0)
    assert len(await history(world, "s-1")) == (0 if gone else count)
    world.clock.step(1_000_000)
    assert (await world.get("kept")).status is Status.ACTIVE, "it does not expire unasked"
    await purged(world)
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("count", [3, 17])
async def test_a_reset_whose_backup_cannot_be_clears_nothing(world: World, count: int) -> None:
    await furnished(world, count)
    await world.create("kept")
    before = await world.get("s-1")
    with refused(Reason.SESSION_EXISTS, session_id="kept"):
        await world.reset("s-1", backup="kept")
    await world.begin("s-1")
    with refused(Reason.NOT_IDLE):
        await world.reset("s-1", if_idle=True, backup="other")
    assert (await world.get("s-1")).message_count == before.message_count
    assert len(await world.every_session()) == 2
    await nothing_left(world)


@pytest.mark.usefixtures("small_units")
async def test_a_backup_holds_what_was_appended_while_it_was_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(world, 17)

    async def append(count: int) -> None:
        if count in (2, 6):
            await world.append("s-1", [message() for _ in range(7 if count == 2 else 2)])

    between_batches(monkeypatch, world, append)
    answer = await world.reset("s-1", backup="kept", request_id="r-1")
    assert answer.outcome.messages == 26
    kept = await world.get("kept")
    assert (kept.message_count, kept.last_sequence) == (26, 26)
    assert [shot[0].sequence for shot in await history(world, "kept")] == list(range(1, 27))
    again = await world.reset("s-1", backup="kept", request_id="r-1")
    assert again.outcome == answer.outcome
    await purged(world)


async def test_a_fork_of_many_bytes_is_staged_though_its_messages_are_few(world: World) -> None:
    await world.create("s-1")
    large = "x" * 700_000
    for name in ("a", "b", "c", "d"):
        await world.append("s-1", [message(name, large)])
    await world.fork("s-1", "copy")
    assert await history(world, "copy") == await history(world, "s-1")
    made = await world.stored("copy")
    assert made.history, "it was staged"
    assert made.user == USER
