"""A turn in one's hands: renews itself, fences its writes, and knows when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sojourn import inputs, results
from sojourn._acompat import AsyncTicker
from sojourn._async.turns import AsyncTurns
from sojourn._errands import describe_error
from sojourn.enums import Outcome
from sojourn.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    SojournError,
    TurnSupersededError,
)
from sojourn.models import Turn

if TYPE_CHECKING:
    from sojourn._async.handles import AsyncSessionHandle

logger = logging.getLogger("sojourn")

SHORTEST_PAUSE = timedelta(milliseconds=100)

# The answers to a renewal that say that the turn is over. After any other error it is tried again.
LOST = (AbortedError, FailedPreconditionError, InvalidArgumentError, NotFoundError)


class AsyncTurnHandle:
    """One turn, as `session.turn()` hands it out."""

    def __init__(
        self, session: AsyncSessionHandle, turns: AsyncTurns, begun: results.BeginTurnResult
    ) -> None:
        self.session = session
        """The session that the turn works on."""
        self.token = begun.turn_token
        """Opaque; `append` and the session's own writes send it along."""
        self.over = False
        """Whether the turn has ended, by an end or a reset of the session within it."""
        self._turns = turns
        self._info = begun.turn
        self._lost: SojournError | None = None
        self._error = ""
        self._outcome = Outcome.OK
        lease = begun.turn.lease_time - begun.turn.begin_time
        self._pause = max(lease / 3, SHORTEST_PAUSE)
        self._ticker = AsyncTicker(self._pause.total_seconds(), self._renew)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(number={self._info.number}, lost={self.lost})"

    @property
    def info(self) -> Turn:
        """The turn as it was last seen."""
        return self._info

    @property
    def lost(self) -> bool:
        """Whether the turn is known to be over against our will: stolen, revoked or abandoned."""
        return self._lost is not None

    def mark_error(self, error: str = "") -> None:
        """Let the turn end as ERROR without an exception; `error` says why, in up to 4 KiB."""
        self._outcome = Outcome.ERROR
        self._error = error

    def fenced(self, precondition: inputs.Precondition | None = None) -> inputs.Precondition:
        """Return the precondition with this turn's token; raise `TurnSupersededError` if lost."""
        self._raise_if_lost()
        return replace(precondition or inputs.Precondition(), turn_token=self.token)

    async def append(
        self,
        role: str,
        content: str | None = None,
        *,
        payload: bytes = b"",
        content_type: str = "",
        metadata: Mapping[str, Any] | None = None,
        message_id: str = "",
        event_time: datetime | int | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> results.AppendResult:
        """Append one message on behalf of this turn; once it is over, `TurnSupersededError`."""
        return await self.session.append(
            role,
            content,
            payload=payload,
            content_type=content_type,
            metadata=metadata,
            message_id=message_id,
            event_time=event_time,
            precondition=self.fenced(precondition),
        )

    async def append_many(
        self,
        messages: Sequence[inputs.NewMessage],
        *,
        state: inputs.StateChange | None = None,
        user_state: inputs.StateChange | None = None,
        app_state: inputs.StateChange | None = None,
        metrics: inputs.MetricsDelta | None = None,
        precondition: inputs.Precondition | None = None,
    ) -> results.AppendResult:
        """Append messages and patch state and counters on behalf of this turn, all or nothing."""
        return await self.session.append_many(
            messages,
            state=state,
            user_state=user_state,
            app_state=app_state,
            metrics=metrics,
            precondition=self.fenced(precondition),
        )

    # --- for the client's own use ----------------------------------------------------------------

    async def complete(self) -> bool:
        """End the turn as it was marked, OK by default; return whether it was still open."""
        await self._ticker.stop()
        self._raise_if_lost()
        return await self._end()

    async def fail_after(self, error: BaseException) -> bool:
        """End the turn as ERROR and return whether that was recorded.

        What goes wrong with that never hides the error itself.
        """
        await self._ticker.stop()
        if self._lost is not None:
            error.add_note(f"sojourn: the turn was lost meanwhile: {self._lost}")
            return False
        self.mark_error(describe_error(error))
        try:
            return await self._end()
        except SojournError as failure:
            error.add_note(f"sojourn: the turn could not be ended as ERROR: {failure}")
            logger.warning("turn %s could not be ended as ERROR: %s", self._info.number, failure)
            return False

    async def _end(self) -> bool:
        if self.over:
            return False
        ended = await self._turns.end(
            self.token, outcome=self._outcome, error=self._error, app=self.session.app
        )
        self.over = True
        self.session.saw(ended.session)
        return True

    async def _renew(self) -> bool:
        if self.over:
            return False
        try:
            self._info = await self._turns.renew(
                self.token, deadline=self._pause, app=self.session.app
            )
        except LOST as failure:
            # Our own end or reset may have come in between.
            if not self.over:
                self._lost = failure
                logger.warning("turn %s is lost: %s", self._info.number, failure)
            return False
        except SojournError as failure:
            logger.debug("turn %s was not renewed: %s", self._info.number, failure)
        return True

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise TurnSupersededError(
                f"the turn is over: {self._lost.message}",
                metadata=self._lost.metadata,
                correlation_id=self._lost.correlation_id,
                method=self._lost.method,
            ) from self._lost
