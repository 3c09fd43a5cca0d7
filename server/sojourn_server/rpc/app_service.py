"""AppService: which use case answers which RPC."""

from __future__ import annotations

from typing import Final

from sojourn.v1 import app_service_pb2 as pb
from sojourn_server.domain.clock import Nanos
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.convert_filter import decode_selector
from sojourn_server.rpc.times import length
from sojourn_server.service.answers import Call
from sojourn_server.service.deleting import DRAIN_TIMEOUT, AppDeletion, DeleteMode
from sojourn_server.service.deleting_many import AppDeletions, WhichApps
from sojourn_server.service.states import States

# Not set means REFUSE.
_MODES: Final = (DeleteMode.REFUSE, *DeleteMode)


class AppServicer:
    """The RPCs of AppService that this release has.

    Args:
        states: The use cases about state.
        deletion: The use case of DeleteApp.
        deletions: The use case of DeleteApps.
    """

    def __init__(self, states: States, deletion: AppDeletion, deletions: AppDeletions) -> None:
        self._states = states
        self._deletion = deletion
        self._deletions = deletions

    async def delete_app(self, request: pb.DeleteAppRequest, call: Call) -> pb.DeleteAppResponse:
        """DeleteApp."""
        mode, timeout = _MODES[request.mode], _drain_timeout(request)
        answer = await self._deletion.delete(call, request.app, mode, timeout)
        return pb.DeleteAppResponse(
            # The domain's numbers are the proto's, and a test holds them together.
            status=answer.outcome.status,  # type: ignore[arg-type]
            sessions_deleted=answer.outcome.sessions,
            revision=answer.revision,
        )

    async def delete_apps(self, request: pb.DeleteAppsRequest, call: Call) -> pb.DeleteAppsResponse:
        """DeleteApps."""
        which = WhichApps(
            labels=tuple(decode_selector(selector) for selector in request.labels),
            keep_newest=request.keep_newest,
            mode=_MODES[request.mode],
            drain_timeout=_drain_timeout(request),
            dry_run=request.dry_run,
        )
        outcome = (await self._deletions.delete(call, which)).outcome
        return pb.DeleteAppsResponse(apps=outcome.apps, refused=outcome.refused, more=outcome.more)

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


def _drain_timeout(request: pb.DeleteAppRequest | pb.DeleteAppsRequest) -> Nanos:
    """How long a drain waits."""
    if not request.HasField("drain_timeout"):
        return DRAIN_TIMEOUT
    return length("drain_timeout", request.drain_timeout)
