"""The power goes: what was written and not synced is gone, what was acknowledged is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults import counts
from tests.faults.checker import (
    acknowledged,
    load_until,
    losses,
    make_writers,
    settle_and_compare,
)
from tests.faults.harness import ServerProcess, channel_to
from tests.faults.powercut import ForgetfulDisk

CUTS = counts.count("cuts")
FORGETFUL_CUTS = counts.count("forgetful_cuts")
SEED = 20_261_120


def server_on(disk_folder: Path, shim: Path, *flags: str) -> tuple[ServerProcess, ForgetfulDisk]:
    """A server whose disk forgets what is not synced."""
    server = ServerProcess(disk_folder, *flags)
    disk = ForgetfulDisk(shim, server.store, disk_folder / "side")
    server.environment.update(disk.environment)
    return server, disk


@pytest.mark.timeout(counts.patience("cuts", 15))
async def test_a_power_cut_takes_back_nothing_acknowledged(tmp_path: Path, shim: Path) -> None:
    writers = make_writers()
    chance = random.Random(SEED)
    taken = 0
    server, disk = server_on(tmp_path, shim)
    with server:
        for number in range(CUTS):
            await load_until(server, writers, server.kill, chance)
            # In turn: nothing unsynced has got to the disk, or some of it, torn.
            taken += disk.cut(None if number % 2 == 0 else chance).writes
            assert server.integrity() == "ok"
            server.start()
        await settle_and_compare(server, writers)
    assert disk.syncs > CUTS, "the shim saw no sync: it is not where the writes are"
    counts.report(
        "power cut",
        CUTS,
        f"{acknowledged(writers):,} acknowledged, 0 lost, 0 doubled; "
        f"{disk.syncs:,} syncs, {taken:,} unsynced writes taken back",
    )


@pytest.mark.timeout(counts.patience("forgetful_cuts", 15))
async def test_the_harness_sees_the_loss_when_nothing_is_synced(tmp_path: Path, shim: Path) -> None:
    """With synchronous=OFF a cut must lose something, or the test above proves nothing."""
    chance = random.Random(SEED)
    cuts_with_loss = 0
    lost = 0
    for number in range(FORGETFUL_CUTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        writers = make_writers()
        server, disk = server_on(folder, shim, "--sqlite-synchronous", "OFF")
        with server:
            await load_until(server, writers, server.kill, chance)
            disk.cut(None)
            server.start()
            async with channel_to(server.target) as channel:
                found = await losses(writers, channel)
        cuts_with_loss += bool(found)
        lost += len(found)
    assert cuts_with_loss == FORGETFUL_CUTS
    counts.report(
        "power cut, synchronous=OFF",
        FORGETFUL_CUTS,
        f"loss seen after {cuts_with_loss} of them, {lost:,} sessions: the harness sees it",
    )
