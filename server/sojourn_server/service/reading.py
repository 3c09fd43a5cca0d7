"""Reading sessions: one by one or many at once, each at one revision."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.commands import SessionRef, View
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import ANSWER_BYTES
from sojourn_server.domain.model import Message, MessageBody, Session
from sojourn_server.service import state
from sojourn_server.service.answers import (
    MessageSnapshot,
    ScopeDocument,
    SessionContent,
    SessionRead,
    SessionSnapshot,
    SessionsRead,
)
from sojourn_server.service.rolling_up import roll_up
from sojourn_server.service.units import Units
from sojourn_server.service.work import find, is_overdue
from sojourn_server.store.base import MessageRange, ReadTx, SessionRow, StoreFull

# More bytes than the parts of a session or a message take in an answer beside their texts.
_SESSION_FRAME: Final = 640
_NAME_FRAME: Final = 64
_MESSAGE_FRAME: Final = 96
_TEXT_FRAME: Final = 8
_PAIR_FRAME: Final = 2 * _TEXT_FRAME
_COUNTER_FRAME: Final = 16

_AHEAD_FIRST: Final = 8
_AHEAD_MOST: Final = 500
"""How many sessions' content is read at once, at first and at most."""

T = TypeVar("T")

_SETTLE_TRIES: Final = 3
"""Settling once is enough unless the session is written at the same instant."""

_decode_body = msgspec.msgpack.Decoder(MessageBody).decode


async def get(
    units: Units, ref: SessionRef, view: View, last_messages: int, rolled_up: bool
) -> SessionRead:
    """Read one session, committing first what is overdue on it.

    Raises:
        Refusal: `SESSION_NOT_FOUND` or `UID_MISMATCH`.
    """

    async def query(tx: ReadTx, row: SessionRow) -> SessionRead:
        shot = await snapshot(tx, row.session, view, ref.users)
        messages: list[MessageSnapshot] = []
        if last_messages:
            newest = await tx.messages(row, MessageRange(descending=True, limit=last_messages))
            messages = await fitting(tx, newest, session_size(shot, view))
        return SessionRead(
            snapshot=shot,
            messages=tuple(reversed(messages)),
            revision=await tx.head(ref.app),
            now=tx.now,
            rolled_up=await roll_up(tx, row.session, ref.users) if rolled_up else None,
        )

    return await read_settled(units, ref, query)


class _Overdue(Exception):
    """Something is due on the session that was to be read."""

    def __init__(self, session: Session) -> None:
        super().__init__("something is due")
        self.session = session


async def read_settled(
    units: Units, ref: SessionRef, query: Callable[[ReadTx, SessionRow], Awaitable[T]]
) -> T:
    """Carry out a read of one session, after committing what is overdue on it.

    On a full disk nothing can be committed, and reads go on: they see the log's truth.

    Raises:
        Refusal: `SESSION_NOT_FOUND` or `UID_MISMATCH`, or whatever the query raised.
    """

    async def current(tx: ReadTx) -> T:
        row = await find(tx, ref)
        if is_overdue(row.session, tx.now):
            raise _Overdue(row.session)
        return await query(tx, row)

    async def logged(tx: ReadTx) -> T:
        return await query(tx, await find(tx, ref))

    for _ in range(_SETTLE_TRIES):
        try:
            return await units.read(current)
        except _Overdue as overdue:
            try:
                await units.settle(overdue.session.app, overdue.session.uid)
            except StoreFull:
                return await units.read(logged)
    raise Refusal(
        Reason.STORE_UNAVAILABLE, "the session could not be settled", retry_after=1_000_000
    )


async def get_many(units: Units, app: str, refs: Sequence[SessionRef], view: View) -> SessionsRead:
    """Read several sessions at one revision, committing first what is overdue on them."""

    async def query(tx: ReadTx) -> tuple[SessionsRead, list[Session]]:
        found: list[SessionSnapshot] = []
        missing: list[SessionRef] = []
        overdue: list[Session] = []
        size = covered = 0
        for ref in refs:
            session = await _find_or_none(tx, ref)
            if session is None:
                missing.append(ref)
                size += _NAME_FRAME + sum(map(_bytes, (ref.app, ref.user, ref.session_id)))
            else:
                if is_overdue(session, tx.now):
                    overdue.append(session)
                shot = await snapshot(tx, session, view, ref.users)
                size += session_size(shot, view)
                if size > ANSWER_BYTES and covered:
                    break
                found.append(shot)
            covered += 1
        answer = SessionsRead(
            found=tuple(found),
            missing=tuple(missing),
            covered=covered,
            revision=await tx.head(app),
            now=tx.now,
        )
        return answer, overdue

    answer, overdue = await units.read(query)
    with contextlib.suppress(StoreFull):  # reads go on, and see the log's truth
        for _ in range(_SETTLE_TRIES):
            if not overdue:
                break
            for session in overdue:
                await units.settle(session.app, session.uid)
            answer, overdue = await units.read(query)
    return answer


async def snapshot(
    tx: ReadTx, session: Session, view: View, users: Users = EVERY_USER
) -> SessionSnapshot:
    """A session as a view shows it to a caller who may read the sessions of these users."""
    content = await state.read_content(tx, session, users) if view is View.FULL else None
    return SessionSnapshot(session=session, content=content)


async def content_now(units: Units, session: Session, users: Users) -> SessionContent | None:
    """What a session that was created before holds by now; None: it is deleted."""

    async def query(tx: ReadTx) -> SessionContent | None:
        row = await tx.session_by_uid(session.app, session.uid)
        return None if row is None else await state.read_content(tx, row.session, users)

    return await units.read(query)


async def snapshots(
    tx: ReadTx, sessions: Sequence[Session], view: View, shared: state.SharedState
) -> AsyncGenerator[SessionSnapshot, None]:
    """Several sessions of one app as a view shows them, in order, as they are asked for.

    Their content is read some sessions ahead: as many as by the size of those before fit into
    an answer, for nobody knows how much the next ones hold.
    """
    if view is not View.FULL:
        for session in sessions:
            yield SessionSnapshot(session=session)
        return
    at, ahead, read = 0, _AHEAD_FIRST, 0
    while at < len(sessions):
        chunk = sessions[at : at + ahead]
        for session, content in zip(
            chunk, await state.read_contents(tx, chunk, shared), strict=True
        ):
            shot = SessionSnapshot(session=session, content=content)
            read += session_size(shot, view, shared=False)
            yield shot
        at += len(chunk)
        ahead = max(1, min(_AHEAD_MOST, (ANSWER_BYTES - read) * at // read))


async def with_bodies(tx: ReadTx, messages: Sequence[Message]) -> list[MessageSnapshot]:
    """Messages with their content."""
    bodies = await tx.contents([message.body for message in messages])
    return [
        MessageSnapshot(message=message, body=decode_body(data))
        for message, data in zip(messages, bodies, strict=True)
    ]


def decode_body(data: bytes) -> MessageBody:
    """The body of a stored form."""
    return _decode_body(data) if data else MessageBody()


async def fitting(tx: ReadTx, messages: Sequence[Message], taken: int = 0) -> list[MessageSnapshot]:
    """As many of the messages, from the first on, as one answer may hold: at least one.

    Args:
        tx: Where their content is.
        messages: Which messages.
        taken: Bytes of the answer that are taken already.
    """
    # The content alone tells which bodies are worth reading; their framing comes after.
    most = _while_fitting((message.size for message in messages), taken)
    shots = await with_bodies(tx, messages[:most])
    return shots[: _while_fitting(map(message_size, shots), taken)]


def _while_fitting(sizes: Iterable[int], taken: int) -> int:
    """How many of these sizes, from the first on, one answer may hold: at least one."""
    count = 0
    for size in sizes:
        taken += size
        if taken > ANSWER_BYTES and count:
            break
        count += 1
    return count


def message_size(shot: MessageSnapshot) -> int:
    """At least as many bytes as the message takes in an answer."""
    message = shot.message
    names = _bytes(message.message_id) + _bytes(message.role) + len(message.content_type)
    return _MESSAGE_FRAME + names + message.size + _PAIR_FRAME * len(shot.body.metadata)


def session_size(shot: SessionSnapshot, view: View, *, shared: bool = True) -> int:
    """At least as many bytes as the session takes in an answer, with or without shared state."""
    session, content = shot.session, shot.content
    names = _bytes(session.app) + _bytes(session.user) + _bytes(session.session_id)
    if view is View.IDS:
        return _NAME_FRAME + names
    texts = [*session.labels, *session.labels.values(), *session.metrics.counters]
    if session.turn:
        texts.append(session.turn.holder)
    if content:
        texts += _texts(content, shared=shared)
    counters = _COUNTER_FRAME * len(session.metrics.counters)
    text_bytes = sum(_bytes(text) + _TEXT_FRAME for text in texts)
    return _SESSION_FRAME + names + counters + text_bytes


def scope_size(scope: ScopeDocument) -> int:
    """At least as many bytes as a scope's state takes in an answer, without its name."""
    texts = (text for pair in scope.values.items() for text in pair)
    return _NAME_FRAME + sum(_bytes(text) + _TEXT_FRAME for text in texts)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _texts(content: SessionContent, *, shared: bool) -> list[str]:
    documents = [content.metadata, content.session_state.values]
    if shared:
        documents += [content.user_state.values, content.app_state.values]
    texts = [text for document in documents for pair in document.items() for text in pair]
    note = content.end_note
    return [*texts, note.reason, note.result, content.turn_error, content.reset_reason]


async def _find_or_none(tx: ReadTx, ref: SessionRef) -> Session | None:
    try:
        return (await find(tx, ref)).session
    except Refusal:
        return None
