"""What a store keeps beside sessions and messages: requests, the log, keys."""

from __future__ import annotations

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import ChangeCause, ChangeDetail, ContentId, Session


class RequestKey(msgspec.Struct, frozen=True):
    """What a request_id is unique within."""

    app: str
    principal: str
    method: str
    request_id: str


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a request that succeeded."""

    key: RequestKey
    payload_hash: bytes
    """Keyed hash of the request without its id."""
    revision: int
    """The revision it was answered with. The store sets it."""
    outcome: bytes
    """The answer without content, as the service encoded it."""
    create_time: Nanos
    session_pk: int = 0
    """The session whose content `held` points to; 0: none."""
    held: tuple[ContentId, ...] = ()
    """Content that only this record still holds: popped bodies."""


class LoggedChange(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an app's log, as it is stored."""

    revision: int
    index: int
    nonce: int
    time: Nanos
    actor: str
    cause: ChangeCause
    uid: str
    """The session's; empty for a change without one."""
    before: Session | None
    after: Session | None
    detail: ChangeDetail


class Staging(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that belong to no session yet: they are put by many units, and one switches."""

    app: str
    name: str
    """Unique in the app."""
    history: int
    """What the messages are kept under, from `Tx.new_history`."""
    owner: int = 0
    """The pk of the session that they are of; 0: of none."""
    expire_time: Nanos
    """When whoever finds it removes it, messages and all."""
    record: bytes = b""
    """What the service keeps beside."""


class TokenKey(msgspec.Struct, frozen=True):
    """A key for tokens and hashes, made at migration."""

    key_id: int
    """0 to 255; the first byte of every token."""
    secret: bytes
    """32 random bytes."""
