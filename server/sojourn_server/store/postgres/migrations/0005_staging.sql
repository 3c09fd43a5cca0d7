-- Copies that are made in parts: messages are staged under a number of their own, and
-- one unit makes them a session's.

-- Whose `removed_ranges` a purged range is to be taken out of; 0: those of `session_pk`.
ALTER TABLE purge ADD COLUMN owner bigint NOT NULL DEFAULT 0;

-- Messages that belong to no session yet. `history` is what stands as `session_pk` in
-- `message`; `owner` is the session that they are of, or 0.
CREATE TABLE staging (
  app_pk      integer NOT NULL,
  name        text COLLATE "C" NOT NULL,
  history     bigint NOT NULL,
  owner       bigint NOT NULL,
  expire_time bigint NOT NULL,
  record      bytea NOT NULL,
  PRIMARY KEY (app_pk, name)
);

CREATE INDEX staging_owner ON staging (app_pk, owner);
-- For the job that removes what nobody came back for.
CREATE INDEX staging_expire ON staging (expire_time);
