"""A line between a client and its server on which answers are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class LossyLine:
    """Passes on what both sides say; while it holds, the server is heard by nobody.

    Args:
        target: The server, `host:port`.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._server = host, int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self.target = ""

    @property
    def holding(self) -> bool:
        """Whether it keeps back what the server says."""
        return not self._passing.is_set()

    def hold(self) -> None:
        """Keep back what the server says from now on."""
        self._passing.clear()

    def lose(self) -> None:
        """Drop what was kept back, with the connections; new ones pass everything on."""
        for writer in list(self._open):
            writer.transport.abort()
        self._open.clear()
        self._passing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        there, back = await asyncio.open_connection(*self._server)
        both = {writer, back}
        self._open |= both
        try:
            await asyncio.gather(
                self._pass_on(reader, back), self._pass_on(there, writer, held=True)
            )
        finally:
            self._open -= both
            for one in both:
                one.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if held:
                    await self._passing.wait()
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.asynccontextmanager
async def lossy_line(target: str) -> AsyncIterator[LossyLine]:
    """Run one in front of a server."""
    made = LossyLine(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.lose()
