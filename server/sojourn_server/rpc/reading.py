"""Requests on their way in: they are asked for by us, so that slow ones can be bounded.

grpc reads a request as far as it comes, up to the largest that is allowed, and only then
calls a handler for one request. Whoever sends a thousand halves would fill the memory
before anybody has asked who it is. So handlers are registered as if requests were streams,
and the one request is read here, once its caller is known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Reason, Refusal, draining
from sojourn_server.rpc.callers import Context
from sojourn_server.rpc.errors import abort

SLOW: Final = 0.25
"""After how long a request that is not there yet is slow, in seconds."""
SLOW_OF_ONE: Final = 64
"""How many slow requests of one caller may be on their way."""
SLOW_OF_ALL: Final = 128
"""How many of all callers may be: with the largest requests, a gibibyte."""
PATIENCE: Final = 60.0
"""How long a request may take to come, in seconds."""
LOOK: Final = 0.1
"""How often it is looked, in seconds."""


class Reading:
    """Reads requests, and knows which are on their way."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[Any], tuple[float, str]] = {}
        self._cut: dict[asyncio.Task[Any], Refusal] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def read(self, context: Context, who: str) -> bytes:
        """Read the one request of a call.

        Args:
            context: The call's.
            who: Whose it is: a principal, or empty.

        Raises:
            Refusal: `MALFORMED_REQUEST`: there is none. `RATE_LIMITED`: it comes too slowly,
                beside too many others. `DRAINING`: the server stops.
            CancelledError: The caller is gone.
        """
        raw = await self.more(context, who)
        if raw is None:
            raise Refusal(Reason.MALFORMED_REQUEST, "the call came without a request")
        return raw

    async def more(self, context: Context, who: str) -> bytes | None:
        """Read the next request of a call that may have several; None: there are no more.

        Raises:
            Refusal: As `read`.
            CancelledError: The caller is gone.
        """
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = (time.monotonic(), who)
        try:
            raw: Any = await context.read()
        except asyncio.CancelledError:
            refusal = self._cut.pop(task, None)
            if refusal is None:
                raise
            task.uncancel()
            raise refusal from None
        finally:
            del self._under_way[task]
        if raw is grpc.aio.EOF:
            return None
        data: bytes = raw
        return data

    def look(self, now: float) -> None:
        """Refuse the requests that are too slow, and those beyond the slow ones there may be.

        Args:
            now: The monotonic time.
        """
        slow: Counter[str] = Counter()
        for task, (since, who) in list(self._under_way.items()):
            if now - since < SLOW:
                # The rest came later.
                return
            slow[who] += 1
            if slow[who] > SLOW_OF_ONE:
                self._refuse(task, f"{SLOW_OF_ONE} slow requests", "principal")
            elif slow.total() > SLOW_OF_ALL:
                self._refuse(task, f"{SLOW_OF_ALL} slow requests", "server")
            elif now - since > PATIENCE:
                self._refuse(task, f"{PATIENCE:g} s for a request", "principal")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            self.look(time.monotonic())

    def close(self) -> None:
        """Refuse what is on its way: the server stops."""
        for task in list(self._under_way):
            self._break_off(task, draining())

    def _refuse(self, task: asyncio.Task[Any], limit: str, scope: str) -> None:
        refusal = Refusal(
            Reason.RATE_LIMITED,
            f"the limit of {limit} of the {scope} is reached",
            {"limit": limit, "of": scope},
            retry_after=SECOND,
        )
        self._break_off(task, refusal)

    def _break_off(self, task: asyncio.Task[Any], refusal: Refusal) -> None:
        if task not in self._cut:
            self._cut[task] = refusal
            task.cancel()


def taking_one(handler: Any, reading: Reading) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler for one request, of grpc's own services, with the request read by us.

    Args:
        handler: grpc's, unary in its requests; another is left as it is.
        reading: Reads them.
    """
    if handler.request_streaming:
        untouched: grpc.RpcMethodHandler[Any, Any] = handler
        return untouched
    use: Callable[[Any, Context], Awaitable[Any]] = handler.unary_stream or handler.unary_unary

    async def serve(_: AsyncIterator[bytes], context: Context) -> Any:
        try:
            raw = await reading.read(context, "")
        except Refusal as refusal:
            await abort(context, refusal)
        return await use(handler.request_deserializer(raw), context)

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(serve, None, handler.response_serializer)
