"""etcd's put and get, through stubs that the benchmark made from `etcd_kv.proto`."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from typing_extensions import override

from bench.calls import READ_SESSIONS, TEXT, TIMEOUT, Caller, Job


class Etcd(Job):
    """A call of etcd's KV service."""

    def __init__(self, caller: Caller, args: dict[str, Any]) -> None:
        super().__init__(caller, args)
        # Made for the run and found through PYTHONPATH; never committed.
        self.messages: Any = importlib.import_module("etcd_kv_pb2")
        self.stub: Any = importlib.import_module("etcd_kv_pb2_grpc").KVStub(caller.channel)

    async def put(self, key: str) -> None:
        """Put a value of the benchmark's size."""
        request = self.messages.PutRequest(key=key.encode(), value=TEXT.encode())
        await self.stub.Put(request, timeout=TIMEOUT)


class Put(Etcd):
    """Put under a new key: what CreateSession is to Sojourn."""

    @override
    async def call(self, who: int, index: int) -> None:
        """Put."""
        await self.put(self.caller.fresh())


class Get(Etcd):
    """Range over one key."""

    @override
    async def prepare(self, callers: int, calls: int) -> None:
        """Put what is read."""
        await asyncio.gather(*(self.put(self._key(index)) for index in range(READ_SESSIONS)))

    def _key(self, index: int) -> str:
        return f"{self.caller.name}-{index % READ_SESSIONS}"

    @override
    async def call(self, who: int, index: int) -> None:
        """Get."""
        request = self.messages.RangeRequest(key=self._key(who * 7 + index).encode())
        answer = await self.stub.Range(request, timeout=TIMEOUT)
        if len(answer.kvs) != 1:
            raise RuntimeError("etcd lost a key")


JOBS: dict[str, type[Job]] = {"etcd_put": Put, "etcd_get": Get}
