"""Reading sessions: one by one or many at once, each at one revision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sojourn_server.domain.commands import SessionRef, View
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import ANSWER_BYTES
from sojourn_server.domain.model import Message, MessageBody, Session
from sojourn_server.service import state
from sojourn_server.service.answers import (
    MessageSnapshot,
    SessionContent,
    SessionRead,
    SessionSnapshot,
    SessionsRead,
)
from sojourn_server.service.units import Units
from sojourn_server.service.work import find, is_overdue
from sojourn_server.store.base import MessageRange, ReadTx, SessionRow

_ENVELOPE: Final = 1_024
"""More than the fields of fixed size of a session or a message take in an answer."""

_SETTLE_TRIES: Final = 3
"""Settling once is enough unless the session is written at the same instant."""

_decode_body = msgspec.msgpack.Decoder(MessageBody).decode


async def get(units: Units, ref: SessionRef, view: View, last_messages: int) -> SessionRead:
    """Read one session, committing first what is overdue on it.

    Raises:
        Refusal: `SESSION_NOT_FOUND` or `UID_MISMATCH`.
    """

    async def query(tx: ReadTx) -> SessionRead | Session:
        row = await find(tx, ref)
        if is_overdue(row.session, tx.now):
            return row.session
        messages: tuple[MessageSnapshot, ...] = ()
        if last_messages:
            messages = await newest(tx, row, last_messages)
        return SessionRead(
            snapshot=await snapshot(tx, row.session, view),
            messages=messages,
            revision=await tx.head(ref.app),
            now=tx.now,
        )

    for _ in range(_SETTLE_TRIES):
        found = await units.read(query)
        if isinstance(found, SessionRead):
            return found
        await units.settle(found.app, found.uid)
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
                size += _ENVELOPE
            else:
                if is_overdue(session, tx.now):
                    overdue.append(session)
                shot = await snapshot(tx, session, view)
                size += session_size(shot)
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
    for _ in range(_SETTLE_TRIES):
        if not overdue:
            break
        for session in overdue:
            await units.settle(session.app, session.uid)
        answer, overdue = await units.read(query)
    return answer


async def snapshot(tx: ReadTx, session: Session, view: View) -> SessionSnapshot:
    """A session as a view shows it."""
    content = await state.read_content(tx, session) if view is View.FULL else None
    return SessionSnapshot(session=session, content=content)


async def newest(tx: ReadTx, row: SessionRow, count: int) -> tuple[MessageSnapshot, ...]:
    """The newest messages, oldest first, cut at the answer's size from the older end."""
    found = await tx.messages(row, MessageRange(descending=True, limit=count))
    return tuple(reversed(await with_bodies(tx, fitting(found))))


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


def fitting(messages: Sequence[Message]) -> Sequence[Message]:
    """As many of the messages, from the first on, as one answer may hold: at least one."""
    size = 0
    for index, message in enumerate(messages):
        size += message_size(message)
        if size > ANSWER_BYTES and index:
            return messages[:index]
    return messages


def message_size(message: Message) -> int:
    """At least as many bytes as the message takes in an answer."""
    # Metadata keys are short and many at worst: 64 of them, 4 bytes of framing each.
    return _ENVELOPE + message.size + 4 * (len(message.message_id) + len(message.role))


def session_size(shot: SessionSnapshot) -> int:
    """At least as many bytes as the session takes in an answer."""
    session, content = shot.session, shot.content
    texts = [*session.labels, *session.labels.values(), *session.metrics.counters]
    texts += [session.app, session.user, session.session_id]
    if session.turn:
        texts.append(session.turn.holder)
    if content:
        texts += _texts(content)
    return _ENVELOPE + sum(4 * len(text) + 8 for text in texts)


def _texts(content: SessionContent) -> list[str]:
    documents = (
        content.metadata,
        content.session_state.values,
        content.user_state.values,
        content.app_state.values,
    )
    texts = [text for document in documents for pair in document.items() for text in pair]
    note = content.end_note
    return [*texts, note.reason, note.result, content.turn_error, content.reset_reason]


async def _find_or_none(tx: ReadTx, ref: SessionRef) -> Session | None:
    try:
        return (await find(tx, ref)).session
    except Refusal:
        return None
