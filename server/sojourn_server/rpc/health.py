"""grpc.health.v1: whether the server reads, writes, and takes new calls.

`""` and each of the contract's services are SERVING while the store can be read;
`sojourn.write` while it can be written. All are NOT_SERVING once the server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from grpc_health.v1 import health, health_pb2

from sojourn_server import logs
from sojourn_server.store.base import Store

WRITE: Final = "sojourn.write"
"""The name under which health speaks of writes."""
PERIOD: Final = 2.0
"""How often the store is probed, in seconds."""
PATIENCE: Final = 5.0
"""How long a probe may take before it counts as failed, in seconds."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

_log = logs.Log("health")


class Health:
    """Probes the store and answers health checks.

    Args:
        store: What is probed.
        services: The names that share the overall answer.
    """

    def __init__(self, store: Store, services: Sequence[str]) -> None:
        self._store = store
        self._readers = ("", *services)
        self._known: dict[str, bool] = {}
        self.servicer = health.aio.HealthServicer()
        """To be added to the server."""

    async def probe(self) -> None:
        """Look at the store once."""
        readable = await _holds(self._store.check_readable)
        writable = readable and await _holds(self._store.check_writable)
        for name in self._readers:
            await self._set(name, readable)
        await self._set(WRITE, writable)

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.probe()
            await asyncio.sleep(PERIOD)

    async def drain(self) -> None:
        """Say NOT_SERVING from now on, whatever later probes find."""
        for name in (*self._readers, WRITE):
            await self._set(name, False)
        await self.servicer.enter_graceful_shutdown()

    async def _set(self, name: str, holds: bool) -> None:
        known = self._known.get(name)
        if known is holds:
            return
        self._known[name] = holds
        # Being well at the start is no news.
        if name in ("", WRITE) and not (known is None and holds):
            _log.info("health changed", service=name, serving=holds)
        await self.servicer.set(name, _SERVING if holds else _NOT_SERVING)


async def _holds(check: Callable[[], Awaitable[None]]) -> bool:
    """Whether a check passes, in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the store is not well
        _log.debug("probe failed", **logs.fault(error))
        return False
    return True
