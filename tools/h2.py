"""HTTP/2 by hand: what no honest client would send.

Frames are built once and sent as bytes, so that one Python thread sends tens of thousands a
second. Header blocks are literal, without Huffman and without the dynamic table.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import Counter
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL: Final = 8
INITIAL_WINDOW: Final = 4
"""The setting: how much the peer may send on a stream before it is allowed more."""
MAX_STREAMS: Final = 3
"""The setting: how many streams the peer may have at once."""
STREAM_MOST: Final = 2**31 - 1
NAMES: Final = {
    DATA: "DATA",
    HEADERS: "HEADERS",
    RST_STREAM: "RST_STREAM",
    SETTINGS: "SETTINGS",
    PING: "PING",
    GOAWAY: "GOAWAY",
    WINDOW_UPDATE: "WINDOW_UPDATE",
}
_HEADER: Final = struct.Struct("!BHBBI")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame; each value by `s` and the setting's number: `s4=0`."""
    pairs = (struct.pack("!HI", int(name[1:]), value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def literal(name: str, value: bytes) -> bytes:
    """A header field, neither compressed nor remembered."""
    return b"\0" + _length(len(name)) + name.encode() + _length(len(value)) + value


def _length(size: int) -> bytes:
    if size < 127:
        return bytes([size])
    rest, out = size - 127, bytearray([127])
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    out.append(rest)
    return bytes(out)


def call_headers(path: str, *more: tuple[str, bytes]) -> bytes:
    """The header block of a gRPC call."""
    fields = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.encode()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
        *more,
    ]
    return b"".join(literal(name, value) for name, value in fields)


def message(body: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message, as it stands in DATA."""
    return struct.pack("!BI", compressed, len(body)) + body


class Call:
    """A call whose frames are built once; only the stream's number is put in."""

    def __init__(self, path: str, body: bytes | None, *more: tuple[str, bytes]) -> None:
        self.block = call_headers(path, *more)
        self.body = None if body is None else message(body)

    def frames(self, stream: int) -> bytes:
        """Its frames on a stream; without a body it stays open."""
        opened = frame(HEADERS, END_HEADERS, stream, self.block)
        if self.body is None:
            return opened
        return opened + frame(DATA, END_STREAM, stream, self.body)


class Connection:
    """One connection. It answers settings and pings as it must, when it is read.

    Args:
        target: `127.0.0.1:7070`.
        values: Its own settings, see `settings`.
    """

    def __init__(self, target: str, **values: int) -> None:
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got: Counter[str] = Counter()
        """How many frames of each kind came, and how many bytes of DATA."""
        self.ended: Counter[int] = Counter()
        """How many streams ended, by the code of their reset; 0: with an answer."""
        self.last_trailers = b""
        self.goaway = b""
        self.closed = False
        self.streams_allowed = 0
        """How many streams the server allows at once; 0: it has not said yet."""
        self.next_stream = 1
        self._left = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.socket, selectors.EVENT_READ)
        self.send(PREFACE + settings(**values))

    def send(self, data: bytes) -> bool:
        """Send; False when the server has closed the connection."""
        if self.closed:
            return False
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def stream(self) -> int:
        """The number of a new stream."""
        number, self.next_stream = self.next_stream, self.next_stream + 2
        return number

    @property
    def spent(self) -> bool:
        """Whether it has no more streams."""
        return self.next_stream >= STREAM_MOST - 1

    def read(self, timeout: float = 0.0) -> bool:
        """Read what has come; return whether anything has."""
        if self.closed or not self._selector.select(timeout):
            return False
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self._take(self._left + data)
        return True

    def read_until(self, seconds: float) -> None:
        """Read for so long, or until the server closes."""
        until = time.monotonic() + seconds
        while not self.closed and (left := until - time.monotonic()) > 0:
            self.read(left)

    def _take(self, data: bytes) -> None:
        at, answers, taken = 0, [], 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
            end = at + 9 + (high << 16) + low
            if end > len(data):
                break
            payload = data[at + 9 : end]
            at = end
            self.got[NAMES.get(kind, "?")] += 1
            if kind == SETTINGS and not flags & ACK:
                self._note_settings(payload)
                answers.append(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                answers.append(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                taken += len(payload)
            elif kind == RST_STREAM:
                self.ended[int.from_bytes(payload)] += 1
            elif kind == HEADERS and flags & END_STREAM:
                self.ended[0] += 1
                self.last_trailers = payload
            elif kind == GOAWAY:
                self.goaway = payload
            self.take_frame(kind, flags, stream, payload)
        self._left = data[at:]
        if taken:
            answers.append(frame(WINDOW_UPDATE, 0, 0, taken.to_bytes(4)))
        if answers:
            self.send(b"".join(answers))

    def _note_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack("!HI", payload):
            if name == MAX_STREAMS:
                self.streams_allowed = value

    def take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """For those who want to know of each frame."""

    def close(self) -> None:
        """Close it."""
        self.closed = True
        self._selector.close()
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
