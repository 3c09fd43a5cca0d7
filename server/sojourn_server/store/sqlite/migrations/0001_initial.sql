-- The first schema. Forward only: a later change is a file of its own.
--
-- Content (message bodies, state values, metadata, notes) is in `content` and nowhere
-- else; every other table holds content ids, which are bare numbers.

-- Apps, with the two counters of each: the newest revision of its log, and how many
-- sessions were ever created in it. Rows are never deleted, so app_pk is never reused.
CREATE TABLE app (
  app_pk  INTEGER PRIMARY KEY,
  name    TEXT    NOT NULL UNIQUE,
  head    INTEGER NOT NULL,
  created INTEGER NOT NULL,
  record  BLOB
) STRICT;

-- Sessions. pk = app_pk << 40 | create_order: the table itself is in create order
-- within each app, every index ends in create order for free, and no number comes twice
-- because app.created never goes back. `record` is the whole session, the columns are
-- what a list or a lookup needs. `due` is NULL unless the session is ACTIVE.
CREATE TABLE session (
  pk            INTEGER PRIMARY KEY,
  app_pk        INTEGER NOT NULL,
  uid           BLOB    NOT NULL,
  user          TEXT    NOT NULL,
  session_id    TEXT    NOT NULL,
  status        INTEGER NOT NULL,
  parent        BLOB,
  update_time   INTEGER NOT NULL,
  activity_time INTEGER NOT NULL,
  due           INTEGER,
  record        BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX session_key ON session (app_pk, user, session_id);
CREATE UNIQUE INDEX session_uid ON session (uid);
CREATE INDEX session_user ON session (app_pk, user, status);
CREATE INDEX session_status ON session (app_pk, status);
CREATE INDEX session_name ON session (app_pk, session_id);
CREATE INDEX session_update ON session (app_pk, update_time);
CREATE INDEX session_activity ON session (app_pk, activity_time);
CREATE INDEX session_parent ON session (parent) WHERE parent IS NOT NULL;
CREATE INDEX session_due ON session (due) WHERE due IS NOT NULL;

-- Labels, one row each. The app is in the high bits of pk.
CREATE TABLE session_label (
  key   TEXT    NOT NULL,
  value TEXT    NOT NULL,
  pk    INTEGER NOT NULL,
  PRIMARY KEY (key, value, pk)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
  session_pk   INTEGER NOT NULL,
  sequence     INTEGER NOT NULL,
  message_id   TEXT    NOT NULL,
  role         TEXT    NOT NULL,
  content_type TEXT    NOT NULL,
  event_time   INTEGER,
  create_time  INTEGER NOT NULL,
  size         INTEGER NOT NULL,
  body         INTEGER NOT NULL,
  PRIMARY KEY (session_pk, sequence)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX message_id ON message (session_pk, message_id);

-- Ranges of messages that are removed but not yet purged. They outlive their session.
CREATE TABLE purge (
  purge_id   INTEGER PRIMARY KEY,
  session_pk INTEGER NOT NULL,
  low        INTEGER NOT NULL,
  high       INTEGER NOT NULL
) STRICT;

-- Content. Rows are appended in the order of content_id, never deleted and never
-- resized: only then does SQLite leave no stale copy of a text in free page space.
-- content_id = number << 6 | size class.
CREATE TABLE content (
  content_id INTEGER PRIMARY KEY,
  data       BLOB    NOT NULL
) STRICT;

-- Zeroed rows of `content`, to be used again by content of the same size class.
CREATE TABLE content_free (
  size_class INTEGER NOT NULL,
  content_id INTEGER NOT NULL,
  PRIMARY KEY (size_class, content_id)
) STRICT, WITHOUT ROWID;

-- The state of an app (of_user 0, user empty) or of a user (of_user 1).
CREATE TABLE scope_state (
  app_pk  INTEGER NOT NULL,
  of_user INTEGER NOT NULL,
  user    TEXT    NOT NULL,
  record  BLOB    NOT NULL,
  PRIMARY KEY (app_pk, of_user, user)
) STRICT, WITHOUT ROWID;

-- The log. `before` and `after` hold content ids of their time: an id may have been
-- given to other content since, so nothing may follow one from here.
CREATE TABLE change (
  app_pk   INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  idx      INTEGER NOT NULL,
  nonce    INTEGER NOT NULL,
  time     INTEGER NOT NULL,
  actor    TEXT    NOT NULL,
  cause    INTEGER NOT NULL,
  uid      BLOB,
  before   BLOB,
  after    BLOB,
  detail   BLOB,
  PRIMARY KEY (app_pk, revision, idx)
) STRICT, WITHOUT ROWID;

-- What is remembered of requests. `held` is NULL when the record holds no content.
CREATE TABLE request (
  app_pk       INTEGER NOT NULL,
  principal    TEXT    NOT NULL,
  method       TEXT    NOT NULL,
  request_id   TEXT    NOT NULL,
  payload_hash BLOB    NOT NULL,
  revision     INTEGER NOT NULL,
  outcome      BLOB    NOT NULL,
  create_time  INTEGER NOT NULL,
  session_pk   INTEGER NOT NULL,
  held         BLOB,
  PRIMARY KEY (app_pk, principal, method, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX request_create_time ON request (create_time);
CREATE INDEX request_held ON request (session_pk) WHERE held IS NOT NULL;

-- Keys for tokens and hashes; the server makes the first one.
CREATE TABLE token_key (
  key_id INTEGER PRIMARY KEY CHECK (key_id BETWEEN 0 AND 255),
  secret BLOB    NOT NULL CHECK (length(secret) = 32)
) STRICT;

-- One row, written to find out whether writes work.
CREATE TABLE pulse (
  pulse_id INTEGER PRIMARY KEY CHECK (pulse_id = 1),
  beats    INTEGER NOT NULL
) STRICT;

INSERT INTO pulse (pulse_id, beats) VALUES (1, 0);
