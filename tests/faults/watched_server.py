"""`sojourn-server` that tells how many tasks it has: SIGUSR1 writes them beside the port file."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

from sojourn_server import command
from sojourn_server.app import RunningServer, start
from sojourn_server.settings import Settings


def tell(port_file: Path, server: RunningServer) -> None:
    tasks = Counter(_kind(task) for task in asyncio.all_tasks())
    fresh = port_file.with_name("tasks.fresh")
    fresh.write_text(json.dumps({"calls": server._pipeline.running, **tasks}))
    fresh.replace(port_file.with_name("tasks"))


def _kind(task: asyncio.Task[object]) -> str:
    """A task's own name, or what it runs."""
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", name) if name.startswith("Task-") else name


async def watched_start(settings: Settings) -> RunningServer:
    server = await start(settings)
    assert settings.port_file is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell, settings.port_file, server)
    return server


if __name__ == "__main__":
    command.start = watched_start  # type: ignore[attr-defined]
    command.main()
