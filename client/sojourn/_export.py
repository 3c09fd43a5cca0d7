"""An export as JSON Lines: what each line holds, written and read. Pure but for the file.

    {"app":{…}}                        the app, its labels and policy
    {"user":{…}}                       the state of a user
    {"session":{"session":{…},…}}      a session
    {"messages":{"messages":[{…}]}}    a message of the last session
    {"dropped":"<uid>"}                the last session is to be forgotten
    {"end":{"messages":2,"sessions":1}}

Each line but the last is a part of ExportSessions in protobuf's JSON form, with the contract's
names of fields. Keys are sorted and each message has a line of its own, so that equal exports make
equal files. The last line says that the file is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import IO, Any

from google.protobuf import json_format

from sojourn.errors import ExportFormatError
from sojourn.v1 import admin_service_pb2, message_pb2

MOST_MESSAGES = 1000
MOST_BYTES = 1024 * 1024
"""Of messages in one part of an import; one message may have more."""

TAIL = 4096
"""The last line of a file is shorter than this."""

PARTS = {"app", "user", "session", "messages", "dropped"}


# --- writing -------------------------------------------------------------------------------------


class Writer:
    """Turns the parts of an export into lines, and counts."""

    def __init__(self) -> None:
        self.sessions = 0
        self.messages = 0
        self._last = 0

    def lines(self, part: admin_service_pb2.ExportSessionsResponse) -> list[bytes]:
        """Return the lines of a part."""
        kind = part.WhichOneof("part")
        if kind == "messages":
            held = part.messages.messages
            self.messages += len(held)
            self._last += len(held)
            return [_line({"messages": {"messages": [_object(one)]}}) for one in held]
        if kind == "session":
            self.sessions += 1
            self._last = 0
        elif kind == "dropped":
            self.sessions -= 1
            self.messages -= self._last
            self._last = 0
        return [_line(_object(part))]

    def last_line(self) -> bytes:
        """Return the line that says that all is there."""
        return _line({"end": {"sessions": self.sessions, "messages": self.messages}})


def _line(fields: object) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode() + b"\n"


def _object(source: Any) -> Any:
    return json_format.MessageToDict(source, preserving_proto_field_name=True)


# --- reading -------------------------------------------------------------------------------------


def refuse_a_torso(file: IO[bytes]) -> None:
    """Raise `ExportFormatError` if a file that can be searched has no last line."""
    if not file.seekable():
        return
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(max(here, size - TAIL))
    tail = file.read()
    file.seek(here)
    if not tail.rstrip().rpartition(b"\n")[2].startswith(b'{"end"'):
        raise _torso()


def _torso() -> ExportFormatError:
    return ExportFormatError("the file ends before the export's last line: it is not whole")


class _Batch:
    """Messages that go into one part of an import."""

    def __init__(self) -> None:
        self._held = admin_service_pb2.ExportedMessages()
        self._bytes = 0

    def add(
        self, message: message_pb2.Message
    ) -> Iterator[admin_service_pb2.ImportSessionsRequest]:
        """Take a message in, and hand out what was there before if it has no room with it."""
        size = message.ByteSize()
        if len(self._held.messages) == MOST_MESSAGES or self._bytes + size > MOST_BYTES:
            yield from self.empty()
        self._held.messages.append(message)
        self._bytes += size

    def empty(self) -> Iterator[admin_service_pb2.ImportSessionsRequest]:
        """Hand out what is there."""
        if self._held.messages:
            yield admin_service_pb2.ImportSessionsRequest(messages=self._held)
        self._held, self._bytes = admin_service_pb2.ExportedMessages(), 0


def read(file: IO[bytes], *, partial: bool) -> Iterator[admin_service_pb2.ImportSessionsRequest]:
    """Return the parts of an import, after its target.

    Raises `ExportFormatError`, naming the line; also at the end of a file that is not whole, unless
    `partial` says that it may be so.
    """
    batch = _Batch()
    whole = False
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        if whole:
            raise ExportFormatError(f"line {number}: there is more after the last line")
        part = _part(line, number)
        if part is None:
            whole = True
        elif part.HasField("messages"):
            for message in part.messages.messages:
                yield from batch.add(message)
        else:
            yield from batch.empty()
            yield part
    yield from batch.empty()
    if not whole and not partial:
        raise _torso()


def _part(line: bytes, number: int) -> admin_service_pb2.ImportSessionsRequest | None:
    """Return the part that a line holds; None: it is the last line."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExportFormatError(f"line {number}: no JSON: {error}") from error
    if not isinstance(fields, dict) or len(fields) != 1 or not fields.keys() <= PARTS | {"end"}:
        raise ExportFormatError(f"line {number}: this is no part of an export")
    if "end" in fields:
        return None
    part = admin_service_pb2.ImportSessionsRequest()
    try:
        return json_format.ParseDict(fields, part)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ExportFormatError(f"line {number}: {error}") from error
