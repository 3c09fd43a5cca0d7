"""One builder per RPC: from the arguments of a call to the request that is sent. Pure.

Those of the history are in `_message_calls`.

A request id is made here, once per call and so outside every retry, when the caller brings none.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._convert import to_duration
from sojourn.enums import (
    IfExists,
    OnConflict,
    Outcome,
    ResetScope,
    SessionOrder,
    Status,
    View,
)
from sojourn.v1 import (
    app_service_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)


@dataclass(frozen=True, slots=True)
class PageAsk:
    """What a pager asks for."""

    token: str
    """From the page before; empty: the first page."""
    size: int
    """At most so many items; 0: as the server likes."""
    count: bool = False
    """Count all items, too."""
    skim: bool = False
    """The items are only counted: as little as possible of each will do."""


def new_request_id() -> str:
    """Return a request id that nobody else has."""
    return uuid.uuid4().hex


def request_id_of(given: str | None) -> str:
    """Return the request id that the caller brings, checked, or a new one."""
    return new_request_id() if given is None else check.request_id(given)


def view_number(view: View) -> session_pb2.SessionView.V:
    """Return the number of a view."""
    return session_pb2.SessionView.Value(f"SESSION_VIEW_{describe.member('view', View, view)}")


# --- sessions ------------------------------------------------------------------------------------


def create_session(
    app: str,
    session: inputs.NewSession,
    *,
    default_labels: Mapping[str, str],
    if_exists: IfExists = IfExists.FAIL,
    request_id: str | None = None,
    view: View = View.BASIC,
) -> session_service_pb2.CreateSessionRequest:
    """Build CreateSession."""
    choice = describe.member("if_exists", IfExists, if_exists)
    return session_service_pb2.CreateSessionRequest(
        app=check.app_name(app),
        session=describe.new_session(session, default_labels),
        if_exists=session_service_pb2.IfExists.Value(f"IF_EXISTS_{choice}"),
        request_id=request_id_of(request_id),
        view=view_number(view),
    )


def create_sessions(
    app: str,
    sessions: Iterable[inputs.NewSession],
    *,
    default_labels: Mapping[str, str],
    request_id: str | None = None,
) -> session_service_pb2.BatchCreateSessionsRequest:
    """Build BatchCreateSessions."""
    described = [
        describe.new_session(one, default_labels) for one in check.items("sessions", sessions)
    ]
    if not 1 <= len(described) <= check.MAX_ITEMS:
        raise check.invalid("sessions", f"must be 1 to {check.MAX_ITEMS}")
    return session_service_pb2.BatchCreateSessionsRequest(
        app=check.app_name(app), sessions=described, request_id=request_id_of(request_id)
    )


def get_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    uid: str = "",
    view: View = View.FULL,
    last_messages: int | None = None,
    roll_up: bool = False,
) -> session_service_pb2.GetSessionRequest:
    """Build GetSession."""
    if last_messages is not None:
        check.integer("last_messages", last_messages, maximum=check.MAX_ITEMS)
    return session_service_pb2.GetSessionRequest(
        session=describe.session_ref(app, session, user, uid),
        view=view_number(view),
        last_messages=last_messages,
        roll_up=check.flag("roll_up", roll_up),
    )


def get_sessions(
    app: str, sessions: Iterable[inputs.SessionLike], *, user: str = "", view: View = View.BASIC
) -> list[session_service_pb2.BatchGetSessionsRequest]:
    """Build as many BatchGetSessions as it takes: 1,000 sessions each."""
    refs = [describe.session_ref(app, one, user) for one in check.items("sessions", sessions)]
    if len({ref.app for ref in refs}) > 1:
        raise check.invalid("sessions", "must all be of one app")
    return [
        session_service_pb2.BatchGetSessionsRequest(
            app=refs[0].app, sessions=refs[start : start + check.MAX_ITEMS], view=view_number(view)
        )
        for start in range(0, len(refs), check.MAX_ITEMS)
    ]


def list_sessions(app: str, fields: inputs.ListFields) -> session_service_pb2.ListSessionsRequest:
    """Build ListSessions without what differs from page to page."""
    unknown = fields.keys() - inputs.ListFields.__annotations__.keys()
    if unknown:
        name = min(unknown)
        raise check.invalid(name, "is nothing that a list can be asked for")
    user = fields.get("user")
    choice = describe.member("order", SessionOrder, fields.get("order", SessionOrder.CREATE_TIME))
    chosen = describe.session_filter(
        fields.get("filter"), fields.get("status", Status.ACTIVE), fields.get("labels")
    )
    describe.with_parent(chosen, fields.get("parent", ""))
    return session_service_pb2.ListSessionsRequest(
        app=check.app_name(app),
        user=None if user is None else check.name("user", user),
        filter=chosen,
        order=session_pb2.SessionOrder.Value(f"SESSION_ORDER_{choice}"),
        descending=check.flag("descending", fields.get("descending", False)),
    )


def sessions_page(
    request: session_service_pb2.ListSessionsRequest, ask: PageAsk, view: session_pb2.SessionView.V
) -> session_service_pb2.ListSessionsRequest:
    """Build ListSessions for one page."""
    page = session_service_pb2.ListSessionsRequest()
    page.CopyFrom(request)
    page.page_token = check.opaque("page_token", ask.token, maximum=1024)
    page.page_size = ask.size
    page.total_size = ask.count
    page.view = session_pb2.SESSION_VIEW_IDS if ask.skim else view
    # The client hands it to each session of the page by itself.
    page.shared_state_once = page.view == session_pb2.SESSION_VIEW_FULL
    return page


def update_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    precondition: inputs.Precondition | None = None,
    labels: Mapping[str, str] | None = None,
    remove_labels: Iterable[str] = (),
    replace_labels: bool = False,
    metadata: Mapping[str, object] | None = None,
    remove_metadata: Iterable[str] = (),
    state: inputs.StateChange | None = None,
    user_state: inputs.StateChange | None = None,
    app_state: inputs.StateChange | None = None,
    metrics: inputs.MetricsDelta | None = None,
    idle_timeout: inputs.Duration | None = None,
    max_lifetime: inputs.Duration | None = None,
    request_id: str | None = None,
) -> session_service_pb2.UpdateSessionRequest:
    """Build UpdateSession."""
    idle = None if idle_timeout is None else check.duration("idle_timeout", idle_timeout)
    lifetime = None if max_lifetime is None else check.duration("max_lifetime", max_lifetime)
    return session_service_pb2.UpdateSessionRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        labels=check.labels({} if labels is None else labels),
        remove_labels=check.names("remove_labels", remove_labels),
        replace_labels=check.flag("replace_labels", replace_labels),
        metadata=check.metadata({} if metadata is None else metadata),
        remove_metadata=check.names("remove_metadata", remove_metadata),
        state=describe.state_patches(state, user_state, app_state),
        metrics=describe.metrics_delta(metrics),
        idle_timeout=None if idle is None else to_duration(idle),
        max_lifetime=None if lifetime is None else to_duration(lifetime),
        request_id=request_id_of(request_id),
    )


def touch_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    owner_lease: inputs.Duration | None = None,
) -> session_service_pb2.TouchSessionRequest:
    """Build TouchSession."""
    return session_service_pb2.TouchSessionRequest(
        session=describe.session_ref(app, session, user),
        lease=None if owner_lease is None else describe.owner_lease(owner_lease),
    )


def end_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    status: Status = Status.COMPLETED,
    reason: str = "",
    result: object = None,
    cascade: bool = False,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> session_service_pb2.EndSessionRequest:
    """Build EndSession."""
    return session_service_pb2.EndSessionRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        status=describe.end_status("status", status),
        reason=check.free_text("reason", reason),
        result=check.json_text("result", result, maximum=check.MAX_STATE_VALUE),
        cascade=check.flag("cascade", cascade),
        request_id=request_id_of(request_id),
    )


def reset_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    scope: ResetScope = ResetScope.ALL,
    if_idle: bool = False,
    reason: str = "",
    backup_session_id: str = "",
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> session_service_pb2.ResetSessionRequest:
    """Build ResetSession."""
    choice = describe.member("scope", ResetScope, scope)
    return session_service_pb2.ResetSessionRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        scope=session_service_pb2.ResetScope.Value(f"RESET_SCOPE_{choice}"),
        if_idle=check.flag("if_idle", if_idle),
        reason=check.free_text("reason", reason),
        backup_session_id=check.name("backup_session_id", backup_session_id),
        request_id=request_id_of(request_id),
    )


def delete_session(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    force: bool = False,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> session_service_pb2.DeleteSessionRequest:
    """Build DeleteSession."""
    return session_service_pb2.DeleteSessionRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        force=check.flag("force", force),
        request_id=request_id_of(request_id),
    )


# --- turns ---------------------------------------------------------------------------------------


def turn_lease(value: inputs.Duration) -> timedelta:
    """Return a turn's lease: 1 s to 1 h."""
    return check.duration("lease", value, minimum=describe.ONE_SECOND, maximum=timedelta(hours=1))


def wait_timeout(value: inputs.Duration) -> timedelta:
    """Return how long to wait in line for a turn: up to 10 min."""
    return check.duration("wait_timeout", value, maximum=timedelta(minutes=10))


def begin_turn(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    holder: str = "",
    lease: inputs.Duration | None = None,
    on_conflict: OnConflict = OnConflict.REJECT,
    wait: inputs.Duration | None = None,
    create_if_missing: bool = False,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> turn_service_pb2.BeginTurnRequest:
    """Build BeginTurn."""
    choice = describe.member("on_conflict", OnConflict, on_conflict)
    return turn_service_pb2.BeginTurnRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        holder=check.holder(holder),
        lease=None if lease is None else to_duration(turn_lease(lease)),
        on_conflict=turn_service_pb2.OnConflict.Value(f"ON_CONFLICT_{choice}"),
        wait_timeout=None if wait is None else to_duration(wait_timeout(wait)),
        create_if_missing=check.flag("create_if_missing", create_if_missing),
        request_id=request_id_of(request_id),
    )


def renew_turn(
    app: str, turn_token: str, *, lease: inputs.Duration | None = None
) -> turn_service_pb2.RenewTurnRequest:
    """Build RenewTurn."""
    return turn_service_pb2.RenewTurnRequest(
        app=check.app_name(app),
        turn_token=describe.turn_token(turn_token),
        lease=None if lease is None else to_duration(turn_lease(lease)),
    )


def end_turn(
    app: str,
    turn_token: str,
    *,
    outcome: Outcome = Outcome.OK,
    error: str = "",
    request_id: str | None = None,
) -> turn_service_pb2.EndTurnRequest:
    """Build EndTurn."""
    choice = describe.member("outcome", Outcome, outcome)
    return turn_service_pb2.EndTurnRequest(
        app=check.app_name(app),
        turn_token=describe.turn_token(turn_token),
        outcome=turn_service_pb2.EndTurnRequest.Outcome.Value(f"OUTCOME_{choice}"),
        error=check.free_text("error", error),
        request_id=request_id_of(request_id),
    )


# --- state of users and apps ---------------------------------------------------------------------


def get_state(app: str, user: str | None) -> app_service_pb2.GetStateRequest:
    """Build GetState; without a user it is the app's."""
    return app_service_pb2.GetStateRequest(
        app=check.app_name(app), user=None if user is None else check.name("user", user)
    )


def update_state(
    app: str, user: str | None, patch: inputs.StateChange, *, request_id: str | None = None
) -> app_service_pb2.UpdateStateRequest:
    """Build UpdateState; without a user it is the app's."""
    return app_service_pb2.UpdateStateRequest(
        app=check.app_name(app),
        user=None if user is None else check.name("user", user),
        patch=describe.state_patch("state", patch),
        request_id=request_id_of(request_id),
    )
