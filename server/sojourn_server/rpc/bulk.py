"""Exports on their way out: written one by one, and given up when nobody takes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sojourn_server.domain.errors import Reason, Refusal

Send = Callable[[bytes], Awaitable[None]]

STALL: Final = 30.0
"""How long a message may take to be taken, in seconds."""
LOOK: Final = 1.0
"""How often it is looked, in seconds."""
PARTING: Final = 5.0
"""How long a message that is being written may take once the call is to end, in seconds."""


class _Over(Exception):
    """Nothing more may be written."""


class Outgoing:
    """Writes messages, of which none is ever broken off: grpc would tell no status then.

    Args:
        send: Writes one message.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._since = 0.0
        self._over = False
        self._left: set[asyncio.Task[None]] = set()

    async def write(self, message: bytes) -> None:
        """Write one message, and wait until it is taken.

        Raises:
            _Over: The call has been answered meanwhile.
        """
        self._since = time.monotonic()
        await self._send(message)
        self._since = 0.0
        if self._over:
            raise _Over

    async def run(self, produce: Callable[[], Awaitable[None]]) -> None:
        """Carry out what writes, until it is done or its messages are not taken.

        Raises:
            Refusal: `SLOW_CONSUMER`, or whatever `produce` raised.
        """

        async def work() -> None:
            await produce()

        task = asyncio.create_task(work(), name="export")
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK)
                if self._since and time.monotonic() - self._since > STALL and not task.done():
                    self._leave(task)
                    raise Refusal(Reason.SLOW_CONSUMER, "the stream took nothing for too long")
        except asyncio.CancelledError:
            self._leave(task)
            if not self._since:
                task.cancel()
            await asyncio.wait({task}, timeout=PARTING)
            raise
        await task

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Let what writes end by itself, after the message that it is in."""
        self._over = True
        self._left.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # its call was answered; nobody is left to hear of it
