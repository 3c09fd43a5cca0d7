"""Turns: who is working on a session now."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from sojourn_server.domain import lifecycle
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.commands import OnConflict, Precondition, SessionRef
from sojourn_server.domain.errors import Reason, Refusal, invalid_field
from sojourn_server.domain.model import Session, Turn, TurnOutcome
from sojourn_server.domain.policy import Policy
from sojourn_server.domain.thresholds import judged
from sojourn_server.domain.tokens import TurnClaim
from sojourn_server.service import creation, tree
from sojourn_server.service.answers import (
    Answer,
    BeginOutcome,
    Call,
    EndTurnOutcome,
    TouchOutcome,
)
from sojourn_server.service.ceilings import admit_requests
from sojourn_server.service.live_turns import LiveTurns
from sojourn_server.service.units import Units, request_key
from sojourn_server.service.work import Work, find, open_turn, require_active, require_turn
from sojourn_server.store.base import Precede, ReadTx, SessionRow, Tx

MARGIN: Final = 0.05
"""How long before the caller's deadline a wait gives up, so that its answer arrives."""


class TurnConflict(Refusal):
    """Another turn is live.

    Args:
        session: Whose turn it is.
        now: What time it is.
    """

    def __init__(self, session: Session, now: Nanos) -> None:
        turn = session.turn
        assert turn is not None
        super().__init__(
            Reason.TURN_CONFLICT,
            f"turn {turn.number} is live",
            {"holder": turn.holder, "turn": str(turn.number)},
            retry_after=max(0, turn.lease_time - now),
        )
        self.uid = session.uid


class Turns:
    """The use cases of TurnService."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self.live = LiveTurns(units)

    def token(self, session: Session, turn: Turn) -> str:
        """The token of a turn: always the same for the same turn."""
        return self._units.sealer.seal(TurnClaim(session.app, session.uid, turn.number))

    async def begin(
        self,
        call: Call,
        ref: SessionRef,
        precondition: Precondition,
        holder: str,
        lease: Nanos,
        on_conflict: OnConflict,
        wait_timeout: Nanos,
        create_if_missing: bool,
    ) -> Answer[BeginOutcome]:
        """BeginTurn."""
        if precondition.turn_token:
            raise invalid_field("precondition.turn_token", "must be empty")
        steal = on_conflict is OnConflict.STEAL

        async def decide(work: Work) -> BeginOutcome:
            return await _begin(
                work, ref, precondition, holder, lease, steal=steal, create=create_if_missing
            )

        async def attempt() -> Answer[BeginOutcome]:
            answer = await self._units.write(call, ref.app, BeginOutcome, decide)
            self.live.note(answer.outcome.session, answer.now)
            return answer

        blocked: TurnConflict | None = None
        uid = await self._waited_for(call, ref) if on_conflict is OnConflict.WAIT else ""
        if not uid:
            try:
                return await attempt()
            except TurnConflict as conflict:
                if on_conflict is not OnConflict.WAIT:
                    raise
                blocked, uid = conflict, conflict.uid
        until = time.monotonic() + wait_timeout / SECOND
        if call.deadline is not None:
            until = min(until, call.deadline - MARGIN)
        call.rest()
        place = self._units.line.join(uid)
        try:
            while (left := until - time.monotonic()) > 0:
                if await place.wait(left):
                    try:
                        return await attempt()
                    except TurnConflict as conflict:
                        blocked = conflict
        finally:
            place.leave()
        if blocked is None:
            return await attempt()
        raise blocked

    async def _waited_for(self, call: Call, ref: SessionRef) -> str:
        """The uid of a session that others wait for already; empty when nobody does.

        Empty, too, for a call that has its turn: its repeat need not stand in line.
        """
        line = self._units.line

        async def query(tx: ReadTx) -> str:
            if call.request_id and await tx.request(request_key(call, ref.app)) is not None:
                return ""
            try:
                return (await find(tx, ref)).session.uid
            except Refusal:
                return ""

        uid = "" if line.empty else await self._units.read(query)
        return uid if line.stands_for(uid) else ""

    async def renew(
        self, call: Call, app: str, turn_token: str, lease: Nanos | None
    ) -> Answer[TouchOutcome]:
        """RenewTurn."""
        claim = open_turn(self._units.sealer, app, turn_token)

        async def decide(work: Work) -> TouchOutcome:
            row = await work.current(SessionRef(app=app, uid=claim.uid, users=call.users))
            session = row.session
            require_active(session)
            require_turn(session, claim)
            turn = session.turn
            assert turn is not None
            length = turn.lease if lease is None else lease
            renewed = msgspec.structs.replace(turn, lease=length, lease_time=work.now + length)
            session = msgspec.structs.replace(lifecycle.renewed(session, work.now), turn=renewed)
            return TouchOutcome(session=(await work.keep(row, session)).session)

        answer = await self._units.write(call, app, TouchOutcome, decide)
        self.live.note(answer.outcome.session, answer.now)
        return answer

    async def end(
        self, call: Call, app: str, turn_token: str, outcome: TurnOutcome, error: str
    ) -> Answer[EndTurnOutcome]:
        """EndTurn."""
        claim = open_turn(self._units.sealer, app, turn_token)

        async def decide(work: Work) -> EndTurnOutcome:
            row = await work.current(SessionRef(app=app, uid=claim.uid, users=call.users))
            session = row.session
            require_active(session)
            require_turn(session, claim)
            assert session.turn is not None
            text = await work.tx.put_content(error.encode())
            ended = lifecycle.turn_ended(session, work.now, outcome, text)
            policy = await work.policy(app)
            changes = judged(policy, work.now, session, [ended])
            row = await tree.write_with_dependents(work, row, changes)
            elapsed = max(0, work.now - session.turn.begin_time)
            return EndTurnOutcome(session=row.session, elapsed=elapsed)

        answer = await self._units.write(call, app, EndTurnOutcome, decide)
        self.live.forget(claim.uid)
        return answer


async def _begin(
    work: Work,
    ref: SessionRef,
    precondition: Precondition,
    holder: str,
    lease: Nanos,
    *,
    steal: bool,
    create: bool,
) -> BeginOutcome:
    created = False
    if create:
        row, created = await creation.find_or_insert(work, ref)
    else:
        row = await work.current(ref)
    work.check(row.session, precondition)
    await work.require_app(ref.app)
    policy = await work.policy(ref.app)
    if row.session.turn is not None:
        if not steal:
            raise TurnConflict(row.session, work.now)
        admit_requests(policy, row.session, 1)
        row = await _steal(work, row, policy)
    else:
        admit_requests(policy, row.session, 1)
    row = await work.write(row, [lifecycle.turn_begun(row.session, work.now, holder, lease)])
    assert row.session.turn is not None
    return BeginOutcome(session=row.session, turn=row.session.turn, created=created)


async def _steal(work: Work, row: SessionRow, policy: Policy) -> SessionRow:
    """End the turn that stands in the way.

    Raises:
        Precede: The error that it counts as ends the session, by a threshold of the policy.
            That is a unit of its own, and the turn to begin is refused.
    """
    session = row.session
    stolen = lifecycle.turn_ended(session, work.now, TurnOutcome.STOLEN)
    changes = judged(policy, work.now, session, [stolen])
    after = changes[-1].after
    if after is None or after.is_active:
        return await tree.write_with_dependents(work, row, changes)

    async def unit(tx: Tx) -> None:
        first = Work(tx, work.sealer, work.limits, work.defaults)
        again = await tx.session_by_uid(session.app, session.uid)
        if again is not None and again.session == session:
            await tree.write_with_dependents(first, again, changes)

    work.freed.add(session.uid)
    raise Precede(unit)
