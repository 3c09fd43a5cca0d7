"""What stands between a client and its server, and cuts their connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

C = TypeVar("C", bound="Cutter")


class Cutter:
    """Passes on what both sides say until it is told to cut.

    Args:
        target: The server, `host:port`.
    """

    def __init__(self, target: str) -> None:
        self._server = _address(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self.target = ""
        self.cuts = 0

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever is said."""
        self.cuts += 1
        for writer in list(self._writers):
            writer.transport.abort()

    def move(self, target: str) -> None:
        """Lead to another server from now on."""
        self._server = _address(target)
        self.cut()

    async def may_answer(self) -> None:
        """Wait until what the server says may be passed on: here at once."""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        try:
            there, back = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        try:
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer, self.may_answer))
        finally:
            self._writers -= both
            for one in both:
                one.close()


def _address(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    allowed: Callable[[], Awaitable[None]] | None = None,
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            if allowed is not None:
                await allowed()
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(made: C) -> AsyncIterator[C]:
    """Let one listen, on a port of its own."""
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.cut()


@contextlib.asynccontextmanager
async def cutter(target: str) -> AsyncIterator[Cutter]:
    """Run one in front of a server."""
    async with listening(Cutter(target)) as made:
        yield made
