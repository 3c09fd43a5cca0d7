# Generated from client/sojourn/_async/state.py by `make gen`. Edit the source, never this file.
"""The state that sessions share: a user's and an app's."""

from __future__ import annotations

from sojourn import _calls as calls
from sojourn import _convert as convert
from sojourn import inputs, results
from sojourn._sync.caller import Caller
from sojourn.models import State


def get_state(caller: Caller, app: str | None, user: str | None) -> State:
    """Read the state of a user, or of the app."""
    request = calls.get_state(caller.app(app), user)
    answer = caller.call(caller.stubs.apps.GetState, request)
    return convert.state(answer.state)


def update_state(
    caller: Caller,
    app: str | None,
    user: str | None,
    change: inputs.StateChange,
    request_id: str | None,
) -> results.StateResult:
    """Patch the state of a user, or of the app."""
    request = calls.update_state(caller.app(app), user, change, request_id=request_id)
    return convert.state_updated(caller.call(caller.stubs.apps.UpdateState, request))
