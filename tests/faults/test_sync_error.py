"""The disk answers EIO to fsync: what was not synced was not acknowledged, and it heals.

As on Linux, what a failed sync should have written never gets to the disk, whatever is
synced later; see `preload/faultfs.c`. Every round ends with a power cut, half of them
while syncs still fail.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import grpc.aio
import pytest

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults import counts
from tests.faults.checker import acknowledged, make_writers, settle_and_compare, until
from tests.faults.harness import ServerProcess, Writer, channel_to, health
from tests.faults.powercut import ForgetfulDisk

SYNC_ERRORS = counts.count("sync_errors")
REFUSALS = 20
SEED = 20_261_120


@pytest.mark.timeout(counts.patience("sync_errors", 60))
async def test_nothing_is_acknowledged_whose_sync_failed(tmp_path: Path, shim: Path) -> None:
    writers = make_writers()
    chance = random.Random(SEED)
    server = ServerProcess(tmp_path)
    disk = ForgetfulDisk(shim, server.store, tmp_path / "side")
    server.environment.update(disk.environment)
    with server:
        for number in range(SYNC_ERRORS):
            await fail_and_heal(server, disk, writers, cut_while_failing=number % 2 == 1)
            disk.cut(None if number % 4 < 2 else chance)
            assert server.integrity() == "ok"
            server.start()
        await settle_and_compare(server, writers)
    refused: Counter[str] = sum((writer.refusals for writer in writers), start=Counter())
    assert set(refused) <= {"STORE_UNAVAILABLE", "UNAVAILABLE"}, refused
    counts.report(
        "EIO on fsync",
        SYNC_ERRORS,
        f"{acknowledged(writers):,} acknowledged, 0 lost, 0 doubled; {disk.faults:,} syncs failed, "
        f"{refused['STORE_UNAVAILABLE']:,} writes answered STORE_UNAVAILABLE",
    )


async def fail_and_heal(
    server: ServerProcess, disk: ForgetfulDisk, writers: list[Writer], *, cut_while_failing: bool
) -> None:
    stop = asyncio.Event()
    async with channel_to(server.target) as channel:
        tasks = [asyncio.create_task(writer.run_through(channel, stop)) for writer in writers]
        before = acknowledged(writers)
        await until(lambda: more_than(before + 50, writers), "writes are acknowledged")
        disk.fail_syncs("wal", "db")
        refused = sum(writer.refusals["STORE_UNAVAILABLE"] for writer in writers)

        async def failing() -> bool:
            now = sum(writer.refusals["STORE_UNAVAILABLE"] for writer in writers)
            return now >= refused + REFUSALS and not await health(channel, "sojourn.write")

        await until(failing, "writes answer STORE_UNAVAILABLE")
        assert await health(channel, ""), "reads go on"
        if not cut_while_failing:
            disk.fail_syncs()
            before = acknowledged(writers)
            await until(lambda: more_than(before + 50, writers), "writes work again")
            await until(lambda: health(channel, "sojourn.write"), "health says so")
        server.kill()
        disk.fail_syncs()
        stop.set()
        await asyncio.gather(*tasks)


async def more_than(number: int, writers: list[Writer]) -> bool:
    return acknowledged(writers) > number


async def test_a_checkpoint_that_fails_delays_the_scrub_and_loses_nothing(
    tmp_path: Path, shim: Path
) -> None:
    server = ServerProcess(tmp_path)
    disk = ForgetfulDisk(shim, server.store, tmp_path / "side")
    server.environment.update(disk.environment)
    secret = "SECRET-" * 500
    with server:
        async with channel_to(server.target) as channel:
            await write_secret(channel, "gone", secret)
            await write_secret(channel, "kept", "KEPT-" * 500)
            disk.fail_syncs("db")
            answer = await reset(channel, "gone")
            assert disk.faults > 0
            assert not answer.scrubbed, "its checkpoint failed, so the text may be in the files"
            await write_secret(channel, "later", "LATER-" * 500)
            disk.fail_syncs()

            async def scrubbed() -> bool:
                return not server.files_hold(b"SECRET-")

            await until(scrubbed, "the purge job has scrubbed the files")
        server.kill()
        disk.cut(None)
        server.start()
        # An emptied log that was not synced may come back with the cut; a start empties it.
        assert server.files_hold(b"SECRET-") == []
        assert server.files_hold(b"KEPT-")
        assert server.files_hold(b"LATER-")
        assert server.integrity() == "ok"


def a_ref(session_id: str) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app="scrub", session_id=session_id)


async def write_secret(channel: grpc.aio.Channel, session_id: str, text: str) -> None:
    await session_service_pb2_grpc.SessionServiceStub(channel).CreateSession(
        session_service_pb2.CreateSessionRequest(
            app="scrub", session=session_service_pb2.NewSession(session_id=session_id)
        )
    )
    await history_service_pb2_grpc.HistoryServiceStub(channel).AppendMessages(
        history_service_pb2.AppendMessagesRequest(
            session=a_ref(session_id),
            messages=[message_pb2.NewMessage(role="user", content=text)],
        )
    )


async def reset(
    channel: grpc.aio.Channel, session_id: str
) -> session_service_pb2.ResetSessionResponse:
    answer: session_service_pb2.ResetSessionResponse
    answer = await session_service_pb2_grpc.SessionServiceStub(channel).ResetSession(
        session_service_pb2.ResetSessionRequest(session=a_ref(session_id))
    )
    return answer
