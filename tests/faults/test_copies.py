"""Killed in the middle of a copy, a replacement or an import: nothing half, nothing left over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sojourn.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults import counts
from tests.faults.harness import APP, ServerProcess

KILLS = counts.count("copy_kills")
MESSAGES = 3_000
REPLACED = 2_400
PATIENCE = 30.0

ADMIN: Any = admin_service_pb2
HISTORY: Any = history_service_pb2
SESSIONS: Any = session_service_pb2


def ref(session_id: str) -> dict[str, str]:
    return {"app": APP, "user": "u", "session_id": session_id}


async def furnish(channel: grpc.aio.Channel, session_id: str) -> None:
    sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
    history: Any = history_service_pb2_grpc.HistoryServiceStub(channel)
    new = {"user": "u", "session_id": session_id, "idle_timeout": {"seconds": 0}}
    await sessions.CreateSession(SESSIONS.CreateSessionRequest(app=APP, session=new))
    for _ in range(0, MESSAGES, 1_000):
        await history.AppendMessages(
            HISTORY.AppendMessagesRequest(
                session=ref(session_id), messages=[{"role": "user", "content": "x" * 50}] * 1_000
            )
        )


async def fork(channel: grpc.aio.Channel, source: str, made: str) -> None:
    sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
    await sessions.ForkSession(
        SESSIONS.ForkSessionRequest(session=ref(source), session_id=made, request_id=made)
    )


async def back_up(channel: grpc.aio.Channel, source: str, made: str) -> None:
    sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
    await sessions.ResetSession(
        SESSIONS.ResetSessionRequest(session=ref(source), backup_session_id=made, request_id=made)
    )


async def replace(channel: grpc.aio.Channel, source: str, made: str) -> None:
    history: Any = history_service_pb2_grpc.HistoryServiceStub(channel)
    for part in range(3):
        await history.ReplaceMessages(
            HISTORY.ReplaceMessagesRequest(
                session=ref(source),
                keep_through_sequence=1_000,
                messages=[{"role": "user", "content": "new"}] * (REPLACED // 3),
                staging_id=made,
                part=part,
                more_follow=part < 2,
                request_id=f"{made}-{part}",
            )
        )


async def bring_back(channel: grpc.aio.Channel, source: str, made: str) -> None:
    admin: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
    query = ADMIN.ExportSessionsRequest(app=APP, filter={"session_id_prefix": source})
    parts = [part async for part in admin.ExportSessions(query)]

    def lines() -> Iterator[Any]:
        yield ADMIN.ImportSessionsRequest(target={"app": APP, "on_existing": 3})
        for part in parts:
            yield ADMIN.ImportSessionsRequest.FromString(part.SerializeToString())

    await admin.ImportSessions(lines())


KINDS = {"fork": fork, "backup": back_up, "replace": replace, "import": bring_back}


async def held(channel: grpc.aio.Channel) -> dict[str, tuple[int, int]]:
    """How many messages each session says that it has, and how many are read."""
    sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
    history: Any = history_service_pb2_grpc.HistoryServiceStub(channel)
    listed = await sessions.ListSessions(SESSIONS.ListSessionsRequest(app=APP, page_size=1_000))
    found = {}
    for session in listed.sessions:
        count, token = 0, ""
        while True:
            page = await history.ListMessages(
                HISTORY.ListMessagesRequest(
                    session={"app": APP, "uid": session.uid}, page_size=1_000, page_token=token
                )
            )
            count += len(page.messages)
            token = page.next_page_token
            if not token:
                break
        found[session.key.session_id] = (session.message_count, count)
    return found


def left_over(server: ServerProcess) -> int:
    """Messages that are no session's."""
    with contextlib.closing(sqlite3.connect(f"file:{server.store}?mode=ro", uri=True)) as database:
        total = database.execute("SELECT count(*) FROM message").fetchone()[0]
        staged = database.execute("SELECT count(*) FROM staging").fetchone()[0]
    return int(total) + int(staged)


def wait_for_removal(server: ServerProcess, visible: int) -> int:
    """Wait until only what is visible is left; how much more there still is."""
    until = time.monotonic() + PATIENCE
    while (rest := left_over(server) - visible) and time.monotonic() < until:
        time.sleep(0.1)
    return rest


def lapse(server: ServerProcess) -> None:
    """Let what is staged have expired, instead of waiting for it."""
    with contextlib.closing(sqlite3.connect(server.store)) as database:
        database.execute("UPDATE staging SET expire_time = 1")
        database.commit()


@pytest.mark.timeout(counts.patience("copy_kills", 60))
@pytest.mark.parametrize("kind", KINDS)
async def test_a_kill_in_the_middle_of_a_copy_leaves_nothing_half(
    tmp_path: Path, kind: str
) -> None:
    chance = random.Random()
    with ServerProcess(tmp_path) as server:
        done = 0
        for number in range(KILLS):
            source = f"source-{number}"
            async with grpc.aio.insecure_channel(server.target) as channel:
                await furnish(channel, source)
                call = asyncio.create_task(KINDS[kind](channel, source, f"made-{number}"))
                await asyncio.sleep(chance.uniform(0.0, 0.4))
                done += call.done()
                server.kill()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call
            assert server.integrity() == "ok"
            lapse(server)
            server.start()
        async with grpc.aio.insecure_channel(server.target) as channel:
            found = await held(channel)
            assert {
                session_id: each for session_id, each in found.items() if each[0] != each[1]
            } == {}
            whole = {0, MESSAGES, 1_000 + REPLACED}
            assert {said for said, _ in found.values()} <= whole
            if kind == "backup":
                backed_up = [name for name in found if name.startswith("made")]
                cleared = [
                    name
                    for name, (said, _) in found.items()
                    if name.startswith("source") and not said
                ]
                assert len(backed_up) == len(cleared), "a reset with a backup, or neither"
            visible = sum(count for _, count in found.values())
            rest = await asyncio.to_thread(wait_for_removal, server, visible)
            assert rest == 0, "what was staged is removed"
    counts.report(f"kill -9 while {kind}", KILLS, f"{done} were done before, 0 half, 0 left over")
