"""The audit on the wire."""

from __future__ import annotations

from sojourn.v1 import admin_service_pb2 as pb
from sojourn_server.domain.auditing import AuditEntry
from sojourn_server.domain.model import ChangeCause
from sojourn_server.rpc.times import fill, instant
from sojourn_server.service.answers import Call
from sojourn_server.service.auditing import AuditQuery


def decode_audit_query(request: pb.ListAuditEntriesRequest, call: Call) -> AuditQuery:
    """What a request asks for.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    span = request.time
    return AuditQuery(
        app=request.app,
        user=request.user if request.HasField("user") else None,
        session_id=request.session_id,
        uid=request.uid,
        causes=tuple(ChangeCause(each) for each in request.causes),
        actor=request.actor if request.HasField("actor") else None,
        begin=instant("time.not_before", span.not_before) if span.HasField("not_before") else None,
        end=instant("time.before", span.before) if span.HasField("before") else None,
        page_size=request.page_size,
        page_token=request.page_token,
        users=call.users,
    )


def fill_audit_entry(target: pb.AuditEntry, app: str, entry: AuditEntry) -> None:
    """Write one entry."""
    target.app = app
    target.revision = entry.revision
    target.index = entry.index
    fill(target.time, entry.time)
    target.actor = entry.actor
    # The domain's numbers are the proto's, and a test holds them together.
    target.cause = entry.cause  # type: ignore[assignment]
    if entry.uid:
        target.uid = entry.uid
        target.session.app = app
        target.session.user = entry.user or ""
        target.session.session_id = entry.session_id
    elif entry.user is not None:
        target.user = entry.user
    detail = entry.detail
    target.end_status = detail.status or 0  # type: ignore[assignment]
    target.end_cause = detail.end_cause or 0  # type: ignore[assignment]
    target.turn_outcome = detail.turn_outcome or 0  # type: ignore[assignment]
    target.deleted_why = detail.deleted_why or 0  # type: ignore[assignment]
    target.force = detail.force
    target.first_sequence = detail.first_sequence
    target.last_sequence = detail.last_sequence
    if detail.erased is not None:
        erased = detail.erased
        target.erased.sessions = erased.sessions
        target.erased.messages = erased.messages
        target.erased.state_keys = erased.state_keys
        target.erased.changes = erased.changes
        target.erased.audit_entries = erased.audit_entries
