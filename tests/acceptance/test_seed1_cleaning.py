"""Rows S1-20, S1-21, S1-23, S1-24, S1-29, S1-35 to S1-37 and S1-43: clean-ups, figures, limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sojourn import (
    AsyncClient,
    ChangeCause,
    EndCause,
    ExpireCause,
    MetricsDelta,
    NewSession,
    Policy,
    QuotaAction,
    SessionChange,
    SessionFilter,
    Status,
    Threshold,
    ThresholdAction,
    TimeRange,
    errors,
)

IDLE = SessionFilter(session_id_prefix="idle-")


async def test_s1_20_idle_sessions_are_cleaned_up(client: AsyncClient) -> None:
    """One call ends what has been idle for too long, and says how many; what is in use stays."""
    await client.sessions.create_many([NewSession(f"idle-{n}") for n in range(3)])
    await client.sessions.create("talks")
    await client.turns.begin("busy", create_if_missing=True)
    await asyncio.sleep(0.2)
    touched = await client.sessions.touch("talks")
    count = await client.sessions.cleanup_inactive(0.2)
    talks = await client.sessions.get("talks")
    if talks.end_time is not None:
        # This machine stood still for so long that it was idle after all.
        assert talks.end_time - touched.activity_time >= timedelta(seconds=0.2)
        count -= 1
    assert count == 3
    assert await client.sessions.list(status="expired", filter=IDLE).count() == 3
    assert await client.sessions.list(status="active", filter=IDLE).count() == 0
    await client.sessions.create("fresh")
    assert await client.sessions.cleanup_inactive(60) == 0
    assert (await client.sessions.get("busy")).is_active


async def test_s1_21_any_length_of_idleness(client: AsyncClient) -> None:
    """The length of idleness is the caller's to choose at each clean-up, and so is the status."""
    await client.sessions.create("s")
    await asyncio.sleep(0.05)
    for seconds in (1800, 900, timedelta(minutes=15)):
        assert await client.sessions.cleanup_inactive(seconds) == 0
    too_idle = SessionFilter(idle_longer_than=0.04)
    assert await client.sessions.list(filter=too_idle).count() == 1
    ended = await client.sessions.end_many(filter=too_idle, end_as=Status.FAILED, reason="idle")
    assert ended.count == 1
    read = await client.sessions.get("s")
    assert (read.status, read.end_reason) == (Status.FAILED, "idle")


async def test_s1_23_too_many_errors(client: AsyncClient) -> None:
    """Sessions with more than half of their requests failed are ended as failed, and no others."""
    for name, requests, wrong in (("bad", 4, 3), ("half", 4, 2), ("good", 4, 0), ("unused", 0, 0)):
        await client.sessions.create(name)
        await client.sessions.update(name, metrics=MetricsDelta(requests=requests, errors=wrong))
    bad = SessionFilter(error_rate_above=0.5)
    would = await client.sessions.end_many(filter=bad, dry_run=True)
    assert [one.session_id for one in would.first_keys] == ["bad"]
    ended = await client.sessions.end_many(filter=bad, end_as=Status.FAILED, reason="error rate")
    assert ended.count == 1
    assert (await client.sessions.get("bad")).end_reason == "error rate"
    assert await client.sessions.list().count() == 3


async def test_s1_24_cleaned_up_by_age(client: AsyncClient) -> None:
    """Sessions older than so much are ended as expired with a count, or by a rule of the app."""
    await client.sessions.create_many([NewSession(f"old-{n}") for n in range(5)])
    await asyncio.sleep(0.05)
    young = await client.sessions.create("young")
    await client.sessions.touch("old-1")
    for age, count in ((timedelta(days=7), 0), (0.04, 5)):
        aged = SessionFilter(older_than=age, session_id_prefix="old-")
        assert (await client.sessions.end_many(filter=aged, dry_run=True)).count == count
    cutoff = SessionFilter(create_time=TimeRange(before=young.create_time))
    assert (await client.sessions.end_many(filter=cutoff, end_as=Status.EXPIRED)).count == 5
    assert await client.sessions.list(status="expired").count() == 5
    assert (await client.sessions.get("young")).is_active
    await client.apps.update(policy=Policy(default_max_lifetime=timedelta(days=7)))
    created = await client.sessions.create("ruled", idle_timeout=0)
    assert created.expire_time == created.create_time + timedelta(days=7)
    assert created.expire_cause is ExpireCause.LIFETIME


async def test_s1_29_figures_of_a_user(client: AsyncClient) -> None:
    """Requests, errors, mean time and error rate of all sessions of a user are one question."""
    for number, (requests, wrong, seconds) in enumerate([(10, 1, 20), (30, 3, 40)]):
        name = f"s-{number}"
        await client.sessions.create(name, user="user-456")
        delta = MetricsDelta(requests=requests, errors=wrong, processing_time=seconds)
        await client.sessions.update(name, user="user-456", metrics=delta)
    await client.sessions.end("s-0", user="user-456")
    await client.sessions.create("unused", user="user-789")
    [hers] = [one async for one in client.sessions.aggregate(user="user-456")]
    assert hers.session_count == 2
    assert (hers.metrics.request_count, hers.metrics.error_count) == (40, 4)
    assert hers.metrics.processing_time == timedelta(seconds=60)
    assert hers.error_rate == 0.1
    assert hers.mean_processing_time == timedelta(seconds=1.5)
    by_user = {one.group: one async for one in client.sessions.aggregate(group_by="USER")}
    assert by_user["user-456"].metrics.request_count == 40
    assert by_user["user-789"].session_count == 1
    # No division by zero for a user without a request.
    assert by_user["user-789"].error_rate == 0.0
    assert not by_user["user-789"].mean_processing_time
    of_nobody = [one.session_count async for one in client.sessions.aggregate(user="nobody")]
    assert sum(of_nobody) == 0


async def test_s1_35_warned_then_ended(client: AsyncClient) -> None:
    """From 30 % errors on there is a warning in the log, above 50 % the session ends as failed."""
    await client.apps.update(
        policy=Policy(
            thresholds=(
                Threshold(error_rate_above=0.3, min_requests=4),
                Threshold(error_rate_above=0.5, min_requests=4, action=ThresholdAction.END),
            )
        )
    )
    await client.sessions.create("s")
    async with client.sessions.watch() as watch:
        changes = watch.changes()

        async def next_of(cause: ChangeCause) -> SessionChange:
            while True:
                change = await anext(changes)
                if change.cause is cause:
                    assert isinstance(change, SessionChange)
                    return change

        first = MetricsDelta(requests=1, errors=1)
        read = (await client.sessions.update("s", metrics=first)).session
        assert (read.is_active, read.error_rate) == (True, 1.0)
        await client.sessions.update("s", metrics=MetricsDelta(requests=4, errors=1))
        warned = await next_of(ChangeCause.THRESHOLD)
        assert warned.session.is_active
        await client.sessions.update("s", metrics=MetricsDelta(requests=2, errors=2))
        ended = await next_of(ChangeCause.ENDED)
    assert (ended.session.status, ended.session.end_cause) == (Status.FAILED, EndCause.THRESHOLD)
    with pytest.raises(errors.SessionEndedError):
        await client.turns.begin("s")


async def test_s1_36_a_warning_from_so_many_errors_on(client: AsyncClient) -> None:
    """A session with more than ten errors is reported once, and found by that; it goes on."""
    await client.apps.update(policy=Policy(thresholds=(Threshold(error_count_above=10),)))
    await client.sessions.create("s")
    await client.sessions.create("fine")
    async with client.sessions.watch() as watch:
        for _ in range(13):
            await client.sessions.update("s", metrics=MetricsDelta(requests=1, errors=1))
        last = await client.sessions.update("fine", labels={"last": "yes"})
        warnings = []
        async for change in watch.changes():
            if change.cause is ChangeCause.THRESHOLD:
                warnings.append(change)
            if change.revision == last.revision:
                break
    [warning] = warnings
    assert isinstance(warning, SessionChange)
    assert warning.session.metrics.error_count == 11
    found = client.sessions.list(filter=SessionFilter(error_count_above=10))
    assert [one.session_id async for one in found] == ["s"]
    assert (await client.sessions.get("s")).is_active


async def test_s1_37_a_limit_that_cleans_up_first(client: AsyncClient) -> None:
    """At the limit the longest idle session makes room, or creation is refused; never one more."""
    await client.apps.update(policy=Policy(max_active_sessions=10))
    made = await asyncio.gather(
        *(client.sessions.create() for _ in range(32)), return_exceptions=True
    )
    refused = [one for one in made if isinstance(one, BaseException)]
    assert {type(one) for one in refused} == {errors.QuotaExceededError}
    assert len(refused) == 22
    assert await client.sessions.list().count() == 10
    await client.apps.update(
        policy=Policy(max_active_sessions=10, session_quota_action=QuotaAction.END_OLDEST_IDLE)
    )
    [used, idlest, *others] = [one async for one in client.sessions.list()]
    await client.turns.begin(used)
    for one in others:
        await client.sessions.touch(one)
    await client.sessions.create("new")
    assert await client.sessions.list().count() == 10
    assert (await client.sessions.get(used)).is_active
    evicted = await client.sessions.get(idlest)
    assert (evicted.status, evicted.end_cause) == (Status.EXPIRED, EndCause.QUOTA)


async def test_s1_43_clean_ups_are_on_record(client: AsyncClient) -> None:
    """Who cleaned up which sessions, and when, can be asked afterwards, session by session."""
    await client.sessions.create_many([NewSession(f"s-{n}") for n in range(3)])
    cleaner = client.with_options(actor="nightly-clean-up")
    ended = await cleaner.sessions.end_many(all=True, reason="nightly")
    entries = [one async for one in client.admin.audit()]
    by_cleaner = [one for one in entries if one.actor == "nightly-clean-up"]
    assert len(by_cleaner) == ended.count == 3
    assert {one.cause for one in by_cleaner} == {ChangeCause.ENDED}
    keys = {one.session.session_id for one in by_cleaner if one.session is not None}
    assert keys == {"s-0", "s-1", "s-2"}
    assert max(one.revision for one in by_cleaner) == ended.revision
