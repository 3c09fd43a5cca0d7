"""The builders of AppService's and AdminService's requests: see `_calls`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._calls import PageAsk, request_id_of
from sojourn._convert import from_duration, to_duration
from sojourn.apps import Policy, Threshold
from sojourn.enums import (
    AppStatus,
    ChangeCause,
    DeleteMode,
    OnExisting,
    OverflowAction,
    QuotaAction,
    ThresholdAction,
)
from sojourn.models import Session
from sojourn.v1 import admin_service_pb2, app_pb2, app_service_pb2, change_pb2

DEFAULT_DRAIN = timedelta(hours=1)
LONGEST_DRAIN = timedelta(days=7)
MAX_THRESHOLDS = 8

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


# --- apps ----------------------------------------------------------------------------------------


def get_app(app: str) -> app_service_pb2.GetAppRequest:
    """Build GetApp."""
    return app_service_pb2.GetAppRequest(app=check.app_name(app))


def list_apps(
    labels: inputs.Labels | None, status: str | Iterable[str] | None
) -> app_service_pb2.ListAppsRequest:
    """Build ListApps without what differs from page to page."""
    if status is None:
        names: list[str] = []
    elif status == "any":
        names = ["ACTIVE", "DRAINING", "DELETED"]
    else:
        several = [status] if isinstance(status, str) else check.items("status", status)
        names = [describe.member("status", AppStatus, one) for one in several]
    return app_service_pb2.ListAppsRequest(
        labels=describe.selectors(labels),
        statuses=[app_pb2.AppStatus.Value(f"APP_STATUS_{name}") for name in names],
    )


def apps_page(
    request: app_service_pb2.ListAppsRequest, ask: PageAsk
) -> app_service_pb2.ListAppsRequest:
    """Build ListApps for one page."""
    page = app_service_pb2.ListAppsRequest()
    page.CopyFrom(request)
    page.page_token = check.opaque("page_token", ask.token, maximum=1024)
    page.page_size = ask.size
    return page


def update_app(
    app: str,
    *,
    labels: Mapping[str, str] | None = None,
    remove_labels: Iterable[str] = (),
    policy: Policy | None = None,
    allow_again: bool = False,
    request_id: str | None = None,
) -> app_service_pb2.UpdateAppRequest:
    """Build UpdateApp."""
    return app_service_pb2.UpdateAppRequest(
        app=check.app_name(app),
        labels=check.labels({} if labels is None else labels),
        remove_labels=check.names("remove_labels", remove_labels),
        policy=None if policy is None else policy_of(policy),
        allow_again=check.flag("allow_again", allow_again),
        request_id=request_id_of(request_id),
    )


def policy_of(value: Policy) -> app_pb2.Policy:
    """Return an app's rules."""
    check.instance("policy", value, Policy)
    thresholds = check.items("policy.thresholds", value.thresholds)
    if len(thresholds) > MAX_THRESHOLDS:
        raise check.invalid("policy.thresholds", f"must be at most {MAX_THRESHOLDS}")
    return app_pb2.Policy(
        default_idle_timeout=_duration("default_idle_timeout", value.default_idle_timeout),
        default_max_lifetime=_duration("default_max_lifetime", value.default_max_lifetime),
        retention=_duration("retention", value.retention),
        auto_create=check.optional_flag("policy.auto_create", value.auto_create),
        max_active_sessions=_count("max_active_sessions", value.max_active_sessions),
        max_active_sessions_per_user=_count(
            "max_active_sessions_per_user", value.max_active_sessions_per_user
        ),
        session_quota_action=_quota_action(value.session_quota_action),
        max_requests_per_session=_count("max_requests_per_session", value.max_requests_per_session),
        max_messages_per_session=_count("max_messages_per_session", value.max_messages_per_session),
        max_bytes_per_session=_count("max_bytes_per_session", value.max_bytes_per_session),
        overflow_action=_overflow_action(value.overflow_action),
        require_turn=check.optional_flag("policy.require_turn", value.require_turn),
        thresholds=[
            _threshold(f"policy.thresholds[{index}]", one) for index, one in enumerate(thresholds)
        ],
    )


def _quota_action(value: QuotaAction) -> app_pb2.QuotaAction.V:
    name = describe.member("policy.session_quota_action", QuotaAction, value)
    return app_pb2.QuotaAction.Value(f"QUOTA_ACTION_{name}")


def _overflow_action(value: OverflowAction) -> app_pb2.OverflowAction.V:
    name = describe.member("policy.overflow_action", OverflowAction, value)
    return app_pb2.OverflowAction.Value(f"OVERFLOW_ACTION_{name}")


def _threshold(field: str, value: Threshold) -> app_pb2.Threshold:
    check.instance(field, value, Threshold)
    if value.error_rate_above is None and value.error_count_above is None:
        raise check.invalid(field, "must have error_rate_above or error_count_above")
    name = describe.member(f"{field}.action", ThresholdAction, value.action)
    return app_pb2.Threshold(
        action=app_pb2.ThresholdAction.Value(f"THRESHOLD_ACTION_{name}"),
        error_rate_above=describe.rate(f"{field}.error_rate_above", value.error_rate_above),
        min_requests=check.integer(f"{field}.min_requests", value.min_requests),
        error_count_above=describe.count(f"{field}.error_count_above", value.error_count_above),
    )


def _duration(name: str, value: inputs.Duration | None) -> Any:
    return None if value is None else to_duration(check.duration(f"policy.{name}", value))


def _count(name: str, value: int | None) -> int | None:
    return describe.count(f"policy.{name}", value)


def _mode(mode: DeleteMode) -> app_service_pb2.DeleteMode.V:
    name = describe.member("mode", DeleteMode, mode)
    return app_service_pb2.DeleteMode.Value(f"DELETE_MODE_{name}")


def _drain_timeout(mode: DeleteMode, timeout: inputs.Duration | None) -> Any:
    if timeout is None:
        return None
    if describe.member("mode", DeleteMode, mode) != "DRAIN":
        raise check.invalid("drain_timeout", "is for mode=DeleteMode.DRAIN only")
    return to_duration(check.duration("drain_timeout", timeout, maximum=LONGEST_DRAIN))


def delete_app(
    app: str,
    *,
    mode: DeleteMode = DeleteMode.REFUSE,
    drain_timeout: inputs.Duration | None = None,
    request_id: str | None = None,
) -> app_service_pb2.DeleteAppRequest:
    """Build DeleteApp."""
    return app_service_pb2.DeleteAppRequest(
        app=check.app_name(app),
        mode=_mode(mode),
        drain_timeout=_drain_timeout(mode, drain_timeout),
        request_id=request_id_of(request_id),
    )


def drain_of(request: app_service_pb2.DeleteAppRequest) -> timedelta:
    """Return how long a drain waits before it forces."""
    if not request.HasField("drain_timeout"):
        return DEFAULT_DRAIN
    return from_duration(request.drain_timeout)


def delete_apps(
    labels: inputs.Labels,
    *,
    keep_newest: int = 0,
    mode: DeleteMode = DeleteMode.REFUSE,
    drain_timeout: inputs.Duration | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
) -> app_service_pb2.DeleteAppsRequest:
    """Build DeleteApps."""
    chosen = describe.selectors(labels)
    if not chosen:
        raise check.invalid("labels", "must name at least one label")
    return app_service_pb2.DeleteAppsRequest(
        labels=chosen,
        keep_newest=check.integer("keep_newest", keep_newest),
        mode=_mode(mode),
        drain_timeout=_drain_timeout(mode, drain_timeout),
        dry_run=check.flag("dry_run", dry_run),
        request_id=request_id_of(request_id),
    )


def erase_user(
    app: str, user: str, *, request_id: str | None = None
) -> app_service_pb2.EraseUserRequest:
    """Build EraseUser."""
    return app_service_pb2.EraseUserRequest(
        app=check.app_name(app),
        user=check.name("user", user),
        request_id=request_id_of(request_id),
    )


# --- the operator's ------------------------------------------------------------------------------


def list_audit_entries(
    app: str,
    uid: str | Session = "",
    *,
    user: str | None = None,
    session_id: str = "",
    causes: Iterable[ChangeCause] = (),
    actor: str | None = None,
    time: inputs.TimeRange | None = None,
) -> admin_service_pb2.ListAuditEntriesRequest:
    """Build ListAuditEntries without what differs from page to page."""
    names = [
        describe.member("causes", ChangeCause, one)
        for one in ([causes] if isinstance(causes, str) else check.items("causes", causes))
    ]
    return admin_service_pb2.ListAuditEntriesRequest(
        app=check.app_name(app),
        uid=describe.uid_of("uid", uid),
        user=None if user is None else check.name("user", user),
        session_id=check.name("session_id", session_id),
        causes=[change_pb2.ChangeCause.Value(f"CHANGE_CAUSE_{name}") for name in names],
        actor=None if actor is None else check.opaque("actor", actor, maximum=320),
        time=describe.time_range("time", time),
    )


def audit_page(
    request: admin_service_pb2.ListAuditEntriesRequest, ask: PageAsk
) -> admin_service_pb2.ListAuditEntriesRequest:
    """Build ListAuditEntries for one page."""
    page = admin_service_pb2.ListAuditEntriesRequest()
    page.CopyFrom(request)
    page.page_token = check.opaque("page_token", ask.token, maximum=1024)
    page.page_size = ask.size
    return page


def export_sessions(
    app: str, fields: inputs.SelectionFields
) -> admin_service_pb2.ExportSessionsRequest:
    """Build ExportSessions."""
    user, chosen = describe.selection(fields)
    return admin_service_pb2.ExportSessionsRequest(
        app=check.app_name(app), user=user, filter=chosen
    )


def import_target(app: str, on_existing: OnExisting) -> admin_service_pb2.ImportSessionsRequest:
    """Build the first part of ImportSessions."""
    name = describe.member("on_existing", OnExisting, on_existing)
    return admin_service_pb2.ImportSessionsRequest(
        target=admin_service_pb2.ImportTarget(
            app=check.app_name(app),
            on_existing=admin_service_pb2.OnExisting.Value(f"ON_EXISTING_{name}"),
        )
    )


def backup_store(name: str) -> admin_service_pb2.BackupStoreRequest:
    """Build BackupStore."""
    if not _FILE_NAME.fullmatch(check.string("name", name)):
        raise check.invalid(
            "name", "must have 1 to 128 letters, digits and . _ -, beginning with one of the former"
        )
    return admin_service_pb2.BackupStoreRequest(name=name)
