"""A line between a client and its server on which answers are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.api.cutting import Cutter, listening


class LossyLine(Cutter):
    """Passes on what both sides say; while it holds, the server is heard by nobody."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def holding(self) -> bool:
        """Whether it keeps back what the server says."""
        return not self._passing.is_set()

    async def may_answer(self) -> None:
        """Wait while it holds."""
        await self._passing.wait()

    def hold(self) -> None:
        """Keep back what the server says from now on."""
        self._passing.clear()

    def lose(self) -> None:
        """Drop what was kept back, with the connections; new ones pass everything on."""
        self.cut()
        self._passing.set()


@contextlib.asynccontextmanager
async def lossy_line(target: str) -> AsyncIterator[LossyLine]:
    """Run one in front of a server."""
    async with listening(LossyLine(target)) as made:
        try:
            yield made
        finally:
            made.lose()
