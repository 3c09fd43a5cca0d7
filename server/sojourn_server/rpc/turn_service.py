"""TurnService: which use case answers which RPC."""

from __future__ import annotations

from typing import Final

from sojourn.v1 import turn_service_pb2 as pb
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.times import fill, length
from sojourn_server.service.answers import Call
from sojourn_server.service.turns import Turns

LEASE: Final[Nanos] = 30 * SECOND
"""How long a lease lasts whose holder named no length."""
WAIT: Final[Nanos] = 30 * SECOND
"""How long WAIT waits when the caller named no length."""


class TurnServicer:
    """The RPCs of TurnService.

    Args:
        turns: The use cases.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def begin_turn(self, request: pb.BeginTurnRequest, call: Call) -> pb.BeginTurnResponse:
        """BeginTurn."""
        lease = length("lease", request.lease) if request.HasField("lease") else LEASE
        wait = (
            length("wait_timeout", request.wait_timeout)
            if request.HasField("wait_timeout")
            else WAIT
        )
        answer = await self._turns.begin(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            request.holder,
            lease,
            convert.ON_CONFLICT[request.on_conflict],
            wait,
            request.create_if_missing,
        )
        outcome = answer.outcome
        response = pb.BeginTurnResponse(
            turn_token=self._turns.token(outcome.session, outcome.turn),
            revision=answer.revision,
            created=outcome.created,
        )
        convert.fill_turn(response.turn, outcome.turn)
        convert.fill_session(response.session, outcome.session, answer.now)
        return response

    async def renew_turn(self, request: pb.RenewTurnRequest, call: Call) -> pb.RenewTurnResponse:
        """RenewTurn."""
        lease = length("lease", request.lease) if request.HasField("lease") else None
        answer = await self._turns.renew(call, request.app, request.turn_token, lease)
        response = pb.RenewTurnResponse(revision=answer.revision)
        turn = answer.outcome.session.turn
        if turn is not None:
            convert.fill_turn(response.turn, turn)
        return response

    async def end_turn(self, request: pb.EndTurnRequest, call: Call) -> pb.EndTurnResponse:
        """EndTurn."""
        answer = await self._turns.end(
            call,
            request.app,
            request.turn_token,
            convert.OUTCOMES[request.outcome],
            request.error,
        )
        response = pb.EndTurnResponse(revision=answer.revision)
        fill(response.elapsed, answer.outcome.elapsed)
        convert.fill_session(response.session, answer.outcome.session, answer.now)
        return response
