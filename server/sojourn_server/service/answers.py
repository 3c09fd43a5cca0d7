"""What the use cases answer with.

Those named `…Outcome` are kept in request records to be answered again, so they are
encoded like the domain's values: append new fields at the end, with a default. They
hold no content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import SessionRef
from sojourn_server.domain.model import (
    App,
    Document,
    EndNote,
    Message,
    MessageBody,
    Metrics,
    Session,
    Turn,
)
from sojourn_server.domain.policy import Policy
from sojourn_server.service.blockers import Blockers
from sojourn_server.store.base import ListedApp

T = TypeVar("T")


def nobody_minds() -> None:
    """Says nothing to a call that will wait."""


def everything(_: str) -> bool:
    """Says that every app may be read."""
    return True


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what makes a repeat of the call recognisable."""

    principal: str = ""
    """Who was authenticated, as request records know it; empty while authentication is off."""
    actor: str = ""
    """Whose name goes into the log: the principal, or what the caller says."""
    users: Users = EVERY_USER
    """The users of the request's app to whose sessions the caller may do this."""
    method: str
    """The RPC: `CreateSession`."""
    request_id: str = ""
    """Empty: repeats are not recognised."""
    payload_hash: bytes = b""
    """Keyed hash of the request without its id; set whenever `request_id` is."""
    deadline: float | None = None
    """When the caller gives up, by `time.monotonic()`; None: never."""
    reads: Callable[[str], bool] = everything
    """Whether the caller may read all of an app, of which it has the name: for what is about
    many apps."""
    rest: Callable[[], None] = nobody_minds
    """To be told before the call waits for what may take minutes, so that others run
    meanwhile; raises `Refusal` when too many wait."""


class Answer(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The answer of a mutating use case."""

    outcome: T
    revision: int
    """The revision taken, or the head where nothing changed."""
    scrubbed: bool = True
    """Whether everything it erased is gone from the store's files."""
    now: Nanos
    """The server's clock at the answer, for times left."""


class ScopeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one scope."""

    values: Document
    version: int


class SessionContent(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a session: what view FULL adds."""

    metadata: Document
    session_state: ScopeDocument
    user_state: ScopeDocument
    app_state: ScopeDocument
    end_note: EndNote
    turn_error: str = ""
    """What went wrong in the last turn, if it failed."""
    reset_reason: str = ""
    """Why the session was last reset."""


class SessionSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A session, with its content for view FULL."""

    session: Session
    content: SessionContent | None = None


class MessageSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its content."""

    message: Message
    body: MessageBody


class RolledUp(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over a session and its descendants."""

    metrics: Metrics
    sessions: int
    active: int
    messages: int
    complete: bool
    """Whether none of them was left out."""


class SessionRead(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a get."""

    snapshot: SessionSnapshot
    messages: tuple[MessageSnapshot, ...]
    """Oldest first."""
    revision: int
    now: Nanos
    rolled_up: RolledUp | None = None


class SessionsRead(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a batch get."""

    found: tuple[SessionSnapshot, ...]
    missing: tuple[SessionRef, ...]
    covered: int
    """How many of the request's sessions it covers."""
    revision: int
    now: Nanos


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list of sessions."""

    snapshots: tuple[SessionSnapshot, ...]
    next_page_token: str
    total: int | None
    revision: int
    resume_token: str
    """On the first page; empty later."""
    now: Nanos
    app_state: ScopeDocument | None = None
    """The app's state, where it was asked for once a page."""
    user_states: Mapping[str, ScopeDocument] = {}
    """By user, likewise."""


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list of messages."""

    messages: tuple[MessageSnapshot, ...]
    next_page_token: str
    generation: int
    revision: int


class MessageRead(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a get of one message."""

    snapshot: MessageSnapshot
    revision: int


class StateRead(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a get of the state of a user or an app."""

    state: ScopeDocument
    revision: int


class StateVersions(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Versions after a write, of the scopes that were patched; None: was not."""

    session: int | None = None
    user: int | None = None
    app: int | None = None


class CreateOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """CreateSession."""

    session: Session
    created: bool


class CreateManyOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """BatchCreateSessions."""

    sessions: tuple[Session, ...]


class UpdateOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """UpdateSession."""

    session: Session
    changed: bool
    versions: StateVersions


class TouchOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """TouchSession, and RenewTurn."""

    session: Session


class EndOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """EndSession."""

    session: Session
    changed: bool
    descendants: int


class ForkOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """ForkSession."""

    session: Session


class ReplaceOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """ReplaceMessages."""

    session: Session
    removed: int
    message_ids: tuple[str, ...]
    sequences: tuple[int, ...]
    changed: bool


class ResetOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """ResetSession."""

    session: Session
    messages: int
    state_keys: int
    metrics: bool
    backup: Session | None = None


class DeleteOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """DeleteSession."""

    sessions: int
    messages: int


class BeginOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """BeginTurn. The token is sealed anew from session and turn: it comes out the same."""

    session: Session
    turn: Turn
    created: bool


class EndTurnOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """EndTurn."""

    session: Session
    elapsed: Nanos


class AppendOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """AppendMessages."""

    session: Session
    message_ids: tuple[str, ...]
    sequences: tuple[int, ...]
    changed: bool
    created: bool
    versions: StateVersions


class PopOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """PopMessages. The bodies are held by the request record."""

    session: Session
    messages: tuple[Message, ...]
    """Oldest first."""
    changed: bool
    session_pk: int = 0
    """Whose content the record holds."""


class Popped(msgspec.Struct, frozen=True, kw_only=True):
    """PopMessages, with the bodies."""

    session: Session
    messages: tuple[MessageSnapshot, ...]
    """Oldest first."""
    changed: bool


class TruncateOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """TruncateMessages."""

    session: Session
    removed: int
    changed: bool


class StateOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """UpdateState."""

    version: int
    changed: bool


class AppOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """UpdateApp."""

    app: App
    changed: bool
    active: int
    sessions: int


class AppRead(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a get of an app."""

    listed: ListedApp
    effective: Policy
    """What holds, with the server's defaults."""
    blockers: Blockers | None = None
    """What stands in the way of its deletion, while it drains."""


class AppPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list of apps."""

    apps: tuple[ListedApp, ...]
    next_page_token: str
