"""What a watch asks for, and how a change stands to it."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from sojourn_server.domain import filter as filters
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import EVERYTHING, SessionFilter
from sojourn_server.domain.model import ChangeCause, ChangeDetail, Session

NOT_WATCHABLE: Final = ("older_than", "idle_longer_than", "activity_time")
"""Predicates that time alone, or a touch, makes true: no change tells of it."""


class Sight(enum.IntEnum):
    """How a change shows. But for the first, numbers are those of `SessionChange.Membership`."""

    APP = 0
    """It is not of a session."""
    ENTERED = 1
    CHANGED = 2
    LEFT = 3


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """What one watch asks for. Equal ones see the same, in the same form."""

    app: str
    user: str | None = None
    """None: of all users."""
    parent_uid: str = ""
    """Only children of this session; empty: all."""
    filter: SessionFilter = EVERYTHING
    app_changes: bool = False
    """Also what is not of a session."""
    previous: bool = False
    """With the session before each change."""
    content: bool = False
    """With content, as it is at delivery."""
    aliases: tuple[str, ...] = ()
    """What the log may call the user, once erased."""
    app_state: bool = True
    """Whether the caller may hear of the app's own state."""


def require_watchable(which: SessionFilter) -> None:
    """Refuse a filter that changes alone cannot follow.

    Raises:
        Refusal: `FILTER_NOT_WATCHABLE`.
    """
    asked = filters.predicates(which)
    for field in NOT_WATCHABLE:
        if field in asked:
            raise Refusal(
                Reason.FILTER_NOT_WATCHABLE,
                f"{field} becomes true without a change, and cannot be watched",
                {"field": field},
            )


class Lens:
    """Sees changes as one interest does.

    Args:
        interest: What is asked for.
    """

    def __init__(self, interest: Interest) -> None:
        self._user = interest.user
        self._aliases = frozenset(interest.aliases)
        self._parent = interest.parent_uid
        self._app_changes = interest.app_changes
        self._app_state = interest.app_state
        self._matches = filters.matcher(interest.filter, 0)

    def see(self, before: Session | None, after: Session | None) -> Sight | None:
        """How the change of a session shows; None: not at all.

        Args:
            before: The session before it, or None.
            after: The session after it, or None; not both.
        """
        subject = before if after is None else after
        if subject is None or not self._in_scope(subject):
            return None
        was = before is not None and self._matches(before)
        if after is not None and self._matches(after):
            return Sight.CHANGED if was else Sight.ENTERED
        return Sight.LEFT if was else None

    def shows(self, session: Session) -> bool:
        """Whether a session belongs to what is watched."""
        return self._in_scope(session) and self._matches(session)

    def see_erased(self, cause: ChangeCause, uid: str, detail: ChangeDetail) -> Sight | None:
        """How a change shows whose user was erased; None: not at all.

        That a session is gone is told to all who may have heard of it: whether it matched
        a filter is not known any more.
        """
        if self._user is not None and detail.alias not in self._aliases:
            return None
        if uid:
            gone = cause is ChangeCause.DELETED and self._parent in {"", detail.parent_uid}
            return Sight.LEFT if gone else None
        told = cause is ChangeCause.USER_ERASED and self._app_changes and not self._parent
        return Sight.APP if told else None

    def see_app(self, cause: ChangeCause, detail: ChangeDetail) -> Sight | None:
        """How a change without a session shows; None: not at all.

        A user's state is of that user and of no parent.
        """
        if not self._app_changes:
            return None
        if detail.user is None:
            shown = self._app_state or cause is not ChangeCause.STATE_CHANGED
        else:
            shown = not self._parent and self._user in {None, detail.user}
        return Sight.APP if shown else None

    def _in_scope(self, session: Session) -> bool:
        if self._user is not None and session.user != self._user:
            return False
        return not self._parent or session.parent_uid == self._parent
