"""A process of one noisy principal: frames of HTTP/2, built once, and little else.

    python -m bench.flood TARGET

Obeys lines of JSON, as `bench.processes.Worker` sends them. `steady` keeps so many calls
under way, as a program with so many callers does. `flood` sends so many a second, whatever
becomes of them, over several connections; no more at once than the server allows each, since
every client keeps to that.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

from bench.calls import APP, TEXT
from sojourn.v1 import (
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
)
from tools.h2 import Call, Connection

CREATE = "/sojourn.v1.SessionService/CreateSession"
GET = "/sojourn.v1.SessionService/GetSession"
APPEND = "/sojourn.v1.HistoryService/AppendMessages"


class Noisy:
    """Calls as fast as it is told."""

    def __init__(self, target: str, key: str) -> None:
        self._target = target
        metadata = ("authorization", f"Bearer {key}".encode())
        ref = session_pb2.SessionRef(app=APP, user="noisy", session_id="noisy")
        create = session_service_pb2.CreateSessionRequest(
            app=APP, session=session_service_pb2.NewSession(user="noisy", session_id="noisy")
        )
        get = session_service_pb2.GetSessionRequest(session=ref)
        append = history_service_pb2.AppendMessagesRequest(
            session=ref, messages=[message_pb2.NewMessage(role="user", content=TEXT)]
        )
        self._create = Call(CREATE, create.SerializeToString(), metadata)
        self._calls = [
            Call(APPEND, append.SerializeToString(), metadata),
            Call(GET, get.SerializeToString(), metadata),
        ]

    def prepare(self) -> None:
        """Make the session."""
        with Connection(self._target) as connection:
            connection.send(self._create.frames(connection.stream()))
            while not connection.ended and not connection.closed:
                connection.read(1.0)

    def steady(self, seconds: float, streams: int) -> dict[str, Any]:
        """Keep so many calls under way."""
        with Connection(self._target) as connection:
            return self._run([connection], seconds, None, streams)

    def flood(self, seconds: float, rate: float, connections: int) -> dict[str, Any]:
        """Send so many calls a second."""
        opened = [Connection(self._target) for _ in range(connections)]
        try:
            for each in opened:
                while not each.streams_allowed and not each.closed:
                    each.read(1.0)
            return self._run(opened, seconds, rate, opened[0].streams_allowed)
        finally:
            for each in opened:
                each.close()

    def _run(
        self, connections: list[Connection], seconds: float, rate: float | None, streams: int
    ) -> dict[str, Any]:
        """Send by the clock, or as fast as places become free.

        Returns:
            What was due, sent, answered and refused, from the first fifth of the time on.
        """
        calls = itertools.cycle(self._calls)
        begin = time.monotonic()
        sent, at_first = 0, None
        while (now := time.monotonic()) < begin + seconds:
            if at_first is None and now >= begin + seconds / 5:
                at_first = (now, sent, *_tally(connections))
            due = None if rate is None else round((now - begin) * rate) - sent
            # What finds no place is not sent later: an open loop does not catch up.
            for each in connections:
                room = streams - (each.next_stream // 2 - each.ended[0])
                part = room if due is None else min(room, max(1, due // len(connections)))
                if part > 0 and (due is None or due > 0):
                    each.send(b"".join(next(calls).frames(each.stream()) for _ in range(part)))
                    sent += part
            came = [each.read() for each in connections]
            if not any(came):
                time.sleep(0.0005)
        assert at_first is not None
        first, sent_then, answered_then, refused_then = at_first
        took = time.monotonic() - first
        answered, refused = _tally(connections)
        return {
            "due": (rate or 0.0) * took,
            "sent": sent - sent_then,
            "answered": answered - answered_then,
            "refused": refused - refused_then,
            "seconds": took,
            "closed": sum(each.closed for each in connections),
        }


def _tally(connections: list[Connection]) -> tuple[int, int]:
    """How many calls were answered and refused. Only an answer has a message."""
    answered = sum(each.got["DATA"] for each in connections)
    return answered, sum(each.ended[0] for each in connections) - answered


def main() -> None:
    """Obey until the pipe closes."""
    noisy: Noisy | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        match order.pop("do"):
            case "prepare":
                noisy = Noisy(sys.argv[1], order["key"])
                noisy.prepare()
            case "steady" if noisy is not None:
                answer = noisy.steady(**order)
            case "flood" if noisy is not None:
                answer = noisy.flood(**order)
            case unknown:
                answer = {"failed": f"no such order: {unknown}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
