"""How values become rows, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from sojourn_server.domain.auditing import NO_DETAIL, AuditDetail, AuditEntry, detail_of
from sojourn_server.domain.model import (
    App,
    Change,
    ChangeCause,
    ChangeDetail,
    Message,
    ScopeState,
    Session,
)
from sojourn_server.store.base import LoggedChange, Operation, RequestKey, RequestRecord, Staging

Row = tuple[Any, ...]
"""What a query answers: the columns of its SELECT, in that order."""

ORDER_BITS: Final = 40
"""How many low bits of a session's pk are its create order; the app's pk is above."""

ORDER_MASK: Final = (1 << ORDER_BITS) - 1
APP_PK_LIMIT: Final = 1 << (63 - ORDER_BITS)
"""One more than the greatest app_pk: about 8 million apps."""

_UID_LENGTH: Final = 36
_SIGN: Final = 1 << 63
_WRAP: Final = 1 << 64

encode: Final = msgspec.msgpack.Encoder().encode
decode_session: Final = msgspec.msgpack.Decoder(Session).decode
decode_app: Final = msgspec.msgpack.Decoder(App).decode
decode_scope_state: Final = msgspec.msgpack.Decoder(ScopeState).decode
_decode_detail: Final = msgspec.msgpack.Decoder(ChangeDetail).decode
_decode_held: Final = msgspec.msgpack.Decoder(tuple[int, ...]).decode

_decode_audit: Final = msgspec.msgpack.Decoder(AuditDetail).decode

_NO_DETAIL: Final = ChangeDetail()


def uid_blob(uid: str) -> bytes:
    """The 16 bytes of a uid.

    Raises:
        ValueError: It is no UUID in its usual form of 36 characters.
    """
    raw = bytes.fromhex(uid.replace("-", ""))
    if len(raw) != 16 or len(uid) != _UID_LENGTH:
        raise ValueError("a uid must be a UUID of 36 characters")
    return raw


def try_uid_blob(uid: str) -> bytes | None:
    """The 16 bytes of a uid, or None for a text that is none."""
    try:
        return uid_blob(uid)
    except ValueError:
        return None


def _uid_text(raw: bytes | None) -> str:
    if raw is None:
        return ""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def message_values(session_pk: int, message: Message) -> Row:
    """The parameters of `message_insert`."""
    return (
        session_pk,
        message.sequence,
        message.message_id,
        message.role,
        message.content_type,
        message.event_time,
        message.create_time,
        message.size,
        message.body,
    )


def message_of(row: Row) -> Message:
    """The message of a row of the `messages_…` queries."""
    message_id, sequence, role, content_type, event_time, create_time, size, body = row
    return Message(
        message_id=message_id,
        sequence=sequence,
        role=role,
        content_type=content_type,
        event_time=event_time,
        create_time=create_time,
        size=size,
        body=body,
    )


def detail_blob(detail: ChangeDetail) -> bytes | None:
    """A detail as stored: NULL for one that says nothing."""
    return None if detail == _NO_DETAIL else encode(detail)


def nonce_column(nonce: int) -> int:
    """An unsigned 64-bit nonce as the signed integer that SQLite keeps."""
    return nonce - _WRAP if nonce >= _SIGN else nonce


def nonce_of(column: int) -> int:
    """The nonce of such a column."""
    return column % _WRAP


def change_of(row: Row) -> LoggedChange:
    """The change of a row of the `changes_…` queries."""
    revision, index, nonce, time, actor, cause, uid, before, after, detail = row
    return LoggedChange(
        revision=revision,
        index=index,
        nonce=nonce_of(nonce),
        time=time,
        actor=actor,
        cause=ChangeCause(cause),
        uid=_uid_text(uid),
        before=None if before is None else decode_session(before),
        after=None if after is None else decode_session(after),
        detail=_NO_DETAIL if detail is None else _decode_detail(detail),
    )


def subject_uid(change: Change) -> bytes | None:
    """The uid of the session that a change is of; None: of none."""
    subject = change.before if change.after is None else change.after
    if subject is not None:
        return uid_blob(subject.uid)
    return uid_blob(change.uid) if change.uid else None


def audit_values(change: Change, uid: bytes | None) -> Row:
    """The columns of an audit entry that its change decides, from `cause` on.

    Args:
        change: The change.
        uid: Its `subject_uid`.
    """
    subject = change.before if change.after is None else change.after
    detail = None if change.cause is ChangeCause.CREATED else _audit_detail(detail_of(change))
    if subject is None:
        return (change.cause, uid, change.alias or None, None, detail)
    return (change.cause, uid, subject.user, subject.session_id, detail)


@lru_cache(maxsize=64)
def _audit_detail(detail: AuditDetail) -> bytes | None:
    """Why, as stored: nearly all are one of a few."""
    return None if detail == NO_DETAIL else encode(detail)


def audit_of(row: Row) -> AuditEntry:
    """The entry of a row of the `audit_…` queries."""
    revision, index, time, actor, cause, uid, user, session_id, detail = row
    return AuditEntry(
        revision=revision,
        index=index,
        time=time,
        actor=actor,
        cause=ChangeCause(cause),
        uid=_uid_text(uid),
        user=user,
        session_id=session_id or "",
        detail=NO_DETAIL if detail is None else _decode_audit(detail),
    )


def held_blob(held: tuple[int, ...]) -> bytes | None:
    """Content ids as stored: NULL for none."""
    return encode(held) if held else None


def held_of(blob: bytes | None) -> tuple[int, ...]:
    """Content ids of a `held` column."""
    return () if blob is None else _decode_held(blob)


def staging_of(app: str, row: Row) -> Staging:
    """The staging of a row: name, history, owner, expire_time, record."""
    name, history, owner, expire_time, record = row
    return Staging(
        app=app,
        name=name,
        history=history,
        owner=owner,
        expire_time=expire_time,
        record=bytes(record),
    )


def staging_values(staging: Staging) -> Row:
    """The parameters of `staging_put` after the app's."""
    return (
        staging.name,
        staging.history,
        staging.owner,
        staging.expire_time,
        staging.record,
    )


def request_of(key: RequestKey, row: Row) -> RequestRecord:
    """The record of a row of `request_get`."""
    payload_hash, revision, outcome, create_time, session_pk, held = row
    return RequestRecord(
        key=key,
        payload_hash=payload_hash,
        revision=revision,
        outcome=outcome,
        create_time=create_time,
        session_pk=session_pk,
        held=held_of(held),
    )


def operation_of(app: str, operation_id: str, row: Row) -> Operation:
    """The operation of a row: kind, update_time, record, content."""
    kind, update_time, record, content = row
    return Operation(
        app=app,
        operation_id=operation_id,
        kind=kind,
        record=bytes(record),
        update_time=update_time,
        content=held_of(content),
    )


def operation_values(operation: Operation) -> Row:
    """The columns of an operation, without the app's."""
    return (
        operation.operation_id,
        operation.kind,
        operation.update_time,
        operation.record,
        held_blob(operation.content),
    )


def parent_blob(session: Session) -> bytes | None:
    """The `parent` column: NULL without a parent.

    Raises:
        ValueError: The parent's uid is no UUID.
    """
    return uid_blob(session.parent_uid) if session.parent_uid else None
