"""A saver whose threads outlive the process. Not in the kit: graphs take long to import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint


class Folder(BaseCheckpointSaver[str]):
    """Threads as files, which outlive the process; it takes its time to delete one."""

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        super().__init__()
        self._folder = folder
        self._pause = pause

    def keep(self, thread_id: str) -> None:
        """Keep something of a thread."""
        (self._folder / thread_id).touch()

    def held(self) -> set[str]:
        """All that is kept."""
        return {path.name for path in self._folder.iterdir()}

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread."""
        await asyncio.sleep(self._pause)
        (self._folder / thread_id).unlink(missing_ok=True)

    def list(self, *_: Any, **__: Any) -> Iterator[CheckpointTuple]:
        """Return one checkpoint of each thread."""
        for name in self.held():
            config = RunnableConfig(configurable={"thread_id": name})
            yield CheckpointTuple(config, empty_checkpoint(), {}, None, None)

    async def alist(self, *_: Any, **__: Any) -> AsyncIterator[CheckpointTuple]:
        """Return one checkpoint of each thread."""
        for one in self.list():
            yield one
