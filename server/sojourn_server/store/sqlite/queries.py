"""The SQL of this backend, from `queries.sql`, one attribute for each named query."""

from __future__ import annotations

from typing import Final, NamedTuple

from sojourn_server.store import sqlfile


class Queries(NamedTuple):
    """Every named query. What each does stands beside it in `queries.sql`."""

    app_by_name: str
    app_names: str
    apps_listed: str
    app_insert: str
    app_set_record: str
    app_set_counters: str
    session_by_key: str
    session_by_uid: str
    session_by_pk: str
    session_insert: str
    session_update_activity: str
    session_update: str
    session_update_status: str
    session_update_all: str
    session_set_record: str
    session_delete: str
    session_due: str
    session_next_due: str
    session_overdue_app: str
    session_overdue_user: str
    session_ended: str
    label_insert: str
    label_delete: str
    tally_get: str
    tally_sessions: str
    tally_put: str
    tally_delete: str
    tallies_first: str
    tallies_after: str
    backfill_sessions: str
    backfill_app: str
    messages_up: str
    messages_down: str
    messages_since_up: str
    messages_since_down: str
    message_totals: str
    message_by_id: str
    message_by_sequence: str
    message_insert: str
    message_delete: str
    message_bodies: str
    messages_delete: str
    purge_insert: str
    purge_first: str
    purge_delete: str
    content_get: str
    content_get_many: str
    content_last: str
    content_insert: str
    content_overwrite: str
    content_zero: str
    content_free_insert: str
    content_free_first: str
    content_free_delete: str
    content_free_next_class: str
    scope_state_get: str
    scope_state_put: str
    change_insert: str
    changes_after: str
    changes_rest: str
    change_nonce: str
    change_oldest: str
    change_times: str
    change_compact: str
    request_get: str
    request_put: str
    request_held: str
    request_drop_held: str
    request_old: str
    request_delete: str
    requests_after: str
    request_empty: str
    scope_names: str
    scope_state_delete: str
    session_has_child: str
    operation_get: str
    operation_put: str
    operation_delete: str
    operations_before: str
    token_keys: str
    token_key_insert: str
    pulse_read: str
    pulse_beat: str
    session_skip: str
    session_rest: str
    message_skip: str
    message_rest: str
    change_skip: str
    change_rest: str
    request_skip: str
    request_rest: str
    list_from_app: str
    list_from_status: str
    list_from_user: str
    list_from_label: str
    list_from_parent: str
    list_from_parent_any: str
    list_from_user_any: str
    list_from_user_status_any: str
    list_from_idle: str
    list_from_key: str
    list_from_name: str
    list_from_update: str
    list_from_activity: str
    list_and_user: str
    list_and_status: str
    list_and_label: str
    list_after_name_up: str
    list_after_name_down: str
    list_after_update_up: str
    list_after_update_down: str
    list_after_activity_up: str
    list_after_activity_down: str
    list_order_create_up: str
    list_order_create_down: str
    list_order_label_up: str
    list_order_label_down: str
    list_order_name_up: str
    list_order_name_down: str
    list_order_update_up: str
    list_order_update_down: str
    list_order_activity_up: str
    list_order_activity_down: str


QUERIES: Final[Queries] = Queries(**sqlfile.load(__package__ or ""))
