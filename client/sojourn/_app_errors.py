"""What can be wrong with an app: the reasons of the error tree that name one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from sojourn._error_codes import FailedPreconditionError, NotFoundError

if TYPE_CHECKING:
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
    """The app has live sessions; `retry_after` says when they will have expired, if nobody calls.

    What the server did not say is empty or None.
    """

    reason = "APP_HAS_SESSIONS"

    @property
    def count(self) -> int:
        """How many sessions are live."""
        return int(self.metadata.get("count", "0"))

    @property
    def first_keys(self) -> tuple[SessionKey, ...]:
        """The first 20 of them."""
        # Here, because models need errors.
        from sojourn.models import SessionKey  # noqa: PLC0415

        app = self.metadata.get("app", "")
        return tuple(
            SessionKey(app, str(user), str(session_id))
            for user, session_id in json.loads(self.metadata.get("first_keys", "[]"))
        )

    @property
    def holders(self) -> tuple[str, ...]:
        """Who holds turns."""
        return tuple(map(str, json.loads(self.metadata.get("holders", "[]"))))

    @property
    def last_actor(self) -> str:
        """Who called last."""
        return self.metadata.get("last_actor", "")

    @property
    def latest_activity_time(self) -> datetime | None:
        """When a session was last active."""
        return self._time("latest_activity_time")

    @property
    def earliest_success_time(self) -> datetime | None:
        """When they will all have expired, if nobody calls any more; None: never by themselves."""
        return self._time("earliest_success_time")

    def _time(self, name: str) -> datetime | None:
        text = self.metadata.get(name)
        return None if text is None else datetime.fromisoformat(text)


class AppUnknownError(FailedPreconditionError):
    """The server's setting refuses apps it does not know."""

    reason = "APP_UNKNOWN"


class AutoCreateRefusedError(FailedPreconditionError):
    """The app's policy refuses `create_if_missing`."""

    reason = "AUTO_CREATE_REFUSED"
