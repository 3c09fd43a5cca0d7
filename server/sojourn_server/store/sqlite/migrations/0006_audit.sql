-- What an auditor asks for: written with the change it is of, and kept longer. No content.
-- Where a user was erased, `user` is the alias and `session_id` empty; NULL: of the app itself.
CREATE TABLE audit (
  app_pk     INTEGER NOT NULL,
  revision   INTEGER NOT NULL,
  idx        INTEGER NOT NULL,
  time       INTEGER NOT NULL,
  actor      TEXT    NOT NULL,
  cause      INTEGER NOT NULL,
  uid        BLOB,
  user       TEXT,
  session_id TEXT,
  detail     BLOB,
  PRIMARY KEY (app_pk, revision, idx)
) STRICT, WITHOUT ROWID;

-- Both end in the primary key: what they find is in its order. Uids ascend with time, so
-- the first is written at its end.
CREATE INDEX audit_uid ON audit (uid) WHERE uid IS NOT NULL;
CREATE INDEX audit_user ON audit (app_pk, user) WHERE user IS NOT NULL;

-- Each row asks for stale copies of names to be cleared from every page of the file.
CREATE TABLE stale (
  stale_id INTEGER PRIMARY KEY
) STRICT;
