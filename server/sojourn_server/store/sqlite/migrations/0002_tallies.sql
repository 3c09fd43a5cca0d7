-- Counts and sums of sessions, kept with every write of a session, so that what an app
-- holds is known without reading its sessions. `backfill.py` fills them for the sessions
-- that are there: only the server can read their records.

-- How many sessions the app has, and how many of them are ACTIVE.
ALTER TABLE app ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN sessions INTEGER NOT NULL DEFAULT 0;

-- What the sessions of one status add up to: of one user (of_user 1), or of all users of
-- the app (of_user 0, user empty). There is a row only where there are sessions. Sums are
-- exact, beyond 64 bits too: what was added can always be taken away again. So each is in
-- two parts: value = high << 62 | low, where low has 62 bits.
CREATE TABLE tally (
  app_pk               INTEGER NOT NULL,
  of_user              INTEGER NOT NULL,
  status               INTEGER NOT NULL,
  user                 TEXT    NOT NULL,
  sessions             INTEGER NOT NULL,
  requests_high        INTEGER NOT NULL,
  requests_low         INTEGER NOT NULL,
  errors_high          INTEGER NOT NULL,
  errors_low           INTEGER NOT NULL,
  processing_time_high INTEGER NOT NULL,
  processing_time_low  INTEGER NOT NULL,
  messages_high        INTEGER NOT NULL,
  messages_low         INTEGER NOT NULL,
  PRIMARY KEY (app_pk, of_user, status, user)
) STRICT, WITHOUT ROWID;

-- The same for counters, which have names. A row whose value is 0 is as good as none.
CREATE TABLE tally_counter (
  app_pk  INTEGER NOT NULL,
  of_user INTEGER NOT NULL,
  status  INTEGER NOT NULL,
  user    TEXT    NOT NULL,
  name    TEXT    NOT NULL,
  high    INTEGER NOT NULL,
  low     INTEGER NOT NULL,
  PRIMARY KEY (app_pk, of_user, status, user, name)
) STRICT, WITHOUT ROWID;
