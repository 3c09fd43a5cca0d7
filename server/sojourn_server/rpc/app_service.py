"""AppService: which use case answers which RPC."""

from __future__ import annotations

from sojourn.v1 import app_service_pb2 as pb
from sojourn_server.rpc import convert_session as convert
from sojourn_server.service.answers import Call
from sojourn_server.service.erasing import Erasing
from sojourn_server.service.states import States


class AppServicer:
    """The RPCs of AppService that this release has.

    Args:
        states: The use cases about state.
        erasing: The use case of EraseUser.
    """

    def __init__(self, states: States, erasing: Erasing) -> None:
        self._states = states
        self._erasing = erasing

    async def erase_user(self, request: pb.EraseUserRequest, call: Call) -> pb.EraseUserResponse:
        """EraseUser."""
        answer = await self._erasing.erase(call, request.app, request.user)
        erased = answer.outcome.erased
        return pb.EraseUserResponse(
            sessions=erased.sessions,
            messages=erased.messages,
            state_keys=erased.state_keys,
            changes=erased.changes,
            audit_entries=erased.audit_entries,
            revision=answer.revision,
            scrubbed=answer.scrubbed,
        )

    async def get_state(self, request: pb.GetStateRequest, call: Call) -> pb.GetStateResponse:
        """GetState."""
        user = request.user if request.HasField("user") else None
        read = await self._states.get(call, request.app, user)
        response = pb.GetStateResponse(revision=read.revision)
        convert.fill_state(response.state, read.state)
        return response

    async def update_state(
        self, request: pb.UpdateStateRequest, call: Call
    ) -> pb.UpdateStateResponse:
        """UpdateState."""
        user = request.user if request.HasField("user") else None
        patch = convert.decode_patch(request.patch)
        answer = await self._states.update(call, request.app, user, patch)
        return pb.UpdateStateResponse(
            version=answer.outcome.version,
            changed=answer.outcome.changed,
            revision=answer.revision,
        )
