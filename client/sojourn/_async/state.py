"""The state that sessions share: a user's and an app's."""

from __future__ import annotations

from sojourn import _calls as calls
from sojourn import _convert as convert
from sojourn import inputs, results
from sojourn._async.caller import AsyncCaller
from sojourn.models import State


async def get_state(caller: AsyncCaller, app: str | None, user: str | None) -> State:
    """Read the state of a user, or of the app."""
    request = calls.get_state(caller.app(app), user)
    answer = await caller.call(caller.stubs.apps.GetState, request)
    return convert.state(answer.state)


async def update_state(
    caller: AsyncCaller,
    app: str | None,
    user: str | None,
    change: inputs.StateChange,
    request_id: str | None,
) -> results.StateResult:
    """Patch the state of a user, or of the app."""
    request = calls.update_state(caller.app(app), user, change, request_id=request_id)
    return convert.state_updated(await caller.call(caller.stubs.apps.UpdateState, request))
