"""The users of an app."""

from __future__ import annotations

from sojourn import _app_calls as calls
from sojourn import _app_convert as convert
from sojourn import inputs, results
from sojourn._async import state
from sojourn._async.caller import AsyncCaller
from sojourn.models import State


class AsyncUsers:
    """The users of an app. For common errors see `sessions`."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def get_state(self, user: str, *, app: str | None = None) -> State:
        """Read the state of a user; one that was never heard of has an empty state of version 0."""
        return await state.get_state(self._caller, app, user)

    async def update_state(
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
        return await state.update_state(self._caller, app, user, change, request_id)

    async def erase(
        self,
        user: str,
        *,
        app: str | None = None,
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
    ) -> results.EraseResult:
        """Remove everything of a user: sessions, state, history, and the name from the log.

        An empty `user` is the app's own. Returns a receipt; one of a user that was never heard of
        counts nothing. It may take up to `deadline`, an hour by default; cut off, it goes on by
        itself, and a repeat with the same `request_id` waits for it.
        """
        request = calls.erase_user(self._caller.app(app), user, request_id=request_id)
        answer = await self._caller.call(
            self._caller.stubs.apps.EraseUser,
            request,
            deadline=self._caller.long_deadline(deadline),
        )
        return convert.user_erased(answer)
