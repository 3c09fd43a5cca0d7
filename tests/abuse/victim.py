"""The server that is abused, and an honest client of it that must not notice much."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import grpc.aio

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults import counts
from tests.faults.checker import until
from tests.faults.harness import ServerProcess, health
from tools.h2 import PREFACE, Call, message

T = TypeVar("T")

APP: Final = "honest"
GET: Final = "/sojourn.v1.SessionService/GetSession"
CREATE: Final = "/sojourn.v1.SessionService/CreateSession"
MIB: Final = 2**20
HONEST_PAUSE: Final = 0.005
ROOM: Final = 700 * MIB
"""What a server may take for those who abuse it: requests, answers and streams at their bounds,
and what its allocator keeps."""


def ref(session_id: str, app: str = APP) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app=app, user="u", session_id=session_id)


def get_call(app: str = "noisy") -> Call:
    """GetSession of a session that is not there."""
    request = session_service_pb2.GetSessionRequest(session=ref("none", app))
    return Call(GET, request.SerializeToString())


class Victim:
    """A server process that is to live through everything.

    Args:
        folder: For its files.
        flags: More flags.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self._server = ServerProcess(folder, "--log-level", "warning", *flags)
        self.worst = 0

    @property
    def target(self) -> str:
        return self._server.target

    @property
    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def log(self) -> str:
        return self._server.log()

    def rss(self) -> int:
        """Its memory, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        self.worst = max(self.worst, int(kib) * 1024)
        return int(kib) * 1024

    def handles(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @contextlib.asynccontextmanager
    async def abused(self, what: str, room: int = ROOM) -> AsyncIterator[Honest]:
        """Watch the server while it is abused.

        It must stay alive and healthy, its memory bounded, its handles must come back, and no
        call of an honest client may fail.
        """
        pid, handles, rss = self.pid, self.handles(), self.rss()
        self.worst = rss
        async with Honest(self.target) as honest:
            watching = asyncio.create_task(self._watch_memory())
            try:
                yield honest
            finally:
                watching.cancel()
            await honest.more(5)
            async with grpc.aio.insecure_channel(self.target) as channel:
                assert await health(channel, ""), "it is not healthy"
        assert self.pid == pid
        assert self._server.process is not None
        assert self._server.process.poll() is None, self.log()
        assert self.worst - rss < room, f"{what}: {(self.worst - rss) / MIB:.0f} MiB more"

        async def back() -> bool:
            return self.handles() <= handles

        await until(back, lambda: f"{handles} handles as before; now {self.handles()}")
        # What grpc says of callers who left while it was sending is no fault of ours.
        assert '"level": "error"' not in self.log(), self.log()
        grown = (self.worst - rss) / MIB
        counts.report(what, len(honest.took), f"honest calls: {honest.summary()}; +{grown:.0f} MiB")

    async def _watch_memory(self) -> None:
        while True:
            self.rss()
            await asyncio.sleep(0.05)

    def __enter__(self) -> Victim:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)


class Honest:
    """A client that writes and reads, over a connection of its own, until told to stop."""

    def __init__(self, target: str) -> None:
        # A connection of its own, not one that others of this process share.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self._sessions = session_service_pb2_grpc.SessionServiceStub(self._channel)
        self._history = history_service_pb2_grpc.HistoryServiceStub(self._channel)
        self.took: list[float] = []
        """How long each call took, in seconds."""
        self._task: asyncio.Task[None] | None = None
        self._name = uuid.uuid4()

    async def more(self, calls: int) -> None:
        """Wait until so many more calls were answered; raises what any of them raised."""
        enough = len(self.took) + calls
        while len(self.took) < enough:
            assert self._task is not None
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.02)

    def summary(self) -> str:
        """Their latencies."""
        took = sorted(self.took)
        p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
        return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, worst {took[-1] * 1e3:.0f} ms"

    async def _go_on(self) -> None:
        number = 0
        while True:
            number += 1
            text = message_pb2.NewMessage(role="user", content=f"text {number}")
            append = history_service_pb2.AppendMessagesRequest(
                session=ref("s"), messages=[text], request_id=f"{self._name}-{number}"
            )
            await self._timed(self._history.AppendMessages(append, timeout=60))
            get = session_service_pb2.GetSessionRequest(session=ref("s"), last_messages=1)
            answer = await self._timed(self._sessions.GetSession(get, timeout=60))
            assert answer.messages[0].content == f"text {number}"
            await asyncio.sleep(HONEST_PAUSE)

    async def _timed(self, call: Awaitable[T]) -> T:
        began = time.monotonic()
        answer = await call
        self.took.append(time.monotonic() - began)
        return answer

    async def __aenter__(self) -> Honest:
        request = session_service_pb2.CreateSessionRequest(
            app=APP,
            session=session_service_pb2.NewSession(user="u", session_id="s"),
            if_exists=session_service_pb2.IF_EXISTS_RETURN_EXISTING,
        )
        await self._sessions.CreateSession(request, timeout=60)
        self._task = asyncio.create_task(self._go_on())
        await self.more(4)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        finally:
            await self._channel.close()


class HalfOpen:
    """Connections that begin, and do not go on."""

    STARTS: Final = {
        "nothing": b"",
        "half a preface": PREFACE[:10],
        "a preface without settings": PREFACE,
        "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    }

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.sockets: dict[str, socket.socket] = {}
        for name, start in self.STARTS.items():
            for number in range(25):
                made = socket.create_connection((host, int(port)), timeout=10)
                made.sendall(start)
                self.sockets[f"{name} {number}"] = made

    def still_open(self) -> list[str]:
        """Those that the server has not closed."""
        for name, each in list(self.sockets.items()):
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                try:
                    ended = not each.recv(2**16)
                except ConnectionResetError:
                    ended = True
                if ended:
                    each.close()
                    del self.sockets[name]
        return sorted(self.sockets)

    def close(self) -> None:
        for each in self.sockets.values():
            each.close()


def too_large(announced: int) -> bytes:
    """The beginning of a message that announces so many bytes."""
    return message(b"")[:1] + announced.to_bytes(4)
