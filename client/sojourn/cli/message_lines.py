"""Messages as JSON Lines: read, checked, and put into batches that one request holds."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator

import click

import sojourn
from sojourn.cli import rawjson
from sojourn.cli.times import parse_ns

MOST_MESSAGES = 1000
MOST_BYTES = 3 * 1024 * 1024
"""Below the limit of a request, 4 MiB, with room for what is beside the contents."""

TEXTS = ("role", "content", "payload_text", "payload_base64", "content_type", "message_id")
MADE_BY_SERVER = {"sequence", "create_time"}
KNOWN = {*TEXTS, "metadata", "event_time", *MADE_BY_SERVER}


def read(data: bytes) -> list[sojourn.NewMessage]:
    """Return the messages of the lines; a wrong line is a mistake that names it."""
    found = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_message(line.decode()))
        except UnicodeDecodeError:
            raise click.UsageError(f"Line {number} is not UTF-8.") from None
        except ValueError as error:
            raise click.UsageError(f"Line {number}: {error}.") from error
    if not found:
        raise click.UsageError("The input holds no message.")
    return found


def _message(line: str) -> sojourn.NewMessage:
    texts = rawjson.members(line)
    unknown = sorted(texts.keys() - KNOWN)
    if unknown:
        raise ValueError(
            f"a message has no field {unknown[0]!r}; other JSON goes into payload_text"
        )
    values = {key: json.loads(texts[key]) for key in (*TEXTS, "event_time") if key in texts}
    for key, value in values.items():
        if not isinstance(value, str) and not (value is None and key in {"content", "event_time"}):
            raise ValueError(f"{key} must be a text")
    if "role" not in values:
        raise ValueError("the role is missing")
    if "payload_text" in values and "payload_base64" in values:
        raise ValueError("payload_text and payload_base64 exclude each other")
    metadata = rawjson.members(texts.get("metadata", "{}"))
    return sojourn.NewMessage(
        role=values["role"],
        content=values.get("content"),
        payload=_payload(values),
        content_type=values.get("content_type", ""),
        metadata={key: sojourn.RawJson(text) for key, text in metadata.items()},
        message_id=values.get("message_id", ""),
        event_time=None if values.get("event_time") is None else parse_ns(values["event_time"]),
    )


def _payload(values: dict[str, str]) -> bytes:
    if "payload_base64" not in values:
        return values.get("payload_text", "").encode()
    try:
        return base64.b64decode(values["payload_base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"payload_base64 is not base64: {error}") from error


def size_of(message: sojourn.NewMessage) -> int:
    """Return about how many bytes of a request a message takes."""
    texts = (one.text for one in message.metadata.values() if isinstance(one, sojourn.RawJson))
    text = len((message.content or "").encode(errors="replace"))
    return 512 + text + len(message.payload) + sum(len(one) * 4 for one in texts)


def batches(messages: Iterable[sojourn.NewMessage]) -> Iterator[list[sojourn.NewMessage]]:
    """Put messages together as far as one request holds them."""
    batch: list[sojourn.NewMessage] = []
    total = 0
    for message in messages:
        size = size_of(message)
        if batch and (len(batch) == MOST_MESSAGES or total + size > MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(message)
        total += size
    if batch:
        yield batch
