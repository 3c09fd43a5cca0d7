"""A way to the database that can be cut, stopped, or cut right after a commit was sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Passes bytes on between stores and the database.

    Args:
        dsn: How to connect to the database.
    """

    def __init__(self, dsn: str) -> None:
        self._given = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.flow = asyncio.Event()
        """Cleared, nothing gets through any more, and nothing is closed."""
        self.cut_after_commit = False
        """The next commit reaches the database, and its answer does not come back."""
        self.closed = False
        """New connections are refused."""
        self.flow.set()

    async def start(self) -> str:
        """Listen; how to connect through it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return make_conninfo(**{**self._given, "host": "127.0.0.1", "port": str(port)})

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        self.cut()
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    def cut(self) -> None:
        """Break all connections."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        host, port = self._given["host"], self._given.get("port", "5432")
        if host.startswith("/"):
            up = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            up = await asyncio.open_connection(host, int(port))
        both = {writer, up[1]}
        self._open |= both
        for task in (
            asyncio.create_task(self._pass(reader, up[1], writer, sends=True)),
            asyncio.create_task(self._pass(up[0], writer, up[1], sends=False)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        *,
        sends: bool,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self.flow.wait()
                cut = sends and self.cut_after_commit and b"COMMIT\0" in data
                to.write(data)
                await to.drain()
                if cut:
                    self.cut_after_commit = False
                    back.transport.abort()
                    # What was sent is still to arrive.
                    await asyncio.sleep(0.2)
                    break
        to.transport.abort()
        back.transport.abort()
