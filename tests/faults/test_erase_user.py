"""After EraseUser no byte of the user is in any file, also where the server was killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import grpc
import pytest

from sojourn.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    app_service_pb2,
    app_service_pb2_grpc,
    change_pb2,
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults.harness import APP, ServerProcess, channel_to

DOOMED = "SECRET-doomed-user"
OTHERS = [f"other-{number:02}" for number in range(12)]
SESSIONS = 40
PATIENCE = 60


def words() -> list[bytes]:
    """What nobody may find: every name and text of the user, as UTF-8 (msgpack's texts too)."""
    return [f"SECRET-{what}".encode() for what in ("doomed", "session", "label", "text", "message")]


async def fill(channel: grpc.aio.Channel) -> None:
    """Sessions of many users in turns, so that rows of one lie among those of others."""
    history = history_service_pb2_grpc.HistoryServiceStub(channel)
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)

    async def one(user: str, number: int) -> None:
        doomed = user == DOOMED
        word = "SECRET" if doomed else "plain"
        name = f"{word}-session-{user}-{number}-{'x' * (number * 37 % 70)}"
        await sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=APP,
                request_id=f"make-{name}",
                session=session_service_pb2.NewSession(
                    user=user,
                    session_id=name,
                    labels={"team": f"{word}-label-{number % 7}"},
                    metadata={"m": f'"{word}-text"'},
                ),
            )
        )
        ref = session_pb2.SessionRef(app=APP, user=user, session_id=name)
        await history.AppendMessages(
            history_service_pb2.AppendMessagesRequest(
                session=ref,
                request_id=f"say-{name}",
                messages=[
                    message_pb2.NewMessage(
                        message_id=f"{word}-message-{n}", role="user", content=f"{word}-text " * 9
                    )
                    for n in range(4)
                ],
            )
        )

    jobs = [(user, number) for user in (DOOMED, *OTHERS) for number in range(SESSIONS)]
    random.Random(20_261_121).shuffle(jobs)
    for begin in range(0, len(jobs), 20):
        await asyncio.gather(*(one(*job) for job in jobs[begin : begin + 20]))


def request(request_id: str = "erase") -> app_service_pb2.EraseUserRequest:
    return app_service_pb2.EraseUserRequest(app=APP, user=DOOMED, request_id=request_id)


async def entries(channel: grpc.aio.Channel) -> list[admin_service_pb2.AuditEntry]:
    admin = admin_service_pb2_grpc.AdminServiceStub(channel)
    found: list[admin_service_pb2.AuditEntry] = []
    token = ""
    for _ in range(100):
        page = await admin.ListAuditEntries(
            admin_service_pb2.ListAuditEntriesRequest(app=APP, page_size=500, page_token=token)
        )
        found += page.entries
        token = page.next_page_token
        if not token:
            return found
    raise AssertionError("the audit has no end")


async def nothing_found(server: ServerProcess) -> None:
    """Wait for the job that finishes it, where the answer could not wait."""
    for _ in range(PATIENCE * 10):
        if not any(server.files_hold(word) for word in words()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the user is still in a file")


@pytest.mark.timeout(180)
async def test_no_byte_of_an_erased_user_is_in_any_file(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        async with channel_to(server.target) as channel:
            await fill(channel)
            assert all(server.files_hold(word) for word in words())
            apps = app_service_pb2_grpc.AppServiceStub(channel)
            receipt = await apps.EraseUser(request())
            assert (receipt.sessions, receipt.messages) == (SESSIONS, 4 * SESSIONS)
            if not receipt.scrubbed:
                await nothing_found(server)
            assert [word for word in words() if server.files_hold(word)] == []
            assert server.files_hold(b"plain-session")
            again = await apps.EraseUser(request())
            assert (again.sessions, again.revision) == (receipt.sessions, receipt.revision)
            audit = await entries(channel)
            assert audit[0].cause == change_pb2.CHANGE_CAUSE_USER_ERASED
            assert audit[0].erased.sessions == SESSIONS
            assert not any("SECRET" in str(entry) for entry in audit)


@pytest.mark.timeout(180)
async def test_an_erasure_goes_on_after_kill_9_and_sigterm(tmp_path: Path) -> None:
    """Stopped at several moments; each start goes on, and the last brings it to its end."""
    with ServerProcess(tmp_path, "--drain-timeout", "1ms") as server:
        async with channel_to(server.target) as channel:
            await fill(channel)
        for moment, stop in ((0.03, server.kill), (0.1, server.terminate), (0.2, server.kill)):
            async with channel_to(server.target) as channel:
                apps = app_service_pb2_grpc.AppServiceStub(channel)
                call = apps.EraseUser(request())
                await asyncio.sleep(moment)
                await asyncio.to_thread(stop)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call  # or it was answered before the end
            server.start()
        await nothing_found(server)
        async with channel_to(server.target) as channel:
            receipt = await app_service_pb2_grpc.AppServiceStub(channel).EraseUser(request())
            assert (receipt.sessions, receipt.messages) == (SESSIONS, 4 * SESSIONS)
