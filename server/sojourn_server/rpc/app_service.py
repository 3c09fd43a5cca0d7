"""AppService: which use case answers which RPC."""

from __future__ import annotations

from typing import Final

from sojourn.v1 import app_pb2
from sojourn.v1 import app_service_pb2 as pb
from sojourn_server.domain.clock import Nanos
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.convert_app import (
    STATUSES,
    decode_policy,
    fill_app,
    fill_blockers,
    fill_policy,
)
from sojourn_server.rpc.convert_filter import decode_selector
from sojourn_server.rpc.times import length
from sojourn_server.service import Services
from sojourn_server.service.answers import Call
from sojourn_server.service.apps import AppChanges, AppQuery
from sojourn_server.service.deleting import DRAIN_TIMEOUT, DeleteMode
from sojourn_server.service.deleting_many import WhichApps
from sojourn_server.store.base import ListedApp

# Not set means REFUSE.
_MODES: Final = (DeleteMode.REFUSE, *DeleteMode)


class AppServicer:
    """The RPCs of AppService.

    Args:
        use_cases: All of them.
    """

    def __init__(self, use_cases: Services) -> None:
        self._apps = use_cases.apps
        self._states = use_cases.states
        self._deletion = use_cases.deletion
        self._deletions = use_cases.deletions
        self._erasing = use_cases.erasing

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

    async def get_app(self, request: pb.GetAppRequest, call: Call) -> pb.GetAppResponse:
        """GetApp."""
        read = await self._apps.get(call, request.app)
        response = pb.GetAppResponse()
        _fill_listed(response.app, read.listed)
        fill_policy(response.effective_policy, read.effective)
        if read.blockers is not None:
            fill_blockers(response.blockers, request.app, read.blockers)
        return response

    async def list_apps(self, request: pb.ListAppsRequest, call: Call) -> pb.ListAppsResponse:
        """ListApps."""
        query = AppQuery(
            labels=tuple(decode_selector(selector) for selector in request.labels),
            statuses=tuple(STATUSES[status] for status in request.statuses),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = await self._apps.list(call, query)
        response = pb.ListAppsResponse(next_page_token=page.next_page_token)
        for listed in page.apps:
            _fill_listed(response.apps.add(), listed)
        return response

    async def update_app(self, request: pb.UpdateAppRequest, call: Call) -> pb.UpdateAppResponse:
        """UpdateApp."""
        changes = AppChanges(
            labels=dict(request.labels),
            remove_labels=tuple(request.remove_labels),
            policy=decode_policy("policy", request.policy) if request.HasField("policy") else None,
            allow_again=request.allow_again,
        )
        answer = await self._apps.update(call, request.app, changes)
        outcome = answer.outcome
        response = pb.UpdateAppResponse(changed=outcome.changed, revision=answer.revision)
        fill_app(response.app, outcome.app, answer.revision, outcome.active, outcome.sessions)
        return response

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


def _fill_listed(target: app_pb2.App, listed: ListedApp) -> None:
    fill_app(target, listed.app, listed.head, listed.counts.active, listed.counts.sessions)


def _drain_timeout(request: pb.DeleteAppRequest | pb.DeleteAppsRequest) -> Nanos:
    """How long a drain waits."""
    if not request.HasField("drain_timeout"):
        return DRAIN_TIMEOUT
    return length("drain_timeout", request.drain_timeout)
