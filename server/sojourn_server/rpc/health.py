"""grpc.health.v1: whether the server reads, writes, and takes new calls.

`""` and each of the contract's services are SERVING while the store can be read;
`sojourn.write` while it can be written; `sojourn.live` as long as the server answers at all,
for whoever would restart one that does not. All are NOT_SERVING once the server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from grpc_health.v1 import health, health_pb2

from sojourn_server import logs
from sojourn_server.store.base import Store, StoreDown, StoreFull

WRITE: Final = "sojourn.write"
"""The name under which health speaks of writes."""
LIVE: Final = "sojourn.live"
"""The name under which health speaks of the process alone: no restart brings a store back."""
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
        self._draining = False
        self.servicer = health.aio.HealthServicer()
        """To be added to the server."""

    async def probe(self) -> None:
        """Look at the store once."""
        read_fault = await _fault_of(self._store.check_readable)
        write_fault = read_fault or await _fault_of(self._store.check_writable)
        for name in self._readers:
            await self._set(name, read_fault)
        await self._set(WRITE, write_fault)
        await self._set(LIVE, "")

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.probe()
            await asyncio.sleep(PERIOD)

    async def drain(self) -> None:
        """Say NOT_SERVING from now on, whatever later probes find."""
        self._draining = True
        for name in (*self._readers, WRITE):
            await self._set(name, "draining")
        await self.servicer.enter_graceful_shutdown()

    async def _set(self, name: str, fault: str) -> None:
        """Say whether a name serves; it does without a fault."""
        serving = not fault
        known = self._known.get(name)
        if known is serving:
            return
        self._known[name] = serving
        # Being well at the start is no news, and a drain speaks for itself.
        if name in ("", WRITE) and not self._draining and not (known is None and serving):
            say = _log.info if serving else _log.warning
            say("health changed", service=name, serving=serving, why=fault)
        await self.servicer.set(name, _SERVING if serving else _NOT_SERVING)


async def _fault_of(check: Callable[[], Awaitable[None]]) -> str:
    """Why a check does not pass in time; empty when it does."""
    try:
        async with asyncio.timeout(PATIENCE):
            await check()
    except (StoreFull, StoreDown) as error:
        return str(error) or type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever it is, the store is not well
        return type(error).__name__
    return ""
