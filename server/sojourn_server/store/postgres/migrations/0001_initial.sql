-- The first schema. Forward only: a later change is a file of its own.
--
-- Every table has the app first in its key, and no statement of a unit reaches beyond one
-- app. Texts compare bytewise (COLLATE "C"), so that lists come in the same order as on
-- every other backend. Content (message bodies, state values, metadata, notes) is in
-- `content` and nowhere else; every other table holds content ids, which are bare numbers.

-- Apps, with the counters of each: the newest revision of its log, how many sessions were
-- ever created in it, the newest content id, and the epoch, which every commit that writes
-- anything of the app moves on. Whoever writes an app locks its row first. Rows are never
-- deleted, so app_pk is never reused. Room in the page keeps its many updates in place.
CREATE TABLE app (
  app_pk   integer GENERATED ALWAYS AS IDENTITY (MAXVALUE 8388607) PRIMARY KEY,
  name     text COLLATE "C" NOT NULL UNIQUE,
  head     bigint NOT NULL,
  created  bigint NOT NULL,
  contents bigint NOT NULL,
  epoch    bigint NOT NULL,
  record   bytea
) WITH (fillfactor = 30);

-- Sessions. pk = app_pk << 40 | create_order. `record` is the whole session, the columns
-- are what a list or a lookup needs. `due` is NULL unless the session is ACTIVE.
CREATE TABLE session (
  app_pk        integer NOT NULL,
  pk            bigint NOT NULL,
  uid           bytea NOT NULL,
  user_id       text COLLATE "C" NOT NULL,
  session_id    text COLLATE "C" NOT NULL,
  status        smallint NOT NULL,
  parent        bytea,
  update_time   bigint NOT NULL,
  activity_time bigint NOT NULL,
  due           bigint,
  record        bytea NOT NULL,
  PRIMARY KEY (app_pk, pk)
) WITH (fillfactor = 85);

CREATE UNIQUE INDEX session_key ON session (app_pk, user_id, session_id);
CREATE UNIQUE INDEX session_uid ON session (app_pk, uid);
CREATE INDEX session_of_user ON session (app_pk, user_id, status, pk);
CREATE INDEX session_status ON session (app_pk, status, pk);
CREATE INDEX session_name ON session (app_pk, session_id, pk);
CREATE INDEX session_update ON session (app_pk, update_time, pk);
CREATE INDEX session_activity ON session (app_pk, activity_time, pk);
CREATE INDEX session_parent ON session (app_pk, parent, pk) WHERE parent IS NOT NULL;
-- For the job that looks for what is due in every app.
CREATE INDEX session_due ON session (due, pk) WHERE due IS NOT NULL;

-- Labels, one row each.
CREATE TABLE session_label (
  app_pk integer NOT NULL,
  key    text COLLATE "C" NOT NULL,
  value  text COLLATE "C" NOT NULL,
  pk     bigint NOT NULL,
  PRIMARY KEY (app_pk, key, value, pk)
);

CREATE TABLE message (
  app_pk       integer NOT NULL,
  session_pk   bigint NOT NULL,
  sequence     bigint NOT NULL,
  message_id   text COLLATE "C" NOT NULL,
  role         text COLLATE "C" NOT NULL,
  content_type text COLLATE "C" NOT NULL,
  event_time   bigint,
  create_time  bigint NOT NULL,
  size         bigint NOT NULL,
  body         bigint NOT NULL,
  PRIMARY KEY (app_pk, session_pk, sequence)
);

CREATE UNIQUE INDEX message_id ON message (app_pk, session_pk, message_id);

-- Ranges of messages that are removed but not yet purged. They outlive their session.
CREATE TABLE purge (
  app_pk     integer NOT NULL,
  purge_id   bigint GENERATED ALWAYS AS IDENTITY,
  session_pk bigint NOT NULL,
  low        bigint NOT NULL,
  high       bigint NOT NULL,
  PRIMARY KEY (app_pk, purge_id)
);

-- Content. content_id = app_pk << 40 | number; no number comes twice, and no row changes.
CREATE TABLE content (
  app_pk     integer NOT NULL,
  content_id bigint NOT NULL,
  data       bytea NOT NULL,
  PRIMARY KEY (app_pk, content_id)
);

-- The state of an app (of_user 0, user empty) or of a user (of_user 1).
CREATE TABLE scope_state (
  app_pk  integer NOT NULL,
  of_user smallint NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  record  bytea NOT NULL,
  PRIMARY KEY (app_pk, of_user, user_id)
);

-- The log. `before` and `after` hold content ids of their time; nothing follows them.
CREATE TABLE change (
  app_pk   integer NOT NULL,
  revision bigint NOT NULL,
  idx      integer NOT NULL,
  nonce    bigint NOT NULL,
  time     bigint NOT NULL,
  actor    text COLLATE "C" NOT NULL,
  cause    smallint NOT NULL,
  uid      bytea,
  before   bytea,
  after    bytea,
  detail   bytea,
  PRIMARY KEY (app_pk, revision, idx)
);

-- What is remembered of requests. `held` is NULL when the record holds no content.
CREATE TABLE request (
  app_pk       integer NOT NULL,
  principal    text COLLATE "C" NOT NULL,
  method       text COLLATE "C" NOT NULL,
  request_id   text COLLATE "C" NOT NULL,
  payload_hash bytea NOT NULL,
  revision     bigint NOT NULL,
  outcome      bytea NOT NULL,
  create_time  bigint NOT NULL,
  session_pk   bigint NOT NULL,
  held         bytea,
  PRIMARY KEY (app_pk, principal, method, request_id)
);

-- For the job that forgets old ones in every app.
CREATE INDEX request_create_time ON request (create_time);
CREATE INDEX request_held ON request (app_pk, session_pk) WHERE held IS NOT NULL;

-- Keys for tokens and hashes; the server makes the first one.
CREATE TABLE token_key (
  key_id integer PRIMARY KEY CHECK (key_id BETWEEN 0 AND 255),
  secret bytea NOT NULL CHECK (length(secret) = 32)
);

-- Which server runs a job, of those that share the database, and until when.
CREATE TABLE job (
  name   text PRIMARY KEY,
  holder text NOT NULL,
  until  timestamptz NOT NULL
) WITH (fillfactor = 30);

-- One row, written to find out whether writes work.
CREATE TABLE pulse (
  pulse_id integer PRIMARY KEY CHECK (pulse_id = 1),
  beats    bigint NOT NULL
) WITH (fillfactor = 30);

INSERT INTO pulse (pulse_id, beats) VALUES (1, 0);
