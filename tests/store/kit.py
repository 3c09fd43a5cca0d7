"""What the storage tests share: a clock to set, values to store, units to run."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.model import (
    App,
    AppStatus,
    Change,
    ChangeCause,
    Message,
    Session,
    Status,
)
from sojourn_server.store.base import (
    Applied,
    Candidates,
    LoggedChange,
    MessageRange,
    ReadTx,
    RequestKey,
    RequestRecord,
    SessionRow,
    SortBy,
    Store,
    Tx,
)

T = TypeVar("T")

APP = "support"
ACTOR = "the test"
START: Nanos = 1_700_000_000 * SECOND


class ManualClock:
    """A clock that stands until it is set."""

    def __init__(self, now: Nanos = START) -> None:
        self.time = now

    def now(self) -> Nanos:
        return self.time


class Boom(Exception):
    """What a failing unit raises."""


def an_app(name: str = APP, **fields: Any) -> App:
    values: dict[str, Any] = {
        "app": name,
        "status": AppStatus.ACTIVE,
        "create_time": START,
        "feed_id": "feed-1",
    }
    return App(**{**values, **fields})


def a_session(session_id: str = "s-1", **fields: Any) -> Session:
    values: dict[str, Any] = {
        "uid": str(uuid.uuid4()),
        "app": APP,
        "user": "ann",
        "session_id": session_id,
        "status": Status.ACTIVE,
        "labels": {},
        "create_time": START,
        "update_time": START,
        "activity_time": START,
    }
    return Session(**{**values, **fields})


def a_message(sequence: int, **fields: Any) -> Message:
    values: dict[str, Any] = {
        "message_id": f"m-{sequence}",
        "sequence": sequence,
        "role": "user",
        "content_type": "",
        "event_time": None,
        "create_time": START,
        "size": 10,
        "body": 0,
    }
    return Message(**{**values, **fields})


def a_request(request_id: str = "r-1", **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "key": RequestKey(APP, "principal", "CreateSession", request_id),
        "payload_hash": b"hash",
        "revision": 0,
        "outcome": b"outcome",
        "create_time": START,
    }
    return RequestRecord(**{**values, **fields})


def changed(session: Session, **fields: Any) -> Session:
    """The session with other values in some fields."""
    return msgspec.structs.replace(session, **fields)


def sort_value(row: SessionRow, sort_by: SortBy) -> int | str:
    """What a row is sorted by in a list."""
    values: dict[SortBy, int | str] = {
        SortBy.CREATE: row.create_order,
        SortBy.SESSION_ID: row.session.session_id,
        SortBy.UPDATE: row.session.update_time,
        SortBy.ACTIVITY: row.session.activity_time,
    }
    return values[sort_by]


async def insert(tx: Tx, session: Session, due: Nanos | None = None) -> SessionRow:
    """Add a session and log it."""
    row = await tx.insert_session(session, due)
    await tx.log(Change(cause=ChangeCause.CREATED, after=session))
    return row


async def update(tx: Tx, row: SessionRow, due: Nanos | None = None, **fields: Any) -> SessionRow:
    """Change a session and log it."""
    after = changed(row.session, **fields)
    new = await tx.update_session(row, after, due)
    await tx.log(Change(cause=ChangeCause.UPDATED, before=row.session, after=after))
    return new


async def apply(store: Store, unit: Callable[[Tx], Awaitable[T]], app: str = APP) -> Applied[T]:
    """Carry out a unit of the test's app."""
    return await store.apply(app, ACTOR, unit)


async def create(store: Store, session: Session, due: Nanos | None = None) -> SessionRow:
    """Add a session in a unit of its own."""
    return (await store.apply(session.app, ACTOR, lambda tx: insert(tx, session, due))).value


async def create_many(store: Store, sessions: list[Session]) -> list[SessionRow]:
    """Add sessions of the test's app in one unit."""

    async def unit(tx: Tx) -> list[SessionRow]:
        return [await insert(tx, session) for session in sessions]

    return (await apply(store, unit)).value


async def found(store: Store, session_id: str, user: str = "ann", app: str = APP) -> SessionRow:
    """The session of a key, which must exist."""
    row = await store.read(lambda tx: tx.session_by_key(app, user, session_id))
    assert row is not None, session_id
    return row


async def head(store: Store, app: str = APP) -> int:
    return await store.read(lambda tx: tx.head(app))


async def log_of(store: Store, app: str = APP, after: int = 0) -> list[LoggedChange]:
    return list(await store.read(lambda tx: tx.changes(app, after, 100_000)))


async def list_ids(store: Store, **query: Any) -> list[str]:
    """The session ids of a candidate list."""
    asked = Candidates(**{"app": APP, **query})
    return [row.session.session_id for row in await store.read(lambda tx: tx.candidates(asked))]


async def listed(store: Store, query: Candidates) -> list[SessionRow]:
    """A candidate list."""
    return list(await store.read(lambda tx: tx.candidates(query)))


async def record_of(store: Store, key: RequestKey) -> RequestRecord | None:
    """What is remembered of a request."""
    return await store.read(lambda tx: tx.request(key))


async def contents_of(store: Store, content_ids: Sequence[int]) -> list[bytes]:
    return list(await store.read(lambda tx: tx.contents(content_ids)))


async def put(store: Store, data: bytes) -> int:
    """Keep content in a unit of its own."""
    return (await apply(store, lambda tx: tx.put_content(data))).value


async def replace(store: Store, content_id: int, data: bytes) -> Applied[int]:
    """Replace content in a unit of its own."""
    return await apply(store, lambda tx: tx.replace_content(content_id, data))


async def delete(store: Store, row: SessionRow) -> None:
    """Remove a session in a unit of its own."""
    await apply(store, lambda tx: tx.delete_session(row))


async def messages_of(store: Store, row: SessionRow, **which: Any) -> list[Message]:
    """The messages of a session within bounds."""
    asked = MessageRange(**which)
    return list(await store.read(lambda tx: tx.messages(row, asked)))


async def message_of_id(store: Store, row: SessionRow, message_id: str) -> Message | None:
    return await store.read(lambda tx: tx.message_by_id(row, message_id))


async def message_at(store: Store, row: SessionRow, sequence: int) -> Message | None:
    return await store.read(lambda tx: tx.message_by_sequence(row, sequence))


async def content_of(store: Store, content_id: int) -> bytes:
    return await store.read(lambda tx: tx.content(content_id))


async def put_message(
    tx: Tx, row: SessionRow, sequence: int, body: bytes = b"", **fields: Any
) -> Message:
    """Add a message with its body; the session row is left as it is."""
    values = {"size": len(body), **fields}
    message = a_message(sequence, body=await tx.put_content(body), **values)
    await tx.insert_messages(row, [message])
    return message


async def session_with_messages(
    store: Store, count: int, session_id: str = "s-1", body: bytes = b"text"
) -> SessionRow:
    """A session whose messages have the sequences 1 to `count`."""

    async def unit(tx: Tx) -> SessionRow:
        row = await insert(tx, a_session(session_id, last_sequence=count, message_count=count))
        for sequence in range(1, count + 1):
            await put_message(tx, row, sequence, body + b" %d" % sequence)
        return row

    return (await apply(store, unit)).value


async def finish_purges(store: Store, limit: int = 100) -> None:
    """Purge until the store says that nothing is left."""
    for _ in range(1_000):
        if await store.purge(limit):
            return
    raise AssertionError("the purge never ends")


async def read_all(tx: ReadTx, row: SessionRow) -> list[int]:
    """The sequences of all messages of a session."""
    return [each.sequence for each in await tx.messages(row, MessageRange(limit=100_000))]
