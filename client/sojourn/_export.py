"""An export as a file of JSON Lines: what each line holds, written and read. Pure but for the file.

    {"sojourn_export":1,"app":"support"}
    {"session":{…}}          a session in the view FULL
    {"message":{…}}          the messages of the last session, oldest first
    {"end":{"messages":2,"sessions":1}}

Sessions and messages are in protobuf's JSON, with the contract's names of fields: nothing is lost.
Keys are sorted, so that equal sessions make equal lines. Without its last line a file is not whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import IO, Any

from google.protobuf import json_format
from google.protobuf.message import Message

from sojourn.errors import ExportFormatError
from sojourn.v1 import admin_service_pb2, message_pb2, session_pb2

FORMAT = 1
MOST_MESSAGES = 1000
MOST_BYTES = 1024 * 1024
"""Of messages in one part of an import; one message may have more."""

TAIL = 4096
"""The last line of a file is shorter than this."""


def _line(**fields: object) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode() + b"\n"


def _object(source: Message) -> Any:
    return json_format.MessageToDict(source, preserving_proto_field_name=True)


# --- writing -------------------------------------------------------------------------------------


def first_line(app: str) -> bytes:
    """Return the line that says what this is."""
    return _line(sojourn_export=FORMAT, app=app)


def session_line(session: session_pb2.Session) -> bytes:
    """Return the line of a session."""
    return _line(session=_object(session))


def message_line(message: message_pb2.Message) -> bytes:
    """Return the line of a message."""
    return _line(message=_object(message))


def last_line(sessions: int, messages: int) -> bytes:
    """Return the line that says that all is there."""
    return _line(end={"sessions": sessions, "messages": messages})


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
    if b'"end"' not in tail.rstrip().rpartition(b"\n")[2]:
        raise ExportFormatError("the file ends before the export's last line: it is not whole")


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
    before = ""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        kind, value = _parse(line, number)
        _refuse_disorder(before, kind, number)
        if kind == "message":
            yield from batch.add(_message(value, message_pb2.Message(), number))
        else:
            yield from batch.empty()
        if kind == "session":
            session = _message(value, session_pb2.Session(), number)
            yield admin_service_pb2.ImportSessionsRequest(session=session)
        before = kind
    yield from batch.empty()
    if before != "end" and not partial:
        raise ExportFormatError("the file ends before the export's last line: it is not whole")


def _refuse_disorder(before: str, kind: str, number: int) -> None:
    if before == "end":
        raise ExportFormatError(f"line {number}: there is more after the last line")
    if (kind == "sojourn_export") == bool(before):
        raise ExportFormatError(f"line {number}: an export begins with its format, and only once")
    if kind == "message" and before == "sojourn_export":
        raise ExportFormatError(f"line {number}: a message of no session")


def _parse(line: bytes, number: int) -> tuple[str, Any]:
    """Return what a line holds, and its value."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExportFormatError(f"line {number}: no JSON: {error}") from error
    if isinstance(fields, dict):
        if "sojourn_export" in fields:
            if fields["sojourn_export"] != FORMAT:
                raise ExportFormatError(
                    f"line {number}: format {fields['sojourn_export']!r} is not known here"
                )
            return "sojourn_export", None
        for kind in ("session", "message", "end"):
            if kind in fields:
                return kind, fields[kind]
    raise ExportFormatError(f"line {number}: neither a session, nor a message, nor the end")


def _message(value: Any, into: Any, number: int) -> Any:
    try:
        return json_format.ParseDict(value, into)
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise ExportFormatError(f"line {number}: {error}") from error
