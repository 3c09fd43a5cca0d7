"""Where a cleaner of threads keeps how far it has come, and who of several works."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from pathlib import Path
from typing import IO, Protocol, Unpack

from sojourn import inputs
from sojourn._async.client import AsyncClient
from sojourn._async.handles import AsyncSessionHandle
from sojourn._files import writing
from sojourn.adapters._connection import Connection
from sojourn.enums import OnConflict
from sojourn.errors import SojournError, TurnConflictError

CLEANERS = "sojourn-cleaners"
LEASE = 15.0
"""Seconds after which another one takes over from a cleaner that was killed."""
WAIT = 300.0
LOOK = 0.5
_KEY = "position"


class HeldPosition(Protocol):
    """A position in the hands of the one who works."""

    async def load(self) -> str:
        """Return what was saved last; empty: nothing yet."""

    async def save(self, text: str) -> None:
        """Keep a text of up to 256 KiB in the place of the last one, whole or not at all."""


class PositionStore(Protocol):
    """Where a position is kept, so that cleaners can take over from one another."""

    def hold(self) -> AbstractAsyncContextManager[HeldPosition]:
        """Wait until nobody else holds it, and hold it."""


class FilePosition:
    """A position in a file: for cleaners on one machine.

    Who holds it has locked a second file beside it, which the system unlocks when the process
    ends, however it ends.

    Args:
        path: The file; it is replaced as a whole.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldPosition]:
        """Wait until no other process holds it, and hold it."""
        with self._path.with_name(f"{self._path.name}.lock").open("ab") as lock:
            while not _locked(lock):  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(LOOK)
            yield self

    async def load(self) -> str:
        """Return what was saved last; empty: nothing yet."""
        with suppress(FileNotFoundError):
            return self._path.read_text(encoding="utf-8")
        return ""

    async def save(self, text: str) -> None:
        """Replace the file."""
        await asyncio.to_thread(self._write, text)

    def _write(self, text: str) -> None:
        with writing(self._path) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _locked(lock: IO[bytes]) -> bool:
    # Here and not above: Windows has none, and may keep positions in Sojourn.
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class SojournPosition:
    """A position in Sojourn itself: for cleaners in any number of pods.

    It is the state of a session of its own, in an app of its own: so nobody who watches the app
    that is cleaned sees it move. Who holds it has a turn on that session, and writes by the turn's
    token: after it was taken for dead, it changes nothing any more.

    Args:
        server: The server; see `Connection`.
        name: The session's id: one for each app that is cleaned, and each saver.
        lease: Seconds after which another one takes over from a cleaner that was killed.
        fields: `app`, the app that it is in, `sojourn-cleaners` unless told: cleaners need the
            permission to write there. And, where `server` is an address, the others of
            `sojourn.connect`.
    """

    def __init__(
        self,
        server: AsyncClient | str | Connection,
        name: str,
        *,
        lease: inputs.Duration = LEASE,
        **fields: Unpack[inputs.ClientFields],
    ) -> None:
        self._app = fields.pop("app", CLEANERS)
        self._connection = (
            server if isinstance(server, Connection) else Connection(server, **fields)
        )
        self._name = name
        self._lease = lease

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldPosition]:
        """Wait until no other cleaner has a turn, and begin one."""
        async with AsyncExitStack() as turn:
            handle = await self._begin(turn)
            try:
                yield _InSession(handle)
            except BaseException:
                # Whatever ended the work, also a cancellation: no error of the turn.
                with suppress(SojournError):
                    await turn.aclose()
                raise

    async def _begin(self, stack: AsyncExitStack) -> AsyncSessionHandle:
        client = self._connection.client
        while True:
            handle = await client.attach(
                self._name, app=self._app, replace_ended=True, idle_timeout=0, max_lifetime=0
            )
            turn = handle.turn(
                holder=f"{socket.gethostname()}:{os.getpid()}",
                lease=self._lease,
                on_conflict=OnConflict.WAIT,
                wait_timeout=WAIT,
            )
            with suppress(TurnConflictError):
                await stack.enter_async_context(turn)
                return handle


class _InSession:
    """The position, while its session has a turn of ours."""

    def __init__(self, handle: AsyncSessionHandle) -> None:
        self._handle = handle

    async def load(self) -> str:
        """Read it."""
        return str((await self._handle.get_state()).values.get(_KEY, ""))

    async def save(self, text: str) -> None:
        """Write it; raises `TurnSupersededError` when another one has taken over."""
        await self._handle.update_state({_KEY: text})
