"""Holds a server to what it acknowledged: nothing lost, nothing doubled, revisions dense."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc.aio

from tests.faults.harness import (
    APP,
    ServerProcess,
    Writer,
    channel_to,
    stored_messages,
    stored_session_ids,
)

WRITERS = 8
LOAD_LONGEST = 0.4


def make_writers() -> list[Writer]:
    return [Writer(f"w{number}") for number in range(WRITERS)]


def acknowledged(writers: Sequence[Writer]) -> int:
    return sum(writer.acknowledged for writer in writers)


async def load_until(
    server: ServerProcess,
    writers: Sequence[Writer],
    end: Callable[[], object],
    chance: random.Random,
) -> None:
    """Write until something is acknowledged and a moment longer, then do what ends the server."""
    stop = asyncio.Event()
    before = acknowledged(writers)
    async with channel_to(server.target) as channel:
        tasks = [asyncio.create_task(writer.run(channel, stop)) for writer in writers]

        async def loaded() -> bool:
            # A writer that ended has found something wrong and says so below.
            return acknowledged(writers) > before or any(task.done() for task in tasks)

        await until(loaded, lambda: f"acknowledged\n{server.log()}", 60)
        await asyncio.sleep(chance.uniform(0, LOAD_LONGEST))
        end()
        stop.set()
        await asyncio.gather(*tasks)


async def losses(writers: Sequence[Writer], channel: grpc.aio.Channel) -> list[str]:
    """What of the acknowledged is not there, or is there twice, or was never written.

    An open write may or may not be there; settle the writers first to hold it too.
    """
    expected = {each.session_id: each for writer in writers for each in writer.sessions}
    stored = Counter(await stored_session_ids(channel))
    found = [f"{name} is there {times} times" for name, times in stored.items() if times > 1]
    found += [f"{name} was never created" for name in stored if name not in expected]
    for name, session in expected.items():
        if name not in stored:
            if session.created:
                found.append(f"{name} is lost")
            continue
        texts = await stored_messages(channel, name)
        allowed = [session.messages]
        if session.pending is not None:
            allowed.append([*session.messages, session.pending.messages[0].content])
        if texts not in allowed:
            found.append(f"{name} has {len(texts)} messages, not {len(session.messages)}")
    return found


async def settle_and_compare(server: ServerProcess, writers: Sequence[Writer]) -> None:
    """End the test of a server: finish what is open, compare all, and look at the log."""
    async with channel_to(server.target) as channel:
        for writer in writers:
            await writer.settle(channel)
        assert await losses(writers, channel) == []
    assert server.terminate() == 0, server.log()
    assert server.integrity() == "ok"
    assert_log(server, writers)


def assert_log(server: ServerProcess, writers: Sequence[Writer]) -> None:
    """Every revision was acknowledged once, to one writer, in its order, and there are no gaps.

    Each acknowledged write is one unit and nothing else writes, so a write that was lost
    leaves a gap or an end too low, and one that was done twice a revision that nobody has.
    """
    for writer in writers:
        assert all(low < high for low, high in itertools.pairwise(writer.revisions)), writer.name
    given = sorted(revision for writer in writers for revision in writer.revisions)
    stored = logged_revisions(server)
    assert stored == list(range(1, len(stored) + 1)), "the log has a gap"
    assert given == stored, f"{len(given)} acknowledged, {len(stored)} in the log"


def logged_revisions(server: ServerProcess) -> list[int]:
    """The revisions in the log of the writers' app, from a copy of the files."""
    with tempfile.TemporaryDirectory() as copy:
        for file in server.store.parent.iterdir():
            shutil.copy(file, copy)
        with contextlib.closing(sqlite3.connect(Path(copy) / server.store.name)) as database:
            rows = database.execute(
                "SELECT DISTINCT revision FROM change JOIN app USING (app_pk)"
                " WHERE name = ? ORDER BY revision",
                (APP,),
            ).fetchall()
    return [row[0] for row in rows]


async def until(
    holds: Callable[[], Awaitable[bool]], what: str | Callable[[], str], patience: float = 20.0
) -> None:
    """Wait until something holds; it must, in the end."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while not await holds():
        assert loop.time() < end, f"still not: {what if isinstance(what, str) else what()}"
        await asyncio.sleep(0.05)
