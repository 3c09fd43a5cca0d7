"""A process of honest principals, each with a connection and a steady load of its own.

    python -m bench.steady TARGET

Reads one order, as JSON: `keys`, one for each, and `interval`, seconds between two calls of
one. Then calls until its input is closed, when it tells when each call was due and how long
it took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

import grpc.aio

from bench.calls import APP, TEXT, TIMEOUT
from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)


class Principal:
    """One of them: it reads its session and appends to it, in turns."""

    def __init__(self, target: str, key: str, name: str) -> None:
        # A connection of its own, not one that all of this process share.
        self._channel = grpc.aio.insecure_channel(
            target, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(self._channel)
        self._history: Any = history_service_pb2_grpc.HistoryServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._ref = session_pb2.SessionRef(app=APP, user=name, session_id=name)
        self._name = f"{name}-{time.time_ns():x}"
        self.calls: list[tuple[float, int]] = []
        """When each was due, and its microseconds."""

    async def prepare(self) -> None:
        """Make the session."""
        request = session_service_pb2.CreateSessionRequest(
            app=APP,
            session=session_service_pb2.NewSession(
                user=self._ref.user, session_id=self._ref.session_id
            ),
            if_exists=session_service_pb2.IF_EXISTS_RETURN_EXISTING,
        )
        await self._sessions.CreateSession(request, timeout=TIMEOUT, metadata=self._metadata)

    async def pace(self, interval: float, offset: float, stop: asyncio.Event) -> None:
        """Call at fixed times, whether or not earlier calls were answered."""
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic() + offset
        for number in itertools.count():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if stop.is_set():
                break
            task = asyncio.create_task(self._call(number, due))
            running.add(task)
            task.add_done_callback(running.discard)
            due += interval
        await asyncio.gather(*running)

    async def _call(self, number: int, due: float) -> None:
        if number % 2:
            get = session_service_pb2.GetSessionRequest(session=self._ref)
            await self._sessions.GetSession(get, timeout=TIMEOUT, metadata=self._metadata)
        else:
            append = history_service_pb2.AppendMessagesRequest(
                session=self._ref,
                messages=[message_pb2.NewMessage(role="user", content=TEXT)],
                request_id=f"{self._name}-{number}",
            )
            await self._history.AppendMessages(append, timeout=TIMEOUT, metadata=self._metadata)
        self.calls.append((due, round((time.monotonic() - due) * 1e6)))


async def _run(target: str) -> None:
    order = json.loads(sys.stdin.readline())
    principals = [
        Principal(target, key, f"steady-{number}") for number, key in enumerate(order["keys"])
    ]
    for each in principals:
        await each.prepare()
    stop, interval = asyncio.Event(), order["interval"]
    reading = asyncio.create_task(_closed(stop))
    _say({})
    await asyncio.gather(
        *(
            each.pace(interval, interval * number / len(principals), stop)
            for number, each in enumerate(principals)
        )
    )
    await reading
    _say({"calls": [call for each in principals for call in each.calls]})


async def _closed(stop: asyncio.Event) -> None:
    """Wait for the next line, whatever it says."""
    await asyncio.to_thread(sys.stdin.readline)
    stop.set()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
