"""A cleaner in a process of its own: `python worker.py TARGET APP THREADS POSITION`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sojourn.adapters.langgraph import FilePosition, SojournPosition, ThreadCleaner, Threads
from tests.adapters.langgraph.folder import Folder


async def main(target: str, app: str, folder: str, position: str) -> None:
    """Clean until it is killed."""
    kept = (
        FilePosition(position)
        if position
        else SojournPosition(target, app, app=f"{app} cleaners", lease=1)
    )
    async with Threads(target, app=app) as threads:
        saver = Folder(Path(folder), pause=0.01)
        await ThreadCleaner(threads, saver, position=kept, concurrency=1).run()


asyncio.run(main(*sys.argv[1:]))
