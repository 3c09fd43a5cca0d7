"""Killed under load, again and again: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.harness import (
    ServerProcess,
    Writer,
    channel_to,
    stored_messages,
    stored_session_ids,
)

KILLS = 20
WRITERS = 8


@pytest.mark.timeout(300)
async def test_no_acknowledged_write_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    writers = [Writer(f"w{number}") for number in range(WRITERS)]
    starts: list[float] = []
    with ServerProcess(tmp_path) as server:
        for _ in range(KILLS):
            before = sum(writer.acknowledged for writer in writers)
            await _load_until_killed(server, writers)
            assert sum(writer.acknowledged for writer in writers) > before, server.log()
            assert server.integrity() == "ok"
            server.start()
            starts.append(server.started_in)
        async with channel_to(server.target) as channel:
            for writer in writers:
                await writer.settle(channel)
            await _compare(writers, channel)
    acknowledged = sum(writer.acknowledged for writer in writers)
    print(  # noqa: T201
        f"{KILLS} kills, {acknowledged} acknowledged writes, 0 lost, 0 doubled; "
        f"slowest start {max(starts):.2f} s"
    )


async def _load_until_killed(server: ServerProcess, writers: list[Writer]) -> None:
    stop = asyncio.Event()
    async with channel_to(server.target) as channel:
        tasks = [asyncio.create_task(writer.run(channel, stop)) for writer in writers]
        await asyncio.sleep(random.uniform(0.1, 0.5))
        server.kill()
        stop.set()
        await asyncio.gather(*tasks)


async def _compare(writers: list[Writer], channel) -> None:
    expected = {session.session_id: session for writer in writers for session in writer.sessions}
    stored = Counter(await stored_session_ids(channel))
    assert set(stored) == set(expected)
    assert set(stored.values()) == {1}
    for session_id, session in expected.items():
        assert await stored_messages(channel, session_id) == session.messages
