# Generated from client/sojourn/_async/turns.py by `make gen`. Edit the source, never this file.
"""Turns: who is working on a session now."""

from __future__ import annotations

from datetime import timedelta

from sojourn import _calls as calls
from sojourn import _convert as convert
from sojourn import inputs, results
from sojourn._sync.caller import Caller
from sojourn.enums import OnConflict, Outcome
from sojourn.models import Turn

DEFAULT_WAIT = timedelta(seconds=30)


class Turns:
    """The RPCs of TurnService. For names of sessions and common errors see `sessions`.

    `session.turn()` on a handle does all three, and renews in the background.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def begin(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        holder: str = "",
        lease: inputs.Duration | None = None,
        on_conflict: OnConflict = OnConflict.REJECT,
        wait_timeout: inputs.Duration | None = None,
        create_if_missing: bool = False,
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.BeginTurnResult:
        """Begin a turn: a lease of 1 s to 1 h, 30 s by default.

        `holder` is a text for people, such as a pod's name. WAIT waits up to `wait_timeout`, at
        most 10 min, 30 s by default; the call's deadline is longer by that time.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError`,
        `GenerationChangedError`, `EtagMismatchError`, `SequenceMismatchError`, `TurnConflictError`
        (REJECT, or WAIT that waited in vain), `AutoCreateRefusedError`, `AppDeletedError`,
        `AppDrainingError`.
        """
        request = calls.begin_turn(
            self._caller.app(app),
            session,
            user=user,
            holder=holder,
            lease=lease,
            on_conflict=on_conflict,
            wait=wait_timeout,
            create_if_missing=create_if_missing,
            precondition=precondition,
            request_id=request_id,
        )
        deadline = self._caller.config.deadline
        if OnConflict(on_conflict) is OnConflict.WAIT:
            deadline += DEFAULT_WAIT if wait_timeout is None else calls.wait_timeout(wait_timeout)
        stub = self._caller.stubs.turns.BeginTurn
        return convert.turn_begun(self._caller.call(stub, request, deadline=deadline))

    def renew(
        self,
        turn_token: str,
        *,
        lease: inputs.Duration | None = None,
        deadline: timedelta | None = None,
        app: str | None = None,
    ) -> Turn:
        """Renew the lease; None: as long as before. `deadline` overrides the client's.

        Raises: `SessionNotFoundError`, `SessionEndedError`, `TurnSupersededError`,
        `TurnTokenInvalidError`.
        """
        request = calls.renew_turn(self._caller.app(app), turn_token, lease=lease)
        stub = self._caller.stubs.turns.RenewTurn
        answer = self._caller.call(stub, request, deadline=deadline)
        return convert.turn(answer.turn)

    def end(
        self,
        turn_token: str,
        *,
        outcome: Outcome = Outcome.OK,
        error: str = "",
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.EndTurnResult:
        """End a turn: one more request, its time added, and with ERROR one more error.

        `error` says what went wrong, in up to 4 KiB.

        Raises: `SessionNotFoundError`, `SessionEndedError`, `TurnSupersededError`,
        `TurnTokenInvalidError`.
        """
        request = calls.end_turn(
            self._caller.app(app), turn_token, outcome=outcome, error=error, request_id=request_id
        )
        stub = self._caller.stubs.turns.EndTurn
        return convert.turn_ended(self._caller.call(stub, request))
