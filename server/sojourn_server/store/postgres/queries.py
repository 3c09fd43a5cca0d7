"""The SQL of this backend, from `queries.sql`, one attribute for each named query."""

from __future__ import annotations

from typing import Final, NamedTuple

from sojourn_server.store import sqlfile


class Queries(NamedTuple):
    """Every named query. What each does stands beside it in `queries.sql`."""

    begin_unit: str
    begin_read: str
    commit: str
    rollback: str
    mark: str
    undo: str
    unmark: str
    settings: str
    app_lock: str
    app_make: str
    app_many: str
    app_names: str
    app_set: str
    sessions_by_key: str
    sessions_by_uid: str
    sessions_by_pk: str
    sessions_insert: str
    sessions_update: str
    sessions_set_record: str
    sessions_delete: str
    session_due: str
    session_next_due: str
    labels_insert: str
    labels_delete: str
    messages_up: str
    messages_down: str
    messages_since_up: str
    messages_since_down: str
    message_totals: str
    messages_by_id: str
    messages_by_sequence: str
    messages_insert: str
    messages_delete: str
    purge_insert: str
    purge_app: str
    purge_first: str
    purge_delete: str
    stagings_put: str
    stagings_delete: str
    staging_get: str
    stagings_of: str
    stagings_due: str
    user_states: str
    user_states_first: str
    contents: str
    contents_insert: str
    contents_delete: str
    scope_states: str
    scope_states_put: str
    changes_insert: str
    changes_after: str
    changes_rest: str
    change_nonce: str
    change_oldest: str
    change_times: str
    changes_compact: str
    requests: str
    requests_put: str
    requests_held: str
    requests_forget: str
    token_keys: str
    token_key_insert: str
    pulse_read: str
    pulse_beat: str
    migration_lock: str
    is_standby: str
    schema_known: str
    schema_make: str
    schema_begin: str
    schema_version: str
    schema_set: str
    list_from_app: str
    list_from_status: str
    list_from_user: str
    list_from_label: str
    list_from_parent: str
    list_from_parent_any: str
    list_from_user_any: str
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
    list_order_status_up: str
    list_order_status_down: str
    list_order_user_up: str
    list_order_user_down: str
    list_order_parent_up: str
    list_order_parent_down: str
    list_order_key_up: str
    list_order_key_down: str
    list_after_key_up: str
    list_after_key_down: str
    table_sizes: str
    job_take: str
    jobs_give_back: str
    pings_listen: str
    ping: str


QUERIES: Final[Queries] = Queries(**sqlfile.load(__package__ or ""))
