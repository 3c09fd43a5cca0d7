-- Work that takes more than one unit, and where it has come to. `content` is NULL when it
-- holds none.
CREATE TABLE operation (
  app_pk       INTEGER NOT NULL,
  operation_id TEXT    NOT NULL,
  kind         TEXT    NOT NULL,
  update_time  INTEGER NOT NULL,
  record       BLOB    NOT NULL,
  content      BLOB,
  PRIMARY KEY (app_pk, operation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX operation_update ON operation (update_time);
