"""The disk is full: writes are refused, reads go on, and it heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc.aio
import pytest

from sojourn.v1 import history_service_pb2, history_service_pb2_grpc, message_pb2
from tests.faults import counts
from tests.faults.checker import acknowledged, make_writers, settle_and_compare, until
from tests.faults.harness import (
    ServerProcess,
    Writer,
    channel_to,
    health,
    reason_of,
    ref,
    stored_messages,
)

FULL_DISKS = counts.count("full_disks")
DISK = (64 + 8 * FULL_DISKS) * 1024 * 1024
REFUSALS = 20


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own in a folder; skips the test, visibly, where none can be had."""
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if not mount or not umount or os.getuid() != 0:
        pytest.skip("a small disk needs root and mount")
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK}", "sojourn-faults", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run([umount, str(folder)], check=True)


def fill(file: Path) -> None:
    """Take every byte that is left."""
    block = bytes(1024 * 1024)
    with file.open("ab", buffering=0) as out:
        while block:
            try:
                out.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block = block[: len(block) // 2]


@pytest.mark.timeout(counts.patience("full_disks", 60))
async def test_a_full_disk_refuses_writes_serves_reads_and_heals(tmp_path: Path) -> None:
    writers = make_writers()
    chance = random.Random()
    with small_disk(tmp_path / "store"), ServerProcess(tmp_path) as server:
        for _ in range(FULL_DISKS):
            await fill_and_free(server, writers, chance)
        await settle_and_compare(server, writers)
    refused = sum((writer.refusals for writer in writers), start=type(writers[0].refusals)())
    assert set(refused) == {"STORAGE_FULL"}, refused
    counts.report(
        "full disk",
        FULL_DISKS,
        f"{acknowledged(writers):,} acknowledged, 0 lost, 0 doubled; "
        f"{refused.total():,} refused with STORAGE_FULL; healed without a restart each time",
    )


async def fill_and_free(
    server: ServerProcess, writers: list[Writer], chance: random.Random
) -> None:
    stop = asyncio.Event()
    filler = server.store.parent / "filler"
    async with channel_to(server.target) as channel:
        tasks = [asyncio.create_task(writer.run_through(channel, stop)) for writer in writers]
        await until(partial(have_messages, writers[:2]), "writers have something to be read")
        await asyncio.sleep(chance.uniform(0.05, 0.2))
        fill(filler)
        await see_refusals(channel, writers)
        filler.unlink()
        await see_healing(channel, writers)
        stop.set()
        await asyncio.gather(*tasks)


async def have_messages(writers: list[Writer]) -> bool:
    return all(any(each.messages for each in writer.sessions) for writer in writers)


async def see_refusals(channel: grpc.aio.Channel, writers: list[Writer]) -> None:
    before = sum(writer.refusals.total() for writer in writers)

    async def refused() -> bool:
        return sum(writer.refusals.total() for writer in writers) >= before + REFUSALS

    async def known() -> bool:
        return not await health(channel, "sojourn.write")

    await until(refused, "writes are refused")
    await until(known, "health says that nothing can be written")
    assert await health(channel, ""), "reads go on, so the server as a whole is well"
    for writer in writers[:2]:
        session = next(each for each in writer.sessions if each.messages)
        assert (await stored_messages(channel, session.session_id))[0] == session.messages[0]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await append(channel, writers[0].sessions[0].session_id)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(caught.value) == "STORAGE_FULL"


async def see_healing(channel: grpc.aio.Channel, writers: list[Writer]) -> None:
    before = acknowledged(writers)

    async def writing() -> bool:
        return acknowledged(writers) > before

    async def known() -> bool:
        return await health(channel, "sojourn.write")

    await until(writing, "writes are accepted again")
    await until(known, "health says that writes work")


async def append(channel: grpc.aio.Channel, session_id: str) -> None:
    """A write too large for whatever few bytes may be left."""
    await history_service_pb2_grpc.HistoryServiceStub(channel).AppendMessages(
        history_service_pb2.AppendMessagesRequest(
            session=ref(session_id),
            messages=[message_pb2.NewMessage(role="user", content="x" * 500_000)],
        ),
        timeout=20,
    )
