"""What can be wrong with an app: the reasons of the error tree that name one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sojourn._error_codes import FailedPreconditionError, NotFoundError

if TYPE_CHECKING:
    from sojourn.apps import AppBlockers
    from sojourn.models import SessionKey


class AppNotFoundError(NotFoundError):
    """There is no such app, or it is not yours."""

    reason = "APP_NOT_FOUND"


class AppDeletedError(FailedPreconditionError):
    """The app was deleted, and not yet allowed again."""

    reason = "APP_DELETED"


class AppDrainingError(FailedPreconditionError):
    """The app is being drained: no new sessions or turns."""

    reason = "APP_DRAINING"


class AppHasSessionsError(FailedPreconditionError):
    """The app has live sessions; `blockers` says who holds it, and until when."""

    reason = "APP_HAS_SESSIONS"
    blockers: AppBlockers | None = None
    """All that the server said; None when it said nothing but `metadata`."""

    @property
    def count(self) -> int:
        """How many sessions are live."""
        return (
            int(self.metadata.get("count", "0")) if self.blockers is None else self.blockers.count
        )

    @property
    def first_keys(self) -> tuple[SessionKey, ...]:
        """The first 20 of them."""
        return () if self.blockers is None else self.blockers.first_keys

    @property
    def holders(self) -> tuple[str, ...]:
        """Who holds turns."""
        return () if self.blockers is None else self.blockers.holders

    @property
    def last_actor(self) -> str:
        """Who called last."""
        return "" if self.blockers is None else self.blockers.last_actor

    @property
    def latest_activity_time(self) -> datetime | None:
        """When that was."""
        return None if self.blockers is None else self.blockers.latest_activity_time

    @property
    def earliest_success_time(self) -> datetime | None:
        """The earliest time at which a delete could succeed; None: never by itself."""
        return None if self.blockers is None else self.blockers.earliest_success_time


class AppUnknownError(FailedPreconditionError):
    """The server's setting refuses apps it does not know."""

    reason = "APP_UNKNOWN"


class AutoCreateRefusedError(FailedPreconditionError):
    """The app's policy refuses `create_if_missing`."""

    reason = "AUTO_CREATE_REFUSED"
