-- What an auditor asks for: written with the change it is of, and kept longer. No content.
-- Where a user was erased, `user_id` is the alias and `session_id` empty; NULL: of the app
-- itself.
CREATE TABLE audit (
  app_pk     integer NOT NULL,
  revision   bigint NOT NULL,
  idx        integer NOT NULL,
  time       bigint NOT NULL,
  actor      text COLLATE "C" NOT NULL,
  cause      smallint NOT NULL,
  uid        bytea,
  user_id    text COLLATE "C",
  session_id text COLLATE "C",
  detail     bytea,
  PRIMARY KEY (app_pk, revision, idx)
);

CREATE INDEX audit_uid ON audit (app_pk, uid, revision, idx) WHERE uid IS NOT NULL;
CREATE INDEX audit_user ON audit (app_pk, user_id, revision, idx) WHERE user_id IS NOT NULL;
