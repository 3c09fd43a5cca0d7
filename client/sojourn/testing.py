"""A real Sojourn server inside your tests: no fakes, no ports to choose, nothing left behind.

    async def test_my_agent() -> None:
        async with sojourn.testing.serve() as server, server.client(app="test") as client:
            ...

Needs the server's part of the distribution: `pip install sojourn[server]`.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sojourn._acompat import LoopThread
from sojourn._async.client import AsyncClient
from sojourn._sync.client import Client
from sojourn.errors import MissingExtraError
from sojourn.inputs import ClientFields

if TYPE_CHECKING:
    from sojourn_server.app import RunningServer

__all__ = ["AsyncLocalServer", "LocalServer", "serve", "serve_sync"]

# A test that is over wants no turn and no call to finish any more.
STOP_GRACE = 0.1


@dataclass(frozen=True, slots=True)
class AsyncLocalServer:
    """A server that runs in this event loop."""

    target: str
    """What to connect to, such as `127.0.0.1:40123`."""

    def client(self, **fields: Unpack[ClientFields]) -> AsyncClient:
        """Return a client of it; the arguments are those of `sojourn.connect`."""
        return AsyncClient(self.target, **fields)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that runs in a thread of its own."""

    target: str
    """What to connect to, such as `127.0.0.1:40123`."""

    def client(self, **fields: Unpack[ClientFields]) -> Client:
        """Return a client of it; the arguments are those of `sojourn.connect_sync`."""
        return Client(self.target, **fields)


@asynccontextmanager
async def serve(**settings: Any) -> AsyncIterator[AsyncLocalServer]:
    """Run a server in this event loop, on a free port of this machine, with a file of its own.

    `settings` are those of the server, by their names in `sojourn_server.settings.Settings`, such
    as `default_idle_timeout`. Raises `MissingExtraError` when the server is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="sojourn-") as folder:
        running = await _start(Path(folder), settings)
        try:
            yield AsyncLocalServer(running.target)
        finally:
            await running.stop(STOP_GRACE)


@contextmanager
def serve_sync(**settings: Any) -> Iterator[LocalServer]:
    """Run a server as `serve` does, in a thread with an event loop of its own: for sync clients.

    grpc wants one event loop in a process, so async clients had better meet `serve`.
    """
    thread = LoopThread()
    try:
        with tempfile.TemporaryDirectory(prefix="sojourn-") as folder:
            running = thread.run(_start(Path(folder), settings))
            try:
                yield LocalServer(running.target)
            finally:
                thread.run(running.stop(STOP_GRACE))
    finally:
        thread.close()


async def _start(folder: Path, settings: dict[str, Any]) -> RunningServer:
    try:
        # Here and not above: most who import the client have no server installed.
        from sojourn_server.app import start  # noqa: PLC0415
        from sojourn_server.settings import Settings  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            f"the server is not installed ({error}): pip install sojourn[server]"
        ) from error
    own = {"listen": "127.0.0.1:0", "store": f"sqlite:///{folder / 'sojourn.db'}"}
    return await start(Settings(**(own | settings)))
