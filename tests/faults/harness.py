"""A server in a process of its own, and a load whose acknowledgements are kept outside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import grpc.aio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)

if TYPE_CHECKING:
    # Types that only the stubs' .pyi files know.
    from sojourn.v1.history_service_pb2_grpc import HistoryServiceAsyncStub as HistoryStub

START_PATIENCE = 30.0
APP = "faults"


class ServerProcess:
    """`sojourn-server` on a port of the loopback.

    Args:
        folder: Where its files are.
        flags: More flags.
        url: Where its store is; empty: an SQLite file in the folder.
        port: The port; 0: a free one, another at each start.
        environment: More variables.
        module: What is run; it takes the server's flags.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        url: str = "",
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        module: str = "sojourn_server",
    ) -> None:
        self.folder = folder
        self.store = folder / "store" / "sojourn.db"
        self.store.parent.mkdir(parents=True, exist_ok=True)
        self.url = url or f"sqlite:///{self.store}"
        self.flags = flags
        self.port = port
        self.environment = dict(environment or {})
        self.module = module
        self.process: subprocess.Popen[bytes] | None = None
        self.target = ""
        self.started_in = 0.0

    def start(self) -> ServerProcess:
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        began = time.monotonic()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", self.module),
                    *("--listen", f"127.0.0.1:{self.port}", "--port-file", str(port_file)),
                    *("--store", self.url),
                    *self.flags,
                ],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not port_file.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended by itself:\n{self.log()}")
            if time.monotonic() - began > START_PATIENCE:
                raise AssertionError(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)
        self.target = f"127.0.0.1:{port_file.read_text().strip()}"
        self.started_in = time.monotonic() - began
        return self

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-4_000:]

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def integrity(self) -> str:
        """What SQLite says of a copy of the files as the last process left them."""
        with tempfile.TemporaryDirectory() as copy:
            for file in self.store.parent.iterdir():
                shutil.copy(file, copy)
            with contextlib.closing(sqlite3.connect(Path(copy) / self.store.name)) as database:
                rows = database.execute("PRAGMA integrity_check").fetchall()
        return ", ".join(str(row[0]) for row in rows)

    def files_hold(self, needle: bytes) -> list[str]:
        """The names of the store's files in which some bytes stand."""
        files = sorted(self.store.parent.iterdir())
        return [file.name for file in files if needle in file.read_bytes()]


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in an error's details; empty: no server of ours has answered."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


@dataclass
class Expected:
    """One session, as its writer knows it."""

    session_id: str
    created: bool = False
    messages: list[str] = field(default_factory=list)
    """Acknowledged texts, in order."""
    pending: history_service_pb2.AppendMessagesRequest | None = None
    """An append whose outcome is unknown."""
    pending_create: session_service_pb2.CreateSessionRequest | None = None


class Writer:
    """Creates sessions and appends to them, and remembers what was acknowledged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: list[Expected] = []
        self.revisions: list[int] = []
        """Of each acknowledged write, in the order of the answers."""
        self.refusals: Counter[str] = Counter()
        """Why writes were refused."""
        self._number = 0

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return len(self.revisions)

    async def run(self, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        """Write until told to stop, or until the server is gone."""
        try:
            await self._write(channel, stop)
        except grpc.aio.AioRpcError as error:
            # Anything else is no answer that a write may get: what was acknowledged is not there.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise

    async def run_through(self, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        """Write until told to stop; what is refused is asked again, with the same request_id."""
        while not stop.is_set():
            try:
                await self._write(channel, stop)
            except grpc.aio.AioRpcError as error:
                self.refusals[reason_of(error) or error.code().name] += 1
                await asyncio.sleep(0.01)

    async def _write(self, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        history = history_service_pb2_grpc.HistoryServiceStub(channel)
        await self.settle(channel)
        while not stop.is_set():
            session = self._new_session()
            await self._create(channel, session)
            for _ in range(5):
                await self._append(history, session)

    async def settle(self, channel: grpc.aio.Channel) -> None:
        """Repeat what was not acknowledged, with the same request_id."""
        history = history_service_pb2_grpc.HistoryServiceStub(channel)
        # Only the newest can have something open.
        for session in self.sessions[-1:]:
            if session.pending_create is not None:
                await self._create(channel, session)
            if session.pending is not None:
                await self._send(history, session)

    async def _create(self, channel: grpc.aio.Channel, session: Expected) -> None:
        assert session.pending_create is not None
        sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        answer = await sessions.CreateSession(session.pending_create, timeout=20)
        session.created, session.pending_create = True, None
        self.revisions.append(answer.revision)

    def _new_session(self) -> Expected:
        self._number += 1
        session = Expected(f"{self.name}-{self._number}")
        session.pending_create = session_service_pb2.CreateSessionRequest(
            app=APP,
            session=session_service_pb2.NewSession(user="u", session_id=session.session_id),
            request_id=f"create-{session.session_id}",
        )
        self.sessions.append(session)
        return session

    async def _append(self, history: HistoryStub, session: Expected) -> None:
        text = f"{session.session_id}/{len(session.messages)}/{os.urandom(40).hex()}"
        session.pending = history_service_pb2.AppendMessagesRequest(
            session=ref(session.session_id),
            messages=[message_pb2.NewMessage(role="user", content=text)],
            request_id=f"append-{session.session_id}-{len(session.messages)}",
        )
        await self._send(history, session)

    async def _send(self, history: HistoryStub, session: Expected) -> None:
        assert session.pending is not None
        answer = await history.AppendMessages(session.pending, timeout=20)
        session.messages.append(session.pending.messages[0].content)
        session.pending = None
        self.revisions.append(answer.revision)


def ref(session_id: str) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app=APP, user="u", session_id=session_id)


@contextlib.asynccontextmanager
async def channel_to(target: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


async def stored_messages(channel: grpc.aio.Channel, session_id: str) -> list[str]:
    """The texts that the service holds of a session, all pages."""
    history = history_service_pb2_grpc.HistoryServiceStub(channel)
    request = history_service_pb2.ListMessagesRequest(session=ref(session_id), page_size=1_000)
    texts: list[str] = []
    while True:
        page = await history.ListMessages(request, timeout=20)
        texts += [message.content for message in page.messages]
        if not page.next_page_token:
            return texts
        request.page_token = page.next_page_token


async def stored_session_ids(channel: grpc.aio.Channel) -> list[str]:
    """The ids of all sessions, all pages."""
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    request = session_service_pb2.ListSessionsRequest(app=APP, page_size=1_000)
    ids: list[str] = []
    while True:
        page = await sessions.ListSessions(request, timeout=20)
        ids += [session.key.session_id for session in page.sessions]
        if not page.next_page_token:
            return ids
        request.page_token = page.next_page_token


async def health(channel: grpc.aio.Channel, service: str) -> bool:
    """Whether a service is SERVING."""
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=20
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
