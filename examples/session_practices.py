"""Sessions for conversations: their life cycle, metrics, clean-up, retries, limits and pooling.

After AIECS' "Session Management Best Practices", pattern by pattern. What its users put together
from `list_sessions` and loops is one call here, or the server's own doing: turns count requests and
errors, a threshold ends unhealthy sessions, and limits hold for callers that come at the same time.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import sojourn
from common import Server, run
from sojourn import AsyncClient, AsyncSessionHandle, MetricsDelta, Policy, SessionFilter, Status

MAX_SESSIONS = 8
QUICK = sojourn.RetryOptions(initial_backoff=timedelta(milliseconds=10))


@sojourn.tracked
async def execute_task(session: AsyncSessionHandle, description: str) -> str:
    """What an agent does with a task: counted and timed, also when it fails."""
    await session.append("user", description)
    if description == "Fail":
        raise TimeoutError("the model did not answer")
    await session.append("assistant", "Done.")
    return "Done."


async def life_cycle(client: AsyncClient) -> None:
    """Basic life cycle, explicit creation, and the status of a session."""
    session = await client.attach("user-123")  # created if it does not exist
    for number in range(5):
        await execute_task(session, f"Request {number}")
    await session.end()
    print(f"user-123: {session.info.metrics.request_count} requests, {session.info.status}")
    web = {"source": "web", "device": "mobile", "ip_address": "192.168.1.1"}
    made = await client.sessions.create("user-456-device-789", user="user-456", metadata=web)
    print(f"{made.session_id}: {made.status}, expired: {made.is_expired(1800)}")
    async with client.session(user="user-456", labels={"kind": "temp"}) as once:
        await execute_task(once, "One-time question")
    print(f"one-off: {once.info.status}")


async def metrics(client: AsyncClient) -> None:
    """Manual updates, and sums over all sessions of a user, made by the server."""
    session = await client.attach("user-456-device-789", user="user-456")
    await session.update(metrics=MetricsDelta(requests=1, processing_time=1.5))
    await session.update(metrics=MetricsDelta(requests=1, errors=1, processing_time=0.5))
    info = session.info
    print(f"error rate {info.error_rate:.0%}, average {info.average_processing_time}")
    [total] = await client.sessions.aggregate(user="user-456").to_list()
    print(f"user-456: {total.session_count} sessions, {total.metrics.request_count} requests")
    by_status = await client.sessions.aggregate(group_by="status").to_list()
    counts = {group.group: group.session_count for group in by_status}
    print(f"by status: {counts}")


async def cleanup(client: AsyncClient) -> None:
    """Clean up what is idle, what fails too often, and what is too old."""
    for number in range(6):
        await client.sessions.create(f"old-{number}", labels={"kind": "old"})
    await client.sessions.update("old-5", metrics=MetricsDelta(requests=4, errors=3))
    failing = SessionFilter(error_rate_above=0.5)
    ended = await client.sessions.end_many(filter=failing, end_as=Status.FAILED)
    print(f"ended for their error rate: {[key.session_id for key in ended.first_keys]}")
    cleaned = await client.sessions.cleanup_inactive(0.001, labels={"kind": "old"})
    print(f"cleaned up {cleaned} inactive sessions")
    old = SessionFilter(older_than=timedelta(days=7))
    aged = await client.sessions.end_many(filter=old, end_as=Status.EXPIRED)
    print(f"cleaned up {aged.count} old sessions")


async def retries(client: AsyncClient) -> None:
    """Error recovery: three tries, then the session is given up as FAILED."""
    session = await client.attach("fragile")
    try:
        async for attempt in sojourn.retrying(session, attempts=3, pauses=QUICK):
            async with attempt as turn:
                await turn.append("user", "Task")
                raise ConnectionError("the tool is away")
    except ConnectionError:
        await session.refresh()
    info = session.info
    print(f"fragile: {info.metrics.error_count} errors, {info.status}: {info.end_reason}")


async def health(client: AsyncClient) -> None:
    """Health monitoring as a policy: warn above 30 % errors, end above 50 %."""
    warn = sojourn.Threshold(error_rate_above=0.3, min_requests=2)
    end = sojourn.Threshold(
        error_rate_above=0.5, min_requests=4, action=sojourn.ThresholdAction.END
    )
    await client.apps.update(policy=Policy(thresholds=(warn, end)))
    session = await client.attach("shaky", labels={"kind": "watched"})
    async with client.sessions.watch(labels={"kind": "watched"}) as watch:
        for description in ("Fine", "Fail", "Fail", "Fail"):
            try:
                await execute_task(session, description)
            except TimeoutError:
                continue
        async for change in watch.changes():
            if not isinstance(change, sojourn.SessionChange):
                continue
            if change.cause is sojourn.ChangeCause.THRESHOLD:
                print(f"warning: shaky has an error rate of {change.session.error_rate:.0%}")
            if not change.session.is_active:
                print(f"shaky: {change.session.status}, {change.session.end_cause}")
                break


async def limits(client: AsyncClient) -> None:
    """MAX_SESSIONS, for any number of callers at once; then the idlest makes room."""
    other = client.with_options(app=f"{client.app}-limited")
    await other.apps.update(policy=Policy(max_active_sessions=MAX_SESSIONS))
    outcomes = await asyncio.gather(
        *(other.sessions.create() for _ in range(3 * MAX_SESSIONS)), return_exceptions=True
    )
    refused = sum(isinstance(outcome, sojourn.errors.QuotaExceededError) for outcome in outcomes)
    print(f"{refused} of {len(outcomes)} refused, {await other.sessions.count()} active")
    idlest = sojourn.QuotaAction.END_OLDEST_IDLE
    await other.apps.update(
        policy=Policy(max_active_sessions=MAX_SESSIONS, session_quota_action=idlest)
    )
    await other.sessions.create("user-123")
    print(f"with eviction: created, {await other.sessions.count()} active")


async def pooling(client: AsyncClient) -> None:
    """One session for each user, made anew under the same id once it is over."""
    name = "user-789"
    pooled = await client.attach(name, user=name, replace_ended=True)
    again = await client.attach(name, user=name, replace_ended=True)
    await pooled.end(Status.EXPIRED)
    after = await client.attach(name, user=name, replace_ended=True)
    print(f"pool: reused {again.uid == pooled.uid}, ", end="")
    print(f"made anew under the same id {after.uid != pooled.uid}")


async def story(client: AsyncClient, _: Server) -> None:
    """The guide, from top to bottom."""
    for pattern in (life_cycle, metrics, cleanup, retries, health, limits, pooling):
        await pattern(client)


if __name__ == "__main__":
    run(story, __doc__, app="aiecs")
