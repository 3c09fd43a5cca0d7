"""Killed or stopped while a large history is erased: the next start erases the rest by itself."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

import grpc.aio
import pytest

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults import counts
from tests.faults.harness import ServerProcess, channel_to, ref, stored_messages

ROUNDS: Final = counts.count("purge_kills")
MESSAGES: Final = 4_000
SECRET: Final = "SECRET-of-a-long-history "
PATIENCE: Final = 60


async def fill(channel: grpc.aio.Channel, name: str) -> None:
    history = history_service_pb2_grpc.HistoryServiceStub(channel)
    for begin in range(0, MESSAGES, 1_000):
        messages = [
            message_pb2.NewMessage(role="user", content=SECRET + str(begin + number))
            for number in range(1_000)
        ]
        await history.AppendMessages(
            history_service_pb2.AppendMessagesRequest(
                session=ref(name), messages=messages, create_if_missing=True
            )
        )


async def clear(
    channel: grpc.aio.Channel, name: str
) -> session_service_pb2.DeleteSessionResponse | session_service_pb2.ResetSessionResponse:
    """Delete or reset, by the name; a repeat gets the same answer."""
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    if name.startswith("delete"):
        return await sessions.DeleteSession(
            session_service_pb2.DeleteSessionRequest(session=ref(name), request_id="clear")
        )
    return await sessions.ResetSession(
        session_service_pb2.ResetSessionRequest(session=ref(name), request_id="clear")
    )


async def is_cleared(channel: grpc.aio.Channel, name: str) -> bool:
    try:
        return not await stored_messages(channel, name)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND


async def nothing_found(server: ServerProcess) -> None:
    for _ in range(PATIENCE * 10):
        if not server.files_hold(SECRET.encode()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the erased text is still in a file")


@pytest.mark.timeout(counts.patience("purge_kills", 60))
@pytest.mark.parametrize("signal", ["kill -9", "SIGTERM"])
async def test_the_rest_of_a_large_history_is_erased_after(tmp_path: Path, signal: str) -> None:
    chance = random.Random()
    cleared = 0
    with ServerProcess(tmp_path, "--drain-timeout", "1ms") as server:
        stop = server.kill if signal == "kill -9" else server.terminate
        for number in range(ROUNDS):
            name = f"{('delete', 'reset')[number % 2]}-{number}"
            async with channel_to(server.target) as channel:
                await fill(channel, name)
                asked = asyncio.create_task(clear(channel, name))
                await asyncio.sleep(chance.uniform(0.01, 0.08))
                await asyncio.to_thread(stop)
                try:
                    await asked
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
            server.start()
            async with channel_to(server.target) as channel:
                if await is_cleared(channel, name):
                    cleared += 1
                    await nothing_found(server)
                answer = await clear(channel, name)
                count = (
                    answer.messages_deleted
                    if isinstance(answer, session_service_pb2.DeleteSessionResponse)
                    else answer.messages_cleared
                )
                assert count == MESSAGES
                await nothing_found(server)
    counts.report(f"{signal} in the middle of a large erasure", ROUNDS, f"{cleared} begun before")
