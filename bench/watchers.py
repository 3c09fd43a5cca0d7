"""A process that watches and writes: told what to do in lines of JSON, as `bench.load` is.

    python -m bench.watchers TARGET

Orders: `open` streams, `reset` what they have got, `report` it, `close` them, `write` at a
rate, `fill` with changes, `catch_up` from a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, Final

import grpc.aio
from google.protobuf.message import DecodeError

import sojourn
from bench.echo import run
from bench.fanout import STAMP
from bench.measure import quantile
from sojourn.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

WATCH: Final = "/sojourn.v1.SessionService/WatchSessions"
LISTEN: Final = "/bench.Fan/Listen"
SAY: Final = "/bench.Fan/Say"
APP: Final = "watched"
STREAMS_EACH: Final = 500
"""How many streams share a connection."""
AT_ONCE: Final = 100
"""How many streams are opened at once."""
FILLERS: Final = 64


class Watchers:
    """Open streams, and what they have got."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ages: list[float] = []
        self._changes = 0
        self._messages = 0
        self._parsed: dict[bytes, list[float]] = {}
        self.size = 0
        """The bytes of the last change that came alone."""
        # Changes carry the wall clock; what is said carries the monotonic one.
        self._offset = time.time() - time.monotonic()

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; return its answer."""
        match order["do"]:
            case "open":
                return await self._open(order)
            case "reset":
                self.size = order.get("size", self.size)
                self._ages.clear()
                self._parsed.clear()
                self._changes = self._messages = 0
                return {}
            case "report":
                return self._report()
            case "close":
                await self.close()
                return {}
            case "write":
                return await self._write(order)
            case "fill":
                return await self._fill(order)
            case "catch_up":
                return await self._catch_up(order)
            case unknown:
                return {"failed": f"no such order: {unknown}"}

    def _channel(self, number: int) -> grpc.aio.Channel:
        while len(self._channels) <= number:
            # A connection of its own each, and not one for all.
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._channels.append(grpc.aio.insecure_channel(self._target, options=options))
        return self._channels[number]

    async def _open(self, order: dict[str, Any]) -> dict[str, Any]:
        bare, first, count = order.get("bare", False), order.get("first", 0), order["count"]
        opened = []
        for number in range(first, first + count):
            request = session_service_pb2.WatchSessionsRequest(app=APP)
            if order.get("by_user"):
                request.user = f"u-{number}"
            request.bookmark_interval.FromSeconds(60)
            channel = self._channel(len(self._calls) // STREAMS_EACH)
            stream: Any = channel.unary_stream(LISTEN if bare else WATCH)
            call = stream(b"" if bare else request.SerializeToString())
            self._calls.append(call)
            opened.append(call)
            if len(opened) % AT_ONCE == 0:
                # grpc refuses calls when too many wait to be taken up.
                await asyncio.gather(*(each.read() for each in opened[-AT_ONCE:]))
        rest = len(opened) % AT_ONCE
        await asyncio.gather(*(each.read() for each in opened[len(opened) - rest :]))
        take = self._said if bare else self._changed
        self._tasks += [asyncio.create_task(self._read(call, take)) for call in opened]
        return {}

    async def _read(self, call: Any, take: Any) -> None:
        while True:
            data = await call.read()
            if not isinstance(data, bytes):
                return
            self._messages += 1
            take(data, time.monotonic())

    def _changed(self, data: bytes, now: float) -> None:
        """Many streams get the same bytes: each is read once."""
        times = self._parsed.get(data)
        if times is None:
            message = session_service_pb2.WatchSessionsResponse.FromString(data)
            times = [
                change.time.seconds + change.time.nanos / 1e9 - self._offset
                for change in message.changes
            ]
            self._parsed[data] = times
            if len(times) == 1:
                self.size = len(data)
        self._changes += len(times)
        self._ages += [now - each for each in times]

    def _said(self, data: bytes, now: float) -> None:
        size = self.size or len(data)
        for begin in range(0, len(data), size):
            (said,) = STAMP.unpack_from(data, begin)
            self._ages.append(now - said)
            self._changes += 1

    def _report(self) -> dict[str, Any]:
        return {
            "changes": self._changes,
            "messages": self._messages,
            "size": self.size,
            "p50_ms": quantile(self._ages, 0.5) * 1e3,
            "p99_ms": quantile(self._ages, 0.99) * 1e3,
            "ages": self._ages[:: max(1, len(self._ages) // 20_000)],
        }

    async def close(self) -> None:
        """Let all streams go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()
        self._channels, self._calls, self._tasks = [], [], []

    # --- writing ---

    async def _write(self, order: dict[str, Any]) -> dict[str, Any]:
        """Write at a rate, whether or not earlier writes were answered."""
        rate, seconds, users = order["rate"], order["seconds"], order.get("users", 1)
        channel = self._channel(0)
        if order.get("bare"):
            say: Any = channel.unary_unary(SAY)
            await say(json.dumps(order).encode())
            return {}
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        began, running = time.monotonic(), set()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            task = asyncio.ensure_future(_update(stub, number, users))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        return {}

    async def _fill(self, order: dict[str, Any]) -> dict[str, Any]:
        """Make one session for each user, and then changes as quickly as they are taken."""
        stub = session_service_pb2_grpc.SessionServiceStub(self._channel(0))
        listed = await stub.ListSessions(session_service_pb2.ListSessionsRequest(app=APP))
        users, changes = order["users"], order.get("changes", 0)
        for first in range(0, users, 500):
            request = session_service_pb2.BatchCreateSessionsRequest(app=APP)
            for number in range(first, min(users, first + 500)):
                request.sessions.add(user=f"u-{number}", session_id="s", labels={"tier": "gold"})
            await stub.BatchCreateSessions(request)

        async def some(who: int) -> None:
            for number in range(who, changes, FILLERS):
                await _update(stub, number, users)

        await asyncio.gather(*(some(who) for who in range(FILLERS)))
        head = await stub.ListSessions(session_service_pb2.ListSessionsRequest(app=APP))
        return {"token": listed.resume_token, "revision": head.revision}

    async def _catch_up(self, order: dict[str, Any]) -> dict[str, Any]:
        """Read the log from a token, on so many streams at once; how long each took.

        `typed` reads it with the client that users have, and looks at each change.
        """
        if order.get("typed"):
            return {"seconds": [await self._catch_up_typed(order["token"], order["revision"])]}
        request = session_service_pb2.WatchSessionsRequest(
            app=APP, resume_after_token=order["token"]
        )
        request.bookmark_interval.FromMilliseconds(100)
        goal = order["revision"]

        async def follow(number: int) -> float:
            stream: Any = self._channel(number).unary_stream(WATCH)
            began, seen, last = time.monotonic(), 0, 0.0
            call = stream(request.SerializeToString())
            while seen < goal:
                data = await call.read()
                last = time.monotonic()
                # The end of a message says how far it is; changes need not be read for that.
                seen = _revision(data)
            call.cancel()
            return last - began

        return {"seconds": await asyncio.gather(*(follow(n) for n in range(order["count"])))}

    async def _catch_up_typed(self, token: str, goal: int) -> float:
        async with sojourn.connect(self._target, app=APP) as client:
            began = time.monotonic()
            async with client.sessions.watch(after=token, status="any") as watch:
                async for change in watch.changes():
                    if change.revision >= goal:
                        break
            return time.monotonic() - began


def _revision(data: bytes) -> int:
    """The revision at the end of a message: field 5, a varint."""
    tail = len(data)
    for _ in range(3):  # its bytes may hold one that looks like its tag
        tail = data.rfind(b"\x28", 0, tail)
        if tail < 0:
            return 0
        with contextlib.suppress(DecodeError):
            return session_service_pb2.WatchSessionsResponse.FromString(data[tail:]).revision
    raise ValueError("a message without an end")


def _update(stub: session_service_pb2_grpc.SessionServiceStub, number: int, users: int) -> Any:
    request = session_service_pb2.UpdateSessionRequest(
        session=session_pb2.SessionRef(app=APP, user=f"u-{number % users}", session_id="s"),
        labels={"step": str(number)},
    )
    return stub.UpdateSession(request)


async def _obey_all(target: str) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    watchers = Watchers(target)
    try:
        while line := await reader.readline():
            order = json.loads(line)
            try:
                answer = await watchers.obey(order)
            except Exception as error:  # noqa: BLE001 - the driver is told, whatever it was
                answer = {"failed": f"{order['do']}: {error!r}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await watchers.close()


def main() -> None:
    """Obey until the pipe closes."""
    run(_obey_all(sys.argv[1]))


if __name__ == "__main__":
    main()
