"""Killed under load, again and again: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import counts
from tests.faults.checker import acknowledged, load_until, make_writers, settle_and_compare
from tests.faults.harness import ServerProcess

KILLS = counts.count("kills")


@pytest.mark.timeout(counts.patience("kills", 15))
async def test_no_acknowledged_write_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    writers = make_writers()
    chance = random.Random()
    slowest = 0.0
    with ServerProcess(tmp_path) as server:
        for _ in range(KILLS):
            await load_until(server, writers, server.kill, chance)
            assert server.integrity() == "ok"
            slowest = max(slowest, server.start().started_in)
        await settle_and_compare(server, writers)
    counts.report(
        "kill -9",
        KILLS,
        f"{acknowledged(writers):,} acknowledged, 0 lost, 0 doubled; slowest start {slowest:.2f} s",
    )
