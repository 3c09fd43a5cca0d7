"""Protobuf messages of apps, of many sessions and of the server to models and back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from sojourn import _convert as convert
from sojourn import apps, enums, models, reports, results
from sojourn.v1 import (
    admin_service_pb2,
    app_pb2,
    app_service_pb2,
    change_pb2,
    history_service_pb2,
    session_pb2,
    session_service_pb2,
)

_APP_STATUS = convert.members(enums.AppStatus, dict(app_pb2.AppStatus.items()), "APP_STATUS_")
_QUOTA = convert.members(enums.QuotaAction, dict(app_pb2.QuotaAction.items()), "QUOTA_ACTION_")
_OVERFLOW = convert.members(
    enums.OverflowAction, dict(app_pb2.OverflowAction.items()), "OVERFLOW_ACTION_"
)
_THRESHOLD = convert.members(
    enums.ThresholdAction, dict(app_pb2.ThresholdAction.items()), "THRESHOLD_ACTION_"
)
_CAUSE = convert.members(enums.ChangeCause, dict(change_pb2.ChangeCause.items()), "CHANGE_CAUSE_")
_STATUS = convert.members(enums.Status, dict(session_pb2.SessionStatus.items()), "SESSION_STATUS_")
_END_CAUSE = convert.members(enums.EndCause, dict(session_pb2.EndCause.items()), "END_CAUSE_")
_OUTCOME = convert.members(enums.TurnOutcome, dict(change_pb2.TurnOutcome.items()), "TURN_OUTCOME_")
_DELETED = convert.members(enums.DeletedWhy, dict(change_pb2.DeletedWhy.items()), "DELETED_WHY_")


def key(source: session_pb2.SessionKey) -> models.SessionKey:
    """Return the name of a session."""
    return models.SessionKey(source.app, source.user, source.session_id)


# --- apps ----------------------------------------------------------------------------------------


def app_status(number: app_pb2.AppStatus.V) -> enums.AppStatus:
    """Return how far an app has come."""
    return _APP_STATUS.get(number, enums.AppStatus.UNKNOWN)


def app(
    source: app_pb2.App,
    blockers: apps.AppBlockers | None = None,
    effective: apps.Policy | None = None,
) -> apps.App:
    """Return an app."""
    return apps.App(
        app=source.app,
        status=app_status(source.status),
        labels=dict(source.labels),
        policy=policy(source.policy),
        create_time=convert.from_timestamp(source.create_time),
        active_sessions=source.active_sessions,
        session_count=source.session_count,
        revision=source.revision,
        feed_id=source.feed_id,
        drain_deadline=convert.from_timestamp(source.drain_deadline)
        if source.HasField("drain_deadline")
        else None,
        blockers=blockers,
        effective_policy=effective,
    )


def policy(source: app_pb2.Policy) -> apps.Policy:
    """Return an app's rules; what is absent is None."""
    given = {field.name: value for field, value in source.ListFields()}

    def length(name: str) -> timedelta | None:
        return convert.from_duration(given[name]) if name in given else None

    quota = source.session_quota_action or app_pb2.QUOTA_ACTION_REFUSE
    overflow = source.overflow_action or app_pb2.OVERFLOW_ACTION_REFUSE
    return apps.Policy(
        default_idle_timeout=length("default_idle_timeout"),
        default_max_lifetime=length("default_max_lifetime"),
        retention=length("retention"),
        auto_create=given.get("auto_create"),
        max_active_sessions=given.get("max_active_sessions"),
        max_active_sessions_per_user=given.get("max_active_sessions_per_user"),
        session_quota_action=_QUOTA.get(quota, enums.QuotaAction.UNKNOWN),
        max_requests_per_session=given.get("max_requests_per_session"),
        max_messages_per_session=given.get("max_messages_per_session"),
        max_bytes_per_session=given.get("max_bytes_per_session"),
        overflow_action=_OVERFLOW.get(overflow, enums.OverflowAction.UNKNOWN),
        require_turn=given.get("require_turn"),
        thresholds=tuple(_threshold(one) for one in source.thresholds),
    )


def _threshold(source: app_pb2.Threshold) -> apps.Threshold:
    return apps.Threshold(
        action=_THRESHOLD.get(source.action, enums.ThresholdAction.UNKNOWN)
        if source.action
        else enums.ThresholdAction.WARN,
        error_rate_above=source.error_rate_above if source.HasField("error_rate_above") else None,
        min_requests=source.min_requests or 1,
        error_count_above=source.error_count_above
        if source.HasField("error_count_above")
        else None,
    )


def blockers(source: app_pb2.AppBlockers) -> apps.AppBlockers:
    """Return what stands in the way of an app's deletion."""
    return apps.AppBlockers(
        count=source.count,
        first_keys=tuple(key(one) for one in source.first_keys),
        holders=tuple(source.holders),
        last_actor=source.last_actor,
        latest_activity_time=convert.from_timestamp(source.latest_activity_time)
        if source.HasField("latest_activity_time")
        else None,
        earliest_success_time=convert.from_timestamp(source.earliest_success_time)
        if source.HasField("earliest_success_time")
        else None,
    )


def app_got(answer: app_service_pb2.GetAppResponse) -> apps.App:
    """Return the app that was read."""
    return app(
        answer.app,
        blockers(answer.blockers) if answer.HasField("blockers") else None,
        policy(answer.effective_policy) if answer.HasField("effective_policy") else None,
    )


def app_updated(answer: app_service_pb2.UpdateAppResponse) -> results.UpdateAppResult:
    """Return what an update of an app did."""
    return results.UpdateAppResult(app(answer.app), answer.changed, answer.revision)


def app_deleted(answer: app_service_pb2.DeleteAppResponse) -> results.DeleteAppResult:
    """Return what the delete of an app did."""
    return results.DeleteAppResult(
        app_status(answer.status), answer.sessions_deleted, answer.revision
    )


def apps_deleted(answer: app_service_pb2.DeleteAppsResponse) -> results.DeleteAppsResult:
    """Return what the delete of several apps did."""
    return results.DeleteAppsResult(tuple(answer.apps), tuple(answer.refused), answer.more)


def user_erased(answer: app_service_pb2.EraseUserResponse) -> results.EraseResult:
    """Return the receipt of an erased user."""
    return results.EraseResult(
        sessions=answer.sessions,
        messages=answer.messages,
        state_keys=answer.state_keys,
        changes=answer.changes,
        audit_entries=answer.audit_entries,
        revision=answer.revision,
        scrubbed=answer.scrubbed,
    )


# --- many sessions -------------------------------------------------------------------------------


def ended_many(answer: session_service_pb2.EndSessionsResponse) -> results.EndManyResult:
    """Return what the end of many sessions did."""
    return results.EndManyResult(
        answer.count, tuple(key(one) for one in answer.first_keys), answer.revision
    )


def deleted_many(answer: session_service_pb2.DeleteSessionsResponse) -> results.DeleteManyResult:
    """Return what the delete of many sessions did."""
    return results.DeleteManyResult(
        answer.count,
        tuple(key(one) for one in answer.first_keys),
        answer.revision,
        answer.scrubbed,
    )


def aggregate(source: session_service_pb2.SessionAggregate) -> reports.SessionAggregate:
    """Return the sum over one group of sessions."""
    return reports.SessionAggregate(
        group=source.group,
        session_count=source.session_count,
        metrics=convert.metrics(source.metrics),
        error_rate=source.error_rate,
        mean_processing_time=convert.from_duration(source.mean_processing_time)
        if source.HasField("mean_processing_time")
        else None,
        message_count=source.message_count,
        counters_cut=source.counters_cut,
    )


def replaced(
    answers: Sequence[history_service_pb2.ReplaceMessagesResponse],
) -> results.ReplaceResult:
    """Return what the replacement of messages did; the last answer says what became of it."""
    last = answers[-1]
    return results.ReplaceResult(
        session=convert.session(last.session, last.revision),
        messages_removed=last.messages_removed,
        message_ids=tuple(one for answer in answers for one in answer.message_ids),
        sequences=tuple(one for answer in answers for one in answer.sequences),
        changed=last.changed,
        revision=last.revision,
    )


# --- the operator's ------------------------------------------------------------------------------


def audit_entry(source: admin_service_pb2.AuditEntry) -> reports.AuditEntry:
    """Return one thing that was done."""
    return reports.AuditEntry(
        app=source.app,
        revision=source.revision,
        time=convert.from_timestamp(source.time),
        actor=source.actor,
        cause=_CAUSE.get(source.cause, enums.ChangeCause.UNKNOWN),
        session=key(source.session) if source.HasField("session") else None,
        uid=source.uid,
        index=source.index,
        end_status=_STATUS.get(source.end_status, enums.Status.UNKNOWN)
        if source.end_status
        else None,
        end_cause=_END_CAUSE.get(source.end_cause, enums.EndCause.UNKNOWN)
        if source.end_cause
        else None,
        turn_outcome=_OUTCOME.get(source.turn_outcome, enums.TurnOutcome.UNKNOWN)
        if source.turn_outcome
        else None,
        deleted_why=_DELETED.get(source.deleted_why, enums.DeletedWhy.UNKNOWN)
        if source.deleted_why
        else None,
        force=source.force,
        first_sequence=source.first_sequence,
        last_sequence=source.last_sequence,
        user=source.user,
        erased=_erased(source.erased) if source.HasField("erased") else None,
    )


def _erased(source: admin_service_pb2.ErasedCounts) -> reports.ErasedCounts:
    return reports.ErasedCounts(
        sessions=source.sessions,
        messages=source.messages,
        state_keys=source.state_keys,
        changes=source.changes,
        audit_entries=source.audit_entries,
    )


def exported(part: admin_service_pb2.ExportSessionsResponse) -> Iterator[reports.Exported]:
    """Return what a part of an export holds."""
    match part.WhichOneof("part"):
        case "app":
            yield reports.ExportedApp(
                app=part.app.app,
                labels=dict(part.app.labels),
                policy=policy(part.app.policy),
                state=convert.state(part.app.state),
                create_time=convert.from_timestamp(part.app.create_time),
            )
        case "user":
            yield reports.ExportedUser(part.user.user, convert.state(part.user.state))
        case "session":
            yield convert.session(part.session.session, 0, full=True)
        case "messages":
            for one in part.messages.messages:
                yield convert.message(one)
        case "dropped":
            yield reports.DroppedSession(part.dropped)


def imported(answer: admin_service_pb2.ImportSessionsResponse) -> results.ImportResult:
    """Return what an import did."""
    return results.ImportResult(
        sessions=answer.sessions,
        messages=answer.messages,
        skipped=answer.skipped,
        renamed=answer.renamed,
        revision=answer.revision,
    )


def server_info(answer: admin_service_pb2.GetServerInfoResponse) -> reports.ServerInfo:
    """Return what a server is."""
    return reports.ServerInfo(
        version=answer.version,
        store=answer.store,
        store_version=answer.store_version,
        schema_version=answer.schema_version,
        start_time=convert.from_timestamp(answer.start_time),
        draining=answer.draining,
    )
