-- Work that takes more than one unit, and where it has come to. `content` is NULL when it
-- holds none.
CREATE TABLE operation (
  app_pk       integer NOT NULL,
  operation_id text COLLATE "C" NOT NULL,
  kind         text COLLATE "C" NOT NULL,
  update_time  bigint NOT NULL,
  record       bytea NOT NULL,
  content      bytea,
  PRIMARY KEY (app_pk, operation_id)
);

-- For the job that takes up what nobody brings on, in every app.
CREATE INDEX operation_update ON operation (update_time, app_pk, operation_id);
