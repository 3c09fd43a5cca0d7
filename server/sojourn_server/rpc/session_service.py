"""SessionService: which use case answers which RPC."""

from __future__ import annotations

from sojourn.v1 import session_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.access import THE_APP
from sojourn_server.domain.commands import Changes, View
from sojourn_server.domain.errors import Refusal, invalid_field
from sojourn_server.domain.filter import EVERYTHING
from sojourn_server.domain.limits import ANSWER_BYTES
from sojourn_server.domain.watching import Interest
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.convert_aggregate import decode_aggregate, fill_group
from sojourn_server.rpc.convert_filter import decode_filter
from sojourn_server.rpc.convert_message import fill_message
from sojourn_server.rpc.times import length
from sojourn_server.service.answers import Call
from sojourn_server.service.bulk import Bulk, BulkOutcome, Which
from sojourn_server.service.listing import ListQuery
from sojourn_server.service.sessions import Sessions
from sojourn_server.service.watch_pump import BOOKMARK, Send, WatchQuery
from sojourn_server.service.watching import Watching


class SessionServicer:
    """The RPCs of SessionService.

    Args:
        sessions: The use cases.
        bulk: Those of EndSessions and DeleteSessions.
        watching: The use case of WatchSessions.
    """

    def __init__(self, sessions: Sessions, bulk: Bulk, watching: Watching) -> None:
        self._sessions = sessions
        self._bulk = bulk
        self._watching = watching
        self._encoder = convert.SessionEncoder()

    async def create_session(
        self, request: pb.CreateSessionRequest, call: Call
    ) -> pb.CreateSessionResponse:
        """CreateSession."""
        new = convert.decode_new_session("session", request.session, call.users)
        if_exists = convert.IF_EXISTS[request.if_exists]
        view = convert.VIEWS[request.view]
        answer, shot = await self._sessions.create_shown(call, request.app, new, if_exists, view)
        response = pb.CreateSessionResponse(
            created=answer.outcome.created, revision=answer.revision
        )
        convert.fill_snapshot(response.session, shot, answer.now, view)
        return response

    async def batch_create_sessions(
        self, request: pb.BatchCreateSessionsRequest, call: Call
    ) -> pb.BatchCreateSessionsResponse:
        """BatchCreateSessions."""
        new = [
            convert.decode_new_session(f"sessions[{index}]", each, call.users)
            for index, each in enumerate(request.sessions)
        ]
        answer = await self._sessions.create_many(call, request.app, new)
        response = pb.BatchCreateSessionsResponse(revision=answer.revision)
        for session in answer.outcome.sessions:
            convert.fill_session(response.sessions.add(), session, answer.now)
        if response.ByteSize() > ANSWER_BYTES:
            del response.sessions[:]
            for session in answer.outcome.sessions:
                convert.fill_ids(response.sessions.add(), session)
        return response

    async def get_session(self, request: pb.GetSessionRequest, call: Call) -> pb.GetSessionResponse:
        """GetSession."""
        view = convert.VIEWS[request.view]
        ref = convert.decode_ref(request.session, call.users)
        read = await self._sessions.get(call, ref, view, request.last_messages, request.roll_up)
        response = pb.GetSessionResponse(revision=read.revision)
        if view is View.BASIC:
            self._encoder.fill(response.session, read.snapshot.session, read.now)
        else:
            convert.fill_snapshot(response.session, read.snapshot, read.now, view)
        for message in read.messages:
            fill_message(response.messages.add(), message)
        if read.rolled_up is not None:
            convert.fill_rolled_up(response.rolled_up, read.rolled_up)
        return response

    async def batch_get_sessions(
        self, request: pb.BatchGetSessionsRequest, call: Call
    ) -> pb.BatchGetSessionsResponse:
        """BatchGetSessions."""
        for index, ref in enumerate(request.sessions):
            if ref.app != request.app:
                raise _other_app(index)
        view = convert.VIEWS[request.view]
        refs = [convert.decode_ref(ref, call.users) for ref in request.sessions]
        read = await self._sessions.get_many(call, request.app, refs, view)
        response = pb.BatchGetSessionsResponse(covered=read.covered, revision=read.revision)
        for snapshot in read.found:
            convert.fill_snapshot(response.sessions.add(), snapshot, read.now, view)
        for missing in read.missing:
            convert.fill_ref(response.not_found.add(), missing)
        return response

    async def list_sessions(
        self, request: pb.ListSessionsRequest, call: Call
    ) -> pb.ListSessionsResponse:
        """ListSessions."""
        view = convert.VIEWS[request.view]
        which = decode_filter("filter", request.filter) if request.HasField("filter") else None
        page = await self._sessions.list(
            call,
            ListQuery(
                app=request.app,
                user=request.user if request.HasField("user") else None,
                filter=which or EVERYTHING,
                sort_by=convert.SORTS[request.order],
                descending=request.descending,
                page_size=request.page_size,
                page_token=request.page_token,
                view=view,
                total=request.total_size,
                users=call.users,
                shared_once=request.shared_state_once,
            ),
        )
        response = pb.ListSessionsResponse(
            next_page_token=page.next_page_token,
            total_size=page.total,
            revision=page.revision,
            resume_token=page.resume_token,
        )
        once = page.app_state is not None
        for snapshot in page.snapshots:
            convert.fill_snapshot(
                response.sessions.add(), snapshot, page.now, view, shared=not once
            )
        if page.app_state is not None:
            response.app_state.SetInParent()  # what says that it is not with each session
            convert.fill_state(response.app_state, page.app_state)
            for user, state in page.user_states.items():
                convert.fill_state(response.user_states[user], state)
        return response

    async def aggregate_sessions(
        self, request: pb.AggregateSessionsRequest, call: Call
    ) -> pb.AggregateSessionsResponse:
        """AggregateSessions."""
        page = await self._sessions.aggregate(call, decode_aggregate(request, call.users))
        response = pb.AggregateSessionsResponse(
            next_page_token=page.next_page_token, revision=page.revision
        )
        for group in page.groups:
            fill_group(response.groups.add(), group)
        return response

    async def update_session(
        self, request: pb.UpdateSessionRequest, call: Call
    ) -> pb.UpdateSessionResponse:
        """UpdateSession."""
        changes = Changes(
            labels=dict(request.labels),
            remove_labels=tuple(request.remove_labels),
            replace_labels=request.replace_labels,
            metadata=dict(request.metadata),
            remove_metadata=tuple(request.remove_metadata),
            state=convert.decode_patches(request.state),
            metrics=convert.decode_metrics(request.metrics),
            idle_timeout=(
                length("idle_timeout", request.idle_timeout)
                if request.HasField("idle_timeout")
                else None
            ),
            max_lifetime=(
                length("max_lifetime", request.max_lifetime)
                if request.HasField("max_lifetime")
                else None
            ),
        )
        answer = await self._sessions.update(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            changes,
        )
        outcome = answer.outcome
        response = pb.UpdateSessionResponse(changed=outcome.changed, revision=answer.revision)
        convert.fill_session(response.session, outcome.session, answer.now)
        convert.fill_versions(response.state_versions, outcome.versions)
        return response

    async def touch_session(
        self, request: pb.TouchSessionRequest, call: Call
    ) -> pb.TouchSessionResponse:
        """TouchSession."""
        lease = length("lease", request.lease) if request.HasField("lease") else None
        ref = convert.decode_ref(request.session, call.users)
        answer = await self._sessions.touch(call, ref, lease)
        response = pb.TouchSessionResponse(revision=answer.revision)
        convert.fill_session(response.session, answer.outcome.session, answer.now)
        return response

    async def end_session(self, request: pb.EndSessionRequest, call: Call) -> pb.EndSessionResponse:
        """EndSession."""
        answer = await self._sessions.end(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            convert.END_STATUSES[request.status],
            request.reason,
            request.result,
            request.cascade,
        )
        outcome = answer.outcome
        response = pb.EndSessionResponse(
            changed=outcome.changed,
            revision=answer.revision,
            descendants_ended=outcome.descendants,
        )
        convert.fill_session(response.session, outcome.session, answer.now)
        return response

    async def end_sessions(
        self, request: pb.EndSessionsRequest, call: Call
    ) -> pb.EndSessionsResponse:
        """EndSessions."""
        status = convert.END_STATUSES[request.status]
        answer = await self._bulk.end(call, request.app, _which(request), status, request.reason)
        return pb.EndSessionsResponse(
            count=answer.outcome.count,
            first_keys=_keys(request.app, answer.outcome),
            revision=answer.revision,
        )

    async def delete_sessions(
        self, request: pb.DeleteSessionsRequest, call: Call
    ) -> pb.DeleteSessionsResponse:
        """DeleteSessions."""
        answer = await self._bulk.delete(call, request.app, _which(request))
        return pb.DeleteSessionsResponse(
            count=answer.outcome.count,
            first_keys=_keys(request.app, answer.outcome),
            revision=answer.revision,
            scrubbed=answer.scrubbed,
        )

    async def reset_session(
        self, request: pb.ResetSessionRequest, call: Call
    ) -> pb.ResetSessionResponse:
        """ResetSession."""
        answer = await self._sessions.reset(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            convert.RESET_SCOPES[request.scope],
            request.if_idle,
            request.reason,
            request.backup_session_id,
        )
        outcome = answer.outcome
        response = pb.ResetSessionResponse(
            revision=answer.revision,
            messages_cleared=outcome.messages,
            state_keys_cleared=outcome.state_keys,
            metrics_cleared=outcome.metrics,
            scrubbed=answer.scrubbed,
        )
        convert.fill_session(response.session, outcome.session, answer.now)
        if outcome.backup is not None:
            convert.fill_session(response.backup, outcome.backup, answer.now)
        return response

    async def fork_session(
        self, request: pb.ForkSessionRequest, call: Call
    ) -> pb.ForkSessionResponse:
        """ForkSession."""
        answer = await self._sessions.fork(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            request.session_id,
            request.through_sequence if request.HasField("through_sequence") else None,
        )
        response = pb.ForkSessionResponse(revision=answer.revision)
        convert.fill_session(response.session, answer.outcome.session, answer.now)
        return response

    async def delete_session(
        self, request: pb.DeleteSessionRequest, call: Call
    ) -> pb.DeleteSessionResponse:
        """DeleteSession."""
        answer = await self._sessions.delete(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            request.force,
        )
        return pb.DeleteSessionResponse(
            revision=answer.revision,
            sessions_deleted=answer.outcome.sessions,
            messages_deleted=answer.outcome.messages,
            scrubbed=answer.scrubbed,
        )

    async def watch_sessions(
        self, request: pb.WatchSessionsRequest, call: Call, send: Send
    ) -> None:
        """WatchSessions."""
        which = decode_filter("filter", request.filter) if request.HasField("filter") else None
        query = WatchQuery(
            interest=Interest(
                app=request.app,
                user=request.user if request.HasField("user") else None,
                parent_uid=request.parent_uid,
                filter=which or EVERYTHING,
                app_changes=request.include_app_changes,
                previous=request.include_previous,
                content=request.include_content,
                app_state=call.users.covers(THE_APP),
            ),
            users=call.users,
            token=request.resume_after_token,
            initial=request.send_initial_state,
            bookmark=(
                length("bookmark_interval", request.bookmark_interval)
                if request.HasField("bookmark_interval")
                else BOOKMARK
            ),
        )
        await self._watching.watch(call, query, send)


def _other_app(index: int) -> Refusal:
    return invalid_field(f"sessions[{index}].app", "must be the request's own app")


def _which(request: pb.EndSessionsRequest | pb.DeleteSessionsRequest) -> Which:
    """Which sessions a request means."""
    return Which(
        user=request.user if request.HasField("user") else None,
        filter=decode_filter("filter", request.filter),
        all=request.all,
        keep_newest=request.keep_newest,
        dry_run=request.dry_run,
    )


def _keys(app: str, outcome: BulkOutcome) -> list[session_pb2.SessionKey]:
    """The keys that an answer names."""
    return [
        session_pb2.SessionKey(app=app, user=user, session_id=session_id)
        for user, session_id in outcome.keys
    ]
