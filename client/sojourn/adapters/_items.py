"""Things of a framework as messages: JSON texts of any size, kept byte for byte.

A message holds at most 1 MiB, and a picture in an agent's history is larger. So what is too large
travels as several messages, its parts, which are written in one unit and read together again.
Histories are read newest first: there a thing is complete when its first part is met, and the
newest N are N, however many parts they have. A history that takes several requests to read is read
as it stood at one time: when somebody removes what was read last while older messages are still
read, reading begins again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from sojourn import _checks as check
from sojourn._async.client import AsyncClient
from sojourn.enums import MessageOrder, View
from sojourn.errors import (
    AbortedError,
    GenerationChangedError,
    MessageExistsError,
    MessageNotFoundError,
    SequenceMismatchError,
    SessionNotFoundError,
    StagingLostError,
    UidMismatchError,
)
from sojourn.inputs import NewMessage, Precondition, SessionLike
from sojourn.models import Message, Page, Session

JSON_TYPE = "application/json"
PART_BYTES = 1_000_000
"""Of one message: 1 MiB less what the metadata needs."""
REQUEST_BYTES = 3 * 1024 * 1024
"""Of one append: below a request's limit of 4 MiB, with room for state beside the messages."""
REQUEST_MESSAGES = 1_000
PART = "sojourn.part"
PARTS = "sojourn.parts"
ATTEMPTS = 10
"""How often what takes several requests begins again when others write meanwhile."""
_SMALL_PAGE = 20
"""Of older messages, where few things are wanted: room for parts and for what is passed over."""


@dataclass(frozen=True)
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

    @cached_property
    def value(self) -> Any:
        """The Python value, decoded once; raises ValueError if the payload is no JSON."""
        return json.loads(self.payload)


Wanted: TypeAlias = Callable[[Item], bool]
"""Whether a thing is one that the reader asks for; the others do not count."""


class Assembler:
    """Puts things together from messages that come newest first."""

    def __init__(self) -> None:
        self._later: list[Message] = []
        self._next: tuple[str, int, int] | None = None

    def feed(self, message: Message) -> Item | None:
        """Take the next older message; return the thing that is complete with it."""
        mark = _mark(message)
        if mark is None:
            self._later, self._next = [], None
            return _whole(message)
        name, number, total = mark
        if number == total:
            self._later = []  # What came before had lost its beginning.
        elif mark != self._next:
            self._later, self._next = [], None
            return None  # A part whose last one was taken away.
        self._later.append(message)
        self._next = (name, number - 1, total)
        if number > 1:
            return None
        parts, self._later, self._next = self._later[::-1], [], None
        return _item(parts)


def _mark(message: Message) -> tuple[str, int, int] | None:
    """Return of which thing a message is a part, which, and of how many; None: it is whole."""
    if not message.metadata:
        return None  # As nearly always.
    number, total = message.metadata.get(PART), message.metadata.get(PARTS)
    name, _, last = message.message_id.rpartition("/")
    if not isinstance(number, int) or not isinstance(total, int) or last != str(number):
        return None
    return (name, number, total) if 1 <= number <= total else None


def _whole(message: Message) -> Item:
    return Item(
        payload=message.payload,
        message_id=message.message_id,
        role=message.role,
        metadata=dict(message.metadata) if message.metadata else {},
        event_time_ns=message.event_time_ns,
        first_sequence=message.sequence,
        last_sequence=message.sequence,
        messages=1,
        head=message,
    )


def _item(parts: Sequence[Message]) -> Item:
    first = _whole(parts[0])
    return replace(
        first,
        payload=b"".join(part.payload for part in parts),
        message_id=first.message_id.rpartition("/")[0],
        metadata={key: value for key, value in first.metadata.items() if key not in (PART, PARTS)},
        last_sequence=parts[-1].sequence,
        messages=len(parts),
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
    message_id: str = "",
    content_type: str = JSON_TYPE,
    metadata: Mapping[str, Any] | None = None,
    event_time_ns: int | None = None,
) -> list[NewMessage]:
    """Return the messages that hold one thing: one, or its parts.

    Args:
        payload: Its JSON text.
        role: Who speaks.
        message_id: Its id, up to 240 characters: the parts add their numbers. Empty: one is made.
            Then it is written faster, for nobody has to look whether it is known.
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
    name = message_id or uuid.uuid4().hex
    return [
        NewMessage(
            role=role,
            payload=chunk,
            content_type=content_type,
            metadata={**(metadata or {}), PART: number, PARTS: len(chunks)},
            message_id=f"{name}/{number}",
            event_time=event_time_ns,
        )
        for number, chunk in enumerate(chunks, 1)
    ]


# --- reading -------------------------------------------------------------------------------------


class _Found:
    """The newest things, as pages of messages bring them."""

    def __init__(self, limit: int | None, wanted: Wanted | None) -> None:
        self._limit = limit
        self._wanted = wanted
        self._assembler = Assembler()
        self._items: list[Item] = []

    def feed(self, newest_first: Iterable[Message]) -> bool:
        """Take the next older messages; return whether that is enough."""
        for message in newest_first:
            item = self._assembler.feed(message)
            if item is not None and (self._wanted is None or self._wanted(item)):
                self._items.append(item)
                if len(self._items) == self._limit:
                    return True
        return False

    def oldest_first(self) -> list[Item]:
        """Return what was found."""
        return self._items[::-1]


async def newest(
    client: AsyncClient,
    session: SessionLike,
    limit: int | None = None,
    *,
    user: str = "",
    app: str | None = None,
    before_sequence: int | None = None,
    event_time_not_before: int | None = None,
    wanted: Wanted | None = None,
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
        wanted: Only what this says yes to.

    Raises:
        SessionNotFoundError: there is no such session.
        AbortedError: others removed messages again and again while a long history was read.
    """
    if limit == 0:
        return []
    for _ in range(ATTEMPTS):
        found = _Found(limit, wanted)
        pages = client.messages.list(
            session,
            user=user,
            app=app,
            before_sequence=before_sequence,
            event_time_not_before=event_time_not_before,
            order=MessageOrder.NEWEST_FIRST,
            page_size=min(limit, REQUEST_MESSAGES)
            if limit is not None and wanted is None
            else REQUEST_MESSAGES,
        ).pages()
        try:
            anchor = await _feed(found, pages)
            if anchor is not None:
                await client.messages.get(session, sequence=anchor, user=user, app=app)
        except (GenerationChangedError, MessageNotFoundError):
            continue
        return found.oldest_first()
    raise _torn()


async def _feed(found: _Found, pages: AsyncIterator[Page[Message]]) -> int | None:
    """Feed page after page, as many as it takes.

    Returns:
        None when one was enough; else the sequence of the first page's oldest message. What is
        removed is the end of a history, or its very beginning; so while that message is there, all
        that was read after it stands before it.
    """
    first: int | None = None
    several = False
    async for page in pages:
        several = first is not None
        if page.items and first is None:
            first = page.items[-1].sequence
        if found.feed(page.items):
            break
    return first if several else None


async def snapshot(
    client: AsyncClient,
    session: SessionLike,
    limit: int | None = None,
    *,
    user: str = "",
    app: str | None = None,
    wanted: Wanted | None = None,
) -> tuple[Session, list[Item]]:
    """Read a session, in the view BASIC, and with it its newest things, oldest first.

    One request, unless it is more than 1,000 messages or 1 MiB. Arguments and errors are those of
    `newest`.
    """
    for _ in range(ATTEMPTS):
        found = _Found(limit, wanted)
        seen = await client.sessions.get(
            session,
            user=user,
            app=app,
            view=View.BASIC,
            last_messages=REQUEST_MESSAGES if limit is None else min(limit, REQUEST_MESSAGES),
        )
        here = seen.messages
        if not here or found.feed(reversed(here)) or len(here) == seen.message_count:
            return seen, found.oldest_first()
        size = REQUEST_MESSAGES if limit is None else max(limit, _SMALL_PAGE)
        older = client.messages.list(
            seen,
            before_sequence=here[0].sequence,
            order=MessageOrder.NEWEST_FIRST,
            page_size=min(size, REQUEST_MESSAGES),
        )
        try:
            await _feed(found, older.pages())
            await client.messages.get(seen, sequence=here[0].sequence)
        except (
            GenerationChangedError,
            MessageNotFoundError,
            SessionNotFoundError,
            UidMismatchError,
        ):
            continue
        return seen, found.oldest_first()
    raise _torn()


def _torn() -> AbortedError:
    return AbortedError("others removed messages again and again while a long history was read")


# --- writing -------------------------------------------------------------------------------------


def fits(messages: Sequence[NewMessage]) -> bool:
    """Whether one request holds them."""
    return len(messages) <= REQUEST_MESSAGES and sum(map(_size, messages)) <= REQUEST_BYTES


def _size(one: NewMessage) -> int:
    """Bytes of what a message holds; what is beside it has room in a request."""
    text = len(one.content.encode()) if one.content else 0
    return len(one.payload) + text + (len(dump(dict(one.metadata))) if one.metadata else 0)


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
    when somebody else appends or pops meanwhile, it begins again. Either way a message whose id
    the session holds already, with equal content, is passed over.

    Raises:
        SessionNotFoundError, SessionEndedError, GenerationChangedError, MessageExistsError: as
            `messages.append`.
        QuotaExceededError: as there; and for a large batch also where the app's policy would drop
            the oldest messages to make room, which a replacement does not do.
        SequenceMismatchError, StagingLostError: others wrote again and again while a large batch
            was staged.
    """
    if fits(messages):
        held = Precondition(generation=generation) if generation is not None else None
        await client.messages.append(session, messages, user=user, app=app, precondition=held)
        return
    left = _distinct(messages)
    for attempt in range(1, ATTEMPTS + 1):
        seen = await client.sessions.get(session, user=user, app=app, view=View.BASIC)
        try:
            await client.messages.replace(
                session,
                left,
                user=user,
                app=app,
                keep_through_sequence=seen.last_sequence,
                precondition=Precondition(
                    generation=seen.generation if generation is None else generation,
                    last_sequence=seen.last_sequence,
                ),
            )
        except MessageExistsError as error:
            if attempt == ATTEMPTS:
                raise
            known = client.messages.list(session, user=user, app=app, page_size=REQUEST_MESSAGES)
            left = await _unknown(left, known, error)
        except (SequenceMismatchError, StagingLostError):
            if attempt == ATTEMPTS:
                raise
        else:
            return
        if not left:
            return


def _distinct(messages: Iterable[NewMessage]) -> list[NewMessage]:
    """Leave out what repeats an earlier one, as an append does; the server refuses the others."""
    first: dict[str, NewMessage] = {}
    left: list[NewMessage] = []
    for one in messages:
        if not one.message_id or first.get(one.message_id) != one:
            left.append(one)
            first.setdefault(one.message_id, one)
    return left


async def _unknown(
    messages: Sequence[NewMessage], history: AsyncIterable[Message], error: MessageExistsError
) -> list[NewMessage]:
    """Return those that the history does not hold; raise the error if it holds another one."""
    new = {one.message_id: one for one in messages if one.message_id}
    known: set[str] = set()
    async for old in history:
        if old.message_id in new:
            if not _same(old, new[old.message_id]):
                raise error
            known.add(old.message_id)
    return [one for one in messages if one.message_id not in known]


def _same(old: Message, new: NewMessage) -> bool:
    when = None if new.event_time is None else check.nanoseconds("event_time", new.event_time)
    return (
        (old.role, old.content, old.payload, old.content_type, old.event_time_ns)
        == (new.role, new.content, new.payload, new.content_type, when)
    ) and dict(old.metadata) == dict(new.metadata)
