-- Every statement of the PostgreSQL store, by name; `queries.py` loads them.
-- What a batch looks up or writes goes in one statement for each kind of row, the values
-- in arrays. Each element is looked up by its whole key (LATERAL with OFFSET 0), for a
-- planner that believes a table to be empty would rather read all of an app and compare;
-- an order with LIMIT 1 makes it take the index that has that order, and no other;
-- for the same reason rows are changed at the place (ctid) where that lookup has found
-- them, which is still theirs: whoever writes holds the app. Names that begin with `list_` are fragments of candidate lists:
-- `store/lists.py` joins one source, any filters, a place to go on from, and an order.

-- name: begin_unit
-- Begin to write: each statement sees what was committed before it, so all that come
-- after the lock of the app see everything that others have written of it.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE

-- name: begin_read
-- Begin to read: every statement sees the same committed state.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: commit
-- Keep it.
COMMIT

-- name: rollback
-- Drop it.
ROLLBACK

-- name: mark
-- What a failing unit is taken back to.
SAVEPOINT unit

-- name: undo
-- Take a unit back that had written.
ROLLBACK TO SAVEPOINT unit

-- name: unmark
-- A unit is done.
RELEASE SAVEPOINT unit

-- name: settings
-- Settings of a connection, or of one transaction behind a pool of connections that
-- others use too. Plans must not hang on statistics: each statement has its index, and
-- without the other ways to read a table, and without sorting where an index has the
-- order, the planner takes it from the first row on. A commit that was answered is on
-- disk: where the database would answer earlier, it must not.
SELECT set_config('statement_timeout', %s, %s), set_config('lock_timeout', %s, %s),
  set_config('idle_in_transaction_session_timeout', %s, %s), set_config('enable_seqscan', 'off', %s),
  set_config('enable_bitmapscan', 'off', %s), set_config('enable_hashjoin', 'off', %s),
  set_config('enable_mergejoin', 'off', %s), set_config('jit', 'off', %s),
  set_config('enable_sort', 'off', %s), set_config('enable_incremental_sort', 'off', %s),
  set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), %s)

-- name: app_lock
-- One app with its counters and the database's clock, read once the app's row is ours.
WITH locked AS MATERIALIZED (
  SELECT app_pk, head, created, contents, epoch, active, sessions, record FROM app WHERE name = %s FOR UPDATE
)
SELECT l.app_pk, l.head, l.created, l.contents, l.epoch, l.active, l.sessions, l.record,
  (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000
FROM (SELECT 1) AS one LEFT JOIN locked AS l ON true

-- name: app_make
-- A row for a new app; nothing when another server was faster.
INSERT INTO app (name, head, created, contents, epoch) VALUES (%s, 0, 0, 0, 0) ON CONFLICT (name) DO NOTHING

-- name: app_many
-- Apps by name, and the database's clock, also when there is none.
SELECT a.name, a.app_pk, a.head, a.created, a.contents, a.epoch, a.active, a.sessions, a.record,
  (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000
FROM (SELECT 1) AS one LEFT JOIN app AS a ON a.name = ANY(%s::text[])

-- name: app_names
-- Names of apps after one, in the order of their bytes.
SELECT name FROM app WHERE name > %s AND record IS NOT NULL ORDER BY name LIMIT %s

-- name: apps_listed
-- Apps after a name, in the order of their bytes, with their counters.
SELECT app_pk, head, created, contents, epoch, active, sessions, record FROM app
WHERE name > %s AND record IS NOT NULL ORDER BY name LIMIT %s

-- name: app_set
-- Move an app's counters and its epoch on: the last statement before COMMIT.
UPDATE app SET head = %s, created = %s, contents = %s, epoch = epoch + 1, active = %s, sessions = %s, record = %s
WHERE app_pk = %s

-- name: tallies_add
-- Add to tallies.
INSERT INTO tally AS t (app_pk, of_user, status, user_id, sessions, requests, errors, processing_time, messages)
SELECT %s, n.* FROM unnest(%s::smallint[], %s::smallint[], %s::text[], %s::bigint[], %s::numeric[], %s::numeric[],
  %s::numeric[], %s::numeric[]) AS n
ON CONFLICT (app_pk, of_user, status, user_id) DO UPDATE SET sessions = t.sessions + excluded.sessions,
  requests = t.requests + excluded.requests, errors = t.errors + excluded.errors,
  processing_time = t.processing_time + excluded.processing_time, messages = t.messages + excluded.messages

-- name: tallies_prune
-- Tallies that count no sessions any more, of those that have just been lessened.
DELETE FROM tally AS t USING unnest(%s::smallint[], %s::smallint[], %s::text[]) AS n (of_user, status, user_id),
  LATERAL (
    SELECT ctid FROM tally
    WHERE app_pk = %s AND of_user = n.of_user AND status = n.status AND user_id = n.user_id AND sessions = 0 OFFSET 0
  ) AS o
WHERE t.ctid = o.ctid

-- name: tally_counters_add
-- Add to the counters of tallies.
INSERT INTO tally_counter AS t (app_pk, of_user, status, user_id, name, value)
SELECT %s, n.* FROM unnest(%s::smallint[], %s::smallint[], %s::text[], %s::text[], %s::numeric[]) AS n
ON CONFLICT (app_pk, of_user, status, user_id, name) DO UPDATE SET value = t.value + excluded.value

-- name: tally_counters_prune
-- Counters that are 0, of those that have just been moved.
DELETE FROM tally_counter AS t
USING unnest(%s::smallint[], %s::smallint[], %s::text[], %s::text[]) AS n (of_user, status, user_id, name),
  LATERAL (
    SELECT ctid FROM tally_counter
    WHERE app_pk = %s AND of_user = n.of_user AND status = n.status AND user_id = n.user_id AND name = n.name
      AND value = 0 OFFSET 0
  ) AS o
WHERE t.ctid = o.ctid

-- name: tallies_active
-- How many ACTIVE sessions users have.
SELECT t.user_id, t.sessions FROM unnest(%s::text[]) AS n (user_id), LATERAL (
  SELECT user_id, sessions FROM tally WHERE app_pk = %s AND of_user = 1 AND status = 1 AND user_id = n.user_id OFFSET 0
) AS t

-- name: tally_get
-- One tally, its counters as JSON texts.
SELECT t.sessions, t.requests, t.errors, t.processing_time, t.messages, (
  SELECT json_object_agg(c.name, c.value::text)::text FROM (
    SELECT name, value FROM tally_counter
    WHERE app_pk = t.app_pk AND of_user = t.of_user AND status = t.status AND user_id = t.user_id AND value <> 0
    ORDER BY name LIMIT %s
  ) AS c
)
FROM tally AS t WHERE t.app_pk = %s AND t.of_user = %s AND t.status = %s AND t.user_id = %s

-- name: tallies_first
-- The tallies of one status, by user.
SELECT t.user_id, t.sessions, t.requests, t.errors, t.processing_time, t.messages, (
  SELECT json_object_agg(c.name, c.value::text)::text FROM (
    SELECT name, value FROM tally_counter
    WHERE app_pk = t.app_pk AND of_user = t.of_user AND status = t.status AND user_id = t.user_id AND value <> 0
    ORDER BY name LIMIT %s
  ) AS c
)
FROM tally AS t WHERE t.app_pk = %s AND t.of_user = 1 AND t.status = %s ORDER BY t.user_id LIMIT %s

-- name: tallies_after
-- The tallies of one status, by user, after one.
SELECT t.user_id, t.sessions, t.requests, t.errors, t.processing_time, t.messages, (
  SELECT json_object_agg(c.name, c.value::text)::text FROM (
    SELECT name, value FROM tally_counter
    WHERE app_pk = t.app_pk AND of_user = t.of_user AND status = t.status AND user_id = t.user_id AND value <> 0
    ORDER BY name LIMIT %s
  ) AS c
)
FROM tally AS t WHERE t.app_pk = %s AND t.of_user = 1 AND t.status = %s AND t.user_id > %s ORDER BY t.user_id LIMIT %s

-- name: label_values
-- The values that a label has in an app, one seek for each.
WITH RECURSIVE v (value) AS (
  (
    SELECT value FROM session_label WHERE app_pk = %(app_pk)s AND key = %(key)s AND value > %(after)s
    ORDER BY value, pk LIMIT 1
  )
  UNION ALL
  SELECT n.value FROM v, LATERAL (
    SELECT value FROM session_label WHERE app_pk = %(app_pk)s AND key = %(key)s AND value > v.value
    ORDER BY value, pk LIMIT 1
  ) AS n
)
SELECT value FROM v LIMIT %(limit)s

-- name: backfill_first
-- The first sessions by app, user and status: for the migration that makes the tallies.
SELECT app_pk, user_id, status, pk, record FROM session ORDER BY app_pk, user_id, status, pk LIMIT %s

-- name: backfill_after
-- The next sessions by app, user and status: for the same migration.
SELECT app_pk, user_id, status, pk, record FROM session
WHERE (app_pk, user_id, status, pk) > (%s, %s, %s, %s) ORDER BY app_pk, user_id, status, pk LIMIT %s

-- name: backfill_app
-- The counts of an app: for the same migration.
UPDATE app SET active = active + %s, sessions = sessions + %s WHERE app_pk = %s

-- name: sessions_by_key
-- Sessions by their keys.
SELECT s.pk, s.record FROM unnest(%s::text[], %s::text[]) AS k (user_id, session_id), LATERAL (
  SELECT pk, user_id, session_id, record FROM session
  WHERE app_pk = %s AND (user_id, session_id) >= (k.user_id, k.session_id) ORDER BY user_id, session_id LIMIT 1
) AS s
WHERE s.user_id = k.user_id AND s.session_id = k.session_id

-- name: sessions_by_uid
-- Sessions by their uids.
SELECT pk, record FROM session WHERE app_pk = %s AND uid = ANY(%s::bytea[])

-- name: sessions_by_pk
-- Sessions by the store's own numbers.
SELECT pk, record FROM session WHERE app_pk = %s AND pk = ANY(%s::bigint[])

-- name: sessions_insert
-- New sessions.
INSERT INTO session (app_pk, pk, uid, user_id, session_id, status, parent, update_time, activity_time, due, record)
SELECT %s, n.* FROM unnest(%s::bigint[], %s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::bytea[],
  %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[]) AS n

-- name: sessions_update
-- Sessions as they are now. Only indexes of what has changed are written when none has.
UPDATE session AS s SET uid = n.uid, user_id = n.user_id, session_id = n.session_id, status = n.status,
  parent = n.parent, update_time = n.update_time, activity_time = n.activity_time, due = n.due, record = n.record
FROM unnest(%s::bigint[], %s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::bytea[],
  %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
  AS n (pk, uid, user_id, session_id, status, parent, update_time, activity_time, due, record),
  LATERAL (SELECT ctid FROM session WHERE app_pk = %s AND pk = n.pk OFFSET 0) AS o
WHERE s.ctid = o.ctid

-- name: sessions_set_record
-- Only the records: nothing that an index knows has changed.
UPDATE session AS s SET record = n.record FROM unnest(%s::bigint[], %s::bytea[]) AS n (pk, record),
  LATERAL (SELECT ctid FROM session WHERE app_pk = %s AND pk = n.pk OFFSET 0) AS o
WHERE s.ctid = o.ctid

-- name: sessions_delete
-- Remove sessions.
DELETE FROM session WHERE app_pk = %s AND pk = ANY(%s::bigint[])

-- name: session_due
-- Sessions for which something is due, the longest due first.
SELECT pk, record FROM session WHERE due IS NOT NULL AND due <= %s ORDER BY due, pk LIMIT %s

-- name: session_next_due
-- The nearest due instant.
SELECT due FROM session WHERE due IS NOT NULL ORDER BY due, pk LIMIT 1

-- name: session_overdue_app
-- Those of one app, the longest due first.
SELECT pk, record FROM session
WHERE due IS NOT NULL AND due <= %s AND pk > %s AND pk < %s ORDER BY due, pk LIMIT %s

-- name: session_overdue_user
-- Those of one user, the longest due first. The concatenation keeps it a filter.
SELECT pk, record FROM session
WHERE due IS NOT NULL AND due <= %s AND pk > %s AND pk < %s AND user_id || '' = %s ORDER BY due, pk LIMIT %s

-- name: session_ended
-- Sessions of one app that have ended, the earliest end first, after a place.
SELECT pk, record FROM session
WHERE app_pk = %s AND status <> 1 AND (update_time, pk) > (%s, %s) AND update_time < %s
ORDER BY update_time, pk LIMIT %s

-- name: labels_insert
-- Give sessions labels.
INSERT INTO session_label (app_pk, key, value, pk)
SELECT %s, n.* FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS n ON CONFLICT DO NOTHING

-- name: labels_delete
-- Take labels from sessions.
DELETE FROM session_label AS l USING unnest(%s::text[], %s::text[], %s::bigint[]) AS n (key, value, pk), LATERAL (
  SELECT ctid FROM session_label WHERE app_pk = %s AND key = n.key AND value = n.value AND pk = n.pk OFFSET 0
) AS o
WHERE l.ctid = o.ctid

-- name: messages_up
-- Messages within two sequences, the oldest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE app_pk = %s AND session_pk = %s AND sequence BETWEEN %s AND %s ORDER BY sequence LIMIT %s

-- name: messages_down
-- Messages within two sequences, the newest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE app_pk = %s AND session_pk = %s AND sequence BETWEEN %s AND %s ORDER BY sequence DESC LIMIT %s

-- name: messages_since_up
-- Messages within two sequences and not before an event time, the oldest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE app_pk = %s AND session_pk = %s AND sequence BETWEEN %s AND %s AND event_time >= %s ORDER BY sequence LIMIT %s

-- name: messages_since_down
-- Messages within two sequences and not before an event time, the newest first.
SELECT message_id, sequence, role, content_type, event_time, create_time, size, body FROM message
WHERE app_pk = %s AND session_pk = %s AND sequence BETWEEN %s AND %s AND event_time >= %s
ORDER BY sequence DESC LIMIT %s

-- name: message_totals
-- How many messages there are within two sequences, and their bytes.
SELECT count(*), coalesce(sum(size), 0)::bigint FROM (
  SELECT size FROM message WHERE app_pk = %s AND session_pk = %s AND sequence BETWEEN %s AND %s
  ORDER BY sequence OFFSET 0
) AS m

-- name: messages_by_id
-- Messages by their ids, also within removed ranges.
SELECT m.message_id, m.sequence, m.role, m.content_type, m.event_time, m.create_time, m.size, m.body, m.session_pk
FROM unnest(%s::bigint[], %s::text[]) AS k (session_pk, message_id), LATERAL (
  SELECT * FROM message WHERE app_pk = %s AND session_pk = k.session_pk AND message_id = k.message_id OFFSET 0
) AS m

-- name: messages_by_sequence
-- Messages by their sequences, also within removed ranges.
SELECT m.message_id, m.sequence, m.role, m.content_type, m.event_time, m.create_time, m.size, m.body, m.session_pk
FROM unnest(%s::bigint[], %s::bigint[]) AS k (session_pk, sequence), LATERAL (
  SELECT * FROM message WHERE app_pk = %s AND session_pk = k.session_pk AND sequence >= k.sequence
  ORDER BY sequence LIMIT 1
) AS m
WHERE m.sequence = k.sequence

-- name: messages_insert
-- New messages.
INSERT INTO message
  (app_pk, session_pk, sequence, message_id, role, content_type, event_time, create_time, size, body)
SELECT %s, n.* FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::bigint[],
  %s::bigint[], %s::bigint[], %s::bigint[]) AS n

-- name: messages_delete
-- Remove messages.
DELETE FROM message AS m USING unnest(%s::bigint[], %s::bigint[]) AS n (session_pk, sequence), LATERAL (
  SELECT ctid, sequence FROM message WHERE app_pk = %s AND session_pk = n.session_pk AND sequence >= n.sequence
  ORDER BY sequence LIMIT 1
) AS o
WHERE m.ctid = o.ctid AND o.sequence = n.sequence

-- name: purge_insert
-- Note ranges that are still to be purged.
INSERT INTO purge (app_pk, session_pk, low, high, owner)
SELECT %s, n.* FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS n

-- name: purge_app
-- An app with a note.
SELECT a.name FROM (SELECT app_pk FROM purge ORDER BY app_pk, purge_id LIMIT 1) AS p JOIN app AS a ON a.app_pk = p.app_pk

-- name: purge_first
-- The oldest note of an app.
SELECT purge_id, session_pk, low, high, owner FROM purge WHERE app_pk = %s ORDER BY purge_id LIMIT 1

-- name: purge_delete
-- Notes are done with.
DELETE FROM purge WHERE app_pk = %s AND purge_id = ANY(%s::bigint[])

-- name: stagings_put
-- Create or replace stagings.
INSERT INTO staging (app_pk, name, history, owner, expire_time, record)
SELECT %s, n.* FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[]) AS n
ON CONFLICT (app_pk, name) DO UPDATE SET history = excluded.history, owner = excluded.owner,
  expire_time = excluded.expire_time, record = excluded.record

-- name: stagings_delete
-- Forget stagings.
DELETE FROM staging WHERE app_pk = %s AND name = ANY(%s::text[])

-- name: staging_get
-- A staging by its name.
SELECT name, history, owner, expire_time, record FROM staging WHERE app_pk = %s AND name = %s

-- name: stagings_of
-- The stagings of a session.
SELECT name, history, owner, expire_time, record FROM staging WHERE app_pk = %s AND owner = %s

-- name: stagings_due
-- Stagings that have expired, the longest expired first, with their app's name.
SELECT a.name, s.name, s.history, s.owner, s.expire_time, s.record FROM (
  SELECT * FROM staging WHERE expire_time <= %s ORDER BY expire_time LIMIT %s
) AS s JOIN app AS a ON a.app_pk = s.app_pk

-- name: user_states
-- The states of an app's users, after one.
SELECT user_id, record FROM scope_state WHERE app_pk = %s AND of_user = 1 AND user_id > %s
ORDER BY app_pk, of_user, user_id LIMIT %s

-- name: user_states_first
-- The states of an app's users, from the first on.
SELECT user_id, record FROM scope_state WHERE app_pk = %s AND of_user = 1 ORDER BY app_pk, of_user, user_id LIMIT %s

-- name: contents
-- Pieces of content.
SELECT content_id, data FROM content WHERE app_pk = %s AND content_id = ANY(%s::bigint[])

-- name: contents_insert
-- New content.
INSERT INTO content (app_pk, content_id, data) SELECT %s, n.* FROM unnest(%s::bigint[], %s::bytea[]) AS n

-- name: contents_delete
-- Erase content.
DELETE FROM content WHERE app_pk = %s AND content_id = ANY(%s::bigint[])

-- name: scope_states
-- The states of apps and users.
SELECT s.of_user, s.user_id, s.record FROM unnest(%s::smallint[], %s::text[]) AS k (of_user, user_id), LATERAL (
  SELECT * FROM scope_state WHERE app_pk = %s AND of_user = k.of_user AND user_id = k.user_id OFFSET 0
) AS s

-- name: scope_states_put
-- Create or replace the states of apps and users.
INSERT INTO scope_state (app_pk, of_user, user_id, record)
SELECT %s, n.* FROM unnest(%s::smallint[], %s::text[], %s::bytea[]) AS n
ON CONFLICT (app_pk, of_user, user_id) DO UPDATE SET record = excluded.record

-- name: changes_insert
-- Entries of the log.
INSERT INTO change (app_pk, revision, idx, nonce, time, actor, cause, uid, before, after, detail)
SELECT %s, n.* FROM unnest(%s::bigint[], %s::integer[], %s::bigint[], %s::bigint[], %s::text[], %s::smallint[],
  %s::bytea[], %s::bytea[], %s::bytea[], %s::bytea[]) AS n

-- name: changes_after
-- The log from after a revision on.
SELECT revision, idx, nonce, time, actor, cause, uid, before, after, detail FROM change
WHERE app_pk = %s AND revision > %s ORDER BY revision, idx LIMIT %s

-- name: changes_rest
-- What a limit has cut off a revision.
SELECT revision, idx, nonce, time, actor, cause, uid, before, after, detail FROM change
WHERE app_pk = %s AND revision = %s AND idx > %s ORDER BY idx

-- name: change_nonce
-- What tells a revision from another of the same number.
SELECT nonce FROM change WHERE app_pk = %s AND revision = %s AND idx = 0

-- name: change_oldest
-- Where the log begins.
SELECT revision FROM change WHERE app_pk = %s ORDER BY revision, idx LIMIT 1

-- name: change_times
-- When the first changes of the log were made.
SELECT revision, time FROM change WHERE app_pk = %s ORDER BY revision, idx LIMIT %s

-- name: changes_compact
-- Shorten the log from its beginning; what is removed is answered, to be counted.
DELETE FROM change WHERE app_pk = %s AND revision <= %s RETURNING idx

-- name: requests
-- What is remembered of requests.
SELECT r.principal, r.method, r.request_id, r.payload_hash, r.revision, r.outcome, r.create_time, r.session_pk, r.held
FROM unnest(%s::text[], %s::text[], %s::text[]) AS k (principal, method, request_id), LATERAL (
  SELECT * FROM request
  WHERE app_pk = %s AND principal = k.principal AND method = k.method AND request_id = k.request_id OFFSET 0
) AS r

-- name: requests_put
-- Remember requests, or what they have come to since.
INSERT INTO request
  (app_pk, principal, method, request_id, payload_hash, revision, outcome, create_time, session_pk, held)
SELECT %s, n.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::bytea[],
  %s::bigint[], %s::bigint[], %s::bytea[]) AS n
ON CONFLICT (app_pk, principal, method, request_id) DO UPDATE SET
  payload_hash = excluded.payload_hash, revision = excluded.revision, outcome = excluded.outcome,
  create_time = excluded.create_time, session_pk = excluded.session_pk, held = excluded.held

-- name: requests_held
-- The records that hold content of a session.
SELECT principal, method, request_id, payload_hash, revision, outcome, create_time, session_pk, held FROM request
WHERE app_pk = %s AND session_pk = %s AND held IS NOT NULL

-- name: requests_forget
-- Forget the oldest records made before an instant, but none that is being written; what
-- they held is the answer.
DELETE FROM request AS r USING (
  SELECT ctid FROM request WHERE create_time < %s ORDER BY create_time LIMIT %s FOR UPDATE SKIP LOCKED
) AS o
WHERE r.ctid = o.ctid
RETURNING r.app_pk, r.held

-- name: audits_insert
-- Entries of the audit.
INSERT INTO audit (app_pk, revision, idx, time, actor, cause, uid, user_id, session_id, detail)
SELECT %s, n.* FROM unnest(%s::bigint[], %s::integer[], %s::bigint[], %s::text[], %s::smallint[],
  %s::bytea[], %s::text[], %s::text[], %s::bytea[]) AS n

-- name: audit_before
-- The audit of an app from before a place on, the newest first.
SELECT revision, idx, time, actor, cause, uid, user_id, session_id, detail FROM audit
WHERE app_pk = %s AND (revision, idx) < (%s, %s) ORDER BY revision DESC, idx DESC LIMIT %s

-- name: audit_of_user
-- The same, of one user. Compared as rows, here and below, only the index that is meant has
-- the order.
SELECT revision, idx, time, actor, cause, uid, user_id, session_id, detail FROM audit
WHERE app_pk = %s AND user_id IS NOT NULL AND (user_id, revision, idx) < (%s, %s, %s)
  AND (user_id, revision, idx) >= (%s, 0, 0)
ORDER BY user_id DESC, revision DESC, idx DESC LIMIT %s

-- name: audit_of_session
-- The same, of one session.
SELECT revision, idx, time, actor, cause, uid, user_id, session_id, detail FROM audit
WHERE app_pk = %s AND uid IS NOT NULL AND (uid, revision, idx) < (%s, %s, %s)
  AND (uid, revision, idx) >= (%s, 0, 0)
ORDER BY uid DESC, revision DESC, idx DESC LIMIT %s

-- name: audit_times
-- When the first entries were made.
SELECT revision, time FROM audit WHERE app_pk = %s ORDER BY revision, idx LIMIT %s

-- name: audits_forget
-- Shorten the audit from its beginning; what is removed is answered, to be counted.
DELETE FROM audit WHERE app_pk = %s AND revision <= %s RETURNING idx

-- name: audits_rename
-- Entries without the names of a user who was erased.
UPDATE audit AS a SET actor = n.actor, user_id = n.user_id, session_id = n.session_id
FROM unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[])
  AS n (revision, idx, actor, user_id, session_id),
  LATERAL (SELECT ctid FROM audit WHERE app_pk = %s AND revision = n.revision AND idx = n.idx OFFSET 0) AS o
WHERE a.ctid = o.ctid

-- name: changes_rewrite
-- Entries of the log without what named a user who was erased.
UPDATE change AS c SET actor = n.actor, before = n.before, after = n.after, detail = n.detail
FROM unnest(%s::bigint[], %s::integer[], %s::text[], %s::bytea[], %s::bytea[], %s::bytea[])
  AS n (revision, idx, actor, before, after, detail),
  LATERAL (SELECT ctid FROM change WHERE app_pk = %s AND revision = n.revision AND idx = n.idx OFFSET 0) AS o
WHERE c.ctid = o.ctid

-- name: requests_after
-- Request records after a key, in the order of their keys.
SELECT principal, method, request_id, payload_hash, revision, outcome, create_time, session_pk, held FROM request
WHERE app_pk = %s AND (principal, method, request_id) > (%s, %s, %s)
ORDER BY principal, method, request_id LIMIT %s

-- name: scope_names
-- Whose state there is in an app.
SELECT of_user, user_id FROM scope_state WHERE app_pk = %s ORDER BY of_user, user_id LIMIT %s

-- name: scope_states_delete
-- Remove the states of apps and users.
DELETE FROM scope_state AS s USING unnest(%s::smallint[], %s::text[]) AS n (of_user, user_id), LATERAL (
  SELECT ctid FROM scope_state WHERE app_pk = %s AND of_user = n.of_user AND user_id = n.user_id OFFSET 0
) AS o
WHERE s.ctid = o.ctid

-- name: parents
-- Which of some sessions, named by their uids in hexadecimal, have a child.
SELECT k.uid FROM unnest(string_to_array(%s, ',')) AS k (uid), LATERAL (
  SELECT parent FROM session
  WHERE app_pk = %s AND parent IS NOT NULL AND (parent, status, pk) > (decode(k.uid, 'hex'), 0, 0)
  ORDER BY parent, status, pk LIMIT 1
) AS s
WHERE s.parent = decode(k.uid, 'hex')

-- name: operations
-- Operations of one app.
SELECT operation_id, kind, update_time, record, content FROM operation
WHERE app_pk = %s AND operation_id = ANY(%s::text[])

-- name: operations_put
-- Keep operations, or what they have come to.
INSERT INTO operation (app_pk, operation_id, kind, update_time, record, content)
SELECT %s, n.* FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bytea[], %s::bytea[]) AS n
ON CONFLICT (app_pk, operation_id) DO UPDATE SET
  kind = excluded.kind, update_time = excluded.update_time, record = excluded.record, content = excluded.content

-- name: operations_delete
-- Forget operations.
DELETE FROM operation WHERE app_pk = %s AND operation_id = ANY(%s::text[])

-- name: operations_before
-- Operations of all apps that were put before an instant, the longest ago first.
SELECT a.name, o.operation_id, o.kind, o.update_time, o.record, o.content FROM (
  SELECT * FROM operation WHERE update_time < %s ORDER BY update_time, app_pk, operation_id LIMIT %s
) AS o, LATERAL (SELECT name FROM app WHERE app_pk = o.app_pk OFFSET 0) AS a
ORDER BY o.update_time, o.app_pk, o.operation_id

-- name: token_keys
-- The keys for tokens, the newest first.
SELECT key_id, secret FROM token_key ORDER BY key_id DESC

-- name: token_key_insert
-- A new key for tokens.
INSERT INTO token_key (key_id, secret) VALUES (%s, %s)

-- name: pulse_read
-- Whether reads work.
SELECT beats FROM pulse WHERE pulse_id = 1

-- name: pulse_beat
-- Whether writes work.
UPDATE pulse SET beats = beats + 1 WHERE pulse_id = 1

-- name: migration_lock
-- One server migrates at a time; the others wait for it.
SELECT pg_advisory_xact_lock(%s)

-- name: is_standby
-- Whether the database follows another one.
SELECT pg_is_in_recovery()

-- name: schema_known
-- Whether the database holds our schema, and whether it holds anything else of that name.
SELECT to_regclass('sojourn_schema') IS NOT NULL, to_regclass('app') IS NOT NULL OR to_regclass('session') IS NOT NULL

-- name: schema_make
-- Where the schema's number is kept.
CREATE TABLE sojourn_schema (version integer NOT NULL)

-- name: schema_begin
-- No schema yet.
INSERT INTO sojourn_schema (version) VALUES (0)

-- name: schema_version
-- The schema's number.
SELECT version FROM sojourn_schema

-- name: schema_set
-- A migration is done.
UPDATE sojourn_schema SET version = %s

-- name: list_from_app
-- Source: all sessions of an app, in create order.
SELECT s.pk, s.record FROM session AS s WHERE s.app_pk = %(app_pk)s AND s.pk > %(low)s AND s.pk < %(high)s

-- name: list_from_status
-- Source: those of one status, in create order. Compared as rows, here and below, only the
-- index that is meant has the order.
SELECT s.pk, s.record FROM session AS s
WHERE s.app_pk = %(app_pk)s
  AND (s.status, s.pk) > (%(status)s, %(low)s) AND (s.status, s.pk) < (%(status)s, %(high)s)

-- name: list_from_user
-- Source: those of one user and status, in create order.
SELECT s.pk, s.record FROM session AS s
WHERE s.app_pk = %(app_pk)s AND (s.user_id, s.status, s.pk) > (%(user)s, %(status)s, %(low)s)
  AND (s.user_id, s.status, s.pk) < (%(user)s, %(status)s, %(high)s)

-- name: list_from_label
-- Source: those with one label, in create order.
SELECT s.pk, s.record FROM session_label AS l JOIN session AS s ON s.app_pk = l.app_pk AND s.pk = l.pk
WHERE l.app_pk = %(app_pk)s AND l.key = %(key)s AND l.value = %(value)s AND l.pk > %(low)s AND l.pk < %(high)s

-- name: list_from_parent
-- Source: the children of one session and status, in create order.
SELECT s.pk, s.record FROM session AS s
WHERE s.app_pk = %(app_pk)s AND s.parent IS NOT NULL
  AND (s.parent, s.status, s.pk) > (%(parent)s, %(status)s, %(low)s)
  AND (s.parent, s.status, s.pk) < (%(parent)s, %(status)s, %(high)s)

-- name: list_from_parent_any
-- Source: the children of one session, to be sorted. OFFSET keeps the order from choosing
-- an index of the whole app.
SELECT s.pk, s.record FROM (
  SELECT * FROM session
  WHERE app_pk = %(app_pk)s AND parent = %(parent)s AND pk > %(low)s AND pk < %(high)s OFFSET 0
) AS s WHERE true

-- name: list_from_user_any
-- Source: those of one user, to be sorted.
SELECT s.pk, s.record FROM (
  SELECT * FROM session WHERE app_pk = %(app_pk)s AND user_id = %(user)s OFFSET 0
) AS s WHERE true

-- name: list_from_user_status_any
-- Source: those of one user and status, to be sorted.
SELECT s.pk, s.record FROM (
  SELECT * FROM session
  WHERE app_pk = %(app_pk)s AND (user_id, status, pk) > (%(user)s, %(status)s, %(low)s)
    AND (user_id, status, pk) < (%(user)s, %(status)s, %(high)s) OFFSET 0
) AS s WHERE true

-- name: list_from_idle
-- Source: the ACTIVE ones of an app by activity time, which comes with each.
SELECT s.pk, s.record, s.activity_time FROM session AS s
WHERE s.app_pk = %(app_pk)s AND s.status = 1

-- name: list_from_rested
-- Source: all others of an app by activity time, which comes with each.
SELECT s.pk, s.record, s.activity_time FROM session AS s
WHERE s.app_pk = %(app_pk)s AND s.status <> 1

-- name: list_from_key
-- Source: those of one user by session_id. No text is between a user and the same with \x01.
SELECT s.pk, s.record FROM session AS s
WHERE s.app_pk = %(app_pk)s AND (s.user_id, s.session_id) >= (%(user)s, '')
  AND (s.user_id, s.session_id) < (%(user)s || E'\x01', '')

-- name: list_from_name
-- Source: all of an app by session_id.
SELECT s.pk, s.record FROM session AS s WHERE s.app_pk = %(app_pk)s

-- name: list_from_update
-- Source: all of an app by update time.
SELECT s.pk, s.record FROM session AS s WHERE s.app_pk = %(app_pk)s

-- name: list_and_user
-- Filter: of one user. The concatenation keeps it a filter: it must not choose the index.
AND s.user_id || '' = %(user)s

-- name: list_and_status
-- Filter: of one status. The sum keeps it a filter: it must not choose the index.
AND s.status + 0 = %(status)s

-- name: list_and_label
-- Filter: with one label.
AND EXISTS (SELECT FROM session_label AS f
  WHERE f.app_pk = %(app_pk)s AND f.key = %(key)s AND f.value = %(value)s AND f.pk = s.pk)

-- name: list_after_name_up
-- Place: after a session_id.
AND (s.session_id, s.pk) > (%(value_after)s, %(pk_after)s)

-- name: list_after_name_down
-- Place: before a session_id.
AND (s.session_id, s.pk) < (%(value_after)s, %(pk_after)s)

-- name: list_after_update_up
-- Place: after an update time.
AND (s.update_time, s.pk) > (%(value_after)s, %(pk_after)s)

-- name: list_after_update_down
-- Place: before an update time.
AND (s.update_time, s.pk) < (%(value_after)s, %(pk_after)s)

-- name: list_after_activity_up
-- Place: after an activity time.
AND (s.activity_time, s.pk) > (%(value_after)s, %(pk_after)s)

-- name: list_after_activity_down
-- Place: before an activity time.
AND (s.activity_time, s.pk) < (%(value_after)s, %(pk_after)s)

-- name: list_order_create_up
-- Order: create order.
ORDER BY s.pk LIMIT %(limit)s

-- name: list_order_create_down
-- Order: create order, the newest first.
ORDER BY s.pk DESC LIMIT %(limit)s

-- name: list_order_label_up
-- Order: create order, as the labels are kept.
ORDER BY l.pk LIMIT %(limit)s

-- name: list_order_label_down
-- Order: create order as the labels are kept, the newest first.
ORDER BY l.pk DESC LIMIT %(limit)s

-- name: list_order_name_up
-- Order: session_id.
ORDER BY s.session_id, s.pk LIMIT %(limit)s

-- name: list_order_name_down
-- Order: session_id, backwards.
ORDER BY s.session_id DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_update_up
-- Order: update time.
ORDER BY s.update_time, s.pk LIMIT %(limit)s

-- name: list_order_update_down
-- Order: update time, the latest first.
ORDER BY s.update_time DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_activity_up
-- Order: activity time.
ORDER BY s.activity_time, s.pk LIMIT %(limit)s

-- name: list_order_activity_down
-- Order: activity time, the latest first.
ORDER BY s.activity_time DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_status_up
-- Order: of a source by status.
ORDER BY s.status, s.pk LIMIT %(limit)s

-- name: list_order_status_down
-- Order: of a source by status, the newest first.
ORDER BY s.status DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_user_up
-- Order: of a source by user and status.
ORDER BY s.user_id, s.status, s.pk LIMIT %(limit)s

-- name: list_order_user_down
-- Order: of a source by user and status, the newest first.
ORDER BY s.user_id DESC, s.status DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_parent_up
-- Order: of a source by parent and status.
ORDER BY s.parent, s.status, s.pk LIMIT %(limit)s

-- name: list_order_parent_down
-- Order: of a source by parent and status, the newest first.
ORDER BY s.parent DESC, s.status DESC, s.pk DESC LIMIT %(limit)s

-- name: list_order_key_up
-- Order: of a source by key.
ORDER BY s.user_id, s.session_id LIMIT %(limit)s

-- name: list_order_key_down
-- Order: of a source by key, backwards.
ORDER BY s.user_id DESC, s.session_id DESC LIMIT %(limit)s

-- name: list_after_key_up
-- Place: after a session_id of one user; the place may be a row of another one.
AND (s.user_id, s.session_id) >= (%(user)s, %(value_after)s)
AND (s.session_id, s.pk) > (%(value_after)s, %(pk_after)s)

-- name: list_after_key_down
-- Place: before a session_id of one user; the place may be a row of another one.
AND (s.user_id, s.session_id) <= (%(user)s, %(value_after)s)
AND (s.session_id, s.pk) < (%(value_after)s, %(pk_after)s)

-- name: table_sizes
-- About how many rows some tables hold, by the database's own count, and their bytes with
-- their indexes. Reads no table.
SELECT relname, n_live_tup, pg_total_relation_size(relid)
FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND relname = ANY (%s)

-- name: job_take
-- Take a job, or keep it, unless another server has it still.
INSERT INTO job (name, holder, until)
VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE job.holder = excluded.holder OR job.until < clock_timestamp()
RETURNING name

-- name: jobs_give_back
-- Leave the jobs of a server to others.
DELETE FROM job WHERE holder = %s

-- name: pings_listen
-- Hear of logs that have grown.
LISTEN sojourn_log

-- name: ping
-- Tell the others which logs have grown. A hint need not reach the disk.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('sojourn_log', %s)
