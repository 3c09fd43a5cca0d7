-- Counts and sums of sessions, kept with every write of a session, so that what an app
-- holds is known without reading its sessions. `backfill.py` fills them for the sessions
-- that are there: only the server can read their records.

-- How many sessions the app has, and how many of them are ACTIVE.
ALTER TABLE app ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN sessions INTEGER NOT NULL DEFAULT 0;

-- What the sessions of one status add up to: of one user (of_user 1), or of all users of
-- the app (of_user 0, user empty). There is a row only where there are sessions.
CREATE TABLE tally (
  app_pk   INTEGER NOT NULL,
  of_user  INTEGER NOT NULL,
  status   INTEGER NOT NULL,
  user     TEXT    NOT NULL,
  sessions INTEGER NOT NULL,
  record   BLOB    NOT NULL,
  PRIMARY KEY (app_pk, of_user, status, user)
) STRICT, WITHOUT ROWID;
