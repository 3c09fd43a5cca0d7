"""Events of the Agent Development Kit as messages, and back."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction

from google.adk.events.event import Event
from google.genai import types
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from sojourn import _checks as check
from sojourn._async.client import AsyncClient
from sojourn.adapters import _items as items
from sojourn.enums import View
from sojourn.inputs import NewMessage
from sojourn.models import Message
from sojourn.models import Session as Stored

EVENT_TYPE = "application/vnd.google.adk.event+json"
USER = "user"
_NAME_LENGTH = 160


def nanoseconds(timestamp: float) -> int:
    """Return an event's time in nanoseconds since 1970: as many as give the same float again.

    Raises:
        InvalidFieldError: a timestamp that is no number.
    """
    if not math.isfinite(timestamp):
        raise check.invalid("event.timestamp", "must be a finite number")
    return round(Fraction(timestamp) * 10**9)


def name_of(event_id: str) -> str:
    """Return what stands for an event's id in the ids of messages: itself, or its hash."""
    fitting = 0 < len(event_id) <= _NAME_LENGTH and event_id.isascii() and event_id.isprintable()
    if fitting and event_id == event_id.strip():
        return event_id
    return hashlib.sha256(event_id.encode(errors="surrogatepass")).hexdigest()


def name_in(message: Message) -> str:
    """Return what stands for an event's id in the id of this message."""
    name = message.message_id
    if items.PART in message.metadata:
        name = name.rpartition("/")[0]
    return name.rpartition("~")[0] if message.content_type == EVENT_TYPE else name


def to_messages(event: Event) -> list[NewMessage]:
    """Return the messages that hold an event: one, or as many as its size takes.

    Their id is made of the event's id and a hash of its content, so that two different events
    with one id are both kept, and the same event is kept once.
    """
    payload = _dump(event)
    content = hashlib.blake2b(payload, digest_size=16).hexdigest()
    return items.to_messages(
        payload,
        role=_role(event),
        message_id=f"{name_of(event.id)}~{content}",
        content_type=EVENT_TYPE,
        event_time_ns=nanoseconds(event.timestamp),
    )


def _dump(event: Event) -> bytes:
    try:
        return event.model_dump_json(exclude_none=True).encode()
    except PydanticSerializationError:  # halves of surrogates, which models do write
        return items.dump(event.model_dump(mode="json", exclude_none=True))


def _parse(payload: bytes) -> Event:
    try:
        return Event.model_validate_json(payload)
    except ValidationError:
        return Event.model_validate(json.loads(payload))


def _role(event: Event) -> str:
    if event.author == USER:
        return USER
    return "tool" if event.get_function_responses() else "assistant"


async def read(
    client: AsyncClient, session: Stored, limit: int | None, after: float | None
) -> tuple[list[Event], bool]:
    """Return the newest events of a session that was read with its newest messages.

    Args:
        client: Who reads what the session did not bring along.
        session: As it was read, with as many messages as were asked for, or fitted.
        limit: How many events; None: all.
        after: Of those, only the ones with this timestamp or a later one, in seconds since 1970.

    Returns:
        The events, oldest first, and whether the history was the same all the while.

    Raises:
        SessionNotFoundError, UidMismatchError: the session was deleted meanwhile.
    """
    newest: list[items.Item] = []
    assembler = items.Assembler()
    for message in reversed(session.messages):
        item = assembler.feed(message)
        if item is not None:
            newest.append(item)
    newest.reverse()
    steady = True
    if limit is None or len(newest) < limit:
        first = newest[0].first_sequence if newest else session.last_sequence + 1
        if sum(item.messages for item in newest) < session.message_count:
            older = await items.newest(
                client,
                session,
                None if limit is None else limit - len(newest),
                before_sequence=first,
                event_time_not_before=None
                if after is None or limit is not None
                else nanoseconds(after),
            )
            newest = older + newest
            steady = await _is_steady(client, session)
    found = [to_event(item) for item in newest]
    return (found if after is None else [one for one in found if one.timestamp >= after]), steady


async def _is_steady(client: AsyncClient, session: Stored) -> bool:
    """Say whether nothing was removed from a history since: what was read later belongs to it."""
    now = await client.sessions.get(session, view=View.BASIC)
    return now.generation == session.generation and _removed(now) == _removed(session)


def _removed(session: Stored) -> int:
    return session.last_sequence - session.message_count


def to_event(item: items.Item) -> Event:
    """Return the event that was stored; of a message that others wrote, one that says the same."""
    head = item.head
    if head.content_type == EVENT_TYPE:
        return _parse(item.payload)
    parts = [] if head.content is None else [types.Part(text=head.content)]
    if item.payload:
        kind = head.content_type or "application/octet-stream"
        parts.append(types.Part.from_bytes(data=item.payload, mime_type=kind))
    time_ns = item.event_time_ns
    return Event(
        id=item.message_id,
        author=item.role,
        content=types.Content(role=USER if item.role == USER else "model", parts=parts),
        timestamp=head.create_time.timestamp() if time_ns is None else time_ns / 10**9,
    )
