"""A process of callers: told what to do in lines of JSON, answers what it measured.

    python -m bench.load TARGET NAME

Orders: `prepare` a job, `run` it, `pace` it until `stop`, `fill` an app with sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import grpc.aio

from bench import children_calls, etcd_calls, filling
from bench.calls import JOBS, Caller, Job

RUN_MOST = 600.0
"""The longest that one order may take, in seconds."""
OUTSTANDING_MOST = 5_000


class Load:
    """Carries out orders, one after the other."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._jobs: dict[str, Job] = {}
        self._ready: Job | None = None
        self._callers = 0
        self._calls = 0
        self.stop = asyncio.Event()

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; return its answer."""
        match order["do"]:
            case "prepare":
                return await self._prepare(order)
            case "run":
                return await self._run()
            case "pace":
                return await self._pace(order["interval"])
            case "fill":
                return await filling.fill(self._caller, order)
            case unknown:
                return {"failed": f"no such order: {unknown}"}

    async def _prepare(self, order: dict[str, Any]) -> dict[str, Any]:
        name, args = order["job"], order.get("args", {})
        self._callers, self._calls = order["callers"], order["calls"]
        key = json.dumps((name, args), sort_keys=True)
        if key not in self._jobs:
            kinds = {**JOBS, **children_calls.JOBS, **etcd_calls.JOBS}
            self._jobs[key] = kinds[name](self._caller, args)
        self._ready = self._jobs[key]
        await self._ready.prepare(self._callers, self._calls)
        return {}

    async def _run(self) -> dict[str, Any]:
        job = self._ready
        assert job is not None
        latencies: list[int] = []

        async def calls(who: int) -> None:
            for index in range(self._calls):
                began = time.perf_counter_ns()
                await job.call(who, index)
                latencies.append((time.perf_counter_ns() - began) // 1_000)

        began = time.monotonic()
        await asyncio.gather(*(calls(who) for who in range(self._callers)))
        return {"began": began, "ended": time.monotonic(), "latencies": latencies}

    async def _pace(self, interval: float) -> dict[str, Any]:
        """Call at a fixed rate, whether or not earlier calls were answered, until told to stop."""
        job = self._ready
        assert job is not None
        self.stop.clear()
        done: list[tuple[float, int]] = []
        running: set[asyncio.Task[None]] = set()
        due, until, number = time.monotonic(), time.monotonic() + RUN_MOST, 0

        async def call(due: float, number: int) -> None:
            await job.call(number % self._callers, number // self._callers)
            done.append((due, round((time.monotonic() - due) * 1e6)))

        while not self.stop.is_set() and due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(running) > OUTSTANDING_MOST:
                raise RuntimeError("the server answers too slowly to be called at this rate")
            task = asyncio.create_task(call(due, number))
            running.add(task)
            task.add_done_callback(running.discard)
            due += interval
            number += 1
        await asyncio.gather(*running)
        return {"calls": done}


async def _obey_all(target: str, name: str) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with grpc.aio.insecure_channel(target) as channel:
        load = Load(Caller(channel, name))
        running: asyncio.Task[None] | None = None

        async def carry_out(order: dict[str, Any]) -> None:
            try:
                async with asyncio.timeout(RUN_MOST + 60):
                    answer = await load.obey(order)
            except Exception as error:  # noqa: BLE001 - the driver is told, whatever it was
                answer = {"failed": f"{order['do']} {order.get('job', '')}: {error!r}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "stop":
                load.stop.set()
                continue
            if running is not None:
                await running
            running = asyncio.create_task(carry_out(order))
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def main() -> None:
    """Obey until the pipe closes."""
    asyncio.run(_obey_all(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
