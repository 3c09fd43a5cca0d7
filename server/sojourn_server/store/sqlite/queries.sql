-- Every statement of the SQLite store, by name; `queries.py` loads them.
-- Names that begin with `list_` are fragments of candidate lists: `lists.py` joins one
-- source, any filters, a place to go on from, and an order.

-- name: app_by_name
-- One app with its counters.
SELECT app_pk, head, created, active, sessions, record FROM app WHERE name = ?

-- name: app_names
-- Names of apps after one, in the order of their bytes.
SELECT name FROM app WHERE name > ? AND record IS NOT NULL ORDER BY name LIMIT ?

-- name: apps_listed
-- Apps after a name, in the order of their bytes, with their counters.
SELECT app_pk, head, created, active, sessions, record FROM app
WHERE name > ? AND record IS NOT NULL ORDER BY name LIMIT ?

-- name: app_insert
-- A new app; its record is NULL when its log begins before the app is put.
INSERT INTO app (name, head, created, record) VALUES (?, 0, 0, ?)

-- name: app_set_record
-- Replace an app.
UPDATE app SET record = ? WHERE app_pk = ?

-- name: app_set_counters
-- Move an app's counters on: the last statement before COMMIT.
UPDATE app SET head = ?, created = ?, active = ?, sessions = ? WHERE app_pk = ?

-- name: session_by_key
-- A session by its key.
SELECT pk, record FROM session WHERE app_pk = ? AND user = ? AND session_id = ?

-- name: session_by_uid
-- A session by its uid.
SELECT pk, record FROM session WHERE uid = ?

-- name: session_by_pk
-- A session by the store's own number.
SELECT pk, record FROM session WHERE pk = ?

-- name: session_insert
-- A new session.
INSERT INTO session (pk, app_pk, uid, user, session_id, status, parent, update_time, activity_time, due, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: session_update_activity
-- A session of which only activity has moved: two indexes are written.
UPDATE session SET activity_time = ?, due = ?, record = ? WHERE pk = ?

-- name: session_update
-- A session that has changed but kept its status: three indexes are written.
UPDATE session SET update_time = ?, activity_time = ?, due = ?, record = ? WHERE pk = ?

-- name: session_update_status
-- A session that has another status.
UPDATE session SET status = ?, update_time = ?, activity_time = ?, due = ?, record = ? WHERE pk = ?

-- name: session_update_all
-- A session that may have changed in everything: all indexes are written.
UPDATE session SET uid = ?, user = ?, session_id = ?, status = ?, parent = ?, update_time = ?, activity_time = ?,
  due = ?, record = ? WHERE pk = ?

-- name: session_set_record
-- Only the record: nothing that an index knows has changed.
UPDATE session SET record = ? WHERE pk = ?

-- name: session_delete
-- Remove a session.
DELETE FROM session WHERE pk = ?

-- name: session_due
-- Sessions for which something is due, the longest due first.
SELECT pk, record FROM session INDEXED BY session_due WHERE due IS NOT NULL AND due <= ? ORDER BY due, pk LIMIT ?

-- name: session_next_due
-- The nearest due instant.
SELECT due FROM session INDEXED BY session_due WHERE due IS NOT NULL ORDER BY due LIMIT 1

-- name: session_overdue_app
-- Those of one app, the longest due first.
SELECT pk, record FROM session INDEXED BY session_due
WHERE due IS NOT NULL AND due <= ? AND +pk > ? AND +pk < ? ORDER BY due, pk LIMIT ?

-- name: session_overdue_user
-- Those of one user, the longest due first.
SELECT pk, record FROM session INDEXED BY session_due
WHERE due IS NOT NULL AND due <= ? AND +pk > ? AND +pk < ? AND +user = ? ORDER BY due, pk LIMIT ?

-- name: session_ended
-- Sessions of one app that have ended, the earliest end first, after a place.
SELECT pk, record FROM session INDEXED BY session_ended
WHERE app_pk = ? AND status <> 1 AND (update_time, pk) > (?, ?) AND update_time < ? ORDER BY update_time, pk LIMIT ?

-- name: label_insert
-- Give a session a label.
INSERT INTO session_label (key, value, pk) VALUES (?, ?, ?)

-- name: label_delete
-- Take a label from a session.
DELETE FROM session_label WHERE key = ? AND value = ? AND pk = ?

-- name: tally_sessions
-- How many sessions a tally counts.
SELECT sessions FROM tally WHERE app_pk = ? AND of_user = ? AND status = ? AND user = ?

-- name: tally_add
-- Add to a tally. What the low parts come to beyond 62 bits is carried to the high ones.
INSERT INTO tally (app_pk, of_user, status, user, sessions, requests_high, requests_low, errors_high, errors_low, processing_time_high, processing_time_low, messages_high, messages_low)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (app_pk, of_user, status, user) DO UPDATE SET sessions = sessions + excluded.sessions,
  requests_high = requests_high + excluded.requests_high + ((requests_low + excluded.requests_low) >> 62),
  requests_low = (requests_low + excluded.requests_low) & 4611686018427387903,
  errors_high = errors_high + excluded.errors_high + ((errors_low + excluded.errors_low) >> 62),
  errors_low = (errors_low + excluded.errors_low) & 4611686018427387903,
  processing_time_high = processing_time_high + excluded.processing_time_high + ((processing_time_low + excluded.processing_time_low) >> 62),
  processing_time_low = (processing_time_low + excluded.processing_time_low) & 4611686018427387903,
  messages_high = messages_high + excluded.messages_high + ((messages_low + excluded.messages_low) >> 62),
  messages_low = (messages_low + excluded.messages_low) & 4611686018427387903

-- name: tally_prune
-- A tally goes when it counts no sessions any more.
DELETE FROM tally WHERE app_pk = ? AND of_user = ? AND status = ? AND user = ? AND sessions = 0

-- name: tally_counter_add
-- Add to a counter of a tally.
INSERT INTO tally_counter (app_pk, of_user, status, user, name, high, low) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (app_pk, of_user, status, user, name) DO UPDATE SET
  high = high + excluded.high + ((low + excluded.low) >> 62), low = (low + excluded.low) & 4611686018427387903

-- name: tally_counter_prune
-- A counter goes when nothing is left of it.
DELETE FROM tally_counter
WHERE app_pk = ? AND of_user = ? AND status = ? AND user = ? AND name = ? AND high = 0 AND low = 0

-- name: tally_counters
-- The first counters of a tally, by name.
SELECT name, high, low FROM tally_counter
WHERE app_pk = ? AND of_user = ? AND status = ? AND user = ? AND (high <> 0 OR low <> 0) ORDER BY name LIMIT ?

-- name: tally_get
-- One tally, without its counters.
SELECT user, sessions, requests_high, requests_low, errors_high, errors_low, processing_time_high, processing_time_low, messages_high, messages_low
FROM tally WHERE app_pk = ? AND of_user = ? AND status = ? AND user = ?

-- name: tallies_first
-- The tallies of one status, by user, without their counters.
SELECT user, sessions, requests_high, requests_low, errors_high, errors_low, processing_time_high, processing_time_low, messages_high, messages_low
FROM tally WHERE app_pk = ? AND of_user = 1 AND status = ? ORDER BY user LIMIT ?

-- name: tallies_after
-- The tallies of one status, by user, after one, without their counters.
SELECT user, sessions, requests_high, requests_low, errors_high, errors_low, processing_time_high, processing_time_low, messages_high, messages_low
FROM tally WHERE app_pk = ? AND of_user = 1 AND status = ? AND user > ? ORDER BY user LIMIT ?

-- name: label_values
-- The values of a label, one seek for each, and whether a session of an app has it.
WITH RECURSIVE v (value) AS (
  SELECT min(value) FROM session_label WHERE key = :key AND value > :after
  UNION ALL
  SELECT (SELECT min(value) FROM session_label WHERE key = :key AND value > v.value) FROM v
  WHERE v.value IS NOT NULL LIMIT :limit
)
SELECT value, EXISTS (
  SELECT 1 FROM session_label AS l WHERE l.key = :key AND l.value = v.value AND l.pk > :low AND l.pk <= :high
) FROM v WHERE value IS NOT NULL

-- name: backfill_sessions
-- All sessions, by app, user and status: for the migration that makes the tallies.
SELECT app_pk, record FROM session INDEXED BY session_user ORDER BY app_pk, user, status

-- name: backfill_app
-- The counts of an app: for the same migration.
UPDATE app SET active = active + ?, sessions = sessions + ? WHERE app_pk = ?

-- name: messages_up
-- Messages within two sequences, the oldest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?

-- name: messages_down
-- Messages within two sequences, the newest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND sequence BETWEEN ? AND ? ORDER BY sequence DESC LIMIT ?

-- name: messages_since_up
-- Messages within two sequences and not before an event time, the oldest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND sequence BETWEEN ? AND ? AND event_time >= ? ORDER BY sequence LIMIT ?

-- name: messages_since_down
-- Messages within two sequences and not before an event time, the newest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND sequence BETWEEN ? AND ? AND event_time >= ? ORDER BY sequence DESC LIMIT ?

-- name: message_totals
-- How many messages there are within two sequences, and their bytes.
SELECT count(*), coalesce(sum(size), 0) FROM message WHERE session_pk = ? AND sequence BETWEEN ? AND ?

-- name: message_by_id
-- A message by its id, also within a removed range.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND message_id = ?

-- name: message_by_sequence
-- A message by its sequence, also within a removed range.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE session_pk = ? AND sequence = ?

-- name: message_insert
-- A new message.
INSERT INTO message (session_pk, sequence, message_id, role, content_type, event_time, create_time, size, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: message_delete
-- Remove one message.
DELETE FROM message WHERE session_pk = ? AND sequence = ?

-- name: message_bodies
-- The first bodies within two sequences: what a purge erases next.
SELECT sequence, body FROM message WHERE session_pk = ? AND sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?

-- name: messages_delete
-- Remove the messages within two sequences.
DELETE FROM message WHERE session_pk = ? AND sequence BETWEEN ? AND ?

-- name: purge_insert
-- Note a range that is still to be purged.
INSERT INTO purge (session_pk, low, high, owner) VALUES (?, ?, ?, ?)

-- name: purge_first
-- The oldest note.
SELECT purge_id, session_pk, low, high, owner FROM purge ORDER BY purge_id LIMIT 1

-- name: purge_delete
-- A note is done with.
DELETE FROM purge WHERE purge_id = ?

-- name: staging_put
-- Create or replace a staging.
INSERT INTO staging (app_pk, name, history, owner, expire_time, record) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (app_pk, name) DO UPDATE SET history = excluded.history, owner = excluded.owner,
  expire_time = excluded.expire_time, record = excluded.record

-- name: staging_delete
-- Forget a staging.
DELETE FROM staging WHERE app_pk = ? AND name = ?

-- name: staging_get
-- A staging by its name.
SELECT name, history, owner, expire_time, record FROM staging WHERE app_pk = ? AND name = ?

-- name: stagings_of
-- The stagings of a session.
SELECT name, history, owner, expire_time, record FROM staging WHERE owner = ? AND owner <> 0

-- name: stagings_due
-- Stagings that have expired, the longest expired first, with their app's name.
SELECT a.name, s.name, s.history, s.owner, s.expire_time, s.record
FROM staging AS s JOIN app AS a ON a.app_pk = s.app_pk WHERE s.expire_time <= ? ORDER BY s.expire_time LIMIT ?

-- name: user_states
-- The states of an app's users, after one.
SELECT user, record FROM scope_state WHERE app_pk = ? AND of_user = 1 AND user > ? ORDER BY user LIMIT ?

-- name: user_states_first
-- The states of an app's users, from the first on.
SELECT user, record FROM scope_state WHERE app_pk = ? AND of_user = 1 ORDER BY user LIMIT ?

-- name: content_get
-- The padded bytes of one piece of content.
SELECT data FROM content WHERE content_id = ?

-- name: content_get_many
-- The padded bytes of several pieces; the ids come as a JSON array.
SELECT content_id, data FROM content WHERE content_id IN (SELECT value FROM json_each(?))

-- name: content_last
-- The newest content id, after which the next is numbered.
SELECT content_id FROM content ORDER BY content_id DESC LIMIT 1

-- name: content_insert
-- Append content.
INSERT INTO content (content_id, data) VALUES (?, ?)

-- name: content_overwrite
-- Other content of the same size class, in place.
UPDATE content SET data = ? WHERE content_id = ?

-- name: content_zero
-- Zeros of the same length, in place.
UPDATE content SET data = zeroblob(?) WHERE content_id = ?

-- name: content_free_insert
-- A zeroed row may be used again.
INSERT INTO content_free (size_class, content_id) VALUES (?, ?)

-- name: content_free_first
-- A row of this size class to use again.
SELECT content_id FROM content_free WHERE size_class = ? ORDER BY content_id LIMIT 1

-- name: content_free_delete
-- A row is in use again.
DELETE FROM content_free WHERE size_class = ? AND content_id = ?

-- name: content_free_next_class
-- The next size class that has a row to use again.
SELECT size_class FROM content_free WHERE size_class > ? ORDER BY size_class LIMIT 1

-- name: scope_state_get
-- The state of an app or of a user.
SELECT record FROM scope_state WHERE app_pk = ? AND of_user = ? AND user = ?

-- name: scope_state_put
-- Create or replace the state of an app or of a user.
INSERT INTO scope_state (app_pk, of_user, user, record) VALUES (?, ?, ?, ?)
ON CONFLICT (app_pk, of_user, user) DO UPDATE SET record = excluded.record

-- name: change_insert
-- One entry of the log.
INSERT INTO change (app_pk, revision, idx, nonce, time, actor, cause, uid, before, after, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: changes_after
-- The log from after a revision on.
SELECT revision, idx, nonce, time, actor, cause, uid, before, after, detail FROM change
WHERE app_pk = ? AND revision > ? ORDER BY revision, idx LIMIT ?

-- name: changes_rest
-- What a limit has cut off a revision.
SELECT revision, idx, nonce, time, actor, cause, uid, before, after, detail FROM change
WHERE app_pk = ? AND revision = ? AND idx > ? ORDER BY idx

-- name: change_nonce
-- What tells a revision from another of the same number.
SELECT nonce FROM change WHERE app_pk = ? AND revision = ? AND idx = 0

-- name: change_oldest
-- Where the log begins.
SELECT min(revision) FROM change WHERE app_pk = ?

-- name: change_times
-- When the first changes of the log were made.
SELECT revision, time FROM change WHERE app_pk = ? ORDER BY revision, idx LIMIT ?

-- name: change_compact
-- Shorten the log from its beginning.
DELETE FROM change WHERE app_pk = ? AND revision <= ?

-- name: request_get
-- What is remembered of a request.
SELECT payload_hash, revision, outcome, create_time, session_pk, held FROM request
WHERE app_pk = ? AND principal = ? AND method = ? AND request_id = ?

-- name: request_put
-- Remember a request, or what it has come to since.
INSERT INTO request
  (app_pk, principal, method, request_id, payload_hash, revision, outcome, create_time, session_pk, held)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (app_pk, principal, method, request_id) DO UPDATE SET
  payload_hash = excluded.payload_hash, revision = excluded.revision, outcome = excluded.outcome,
  create_time = excluded.create_time, session_pk = excluded.session_pk, held = excluded.held

-- name: request_held
-- The records that hold content of a session.
SELECT app_pk, principal, method, request_id, held FROM request INDEXED BY request_held
WHERE session_pk = ? AND held IS NOT NULL

-- name: request_drop_held
-- A record holds no content any more.
UPDATE request SET held = NULL WHERE app_pk = ? AND principal = ? AND method = ? AND request_id = ?

-- name: request_old
-- Records made before an instant, the oldest first.
SELECT app_pk, principal, method, request_id, held FROM request INDEXED BY request_create_time
WHERE create_time < ? ORDER BY create_time LIMIT ?

-- name: request_delete
-- Forget a request.
DELETE FROM request WHERE app_pk = ? AND principal = ? AND method = ? AND request_id = ?

-- name: audit_insert
-- One entry of the audit.
INSERT INTO audit (app_pk, revision, idx, time, actor, cause, uid, user, session_id, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: audit_before
-- The audit of an app from before a place on, the newest first.
SELECT revision, idx, time, actor, cause, uid, user, session_id, detail FROM audit
WHERE app_pk = ? AND (revision, idx) < (?, ?) ORDER BY revision DESC, idx DESC LIMIT ?

-- name: audit_of_user
-- The same, of one user.
SELECT revision, idx, time, actor, cause, uid, user, session_id, detail FROM audit INDEXED BY audit_user
WHERE app_pk = ? AND user = ? AND (revision, idx) < (?, ?) ORDER BY revision DESC, idx DESC LIMIT ?

-- name: audit_of_session
-- The same, of one session.
SELECT revision, idx, time, actor, cause, uid, user, session_id, detail FROM audit INDEXED BY audit_uid
WHERE uid = ? AND app_pk = ? AND (revision, idx) < (?, ?) ORDER BY revision DESC, idx DESC LIMIT ?

-- name: audit_times
-- When the first entries were made.
SELECT revision, time FROM audit WHERE app_pk = ? ORDER BY revision, idx LIMIT ?

-- name: audit_forget
-- Shorten the audit from its beginning.
DELETE FROM audit WHERE app_pk = ? AND revision <= ?

-- name: audit_rename
-- An entry without the names of a user who was erased.
UPDATE audit SET actor = ?, user = ?, session_id = ? WHERE app_pk = ? AND revision = ? AND idx = ?

-- name: change_rewrite
-- An entry of the log without what named a user who was erased.
UPDATE change SET actor = ?, before = ?, after = ?, detail = ? WHERE app_pk = ? AND revision = ? AND idx = ?

-- name: request_after
-- What is remembered of requests after one, by key.
SELECT principal, method, request_id, payload_hash, revision, outcome, create_time, session_pk, held FROM request
WHERE app_pk = ? AND (principal, method, request_id) > (?, ?, ?) ORDER BY principal, method, request_id LIMIT ?

-- name: stale_insert
-- Ask for the pages to be cleared.
INSERT INTO stale DEFAULT VALUES

-- name: stale_last
-- The newest such wish.
SELECT max(stale_id) FROM stale

-- name: stale_delete
-- It is fulfilled, with those before it.
DELETE FROM stale WHERE stale_id <= ?

-- name: requests_after
-- Request records after a key, in the order of their keys.
SELECT principal, method, request_id, held FROM request
WHERE app_pk = ? AND (principal, method, request_id) > (?, ?, ?)
ORDER BY principal, method, request_id LIMIT ?

-- name: request_empty
-- A record that says nothing any more but that there was such a request.
UPDATE request SET outcome = x'', held = NULL
WHERE app_pk = ? AND principal = ? AND method = ? AND request_id = ?

-- name: scope_names
-- Whose state there is in an app.
SELECT of_user, user FROM scope_state WHERE app_pk = ? ORDER BY of_user, user LIMIT ?

-- name: scope_state_delete
-- Remove the state of an app or of a user.
DELETE FROM scope_state WHERE app_pk = ? AND of_user = ? AND user = ?

-- name: session_has_child
-- Whether a session has a child.
SELECT 1 FROM session INDEXED BY session_parent WHERE parent = ? LIMIT 1

-- name: operation_get
-- One operation.
SELECT kind, update_time, record, content FROM operation WHERE app_pk = ? AND operation_id = ?

-- name: operation_put
-- Keep an operation, or what it has come to.
INSERT INTO operation (app_pk, operation_id, kind, update_time, record, content) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (app_pk, operation_id) DO UPDATE SET
  kind = excluded.kind, update_time = excluded.update_time, record = excluded.record, content = excluded.content

-- name: operation_delete
-- Forget an operation.
DELETE FROM operation WHERE app_pk = ? AND operation_id = ?

-- name: operations_before
-- Operations of all apps that were put before an instant, the longest ago first.
SELECT a.name, o.operation_id, o.kind, o.update_time, o.record, o.content
FROM operation AS o INDEXED BY operation_update CROSS JOIN app AS a ON a.app_pk = o.app_pk
WHERE o.update_time < ? ORDER BY o.update_time, o.app_pk, o.operation_id LIMIT ?

-- name: token_keys
-- The keys for tokens, the newest first.
SELECT key_id, secret FROM token_key ORDER BY key_id DESC

-- name: token_key_insert
-- A new key for tokens.
INSERT INTO token_key (key_id, secret) VALUES (?, ?)

-- name: pulse_read
-- Whether reads work.
SELECT beats FROM pulse WHERE pulse_id = 1

-- name: pulse_beat
-- Whether writes work.
UPDATE pulse SET beats = beats + 1 WHERE pulse_id = 1

-- name: session_skip
-- The n-th session after a key, from 0.
SELECT pk FROM session WHERE pk > ? ORDER BY pk LIMIT 1 OFFSET ?

-- name: session_rest
-- How many sessions there are after a key.
SELECT count(*) FROM session WHERE pk > ?

-- name: message_skip
-- The n-th message after a key, from 0.
SELECT session_pk, sequence FROM message WHERE (session_pk, sequence) > (?, ?)
ORDER BY session_pk, sequence LIMIT 1 OFFSET ?

-- name: message_rest
-- How many messages there are after a key.
SELECT count(*) FROM message WHERE (session_pk, sequence) > (?, ?)

-- name: change_skip
-- The n-th entry of all logs after a key, from 0.
SELECT app_pk, revision, idx FROM change WHERE (app_pk, revision, idx) > (?, ?, ?)
ORDER BY app_pk, revision, idx LIMIT 1 OFFSET ?

-- name: change_rest
-- How many entries of all logs there are after a key.
SELECT count(*) FROM change WHERE (app_pk, revision, idx) > (?, ?, ?)

-- name: request_skip
-- The n-th request record after a key, from 0.
SELECT app_pk, principal, method, request_id FROM request
WHERE (app_pk, principal, method, request_id) > (?, ?, ?, ?)
ORDER BY app_pk, principal, method, request_id LIMIT 1 OFFSET ?

-- name: request_rest
-- How many request records there are after a key.
SELECT count(*) FROM request WHERE (app_pk, principal, method, request_id) > (?, ?, ?, ?)

-- name: list_from_app
-- Source: all sessions of an app, in create order.
SELECT s.pk, s.record FROM session AS s WHERE s.pk > :low AND s.pk < :high

-- name: list_from_status
-- Source: those of one status, in create order.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_status
WHERE s.app_pk = :app_pk AND s.status = :status AND s.pk > :low AND s.pk < :high

-- name: list_from_user
-- Source: those of one user and status, in create order.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_user
WHERE s.app_pk = :app_pk AND s.user = :user AND s.status = :status AND s.pk > :low AND s.pk < :high

-- name: list_from_label
-- Source: those with one label, in create order.
SELECT s.pk, s.record FROM session_label AS l CROSS JOIN session AS s ON s.pk = l.pk
WHERE l.key = :key AND l.value = :value AND l.pk > :low AND l.pk < :high

-- name: list_from_parent
-- Source: the children of one session and status, in create order.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_parent
WHERE s.parent = :parent AND s.status = :status AND s.pk > :low AND s.pk < :high

-- name: list_from_parent_any
-- Source: the children of one session, to be sorted.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_parent
WHERE s.parent = :parent AND s.pk > :low AND s.pk < :high

-- name: list_from_user_any
-- Source: those of one user, to be sorted.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_user WHERE s.app_pk = :app_pk AND s.user = :user

-- name: list_from_user_status_any
-- Source: those of one user and status, to be sorted.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_user
WHERE s.app_pk = :app_pk AND s.user = :user AND s.status = :status

-- name: list_from_idle
-- Source: the ACTIVE ones of an app by activity time, which comes with each.
SELECT s.pk, s.record, s.activity_time FROM session AS s INDEXED BY session_idle
WHERE s.app_pk = :app_pk AND s.status = 1

-- name: list_from_rested
-- Source: all others of an app by activity time, which comes with each.
SELECT s.pk, s.record, s.activity_time FROM session AS s INDEXED BY session_rested
WHERE s.app_pk = :app_pk AND s.status <> 1

-- name: list_from_key
-- Source: those of one user by session_id.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_key WHERE s.app_pk = :app_pk AND s.user = :user

-- name: list_from_name
-- Source: all of an app by session_id.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_name WHERE s.app_pk = :app_pk

-- name: list_from_update
-- Source: all of an app by update time.
SELECT s.pk, s.record FROM session AS s INDEXED BY session_update WHERE s.app_pk = :app_pk

-- name: list_and_user
-- Filter: of one user.
AND s.user = :user

-- name: list_and_status
-- Filter: of one status. The plus keeps it a filter: it must not choose the index.
AND +s.status = :status

-- name: list_and_label
-- Filter: with one label.
AND EXISTS (SELECT 1 FROM session_label AS f WHERE f.key = :key AND f.value = :value AND f.pk = s.pk)

-- name: list_after_name_up
-- Place: after a session_id.
AND (s.session_id, s.pk) > (:value_after, :pk_after)

-- name: list_after_name_down
-- Place: before a session_id.
AND (s.session_id, s.pk) < (:value_after, :pk_after)

-- name: list_after_update_up
-- Place: after an update time.
AND (s.update_time, s.pk) > (:value_after, :pk_after)

-- name: list_after_update_down
-- Place: before an update time.
AND (s.update_time, s.pk) < (:value_after, :pk_after)

-- name: list_after_activity_up
-- Place: after an activity time.
AND (s.activity_time, s.pk) > (:value_after, :pk_after)

-- name: list_after_activity_down
-- Place: before an activity time.
AND (s.activity_time, s.pk) < (:value_after, :pk_after)

-- name: list_order_create_up
-- Order: create order.
ORDER BY s.pk LIMIT :limit

-- name: list_order_create_down
-- Order: create order, the newest first.
ORDER BY s.pk DESC LIMIT :limit

-- name: list_order_label_up
-- Order: create order, as the labels are kept.
ORDER BY l.pk LIMIT :limit

-- name: list_order_label_down
-- Order: create order as the labels are kept, the newest first.
ORDER BY l.pk DESC LIMIT :limit

-- name: list_order_name_up
-- Order: session_id.
ORDER BY s.session_id, s.pk LIMIT :limit

-- name: list_order_name_down
-- Order: session_id, backwards.
ORDER BY s.session_id DESC, s.pk DESC LIMIT :limit

-- name: list_order_update_up
-- Order: update time.
ORDER BY s.update_time, s.pk LIMIT :limit

-- name: list_order_update_down
-- Order: update time, the latest first.
ORDER BY s.update_time DESC, s.pk DESC LIMIT :limit

-- name: list_order_activity_up
-- Order: activity time.
ORDER BY s.activity_time, s.pk LIMIT :limit

-- name: list_order_activity_down
-- Order: activity time, the latest first.
ORDER BY s.activity_time DESC, s.pk DESC LIMIT :limit
