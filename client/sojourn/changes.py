"""What a watch hands out: changes of an app's log, and the marks between them.

All are frozen dataclasses. A `SessionChange` decodes its sessions and messages when they are first
read; whoever never looks at them does not pay for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sojourn._lazy import Lazy, settled
from sojourn.enums import ChangeCause, DeletedWhy, Membership, TurnOutcome
from sojourn.errors import SojournError
from sojourn.models import Message, Session

__all__ = [
    "AppChange",
    "Bookmark",
    "CacheUpdate",
    "Change",
    "InitialSession",
    "InitialStateBegin",
    "InitialStateEnd",
    "SessionChange",
    "WatchEvent",
    "WatchPosition",
]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of an app's log.

    It is a `SessionChange` or an `AppChange`; only one of a kind that this client does not know yet
    is neither.
    """

    revision: int
    """The unit it belongs to: dense, in commit order, per app."""
    index: int
    """Its place in the unit, from 0."""
    cause: ChangeCause
    """What brought it about."""
    time: datetime
    """The server's clock at the commit. Order is by revision, never by this."""
    actor: str
    """Who did it: the authenticated principal, or the name that the caller gave."""

    def __getstate__(self) -> dict[str, Any]:
        return settled(self.__dict__)


@dataclass(frozen=True, kw_only=True, repr=False)
class SessionChange(Change):
    """A change of one session.

    Keys and sequences say what changed; the values themselves are in the session only with
    `content=True`, and then they are those of `content_revision`.
    """

    membership: Membership
    """How the change stands to the watch's filter."""
    uid: str
    """The session's uid."""
    session: Lazy[Session] = Lazy()
    """The session after the change; of LEFT, the last one that matched."""
    previous: Lazy[Session | None] = Lazy(None)
    """The session before it, where `previous=True` asked for it and it is known."""
    previous_unavailable: bool = False
    """The session before was asked for and is no longer known."""
    label_keys: tuple[str, ...] = ()
    """Label keys that changed."""
    metadata_keys: tuple[str, ...] = ()
    """Metadata keys that changed."""
    state_keys: tuple[str, ...] = ()
    """Keys of the session's state that changed."""
    first_sequence: int = 0
    """The first sequence appended or removed; 0: none."""
    last_sequence: int = 0
    """The last sequence appended or removed; 0: none."""
    deleted_why: DeletedWhy | None = None
    """Why it was removed; None: it was not."""
    turn_outcome: TurnOutcome | None = None
    """How a turn ended; None: none did."""
    messages: Lazy[tuple[Message, ...]] = Lazy(())
    """The messages appended, with `content=True`, as far as they still exist."""
    content_revision: int = 0
    """The revision that the content is true at; 0: no content was sent."""

    def __repr__(self) -> str:
        # Without what is decoded late, and without content.
        return (
            f"SessionChange(revision={self.revision}, index={self.index}, "
            f"cause={self.cause.value}, membership={self.membership.value}, uid={self.uid!r})"
        )


@dataclass(frozen=True, kw_only=True)
class AppChange(Change):
    """A change that is not of a session: of a user's or the app's state, or of the app itself."""

    app: str
    """The app."""
    user: str | None = None
    """The user, for a change of the user's state; None: of the app."""
    state_keys: tuple[str, ...] = ()
    """Keys of the state that changed."""
    state_version: int = 0
    """The scope's version after the change."""
    active_sessions: int = 0
    """How many sessions were still active, while the app is drained."""
    drain_deadline: datetime | None = None
    """When the drain forces what is left."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing matched meanwhile: every matching change up to here has been handed out."""

    revision: int
    """Up to where."""
    token: str
    """Watch after it, and nothing is missed."""


@dataclass(frozen=True, slots=True)
class InitialStateBegin:
    """The state of the sessions follows: forget whatever came before.

    It comes first in a watch with `initial_state=True`, again when the connection was cut before
    the state was complete, and when a watch with a `resync` callback has to begin anew.
    """

    why: SojournError | None = None
    """What made the watch begin anew; None at the beginning, and after a cut."""


@dataclass(frozen=True, slots=True)
class InitialSession:
    """A session that matches, as part of the initial state."""

    session: Session
    """The session; changes that follow before the end are on top of it. Its `revision` is 0: it
    is true, with these changes, at the state's end."""


@dataclass(frozen=True, slots=True)
class InitialStateEnd:
    """The state is complete: with the changes handed out meanwhile it is true at `revision`."""

    revision: int
    """From here on, every change is handed out, exactly once."""


WatchEvent: TypeAlias = Change | Bookmark | InitialStateBegin | InitialSession | InitialStateEnd
"""What a watch hands out."""


@dataclass(frozen=True, slots=True)
class WatchPosition:
    """How far a watch has come, to the very change: store it, and watch `after` it later."""

    token: str
    """The newest token that skips nothing which was not handed out."""
    revision: int = 0
    """The revision of the last change handed out; it may be newer than the token's."""
    index: int = -1
    """The place of that change in its unit."""


@dataclass(frozen=True, slots=True)
class CacheUpdate:
    """What became of one session of a `SessionCache`."""

    uid: str
    """Which session."""
    session: Session | None
    """As it is now; None: it is no longer in the cache."""
