"""What the examples share: a server to talk to, and a way to be started.

python examples/NAME.py                        runs against a server of its own
python examples/NAME.py --target HOST:PORT     runs against yours
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import sojourn
from sojourn import AsyncClient, testing


@dataclass(frozen=True)
class Server:
    """The server that an example talks to."""

    target: str
    files: Path | None
    """The folder of its files, where they are the example's own."""


def run(
    story: Callable[[AsyncClient, Server], Awaitable[None]], about: str | None, app: str
) -> None:
    """Run an example.

    Args:
        story: What it does.
        about: What to say of it when asked for help.
        app: The name of its app; each run adds something of its own, and meets no other.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="", help="a server that runs; else one is started")
    parser.add_argument("--store", default="", help="the URL of a store for the one started")
    options = parser.parse_args()

    async def main() -> None:
        name = f"{app}-{uuid.uuid4().hex[:6]}"
        async with (
            _server(options.target, options.store) as server,
            sojourn.connect(server.target, app=name, actor="example") as client,
        ):
            await story(client, server)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def _server(target: str, store: str) -> AsyncIterator[Server]:
    if target:
        yield Server(target, None)
        return
    with tempfile.TemporaryDirectory(prefix="sojourn-example-") as folder:
        own = f"sqlite:///{folder}/sojourn.db"
        async with testing.serve(store=store or own) as server:
            yield Server(server.target, None if store else Path(folder))
