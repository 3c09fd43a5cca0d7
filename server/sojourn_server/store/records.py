"""What a store keeps beside sessions and messages: requests, the log, keys."""

from __future__ import annotations

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import App, ChangeCause, ChangeDetail, ContentId, Session


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


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Work that takes more than one unit, and where it has come to."""

    app: str
    operation_id: str
    """Unique within the app."""
    kind: str
    """Whose steps bring it on."""
    record: bytes
    """Where it has come to, as its kind encodes it. It holds no content."""
    update_time: Nanos
    """When a step was last taken."""
    content: tuple[ContentId, ...] = ()
    """Content that it holds until it is done."""


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


class AppCounts(msgspec.Struct, frozen=True):
    """How many sessions an app has."""

    active: int
    """ACTIVE ones."""
    sessions: int
    """All that are there, ended ones too."""


class ListedApp(msgspec.Struct, frozen=True):
    """An app as a list of apps shows it."""

    app: App
    head: int
    """The newest revision of its log."""
    counts: AppCounts


class SessionRow(msgspec.Struct, frozen=True):
    """A session as it is stored."""

    pk: int
    """The store's own number for it, never used again."""
    create_order: int
    """Ascends with the creations of the app, in commit order (S11)."""
    session: Session

    @property
    def history(self) -> int:
        """What its messages are kept under."""
        return self.session.history or self.pk
