"""Watchers whose servers are killed and replaced: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sojourn_server.store.base import LoggedChange, Store
from sojourn_server.store.postgres import Options, PostgresStore
from sojourn_server.store.sqlite import SqliteStore
from tests import postgres
from tests.faults import counts
from tests.faults.checker import acknowledged, make_writers, until
from tests.faults.harness import APP, ServerProcess, Writer, channel_to
from tests.watch.remote import Follower
from tests.watch.validators import Record, validate

KILLS = counts.count("watch_kills")
FOLLOWERS = counts.count("followers")
RESTARTS = counts.count("watch_restarts")


def followers(targets: list[str], number: int) -> list[Follower]:
    """Watchers of several kinds."""
    kinds: list[dict[str, Any]] = [{}, {"previous": True}, {"app_changes": True}]
    return [
        Follower(
            lambda: list(targets),
            APP,
            Record(**kinds[n % len(kinds)]),
            initial=n % 4 == 3,
            turn=n,
        )
        for n in range(number)
    ]


async def log_of(store: Store) -> list[LoggedChange]:
    await store.open()
    try:
        return list(await store.read(lambda tx: tx.changes(APP, 0, 10_000_000)))
    finally:
        await store.close()


async def writing(writers: Sequence[Writer], target: str, stop: asyncio.Event) -> None:
    async with channel_to(target) as channel:
        await asyncio.gather(*(writer.run(channel, stop) for writer in writers))


async def some_writes(writers: Sequence[Writer], least: int) -> None:
    """Wait until so many more are acknowledged."""
    before = acknowledged(writers)

    async def enough() -> bool:
        return acknowledged(writers) >= before + least

    await until(enough, lambda: "acknowledged", 60)


@pytest.mark.guarantee("W2", "W4", "W15")
@pytest.mark.timeout(counts.patience("watch_kills", 15))
async def test_watchers_resume_exactly_after_kill_9(tmp_path: Path) -> None:
    writers, targets = make_writers(), [""]
    chance = random.Random()
    ends: Counter[str] = Counter()
    with ServerProcess(tmp_path) as server:
        targets[0] = server.target
        watching = followers(targets, 4)
        for follower in watching:
            await follower.opened()
        for _ in range(KILLS):
            stop = asyncio.Event()
            load = asyncio.create_task(writing(writers, server.target, stop))
            await some_writes(writers, 150)
            await asyncio.sleep(chance.uniform(0, 0.2))
            server.kill()
            stop.set()
            await load
            targets[0] = server.start().target
        revision = await finished(server, writers)
        for follower in watching:
            await follower.reach(revision)
            await follower.leave()
            ends += follower.ends
        server.terminate()
        log = await log_of(SqliteStore(server.store))
    for follower in watching:
        validate(follower.record, log)
        assert follower.resumed >= KILLS
    changes = sum(len(follower.record.changes) for follower in watching)
    counts.report(
        "kill -9 under watchers",
        KILLS,
        f"{acknowledged(writers):,} acknowledged, {changes:,} changes to {len(watching)} "
        f"watchers: 0 lost, 0 doubled, 0 phantom; {dict(ends)}",
    )


async def finished(server: ServerProcess, writers: Sequence[Writer]) -> int:
    """Settle what was open, and answer the newest revision returned."""
    async with channel_to(server.target) as channel:
        await asyncio.gather(*(writer.settle(channel) for writer in writers))
    return max(revision for writer in writers for revision in writer.revisions)


@pytest.mark.guarantee("W1", "W15")
@pytest.mark.timeout(counts.patience("watch_restarts", 30))
async def test_watchers_go_from_server_to_server_while_both_are_replaced(tmp_path: Path) -> None:
    dsn = postgres.server().take()
    writers, targets = make_writers()[:4], ["", ""]
    flags = ("--postgres-connections", "4", "--drain-timeout", "5s")
    servers = [
        ServerProcess(tmp_path / name, *flags, url=postgres.url(dsn)).start() for name in "ab"
    ]
    try:
        targets[:] = [server.target for server in servers]
        watching = followers(targets, FOLLOWERS)
        for follower in watching:
            await follower.opened()
        for number in range(2 * RESTARTS):
            server, other = servers[number % 2], servers[1 - number % 2]
            stop = asyncio.Event()
            load = asyncio.create_task(writing(writers, other.target, stop))
            await some_writes(writers, 60)
            assert await asyncio.to_thread(server.terminate) == 0
            targets[number % 2] = (await asyncio.to_thread(server.start)).target
            stop.set()
            await load
        revision = await finished(servers[0], writers)
        ends: Counter[str] = Counter()
        for follower in watching:
            await follower.reach(revision)
            await follower.leave()
            ends += follower.ends
        log = await log_of(PostgresStore(Options(dsn, size=2)))
    finally:
        for server in servers:
            server.__exit__(None, None, None)
        postgres.server().give(dsn)
    orders = set()
    for follower in watching:
        validate(follower.record, log)
        if not follower.record.app_changes and follower.record.start is not None:
            orders.add(follower.record.changes[-1].revision)
    assert len(orders) == 1
    # A drain says so, and gives a token; a stream that meets a closed door tries the other.
    assert ends["DRAINING"] > 0
    counts.report(
        "rolling restarts under watchers",
        2 * RESTARTS,
        f"{len(watching)} watchers of two servers, {acknowledged(writers):,} acknowledged: "
        f"0 lost, 0 doubled; {dict(ends)}",
    )
