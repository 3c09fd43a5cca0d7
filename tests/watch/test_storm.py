"""Watches that begin, fall behind and resume while many write: held to the log's replay."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter
from sojourn_server.domain.model import Status
from tests.faults import counts
from tests.service.kit import APP
from tests.watch.kit import Scene, Watcher
from tests.watch.storm import Storm
from tests.watch.validators import observed, validate

GOLD = SessionFilter(labels=(LabelSelector("tier", LabelOperator.IN, ("gold",)),))
ACTIVE = SessionFilter(statuses=(Status.ACTIVE,))
TURN = SessionFilter(has_turn=True)
INITIAL_STATES = counts.count("initial_states")
FORMS: list[dict[str, Any]] = [
    {},
    {"filter": GOLD},
    {"filter": ACTIVE, "previous": True},
    {"user": "ann", "app_changes": True},
    {"filter": TURN},
    {"filter": GOLD, "content": True},
    {"previous": True},
    {"user": "bob"},
]


async def some_writes(storm: Storm, count: int) -> None:
    """Wait until writers were answered so often."""
    await storm.answered(len(storm.revisions) + count)


async def checked(storm: Storm, watchers: list[Watcher]) -> None:
    """All have seen all that was answered, and saw it as it was."""
    log = await storm.archive.keep()
    for watcher in watchers:
        record = await watcher.reach(log[-1].revision)
        observed(record, max(storm.revisions))
        validate(record, log)


@pytest.mark.guarantee("W1", "W2", "W3", "W4", "W5", "W10", "W11", "W12", "W13")
async def test_streams_that_begin_while_others_write(world: Scene) -> None:
    storm = Storm([world])
    watchers = []
    async with storm.blowing():
        await some_writes(storm, 30)
        for form in FORMS:
            watchers.append(await world.watch_now(**form))
            await some_writes(storm, 15)
    await checked(storm, watchers)


@pytest.mark.guarantee("W6")
@pytest.mark.timeout(counts.patience("initial_states", 2))
async def test_initial_state_while_others_write(
    world: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sojourn_server.service import watch_initial  # noqa: PLC0415

    # Pages of a few, so that much happens between the first and the last.
    monkeypatch.setattr(watch_initial, "PAGE", 3)
    monkeypatch.setattr(watch_initial, "CHANGES", 5)
    storm = Storm([world], sessions=25)
    watchers: list[Watcher] = []
    async with storm.blowing(count=1_000_000):
        await some_writes(storm, 60)
        for number in range(INITIAL_STATES):
            returned = max(storm.revisions)
            watcher = world.watch(initial=True, **FORMS[number % len(FORMS)])
            record = await watcher.opened()
            assert record.marker is not None
            assert record.marker >= returned
            watchers.append(watcher)
            if number >= 12:
                await watchers[number - 12].leave()
    log = await storm.archive.keep()
    for watcher in watchers:
        validate(watcher.record, log)
    await checked(storm, watchers[-12:])
    counts.report(
        "initial states under writers",
        INITIAL_STATES,
        f"{len(storm.revisions):,} acknowledged; each mirror is the log's replay at its marker",
    )
    assert sum(len(w.record.messages[0].initial_sessions) > 0 for w in watchers) > 10


@pytest.mark.guarantee("W2", "W8", "W9", "W15", "W17")
async def test_resuming_around_the_head_while_the_log_is_shortened_and_the_clock_jumps(
    world: Scene,
) -> None:
    storm = Storm([world])
    points: dict[int, str] = {}
    compacted = 0
    async with storm.blowing(keep=60, jumps=True):
        collector = await world.watch_now()
        await some_writes(storm, 150)
        resumed: list[Watcher] = []
        for number in range(24):
            points |= {m.revision: m.resume_token for m in collector.record.messages}
            head = max(points)
            wanted = head - 100 + number * 4
            start = min(points, key=lambda revision: abs(revision - wanted))
            watcher = world.watch(token=points[start], start=start)
            refusal: Refusal | None = None
            try:
                await watcher.opened()
            except Refusal as error:
                refusal = error
            if refusal is None:
                resumed.append(watcher)
            else:
                assert refusal.reason is Reason.REVISION_COMPACTED, refusal
                assert watcher.record.messages == []
                assert int(refusal.metadata["oldest_revision"]) > start
                compacted += 1
            await some_writes(storm, 4)
    assert len(resumed) > 3
    assert compacted > 3
    log = await storm.archive.keep()
    for watcher in resumed:
        # One that fell behind the horizon itself was told so, and what it got was right.
        if watcher.task.done():
            assert (await watcher.refusal()).reason is Reason.REVISION_COMPACTED
        else:
            await watcher.reach(log[-1].revision)
        validate(watcher.record, log)


@pytest.mark.guarantee("W15")
async def test_a_watch_that_is_cut_again_and_again_and_resumes(world: Scene) -> None:
    storm = Storm([world])
    first = await world.watch_now(filter=GOLD)
    record = first.record
    async with storm.blowing():
        for number in range(30):
            await some_writes(storm, 1 + number % 7)
            await first.leave()
            token = record.token
            # What came after the last token comes again: it is dropped by (revision, index).
            record.messages[:] = _through_token(record.messages)
            first = world.watch(filter=GOLD, token=token)
            first.record = record
            await first.until(lambda each: True)
    await checked(storm, [first])


def _through_token(messages: list[Any]) -> list[Any]:
    last = max(number for number, message in enumerate(messages) if message.resume_token)
    return messages[: last + 1]


@pytest.mark.guarantee("W14")
async def test_a_stuck_watcher_is_bounded_holds_up_nobody_and_goes_on_exactly(
    world: Scene,
) -> None:
    storm = Storm([world])
    stuck = await world.watch_now(previous=True)
    quick = await world.watch_now(previous=True)
    (stream,) = [each for each in world.hub._streams if each.interest.previous][:1]
    for each in world.hub._streams:
        each._most = 20_000
    stuck.stuck.clear()
    most = 0
    async with storm.blowing():
        for _ in range(20):
            await some_writes(storm, 10)
            most = max(most, *(each.queued for each in world.hub._streams))
    head = await world.head()
    await quick.reach(head)
    assert stuck.record.revision < head
    assert 0 < most <= 20_000
    assert stream is not None
    stuck.stuck.set()
    await checked(storm, [stuck, quick])


@pytest.mark.guarantee("W5", "W19")
async def test_every_hint_may_be_lost(world: Scene) -> None:
    world.store.on_commit(lambda app: None)
    storm = Storm([world])
    watchers = [await world.watch_now(**form) for form in FORMS[:3]]
    async with storm.blowing():
        await some_writes(storm, 50)
    await checked(storm, watchers)


async def test_the_head_does_not_wait_for_who_lags(world: Scene) -> None:
    """One that reads from the log's beginning joins the others at its end."""
    storm = Storm([world])
    nothing = await world.page()
    async with storm.blowing():
        await some_writes(storm, 300)
    live = await world.watch_now()
    late = world.watch(token=nothing.resume_token, start=0)
    await world.create("one-more")
    await checked(storm, [live, late])
    assert not any(stream.behind for stream in world.hub._streams)
    assert APP in world.hub._tails
