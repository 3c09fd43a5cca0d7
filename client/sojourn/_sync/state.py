# Generated from client/sojourn/_async/state.py by `make gen`. Edit the source, never this file.
"""The state that sessions share: a user's and an app's."""

from __future__ import annotations

from sojourn import _calls as calls
from sojourn import _convert as convert
from sojourn import inputs, results
from sojourn._sync.caller import Caller
from sojourn.models import State


class Users:
    """The users of an app. For common errors see `sessions`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get_state(self, user: str, *, app: str | None = None) -> State:
        """Read the state of a user; one that was never heard of has an empty state of version 0."""
        return _get_state(self._caller, app, user)

    def update_state(
        self,
        user: str,
        change: inputs.StateChange,
        *,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.StateResult:
        """Patch the state of a user, without any session; the app comes into being with it.

        Raises: `StateVersionMismatchError`, `ContentTooLargeError`, `AppDeletedError`,
        `AppUnknownError`.
        """
        return _update_state(self._caller, app, user, change, request_id)


class Apps:
    """The apps. For common errors see `sessions`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get_state(self, *, app: str | None = None) -> State:
        """Read the state of an app; one that was never heard of has an empty state of version 0."""
        return _get_state(self._caller, app, None)

    def update_state(
        self,
        change: inputs.StateChange,
        *,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.StateResult:
        """Patch the state of an app; it comes into being with it. Raises as that of users."""
        return _update_state(self._caller, app, None, change, request_id)


def _get_state(caller: Caller, app: str | None, user: str | None) -> State:
    request = calls.get_state(caller.app(app), user)
    answer = caller.call(caller.stubs.apps.GetState, request)
    return convert.state(answer.state)


def _update_state(
    caller: Caller,
    app: str | None,
    user: str | None,
    change: inputs.StateChange,
    request_id: str | None,
) -> results.StateResult:
    request = calls.update_state(caller.app(app), user, change, request_id=request_id)
    return convert.state_updated(caller.call(caller.stubs.apps.UpdateState, request))
