"""The streams that are open: whoever holds one must still be allowed to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sojourn_server import logs
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.rpc.errors import refusal_of

RECHECK: Final = 5.0
"""How often the credential of an open stream is asked for again, in seconds. With the
second that a revocation takes to be noticed, a stream ends well within ten."""

_log = logs.Log("rpc")


class Streams:
    """Open streams, by the task that serves each."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any], Callable[[], Awaitable[None]]] = {}
        self._cut: dict[asyncio.Task[Any], Refusal] = {}
        self._bulk: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def enter(
        self,
        task: asyncio.Task[Any],
        recheck: Callable[[], Awaitable[None]],
        bulk: bool = False,
    ) -> None:
        """Remember a stream.

        Args:
            task: Serves it.
            recheck: Asks again whether its caller may have it; raises `Refusal` if not.
            bulk: Whether nobody else ends it when the server stops: an export, an import.
        """
        self._open[task] = recheck
        if bulk:
            self._bulk.add(task)

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Forget a stream that is over."""
        self._open.pop(task, None)
        self._cut.pop(task, None)
        self._bulk.discard(task)

    def cut(self, task: asyncio.Task[Any], refusal: Refusal) -> None:
        """End a stream with a refusal."""
        if task in self._open and task not in self._cut:
            self._cut[task] = refusal
            task.cancel()

    def cut_bulk(self, refusal: Refusal) -> None:
        """End exports and imports with a refusal."""
        for task in list(self._bulk):
            self.cut(task, refusal)

    def why_cut(self, task: asyncio.Task[Any]) -> Refusal | None:
        """Why a stream was ended from here; None: it was not."""
        return self._cut.get(task)

    async def recheck(self) -> None:
        """Ask for each stream whether its caller may still have it, and end those of others.

        All at once: one whose issuer takes its time must not let the others stay open.
        """
        await asyncio.gather(*(self._ask(task, ask) for task, ask in list(self._open.items())))

    async def _ask(self, task: asyncio.Task[Any], ask: Callable[[], Awaitable[None]]) -> None:
        try:
            await ask()
        except Exception as error:  # noqa: BLE001 - whom we cannot tell of, nothing is told
            refusal = refusal_of(error)
            if refusal.reason is Reason.INTERNAL:
                _log.error("stream not looked at", **logs.fault(error))
            _log.info("stream ended", reason=refusal.reason.value)
            self.cut(task, refusal)

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK)
            await self.recheck()
