"""Things of a framework as messages: JSON texts of any size, kept byte for byte.

A message holds at most 1 MiB, and a picture in an agent's history is larger. So what is too large
travels as several messages, its parts, which are written in one unit and read together again.
Histories are read newest first: there a thing is complete when its first part is met, and the
newest N are N, however many parts they have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sojourn._async.client import AsyncClient
from sojourn.enums import MessageOrder
from sojourn.errors import SequenceMismatchError
from sojourn.inputs import NewMessage, Precondition, SessionLike
from sojourn.models import Message

JSON_TYPE = "application/json"
PART_BYTES = 1_000_000
"""Of one message: 1 MiB less what the metadata needs."""
REQUEST_BYTES = 3 * 1024 * 1024
"""Of one append: below a request's limit of 4 MiB, with room for state beside the messages."""
REQUEST_MESSAGES = 1_000
PART = "sojourn.part"
PARTS = "sojourn.parts"
ATTEMPTS = 10
"""How often a batch that is too large for one request begins again when others append."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of a framework, put together from its messages."""

    payload: bytes
    """Its JSON text."""
    message_id: str
    """The id it was given."""
    role: str
    metadata: Mapping[str, Any]
    """What it was given, without the marks of parts."""
    event_time_ns: int | None
    first_sequence: int
    last_sequence: int
    messages: int
    """Of how many messages it is."""
    head: Message = field(repr=False)
    """The first of them, which tells what else is known of it: the media type, a text."""

    @property
    def value(self) -> Any:
        """The Python value; raises ValueError if the payload is no JSON."""
        return json.loads(self.payload)


class Assembler:
    """Puts things together from messages that come newest first."""

    def __init__(self) -> None:
        self._later: list[Message] = []

    def feed(self, message: Message) -> Item | None:
        """Take the next older message; return the thing that is complete with it."""
        number = message.metadata.get(PART)
        if number is None:
            self._later.clear()
            return _item([message])
        total = message.metadata[PARTS]
        if number == total:
            self._later.clear()  # What came before had lost its beginning.
        elif not self._later or self._later[-1].metadata[PART] != number + 1:
            self._later.clear()
            return None  # A part whose last one was taken away.
        self._later.append(message)
        if number > 1:
            return None
        parts, self._later = self._later[::-1], []
        return _item(parts)


def _item(parts: Sequence[Message]) -> Item:
    first, last = parts[0], parts[-1]
    metadata = {key: value for key, value in first.metadata.items() if key not in (PART, PARTS)}
    message_id = first.message_id if len(parts) == 1 else first.message_id.rpartition("/")[0]
    return Item(
        payload=b"".join(part.payload for part in parts),
        message_id=message_id,
        role=first.role,
        metadata=metadata,
        event_time_ns=first.event_time_ns,
        first_sequence=first.sequence,
        last_sequence=last.sequence,
        messages=len(parts),
        head=first,
    )


def dump(value: Any) -> bytes:
    """Return the JSON text of a value, as bytes that `json.loads` makes the same value of.

    Letters stay letters; only halves of surrogates, which UTF-8 does not know, are escaped. NaN
    and infinities are written as Python writes them.

    Raises:
        TypeError: a value that JSON does not know.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def to_messages(
    payload: bytes,
    *,
    role: str,
    message_id: str,
    content_type: str = JSON_TYPE,
    metadata: Mapping[str, Any] | None = None,
    event_time_ns: int | None = None,
) -> list[NewMessage]:
    """Return the messages that hold one thing: one, or its parts.

    Args:
        payload: Its JSON text.
        role: Who speaks.
        message_id: Its id, up to 240 characters: the parts add their numbers.
        content_type: The media type of the payload.
        metadata: What else is to be kept of it.
        event_time_ns: The framework's own time of it, in nanoseconds since 1970.
    """
    chunks = [payload[at : at + PART_BYTES] for at in range(0, len(payload), PART_BYTES)] or [b""]
    if len(chunks) == 1:
        return [
            NewMessage(
                role=role,
                payload=payload,
                content_type=content_type,
                metadata=metadata or {},
                message_id=message_id,
                event_time=event_time_ns,
            )
        ]
    return [
        NewMessage(
            role=role,
            payload=chunk,
            content_type=content_type,
            metadata={**(metadata or {}), PART: number, PARTS: len(chunks)},
            message_id=f"{message_id}/{number}",
            event_time=event_time_ns,
        )
        for number, chunk in enumerate(chunks, 1)
    ]


async def newest(
    client: AsyncClient,
    session: SessionLike,
    limit: int | None = None,
    *,
    user: str = "",
    app: str | None = None,
    before_sequence: int | None = None,
    event_time_not_before: int | None = None,
) -> list[Item]:
    """Read the newest things of a session, oldest first.

    Args:
        client: Who reads.
        session: Whose history.
        limit: How many; None: all.
        user: Whose session, where it is named by its id.
        app: Another app than the client's own.
        before_sequence: Only what is older than this message.
        event_time_not_before: Only what the framework dates at or after this, in nanoseconds.

    Raises:
        SessionNotFoundError: there is no such session.
    """
    found: list[Item] = []
    if limit == 0:
        return found
    assembler = Assembler()
    pages = client.messages.list(
        session,
        user=user,
        app=app,
        before_sequence=before_sequence,
        event_time_not_before=event_time_not_before,
        order=MessageOrder.NEWEST_FIRST,
        page_size=REQUEST_MESSAGES if limit is None else min(limit, REQUEST_MESSAGES),
    )
    async for message in pages:
        item = assembler.feed(message)
        if item is not None:
            found.append(item)
            if len(found) == limit:
                break
    return found[::-1]


def fits(messages: Sequence[NewMessage]) -> bool:
    """Whether one request holds them."""
    size = sum(len(one.payload) for one in messages)
    return len(messages) <= REQUEST_MESSAGES and size <= REQUEST_BYTES


async def append_many(
    client: AsyncClient,
    session: SessionLike,
    messages: Sequence[NewMessage],
    *,
    user: str = "",
    app: str | None = None,
    generation: int | None = None,
) -> None:
    """Append messages to a session that exists, all or none, however many they are.

    What one request does not hold is staged, and then put behind the newest message at once;
    when somebody else appends meanwhile, it begins again.

    Raises:
        SessionNotFoundError, SessionEndedError, GenerationChangedError: as `messages.append`.
        SequenceMismatchError: others appended again and again while a large batch was staged.
    """
    if fits(messages):
        held = Precondition(generation=generation) if generation is not None else None
        await client.messages.append(session, messages, user=user, app=app, precondition=held)
        return
    for attempt in range(1, ATTEMPTS + 1):
        seen = await client.sessions.get(session, user=user, app=app)
        try:
            await client.messages.replace(
                session,
                messages,
                user=user,
                app=app,
                keep_through_sequence=seen.last_sequence,
                precondition=Precondition(
                    generation=generation or seen.generation, last_sequence=seen.last_sequence
                ),
            )
        except SequenceMismatchError:
            if attempt == ATTEMPTS:
                raise
        else:
            return
