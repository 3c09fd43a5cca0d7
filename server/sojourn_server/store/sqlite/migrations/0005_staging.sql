-- Copies that are made in parts: messages are staged under a number of their own, and
-- one unit makes them a session's.

-- Whose `removed_ranges` a purged range is to be taken out of; 0: those of `session_pk`.
ALTER TABLE purge ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;

-- Messages that belong to no session yet. `history` is what stands as `session_pk` in
-- `message`; `owner` is the session that they are of, or 0.
CREATE TABLE staging (
  app_pk      INTEGER NOT NULL,
  name        TEXT    NOT NULL,
  history     INTEGER NOT NULL,
  owner       INTEGER NOT NULL,
  expire_time INTEGER NOT NULL,
  record      BLOB    NOT NULL,
  PRIMARY KEY (app_pk, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX staging_owner ON staging (owner) WHERE owner <> 0;
CREATE INDEX staging_expire ON staging (expire_time);
